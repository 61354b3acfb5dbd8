"""Virtual tokens (prompt tuning, Lester et al. 2021, arXiv:2104.08691) before every row: embeddings that no word has.

They have ids behind the vocabulary, so that a row with them is laid in a stream, padded or written on as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith.contracts import Tokens
from tunesmith.errors import RecipeError

if TYPE_CHECKING:
    from tunesmith.models.model import Model
    from tunesmith.models.text import TextEncoder

_LEAST = 8
"""Tokens that a row must still have room for."""


class Prompted(nn.Module):
    """A frozen embedding table, and the embeddings of virtual tokens."""

    def __init__(self, table: nn.Module, prompt: Tensor) -> None:
        super().__init__()
        self.table = table
        self.prompt = nn.Parameter(prompt.detach().clone())

    @property
    def weight(self) -> Tensor:
        """The table of the words."""
        return self.table.get_parameter("weight")

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of any shape -> [..., width]; virtual tokens come behind the vocabulary."""
        size = len(self.weight)
        virtual = ids >= size
        found: Tensor = self.table(ids.masked_fill(virtual, 0))
        return torch.where(virtual[..., None], self.prompt[(ids - size).clamp(min=0)], found)


def prompt_of(net: nn.Module) -> Prompted | None:
    """The virtual tokens of a net that has some."""
    return next((module for module in net.modules() if isinstance(module, Prompted)), None)


def with_prompt(rows: Sequence[Tokens], prefix: tuple[int, ...]) -> Sequence[Tokens]:
    """The rows with virtual tokens before each."""
    if not prefix:
        return rows
    few = len(prefix)
    return [
        replace(row, ids=(*prefix, *row.ids), types=(0,) * few + row.types if row.types else (), offsets=())
        for row in rows
    ]


def own_places(lengths: Sequence[int], few: int) -> Tensor:
    """Where the rows' own tokens stand among rows laid end to end that have `few` virtual tokens before each."""
    steps = torch.arange(sum(lengths))
    rows = torch.repeat_interleave(torch.arange(1, len(lengths) + 1), torch.tensor(lengths))
    return steps + few * rows


def put(model: Model, count: int, text: str | None, seed: int) -> None:
    """Have virtual tokens before every row that a net reads. Raises RecipeError where too little room is left, or for a
    text without tokens."""
    reads = model.text
    room = reads.limit - count
    if room < _LEAST:
        raise RecipeError(
            f"{count} virtual tokens leave {max(room, 0)} of the {reads.limit} tokens that the model reads",
            where="method.tokens",
            hint="take fewer",
        )
    if model.config.model_type == "marian" and model.config.scale_embedding:
        raise RecipeError(
            "a Marian reads embeddings that are given to it at another scale than its own words",
            where="method",
            hint="take `lora` or `bottleneck`",
        )
    whole: Any = model.net
    net: Any = whole.get_encoder() if model.family == "encoder-decoder" else model.base
    table = net.get_input_embeddings()
    path = next(name for name, module in net.named_modules(remove_duplicate=False) if module is table)
    net.set_submodule(path, Prompted(table, _start(reads, table, count, text, seed)))
    size = len(table.weight)
    model.prefix = tuple(range(size, size + count))
    model.reads = replace(reads, max_tokens=min(reads.max_tokens, room))


@torch.no_grad()
def _start(reads: TextEncoder, table: nn.Module, count: int, text: str | None, seed: int) -> Tensor:
    """Embeddings [count, width] to begin from, as the net reads them: of a text's tokens, or of some drawn from the
    vocabulary."""
    weight = table.get_parameter("weight")
    if text is None:
        special = reads.special()
        known = [k for k in range(min(len(weight), len(reads.tokenizer))) if k not in special]
        drawn = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))[:count]
        ids = [known[k] for k in drawn.tolist()]
    else:
        ids = reads.backend.encode(text, add_special_tokens=False).ids
        if not ids:
            raise RecipeError("the text to begin from has no tokens", where="method.text", hint="leave it out")
    found: Tensor = table(torch.tensor([ids[k % len(ids)] for k in range(count)], device=weight.device))
    return found
