"""Which rows make which update, and how an update is cut into micro-batches: pure functions of small integers.

The position in the data is one integer, the update's number; resuming needs no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Plan:
    """The order of all rows over all epochs."""

    rows: int
    batch_size: int
    seed: int
    shuffle: bool

    @property
    def per_epoch(self) -> int:
        """Updates of an epoch; the last one takes the rows that are left, so that none is dropped or repeated."""
        return -(-self.rows // self.batch_size)

    def at(self, step: int) -> list[int]:
        """Row numbers of an update, in their order."""
        epoch, place = divmod(step, self.per_epoch)
        order = _order(self.rows, self.seed, epoch) if self.shuffle else range(self.rows)
        return [int(k) for k in order[place * self.batch_size : (place + 1) * self.batch_size]]


@lru_cache(maxsize=4)
def _order(rows: int, seed: int, epoch: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng((seed, epoch)).permutation(rows).tolist())


def cut(lengths: Sequence[int], budget: int, layout: Literal["packed", "padded"] = "packed") -> list[list[int]]:
    """Positions of rows, grouped into micro-batches of at most `budget` tokens, short rows first.

    Sorted by length: equal lengths stand together, padding is least. A row longer than the budget is alone.
    """
    pieces: list[list[int]] = []
    used = 0
    for k in sorted(range(len(lengths)), key=lambda k: (lengths[k], k)):
        cost = lengths[k] * (len(pieces[-1]) + 1) if pieces and layout == "padded" else used + lengths[k]
        if pieces and cost <= budget:
            pieces[-1].append(k)
            used += lengths[k]
        else:
            pieces.append([k])
            used = lengths[k]
    return pieces


def padding(lengths: Sequence[int], layout: Literal["packed", "padded"]) -> int:
    """Tokens of padding that one micro-batch of these rows computes."""
    return len(lengths) * max(lengths) - sum(lengths) if layout == "padded" else 0
