"""The trunk of a net, block by block: for the shapes of block that most pretrained models have.

A body runs a stream through embeddings, blocks and final norm with the pieces of `fused.py`; it can stop before any
block and go on from kept states, and in its last block it computes only the tokens that are looked at. Where a shape
is not known, the stock forward runs (model.py). Weights stay in the stock modules: nothing is moved or copied.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tunesmith.models import anatomy
from tunesmith.models.anatomy import Anatomy, Shape
from tunesmith.models.bert import Bert, DistilBert
from tunesmith.models.gpt import Gpt2, NeoX, Phi
from tunesmith.models.llama import Gemma, Llama, Olmo2, Phi3
from tunesmith.models.matmul import Matmul
from tunesmith.models.modernbert import ModernBert
from tunesmith.models.segments import Look
from tunesmith.models.stream import Stream

SHAPES: dict[Shape, Any] = {
    "bert": Bert,
    "distilbert": DistilBert,
    "gemma": Gemma,
    "gpt2": Gpt2,
    "gpt_neox": NeoX,
    "llama": Llama,
    "modernbert": ModernBert,
    "olmo2": Olmo2,
    "phi": Phi,
    "phi3": Phi3,
}
"""Shape of block -> what runs it, made of (base model, its anatomy, what multiplies)."""


class Body(Protocol):
    """A trunk that can be run in parts."""

    def usual(self, block: Any) -> bool:
        """Whether every piece of a block is one that `fused.py` knows."""

    def begin(self, stream: Stream, embedded: Tensor | None = None) -> Tensor:
        """Embeddings [tokens, width], from those of the tokens alone where they are given."""

    def block(self, number: int, x: Tensor, stream: Stream, look: Look | None) -> Tensor:
        """One block: [tokens, width] -> [tokens, width], or [looked at, width]."""

    def end(self, x: Tensor) -> Tensor:
        """What stands after the last block."""


def body_of(base: nn.Module, parts: Anatomy, matmul: Matmul) -> Body | None:
    """The body of a base model, or None when its blocks are of no known shape, or hold something unusual."""
    if not parts.shape:
        return None
    body: Body = SHAPES[parts.shape](base, parts, matmul)
    return body if all(body.usual(block) for block in anatomy.blocks(base, parts)) else None


def run(
    body: Body,
    stream: Stream,
    depth: int,
    look: Look | None,
    start: tuple[int, Tensor],
    *,
    checkpointing: bool = False,
) -> Tensor:
    """The trunk from a block on, and from what that reads: last hidden states [tokens, width], or of the tokens looked
    at. With `checkpointing`, only the inputs of blocks are kept, and blocks are computed again, with the same random
    numbers, in the backward.
    """
    first, x = start
    if first == depth and look is not None:
        x = x[look.index]
    for number in range(first, depth):
        at = look if number == depth - 1 else None
        if checkpointing and torch.is_grad_enabled():
            block = body.block if stream.crew is None else stream.crew.repeated(body.block)
            x = checkpoint(block, number, x, stream, at, use_reentrant=False)
        else:
            x = body.block(number, x, stream, at)
    return body.end(x)
