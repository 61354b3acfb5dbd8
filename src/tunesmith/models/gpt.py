"""Blocks of norm, attention, norm and two plain layers: one after the other, or both from what the block reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tunesmith.models.attention import Terms
from tunesmith.models.fused import added, feed, known, products
from tunesmith.models.segments import Look
from tunesmith.models.staged import Staged

if TYPE_CHECKING:
    from tunesmith.models.crew import Crew


class Gpt2(Staged):
    """x + o(attention(norm(x))), then x + w2(gelu(w1(norm(x)))), with learned positions: GPT-2."""

    def usual(self, block: Any) -> bool:
        """Also that it reads no encoder."""
        layers = (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
        return all(map(known, layers)) and not hasattr(block, "crossattention")

    def placed(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """The sum with the embeddings of positions."""
        return torch.as_tensor(self.base.drop(embedded + self.base.wpe(positions)))

    def project(
        self, number: int, x: Tensor, look: Look | None, crew: Crew | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (where looked at), keys and values [tokens, heads, dim] of a block."""
        layer = self.blocks[number]
        return self._of_one(layer.ln_1(x), layer.attn.c_attn, layer.attn.head_dim, look, crew)

    def rest(self, number: int, made: Tensor, x: Tensor, crew: Crew | None = None) -> Tensor:
        """The block from what attention made [tokens, heads * dim] on."""
        layer, mlp = self.blocks[number], self.blocks[number].mlp
        x = added(made, layer.attn.c_proj, layer.attn.resid_dropout, x, self.matmul, crew)
        return feed(layer.ln_2(x), (mlp.c_fc, mlp.c_proj), mlp.act, mlp.dropout, x, self.matmul, crew)

    def end(self, x: Tensor) -> Tensor:
        """The final norm."""
        return torch.as_tensor(self.base.ln_f(x))

    def terms(self, number: int) -> Terms:
        """How a block attends."""
        attn = self.blocks[number].attn
        return Terms(True, attn.scaling, None, attn.attn_dropout.p if attn.training else 0.0)

    def turning(self, number: int) -> None:
        """Not at all."""


class NeoX(Staged):
    """x + attention(norm(x)) + feed-forward(norm(x)), or one after the other; rotary positions for a part of each
    head: GPT-NeoX, Pythia."""

    def usual(self, block: Any) -> bool:
        """Nothing more."""
        attn, mlp = block.attention, block.mlp
        return all(map(known, (attn.query_key_value, attn.dense, mlp.dense_h_to_4h, mlp.dense_4h_to_h)))

    def placed(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """The embeddings, with dropout."""
        return torch.as_tensor(self.base.emb_dropout(embedded))

    def project(
        self, number: int, x: Tensor, look: Look | None, crew: Crew | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (where looked at), keys and values [tokens, heads, dim] of a block, not yet turned."""
        layer = self.blocks[number]
        (three,) = products(layer.input_layernorm(x), (layer.attention.query_key_value,), self.matmul, crew=crew)
        q, k, v = three.unflatten(1, (-1, 3 * layer.attention.head_size)).chunk(3, -1)
        return q if look is None else q[look.index], k, v

    def rest(self, number: int, made: Tensor, x: Tensor, crew: Crew | None = None) -> Tensor:
        """The block from what attention made [tokens, heads * dim] on."""
        layer, mlp = self.blocks[number], self.blocks[number].mlp
        beside = added(made, layer.attention.dense, layer.post_attention_dropout, x, self.matmul, crew)
        read = layer.post_attention_layernorm(x if layer.use_parallel_residual else beside)
        layers, dropped = (mlp.dense_h_to_4h, mlp.dense_4h_to_h), layer.post_mlp_dropout
        return feed(read, layers, mlp.act, dropped, beside, self.matmul, crew)

    def end(self, x: Tensor) -> Tensor:
        """The final norm."""
        return torch.as_tensor(self.base.final_layer_norm(x))

    def terms(self, number: int) -> Terms:
        """How a block attends."""
        attn = self.blocks[number].attention
        return Terms(True, attn.scaling, None, attn.attention_dropout if attn.training else 0.0)


class Phi(Staged):
    """x + attention(norm(x)) + feed-forward(norm(x)) with one norm for both: Phi 1 and 2."""

    def usual(self, block: Any) -> bool:
        """Also that norms of queries and keys, where there are some, are plain."""
        attn, mlp = block.self_attn, block.mlp
        return all(map(known, (attn.q_proj, attn.k_proj, attn.v_proj, attn.dense, mlp.fc1, mlp.fc2)))

    def placed(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """The embeddings, with dropout."""
        return torch.as_tensor(self.base.embed_dropout(embedded))

    def project(
        self, number: int, x: Tensor, look: Look | None, crew: Crew | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (where looked at), keys and values [tokens, heads, dim] of a block, not yet turned."""
        attn, normed = self.blocks[number].self_attn, self.blocks[number].input_layernorm(x)
        three = self._three(normed, (attn.q_proj, attn.k_proj, attn.v_proj), look, crew)
        q, k, v = (part.unflatten(1, (-1, attn.head_dim)) for part in three)
        return (attn.q_layernorm(q), attn.k_layernorm(k), v) if attn.qk_layernorm else (q, k, v)

    def rest(self, number: int, made: Tensor, x: Tensor, crew: Crew | None = None) -> Tensor:
        """The block from what attention made [tokens, heads * dim] on."""
        layer, mlp = self.blocks[number], self.blocks[number].mlp
        normed, dropped = layer.input_layernorm(x), layer.resid_dropout
        x = added(made, layer.self_attn.dense, dropped, x, self.matmul, crew)
        return feed(normed, (mlp.fc1, mlp.fc2), mlp.activation_fn, dropped, x, self.matmul, crew)

    def end(self, x: Tensor) -> Tensor:
        """The final norm."""
        return torch.as_tensor(self.base.final_layernorm(x))

    def terms(self, number: int) -> Terms:
        """How a block attends."""
        attn = self.blocks[number].self_attn
        return Terms(True, attn.scaling, None, attn.attention_dropout if attn.training else 0.0)
