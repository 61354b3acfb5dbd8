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
    groups: tuple[int, ...] = ()
    """The group of each row, where every epoch draws all groups equally often; empty where each row comes once."""

    @property
    def per_epoch(self) -> int:
        """Updates of an epoch; the last one takes the rows that are left, so that none is dropped or repeated."""
        return -(-self.rows // self.batch_size)

    def at(self, step: int) -> list[int]:
        """Row numbers of an update, in their order."""
        epoch, place = divmod(step, self.per_epoch)
        if self.groups:
            order: Sequence[int] = _balanced(self.groups, self.seed, epoch)
        else:
            order = _order(self.rows, self.seed, epoch) if self.shuffle else range(self.rows)
        return [int(k) for k in order[place * self.batch_size : (place + 1) * self.batch_size]]


@lru_cache(maxsize=4)
def _order(rows: int, seed: int, epoch: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng((seed, epoch)).permutation(rows).tolist())


@lru_cache(maxsize=4)
def _balanced(groups: tuple[int, ...], seed: int, epoch: int) -> tuple[int, ...]:
    """As many rows as there are, of every group equally many (one more or less): those of a small group come again,
    after all of it came once; of a large one others come in each epoch."""
    rng = np.random.default_rng((seed, epoch))
    held = np.array(groups)
    names = np.unique(held)
    shares = np.full(len(names), len(held) // len(names))
    shares[rng.permutation(len(names))[: len(held) % len(names)]] += 1
    drawn = []
    for name, share in zip(names, shares, strict=True):
        rows = np.flatnonzero(held == name)
        rounds = [rng.permutation(rows) for _ in range(-(-int(share) // len(rows)))]
        drawn.append(np.concatenate(rounds)[:share] if rounds else rows[:0])
    return tuple(rng.permutation(np.concatenate(drawn)).tolist())


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
