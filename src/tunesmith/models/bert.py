"""Blocks of attention, add and norm, two plain layers, add and norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models import anatomy
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.attention import Terms, attend
from tunesmith.models.fused import added, feed, known, products
from tunesmith.models.matmul import Matmul
from tunesmith.models.segments import Look
from tunesmith.models.stream import Stream


@dataclass(frozen=True)
class Parts:
    """The pieces of one block, whatever they are called there."""

    query: nn.Module
    key: nn.Module
    value: nn.Module
    out: nn.Module
    norm: nn.Module
    wide: nn.Module
    act: nn.Module
    narrow: nn.Module
    last_norm: nn.Module
    head_size: int
    scale: float
    attention_dropout: nn.Dropout
    out_dropout: nn.Dropout | None
    narrow_dropout: nn.Dropout


class Bert:
    """norm(x + o(attention(x))), then norm(x + w2(gelu(w1(x)))): BERT, RoBERTa, XLM-R, ELECTRA."""

    def __init__(self, base: Any, parts: Anatomy, matmul: Matmul) -> None:
        self.base = base
        self.matmul = matmul
        self.blocks: Any = anatomy.blocks(base, parts)

    def usual(self, block: Any) -> bool:
        """Whether every piece is one that `fused.py` knows, and the block no decoder's."""
        parts = self.parts(block)
        layers = (parts.query, parts.key, parts.value, parts.out, parts.wide, parts.narrow)
        return all(map(known, layers)) and not self._decodes(block)

    def parts(self, block: Any) -> Parts:
        """The pieces of a block."""
        own, out, last = block.attention.self, block.attention.output, block.output
        return Parts(
            own.query, own.key, own.value, out.dense, out.LayerNorm,
            block.intermediate.dense, block.intermediate.intermediate_act_fn, last.dense, last.LayerNorm,
            own.attention_head_size, own.scaling, own.dropout, out.dropout, last.dropout,
        )  # fmt: skip

    def begin(self, stream: Stream, embedded: Tensor | None = None) -> Tensor:
        """The sum of the embeddings, normed."""
        types = None if stream.types is None else stream.types[None]
        read = {"input_ids": stream.ids[None]} if embedded is None else {"inputs_embeds": embedded[None]}
        made = self.base.embeddings(token_type_ids=types, position_ids=stream.positions[None], **read)[0]
        project = getattr(self.base, "embeddings_project", None)
        return torch.as_tensor(made if project is None else project(made))

    def block(self, number: int, x: Tensor, stream: Stream, look: Look | None) -> Tensor:
        """One block: [tokens, width] -> [tokens, width], or [looked at, width]."""
        parts = self.parts(self.blocks[number])
        crew = stream.crew
        if look is None:
            q, k, v = products(x, (parts.query, parts.key, parts.value), self.matmul, crew=crew)
        else:
            k, v = products(x, (parts.key, parts.value), self.matmul, crew=crew)
            x, crew = x[look.index], look.crew
            (q,) = products(x, (parts.query,), self.matmul, crew=crew)
        q, k, v = (part.unflatten(1, (-1, parts.head_size)) for part in (q, k, v))
        dropped = parts.attention_dropout
        terms = Terms(False, parts.scale, None, dropped.p if dropped.training else 0.0)
        made = attend(q, k, v, stream, terms, kept=look).flatten(1)
        x = parts.norm(added(made, parts.out, parts.out_dropout, x, self.matmul, crew))
        made = feed(x, (parts.wide, parts.narrow), parts.act, parts.narrow_dropout, x, self.matmul, crew)
        return torch.as_tensor(parts.last_norm(made))

    def end(self, x: Tensor) -> Tensor:
        """Nothing: the last block norms."""
        return x

    def _decodes(self, block: Any) -> bool:
        return bool(block.attention.self.is_causal) or hasattr(block, "crossattention")


class DistilBert(Bert):
    """The same by other names, without dropout behind attention, and without token types: DistilBERT."""

    def parts(self, block: Any) -> Parts:
        """The pieces of a block."""
        own, ffn = block.attention, block.ffn
        return Parts(
            own.q_lin, own.k_lin, own.v_lin, own.out_lin, block.sa_layer_norm,
            ffn.lin1, ffn.activation, ffn.lin2, block.output_layer_norm,
            own.attention_head_size, own.scaling, own.dropout, None, ffn.dropout,
        )  # fmt: skip

    def begin(self, stream: Stream, embedded: Tensor | None = None) -> Tensor:
        """The sum of the embeddings, normed."""
        ids = stream.ids[None] if embedded is None else None
        given = None if embedded is None else embedded[None]
        made = self.base.embeddings(input_ids=ids, inputs_embeds=given, position_ids=stream.positions[None])
        return torch.as_tensor(made[0])

    def _decodes(self, block: Any) -> bool:
        return False
