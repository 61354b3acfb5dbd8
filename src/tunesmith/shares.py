"""Which rows a score rests on, and whether it is a share of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Task
from tunesmith.metrics.measured import Measured
from tunesmith.resampling import Counts

Numbers = NDArray[np.float64]
_OTHERS = 20
"""Other counts of rows, or other measures, by which a share is told from a score that looks like one."""
_SEED = 20_261_127


def rows_behind(task: Task, measured: Measured) -> dict[str, int]:
    """Metric -> number of rows that it rests on: found by asking which metrics each group of measures gives."""
    behind: dict[str, int] = {}
    for count, names in sorted(alike(measured).items()):
        for metric in task.reduce(totals(measured.only(names), None)):
            behind[metric] = count
    return behind


def alike(measured: Measured) -> dict[int, list[str]]:
    """Measures by the number of rows that have them."""
    groups: dict[int, list[str]] = {}
    for name, rows in measured.rows.items():
        groups.setdefault(len(rows), []).append(name)
    return groups


def rows_of(task: Task, measured: Measured, metric: str) -> NDArray[np.int64]:
    """The ids of the rows that a score rests on. Raises KeyError where there is no such score."""
    return measured.rows[_behind(task, summed_of(task, measured), metric)[0]]


def hits(task: Task, measured: Measured, metric: str) -> Numbers | None:
    """Of each row that the score rests on, 1 where it is right and 0 where not; None where the score is no share of
    rows that stand for themselves."""
    return None if measured.groups else share_of(task, summed_of(task, measured), metric)


def _behind(task: Task, measured: Measured, metric: str) -> list[str]:
    """The measures that the metric is made of."""
    for _, names in sorted(alike(measured).items(), reverse=True):
        if metric in task.reduce(totals(measured.only(names), None)):
            return names
    raise KeyError(metric)


def share_of(task: Task, measured: Measured, metric: str) -> Numbers | None:
    """Whether each row is right, where the metric is the share of rows that are; else None."""
    part = measured.only(_behind(task, measured, metric))
    with np.errstate(all="ignore"):
        values = task.reduce(part.values)[metric]
    like = _like_share(values, reduced(task, part, metric))
    return values if like and _is_share(task, part, metric, values) else None


def _like_share(values: Numbers, score: float) -> bool:
    """Whether the metric of each row alone is 0 or 1, and the score their mean."""
    return values.ndim == 1 and bool(np.isin(values, (0.0, 1.0)).all()) and abs(float(values.mean()) - score) < 1e-9


def _is_share(task: Task, part: Measured, metric: str, values: Numbers) -> bool:
    """Whether a score that looks like a share is the mean of its rows' values however often each row counts. Where all
    of them are 0, no count of rows can tell (the MCC of one answer for all is 0 whatever rows there are); then the
    score is asked of other measures: all that is not 1 in every row, as the count of rows is, is drawn at random. One
    that may be negative is no share."""
    rng = np.random.default_rng((_SEED, 2))
    with np.errstate(all="ignore"):
        if not values.any():
            drawn = {name: np.where((each == 1).all(0), 1.0, rng.random((_OTHERS, each.shape[1])))
                     for name, each in part.values.items()}  # fmt: skip
            return bool(np.all(task.reduce(drawn)[metric] >= 0))
        counts = rng.integers(1, 4, (_OTHERS, len(values))).astype(np.float64)
        scores = task.reduce({name: counts @ each for name, each in part.values.items()})[metric]
        return bool(np.all(np.abs(scores - counts @ values / counts.sum(1)) < 1e-9))


def reduced(task: Task, measured: Measured, metric: str) -> float:
    """A score of all rows together."""
    return float(task.reduce(totals(measured, None))[metric])


def totals(measured: Measured, weights: Counts | None) -> dict[str, Numbers]:
    """Sums of measures over rows [width], or with weights [draws, rows] of rows [draws, width]."""
    if weights is None:
        return {name: values.sum(0) for name, values in measured.values.items()}
    return {name: weights @ values for name, values in measured.values.items()}


def shares_of(task: Task, summed: Measured, points: dict[str, float]) -> dict[str, Numbers]:
    """Metric -> whether each row is right, of metrics that are the share of rows that are."""
    found: dict[str, Numbers] = {}
    for _, names in sorted(alike(summed).items()):
        part = summed.only(names)
        with np.errstate(all="ignore"):
            each = task.reduce(part.values)
        maybe = {name: values for name, values in each.items() if _like_share(values, points[name])}
        found |= {name: values for name, values in maybe.items() if _is_share(task, part, name, values)}
    return found


def summed_of(task: Task, measured: Measured) -> Measured:
    """The measures that are summed."""
    return measured.only([name for name in measured.rows if name not in task.each])
