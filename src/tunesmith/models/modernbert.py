"""Blocks of an encoder that norm first, turn queries and keys by their positions, and have a gated feed-forward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith.models.attention import Terms
from tunesmith.models.elementwise import GELU, gated
from tunesmith.models.fused import added, known, products, thinned
from tunesmith.models.segments import Look
from tunesmith.models.staged import Staged

if TYPE_CHECKING:
    from tunesmith.models.crew import Crew


class ModernBert(Staged):
    """x + o(attention(norm(x))), then x + geglu(norm(x)), most of them within a window: ModernBERT."""

    def usual(self, block: Any) -> bool:
        """Also that the gate is the one it is published with."""
        layers = (block.attn.Wqkv, block.attn.Wo, block.mlp.Wi, block.mlp.Wo)
        return all(map(known, layers)) and self.base.config.hidden_activation == "gelu"

    def placed(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """The embeddings, normed."""
        return torch.as_tensor(self.base.embeddings(inputs_embeds=embedded))

    def project(
        self, number: int, x: Tensor, look: Look | None, crew: Crew | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (where looked at), keys and values [tokens, heads, dim] of a block, not yet turned."""
        layer = self.blocks[number]
        return self._of_one(layer.attn_norm(x), layer.attn.Wqkv, layer.attn.head_dim, look, crew)

    def rest(self, number: int, made: Tensor, x: Tensor, crew: Crew | None = None) -> Tensor:
        """The block from what attention made [tokens, heads * dim] on."""
        layer, mlp = self.blocks[number], self.blocks[number].mlp
        dropped = layer.attn.out_drop if isinstance(layer.attn.out_drop, nn.Dropout) else None
        x = added(made, layer.attn.Wo, dropped, x, self.matmul, crew)
        (both,) = products(layer.mlp_norm(x), (mlp.Wi,), self.matmul, crew=crew)
        return added(thinned(gated(both, GELU), mlp.drop, crew), mlp.Wo, None, x, self.matmul, crew)

    def end(self, x: Tensor) -> Tensor:
        """The final norm."""
        return torch.as_tensor(self.base.final_norm(x))

    def terms(self, number: int) -> Terms:
        """How a block attends."""
        attn = self.blocks[number].attn
        dropout = attn.attention_dropout if attn.training else 0.0
        return Terms(False, attn.head_dim**-0.5, attn.sliding_window, dropout)

    def turning(self, number: int) -> str | None:
        """By other angles within a window."""
        return str(self.blocks[number].attention_type)
