"""Intervals and paired tests over rows. A score is a function of sums over rows, so resampling rows is a product of
count matrices with the rows' measures; nothing is computed row by row.

Percentile bootstrap (Efron 1979); approximate randomization (Noreen 1989).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Metric, Task
from tunesmith.metrics.measured import Measured, Score

REPEATS = 1000
_ORDERED = 200
"""Replicates of scores that need the order of rows, which cost more each."""
_SEED = 20_261_121
Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """Whether the second of two systems is better than the first on the same rows."""

    outcome: Literal["helped", "hurt", "unclear"]
    metric: str
    difference: float
    low: float
    high: float
    p: float


def scores(task: Task, measured: Measured, repeats: int = REPEATS) -> dict[str, Score]:
    """Each score with its 95 % percentile interval over resampled rows, and the rows it rests on."""
    summed = _summed(task, measured)
    points = {name: float(value) for name, value in task.reduce(_sums(summed, None)).items()}
    draws = task.reduce(_resampled(summed, repeats))
    needed = rows_behind(task, summed)
    listed = {name: measured.values[name] for name in task.each if name in measured.values}
    if listed:
        n = len(next(iter(listed.values())))
        ordered = task.order(listed, np.ones((1, n)))
        points |= {name: float(value[0]) for name, value in ordered.items()}
        draws |= task.order(listed, _draws(n, min(repeats, _ORDERED)))
        needed |= dict.fromkeys(ordered, n)
    found = {}
    for name, point in points.items():
        known = draws[name][~np.isnan(draws[name])]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (point, point)
        found[name] = Score(point, float(low), float(high), needed[name])
    return found


def replicates(task: Task, measured: Measured, metric: str, repeats: int = REPEATS) -> NDArray[np.float64]:
    """The score on resampled rows: [repeats]. Systems that were measured on the same rows get the same draws."""
    found: NDArray[np.float64] = task.reduce(_resampled(_summed(task, measured), repeats))[metric]
    return found


def compare(task: Task, metric: Metric, base: Measured, tuned: Measured, repeats: int = REPEATS) -> Verdict:
    """Tuned minus base on the metric, both measured on the same rows.

    The interval is a paired bootstrap's; p is that of swapping the two systems' measures row by row at random. The
    outcome is `helped` or `hurt` only where both agree at 5 %.
    """
    name = metric.name
    base, tuned = _summed(task, base), _summed(task, tuned)
    for measure, rows in base.rows.items():
        assert np.array_equal(rows, tuned.rows[measure]), "both systems must be measured on the same rows"
    difference = _reduced(task, tuned, name, None) - _reduced(task, base, name, None)
    spread = task.reduce(_resampled(tuned, repeats))[name] - task.reduce(_resampled(base, repeats))[name]
    low, high = np.nanquantile(spread, [0.025, 0.975])
    swapped = _swapped(task, base, tuned, name, repeats)
    p = float((1 + np.sum(np.abs(swapped) >= abs(difference) - 1e-12)) / (repeats + 1))
    gain = 1.0 if metric.higher_is_better else -1.0
    outcome: Literal["helped", "hurt", "unclear"] = "unclear"
    if p < 0.05 and min(low * gain, high * gain) > 0:
        outcome = "helped"
    elif p < 0.05 and max(low * gain, high * gain) < 0:
        outcome = "hurt"
    return Verdict(outcome, name, float(difference), float(low), float(high), p)


def win_rate(base: Measured, tuned: Measured, repeats: int = REPEATS) -> Score | None:
    """The share of rows whose reference the second system finds likelier, a token, than the first; a tie is half a win.
    None for systems without a loss a token."""
    if not all({"loss", "tokens"} <= found.values.keys() for found in (base, tuned)):
        return None
    tokens = tuned.values["tokens"][:, 0]
    known = tokens > 0
    gain = (base.values["loss"] - tuned.values["loss"])[known, 0]
    wins = 0.5 * (1 + np.sign(gain))
    spread = _draws(len(wins), repeats) @ wins / len(wins)
    low, high = np.quantile(spread, [0.025, 0.975])
    return Score(float(wins.mean()), float(low), float(high), len(wins))


def _summed(task: Task, measured: Measured) -> Measured:
    """The measures that are summed."""
    names = [name for name in measured.rows if name not in task.each]
    return Measured({n: measured.rows[n] for n in names}, {n: measured.values[n] for n in names})


def rows_behind(task: Task, measured: Measured) -> dict[str, int]:
    """Metric -> number of rows that it rests on: found by asking which metrics each group of measures gives."""
    groups: dict[int, set[str]] = {}
    for name, rows in measured.rows.items():
        groups.setdefault(len(rows), set()).add(name)
    behind: dict[str, int] = {}
    for count, names in sorted(groups.items()):
        part = Measured({n: measured.rows[n] for n in names}, {n: measured.values[n] for n in names})
        for metric in task.reduce(_sums(part, None)):
            behind[metric] = count
    return behind


def _reduced(task: Task, measured: Measured, metric: str, weights: Counts | None) -> float:
    return float(task.reduce(_sums(measured, weights))[metric])


def _sums(measured: Measured, weights: Counts | None) -> dict[str, NDArray[np.float64]]:
    if weights is None:
        return {name: values.sum(0) for name, values in measured.values.items()}
    return {name: weights @ values for name, values in measured.values.items()}


def _resampled(measured: Measured, repeats: int) -> dict[str, NDArray[np.float64]]:
    """Sums of measures over rows drawn with replacement: [repeats, width]. The draw depends on the number of rows
    alone, so two systems on the same rows are resampled alike."""
    counts: dict[int, Counts] = {}
    for rows in measured.rows.values():
        n = len(rows)
        if n not in counts:
            counts[n] = _draws(n, repeats)
    return {name: counts[len(measured.rows[name])] @ values for name, values in measured.values.items()}


def _draws(n: int, repeats: int) -> Counts:
    """How often each of `n` rows is drawn [repeats, n]."""
    rng = np.random.default_rng((_SEED, n))
    return rng.multinomial(n, np.full(n, 1.0 / n), size=repeats).astype(np.float64)


def _swapped(task: Task, base: Measured, tuned: Measured, metric: str, repeats: int) -> NDArray[np.float64]:
    """Differences under the hypothesis that the two systems are one: each row's measures change sides at random."""
    first: dict[str, NDArray[np.float64]] = {}
    second: dict[str, NDArray[np.float64]] = {}
    coins: dict[int, Counts] = {}
    for name, a in base.values.items():
        b = tuned.values[name]
        n = len(a)
        if n not in coins:
            coins[n] = np.random.default_rng((_SEED, n, 1)).integers(0, 2, size=(repeats, n)).astype(np.float64)
        moved = coins[n] @ (b - a)
        first[name] = a.sum(0) + moved
        second[name] = b.sum(0) - moved
    swapped: NDArray[np.float64] = task.reduce(second)[metric] - task.reduce(first)[metric]
    return swapped
