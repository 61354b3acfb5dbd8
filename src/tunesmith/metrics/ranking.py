"""Scores that depend on order, over resampled rows.

Every replicate is a vector of how often each row was drawn, so rows are sorted once and replicates are sums along that
order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def midranks(values: Floats, counts: Floats) -> Floats:
    """Mean rank of each row among the drawn ones [repeats, rows]; equal values share a rank."""
    order = np.argsort(values, kind="stable")
    placed = values[order]
    first = np.searchsorted(placed, placed, "left")
    last = np.searchsorted(placed, placed, "right")
    sums = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts[:, order], 1)], 1)
    ranks = np.empty_like(counts)
    ranks[:, order] = (sums[:, first] + sums[:, last] + 1) / 2
    return ranks


def auc(scores: Floats, positive: NDArray[np.bool_], counts: Floats) -> Floats:
    """Area under the ROC curve of each replicate [repeats]: the chance that a positive row scores above a negative one
    (Mann and Whitney 1947). Not a number where a replicate has only one kind."""
    order = np.argsort(scores, kind="stable")
    placed, drawn = scores[order], counts[:, positive]
    sums = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts[:, order], 1)], 1)
    first, last = (np.searchsorted(placed, scores[positive], side) for side in ("left", "right"))
    positives = drawn.sum(1)
    negatives = sums[:, -1] - positives
    ranks = (sums[:, first] + sums[:, last] + 1) / 2
    above = (ranks * drawn).sum(1) - positives * (positives + 1) / 2
    both = positives * negatives
    area: Floats = np.divide(above, both, out=np.full(len(counts), np.nan), where=both > 0)
    return area


def mean_known(found: list[Floats]) -> Floats:
    """The mean of several scores of each replicate, of those that are numbers; not a number where none is."""
    table = np.array(found)
    known = ~np.isnan(table)
    total = np.where(known, table, 0.0).sum(0)
    mean: Floats = np.divide(total, known.sum(0), out=np.full(len(total), np.nan), where=known.any(0))
    return mean


def spearman(a: Floats, b: Floats, counts: Floats) -> Floats:
    """Spearman's rank correlation of each replicate [repeats]."""
    return correlation(midranks(a, counts), midranks(b, counts), counts)


def correlation(a: Floats, b: Floats, counts: Floats) -> Floats:
    """Pearson's correlation of values [repeats, rows] weighted by counts; 0 where one side does not vary."""
    total = counts.sum(1, keepdims=True)
    a = a - (a * counts).sum(1, keepdims=True) / total
    b = b - (b * counts).sum(1, keepdims=True) / total
    down = np.sqrt((a * a * counts).sum(1) * (b * b * counts).sum(1))
    found: Floats = np.divide((a * b * counts).sum(1), down, out=np.zeros(len(counts)), where=down > 1e-300)
    return found
