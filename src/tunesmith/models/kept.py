"""Activations that were kept: what the frozen blocks of a net make of a row, so that they need not run again.

One flat table [tokens, width], in memory or mapped from a file, and where each row's tokens stand in it. Knows
nothing of when keeping pays (train/trunk.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.contracts import Tokens

Key = tuple[tuple[int, ...], tuple[int, ...]]
"""`Tokens.key`."""


@dataclass(frozen=True)
class Kept:
    """What a net's first `blocks` blocks make of some rows."""

    blocks: int
    table: Tensor
    """[tokens, width], in the precision in which it is kept."""
    spans: dict[Key, tuple[int, int]]
    """What the net reads of a row -> its first token in the table, and one past its last."""

    def take(self, rows: Sequence[Tokens], filler: int, like: Tensor) -> Tensor | None:
        """Activations of rows laid end to end, with zeros for filler, of the dtype and on the device of `like`; None
        where a row is not there."""
        found = [self.spans.get(row.key) for row in rows]
        pieces = [self.table[span[0] : span[1]] for span in found if span is not None]
        if len(pieces) < len(rows):
            return None
        if filler:
            pieces.append(self.table.new_zeros(filler, self.table.shape[1]))
        return torch.cat(pieces).to(like)
