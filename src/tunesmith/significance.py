"""Intervals and tests of plain numbers: shares of rows, pairs of right and wrong, many tests at once. No tasks here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_POWER = 0.8416
"""The normal quantile of a chance of 80 % to see what is there."""
_REPEATS = 2000
_SEED = 20_261_127
SURE = 1.96
"""The normal quantile of a 95 % interval."""


def share_interval(hits: ArrayLike, n: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 95 % interval of a share of rows (Jeffreys; Brown, Cai and DasGupta 2001). Unlike a bootstrap's it has a
    width where every row is right, and holds what it says where few are wrong."""
    from scipy.stats import beta

    hits, n = np.asarray(hits, np.float64), np.asarray(n, np.float64)
    low = np.where(hits > 0, beta.ppf(0.025, hits + 0.5, n - hits + 0.5), 0.0)
    high = np.where(hits < n, beta.ppf(0.975, hits + 0.5, n - hits + 0.5), 1.0)
    return low, high


def effective(right: ArrayLike, groups: ArrayLike | None) -> tuple[float, float]:
    """Hits and rows as if each row stood for itself: as many as tell no more than these do, of which those of one group
    are right or wrong together (by the design effect of a share of groups; Korn and Graubard 1998). At worst, which is
    taken where all or none are right, a group tells what one row does. `groups` has the number of each row's group;
    None where each stands for itself."""
    from scipy.stats import t

    hits = np.asarray(right, np.float64)
    n, share = len(hits), float(hits.mean()) if len(hits) else 0.0
    if groups is None or not n:
        return float(hits.sum()), float(n)
    _, number = np.unique(groups, return_inverse=True)
    sizes = np.bincount(number)
    rows = n**2 / float((sizes**2).sum())
    if 0 < share < 1 and 1 < len(sizes) < n:
        told = np.bincount(number, weights=hits - share)
        spread = float((told**2).sum()) * len(sizes) / (len(sizes) - 1) / n**2
        few = (t.ppf(0.975, n - 1) / t.ppf(0.975, len(sizes) - 1)) ** 2
        rows = min(share * (1 - share) / spread, n) * few if spread > 0 else float(n)
    return share * rows, rows


def mcnemar(first_only: ArrayLike, second_only: ArrayLike) -> Any:
    """Two-sided p that rows which one system alone has right are as many on both sides: exact, mid-p (McNemar 1947;
    Fagerland, Lydersen and Laake 2013). 1 where there are none."""
    from scipy.stats import binom

    first, second = np.asarray(first_only), np.asarray(second_only)
    n = first + second
    fewer = np.minimum(first, second)
    p = 2 * binom.cdf(fewer, n, 0.5) - binom.pmf(fewer, n, 0.5)
    return np.where(first == second, 1.0, np.minimum(p, 1.0))


def flipped(gains: Sequence[float]) -> float:
    """Two-sided p that gains of independent groups of rows are as often losses of the same size: signs drawn at random
    (Fisher 1935), with the chance of ties halved. 1 where there are none."""
    known = np.array([gain for gain in gains if gain], np.float64)
    if not len(known):
        return 1.0
    seen = abs(known.sum())
    rng = np.random.default_rng((_SEED, len(known)))
    drawn = np.abs([(rng.integers(0, 2, len(known)) * 2 - 1) @ known for _ in range(_REPEATS)])
    more, same = np.sum(drawn > seen + 1e-12), np.sum(np.abs(drawn - seen) <= 1e-12)
    return 1.0 if seen == 0 else float((0.5 + more + 0.5 * same) / (_REPEATS + 1))


def normal_p(difference: float, error: float) -> float:
    """Two-sided p of a difference with this standard error."""
    if not error > 0:
        return 1.0 if difference == 0 or math.isnan(error) else 0.0
    return math.erfc(abs(difference) / error / math.sqrt(2))


def share_difference(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float, float]:
    """The 95 % interval of a share of rows minus that of others, each (hits, rows), and the two-sided p that they are
    one (Agresti and Caffo 2000: a hit and a miss are added to each)."""
    (a, n), (b, m) = ((hits + 1, rows + 2) for hits, rows in (first, second))
    error = math.sqrt(a / n * (1 - a / n) / n + b / m * (1 - b / m) / m)
    middle = a / n - b / m
    return max(middle - SURE * error, -1.0), min(middle + SURE * error, 1.0), normal_p(middle, error)


def corrected(found: Sequence[float]) -> list[float]:
    """p of each of several tests, so that one is below 5 % by chance in 5 % of families at most (Holm 1979)."""
    made = [0.0] * len(found)
    most = 0.0
    for rank, k in enumerate(sorted(range(len(found)), key=found.__getitem__)):
        most = max(most, min((len(found) - rank) * found[k], 1.0))
        made[k] = most
    return made


def rows_needed(n: int, difference: float, error: float) -> int | None:
    """Rows that would tell a difference of this size four times out of five at 5 %, where `n` rows have this standard
    error. None where there is no difference, or no knowing."""
    if not (error > 0 and abs(difference) > 0):
        return None
    return math.ceil(n * ((SURE + _POWER) * error / abs(difference)) ** 2)
