"""Rows drawn with replacement, and coins for systems that change sides: the same for the same number of rows, so that
all that is measured on the same rows is drawn alike. Rows of a group are drawn together."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

REPEATS = 1000
_AT_ONCE = 2**23
"""Counts of rows that are in memory together: a thousand draws of 100,000 rows would take most of a gigabyte."""
_REMEMBERED = 2**21
"""Most counts that are kept for the next score on as many rows: four times 16 MB."""
_SEED = 20_261_121
Counts = NDArray[np.float64]


def drawn_sums(
    values: NDArray[np.float64], rows: NDArray[np.int64], groups: dict[int, int], repeats: int = REPEATS
) -> NDArray[np.float64]:
    """Sums of values [rows, width] over rows drawn with replacement: [repeats, width]. Rows of a group are drawn
    together. The draw depends on the number of rows (and on their groups) alone."""
    return np.concatenate([counts @ values for counts in draws(rows, groups, repeats)])


def draws(rows: NDArray[np.int64], groups: dict[int, int], repeats: int = REPEATS) -> Iterator[Counts]:
    """How often each of these rows is drawn [some of the repeats, n]; those of a group are drawn together."""
    number, n = together(rows, groups)
    for counts in _kept_counts(len(rows), n, repeats) if repeats * n <= _REMEMBERED else _counts(len(rows), n, repeats):
        yield counts if number is None else counts[:, number]


@lru_cache(maxsize=4)
def _kept_counts(rows: int, n: int, repeats: int) -> tuple[Counts, ...]:
    """As `_counts`, remembered: each score of a system, and each system on the same rows, asks for the same draws."""
    return tuple(_counts(rows, n, repeats))


def _counts(rows: int, n: int, repeats: int) -> Iterator[Counts]:
    """How often each of n is drawn among n [some of the repeats, n], read-only."""
    rng = np.random.default_rng((_SEED, rows))
    for some in _parts(repeats, rows):
        drawn = rng.integers(0, n, (some, n)) + n * np.arange(some)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=some * n).reshape(some, n).astype(np.float64)
        counts.setflags(write=False)
        yield counts


def _parts(repeats: int, rows: int) -> Iterator[int]:
    """Repeats, cut so that counts of so many rows fit in memory."""
    most = max(_AT_ONCE // max(rows, 1), 1)
    yield from (min(most, repeats - done) for done in range(0, repeats, most))


def together(rows: NDArray[np.int64], groups: dict[int, int]) -> tuple[NDArray[np.int64] | None, int]:
    """The group of each row, numbered from 0, and how many there are; None where each row stands for itself."""
    if not groups:
        return None, len(rows)
    known, number = np.unique([groups[row] for row in rows.tolist()], return_inverse=True)
    return number, len(known)


def coins(rows: NDArray[np.int64], groups: dict[int, int], repeats: int = REPEATS) -> Iterator[Counts]:
    """A fair coin for each of these rows [some of the repeats, n]; those of a group have one."""
    number, n = together(rows, groups)
    for drawn in _kept_coins(len(rows), n, repeats) if repeats * n <= _REMEMBERED else _coins(len(rows), n, repeats):
        yield drawn if number is None else drawn[:, number]


@lru_cache(maxsize=4)
def _kept_coins(rows: int, n: int, repeats: int) -> tuple[Counts, ...]:
    """As `_coins`, remembered."""
    return tuple(_coins(rows, n, repeats))


def _coins(rows: int, n: int, repeats: int) -> Iterator[Counts]:
    """A fair coin for each of n [some of the repeats, n], read-only."""
    rng = np.random.default_rng((_SEED, rows, 1))
    for some in _parts(repeats, rows):
        coins = rng.integers(0, 2, size=(some, n)).astype(np.float64)
        coins.setflags(write=False)
        yield coins
