"""Which rows make which update, and how an update is cut into micro-batches: pure functions of small integers.

The position in the data is one integer, the update's number; resuming needs no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Plan:
    """The order of all rows over all epochs."""

    rows: int
    batch_size: int
    seed: int
    shuffle: bool
    groups: tuple[int, ...] = ()
    """The group of each row, where every epoch draws all groups equally often, or by `weights`; empty where each row
    comes once."""
    weights: tuple[float, ...] = ()
    """How often the rows of each group come in an epoch; empty where groups are drawn equally often."""
    pairs: bool = False
    """Two rows of a group stand side by side, and each row comes once: so that an update has rows that are alike."""
    orders: dict[int, NDArray[np.int64]] = field(default_factory=dict, compare=False, repr=False)
    """The order of an epoch, once it was asked for; of the last two."""

    @cached_property
    def length(self) -> int:
        """Rows that an epoch sees, those that come again counted again."""
        return sum(_sizes(self.groups, self.weights)) if self.weights else self.rows

    @property
    def per_epoch(self) -> int:
        """Updates of an epoch; the last one takes the rows that are left, so that none is dropped or repeated."""
        return -(-self.length // self.batch_size)

    def at(self, step: int) -> list[int]:
        """Row numbers of an update, in their order."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch not in self.orders:
            while len(self.orders) > 1:
                del self.orders[min(self.orders)]
            self.orders[epoch] = self._order(epoch)
        found: list[int] = self.orders[epoch][place * self.batch_size : (place + 1) * self.batch_size].tolist()
        return found

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if self.weights:
            return _weighted(self.groups, self.weights, self.seed, epoch, self.shuffle)
        if self.pairs and self.shuffle:
            return _paired(self.groups, self.seed, epoch)
        if self.groups and not self.pairs:
            return _balanced(self.groups, self.seed, epoch)
        if self.shuffle:
            return np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        return np.arange(self.rows)


def _balanced(groups: tuple[int, ...], seed: int, epoch: int) -> NDArray[np.int64]:
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
    return rng.permutation(np.concatenate(drawn))


def _paired(groups: tuple[int, ...], seed: int, epoch: int) -> NDArray[np.int64]:
    """Every row once, two of a group together; those that are left without another of theirs come last."""
    rng = np.random.default_rng((seed, epoch))
    held = np.array(groups)
    mixed = [rng.permutation(np.flatnonzero(held == name)) for name in np.unique(held)]
    pairs = np.concatenate([rows[: len(rows) // 2 * 2].reshape(-1, 2) for rows in mixed])
    alone = np.concatenate([rows[len(rows) // 2 * 2 :] for rows in mixed])
    return np.concatenate([rng.permutation(pairs).flatten(), rng.permutation(alone)])


def _sizes(groups: tuple[int, ...], weights: tuple[float, ...]) -> list[int]:
    """Rows of each group in an epoch: one at least of a group that has any."""
    counts = np.bincount(np.array(groups, np.int64), minlength=len(weights)).tolist()
    return [max(round(weight * count), 1) if count else 0 for weight, count in zip(weights, counts, strict=True)]


def _weighted(
    groups: tuple[int, ...], weights: tuple[float, ...], seed: int, epoch: int, shuffle: bool
) -> NDArray[np.int64]:
    """Each group is an endless row of its permutations, of which every epoch takes the next piece: so over the epochs
    all rows of a group come equally often, one more or less."""
    held = np.array(groups)
    drawn = []
    for group, size in enumerate(_sizes(groups, weights)):
        rows = np.flatnonzero(held == group)
        if size:
            first, skipped = divmod(epoch * size, len(rows))
            count = -(-(skipped + size) // len(rows))
            rounds = [np.random.default_rng((seed, group, first + k)).permutation(rows) for k in range(count)]
            drawn.append(np.concatenate(rounds)[skipped : skipped + size])
    chosen = np.concatenate(drawn)
    return np.random.default_rng((seed, epoch)).permutation(chosen) if shuffle else np.sort(chosen)


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
