"""Intervals and paired tests over rows. A score is a function of sums over rows, so resampling rows is a product of
count matrices with the rows' measures; nothing is computed row by row. Rows of a group are drawn together.

Bias-corrected and accelerated bootstrap (BCa; Efron 1987), of groups where rows have them (Field and Welsh 2007): plain
percentiles of a macro-F1 over 77 labels hold it 64 to 86 times in a hundred (docs/decisions/0024). Approximate
randomization (Noreen 1989), with the chance of ties halved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Metric, Task
from tunesmith.metrics.measured import Measured, Score
from tunesmith.resampling import REPEATS, coins, drawn_sums, draws, together
from tunesmith.shares import Numbers, alike, reduced, rows_behind, share_of, shares_of, summed_of, totals
from tunesmith.significance import SURE, mcnemar, normal_p, rows_needed, share_difference, share_interval

LEVEL = 0.05
"""p below which a difference counts as there."""
_ORDERED = 200
"""Replicates of scores that need the order of rows, which cost more each."""
_SEED = 20_261_121
Outcome = Literal["helped", "hurt", "unclear"]


@dataclass(frozen=True)
class Verdict:
    """Whether the second of two systems is better than the first on the same rows."""

    outcome: Outcome
    metric: str
    difference: float
    low: float
    high: float
    p: float
    test: str
    """How p was found."""
    needed: int | None
    """Rows that would tell a difference of this size, where it is unclear."""


@dataclass(frozen=True)
class Apart:
    """How a score differs between two sets of rows."""

    difference: float
    low: float
    high: float
    p: float


def scores(task: Task, measured: Measured, repeats: int = REPEATS) -> dict[str, Score]:
    """Each score with its 95 % interval, and the rows it rests on: a bootstrap's over rows; of a plain share of rows,
    the one of shares. One that is no number on these rows (the variance told of equal ones) is none."""
    summed = summed_of(task, measured)
    points = {name: float(value) for name, value in task.reduce(totals(summed, None)).items()}
    drawn = replicates_each(task, measured, repeats)
    needed = rows_behind(task, summed)
    rows, listed = _listed(task, measured)
    if listed:
        ordered = task.order(listed, np.ones((1, len(rows))))
        points |= {name: float(value[0]) for name, value in ordered.items()}
        needed |= dict.fromkeys(ordered, len(rows))
    shares = {} if measured.groups else shares_of(task, summed, points)
    pulls = _pulls(task, summed)
    found = {}
    for name, point in points.items():
        if not math.isfinite(point):
            continue
        low, high = _interval(drawn[name], point, pulls.get(name))
        if name in shares:
            low, high = map(float, share_interval(shares[name].sum(), len(shares[name])))
        found[name] = Score(point, low, high, needed[name])
    return found


def value(task: Task, measured: Measured, metric: str) -> float:
    """The score, without an interval."""
    return reduced(task, summed_of(task, measured), metric)


def replicates(task: Task, measured: Measured, metric: str, repeats: int = REPEATS) -> Numbers:
    """The score on resampled rows: [repeats]. Systems that were measured on the same rows get the same draws."""
    found = task.reduce(_resampled(summed_of(task, measured), repeats))
    return found[metric] if metric in found else _ordered(task, measured, repeats)[metric]


def replicates_each(task: Task, measured: Measured, repeats: int = REPEATS) -> dict[str, Numbers]:
    """As `replicates`, of all scores; of those that need the order of rows, fewer."""
    return task.reduce(_resampled(summed_of(task, measured), repeats)) | _ordered(task, measured, repeats)


def _ordered(task: Task, measured: Measured, repeats: int) -> dict[str, Numbers]:
    """The scores that need the order of rows, on resampled rows."""
    rows, listed = _listed(task, measured)
    if not listed:
        return {}
    parts = [task.order(listed, some) for some in draws(rows, measured.groups, min(repeats, _ORDERED))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _listed(task: Task, measured: Measured) -> tuple[NDArray[np.int64], dict[str, Numbers]]:
    """The measures that are not summed, as their scores need the order of rows, and those rows."""
    listed = {name: measured.values[name] for name in task.each if name in measured.values}
    return next((measured.rows[name] for name in listed), np.empty(0, np.int64)), listed


def compare(task: Task, metric: Metric, base: Measured, tuned: Measured, repeats: int = REPEATS) -> Verdict:
    """Tuned minus base on the metric, both measured on the same rows.

    The interval is a paired bootstrap's. p is that of swapping the two systems' measures row by row at random; where
    the metric is a share of rows, McNemar's. The outcome is `helped` or `hurt` only where both agree at 5 %.
    """
    return compare_each(task, (metric,), base, tuned, repeats)[metric.name]


def compare_each(
    task: Task, metrics: Sequence[Metric], base: Measured, tuned: Measured, repeats: int = REPEATS
) -> dict[str, Verdict]:
    """As `compare`, on several metrics, each by itself: name -> verdict. Rows are drawn once for all of them."""
    base, tuned = summed_of(task, base), summed_of(task, tuned)
    for measure, rows in base.rows.items():
        assert np.array_equal(rows, tuned.rows[measure]), "both systems must be measured on the same rows"
    before, after = (task.reduce(totals(measured, None)) for measured in (base, tuned))
    drawn_before, drawn_after = (task.reduce(_resampled(measured, repeats)) for measured in (base, tuned))
    pulls_before, pulls_after = _pulls(task, base), _pulls(task, tuned)
    behind = rows_behind(task, tuned)
    swapped: dict[str, Numbers] = {}
    found = {}
    for metric in metrics:
        name = metric.name
        difference = float(after[name]) - float(before[name])
        told = _as_shares(task, base, tuned, name)
        if told is None:
            swapped = swapped or _swapped(task, base, tuned, repeats)
            told = _randomized(difference, swapped[name]), "approximate randomization"
        drawn, pulls = drawn_after[name] - drawn_before[name], pulls_after[name] - pulls_before[name]
        found[name] = _verdict(metric, difference, drawn, pulls, told, behind[name])
    return found


def compare_mean(
    task: Task, metric: Metric, members: Sequence[Measured], tuned: Measured, repeats: int = REPEATS
) -> Verdict:
    """As `compare`, minus the mean of the scores of several, all measured on the same rows. For p the same rows change
    sides with each of them: of a mean over rows, that draws the signs of its differences from their mean."""
    name, tuned = metric.name, summed_of(task, tuned)
    summed = [summed_of(task, member) for member in members]
    for member in summed:
        for measure, rows in member.rows.items():
            assert np.array_equal(rows, tuned.rows[measure]), "all must be measured on the same rows"
    difference = reduced(task, tuned, name) - float(np.mean([reduced(task, member, name) for member in summed]))
    drawn = np.mean([task.reduce(_resampled(member, repeats))[name] for member in summed], axis=0)
    pulls = _pulls(task, tuned)[name] - np.mean([_pulls(task, member)[name] for member in summed], axis=0)
    drawn = task.reduce(_resampled(tuned, repeats))[name] - drawn
    p = _randomized(difference, np.mean([_swapped(task, member, tuned, repeats)[name] for member in summed], axis=0))
    told = p, "approximate randomization"
    return _verdict(metric, difference, drawn, pulls, told, rows_behind(task, tuned)[name])


def _verdict(
    metric: Metric,
    difference: float,
    drawn: Numbers,
    pulls: Numbers,
    told: tuple[float, str],
    behind: int,
) -> Verdict:
    """Of a difference: those of other draws of rows, what each row pulls, p and its test, and the rows behind it."""
    low, high = _interval(drawn, difference, pulls)
    outcome = _outcome(metric, low, high, told[0])
    needed = rows_needed(behind, difference, _length(pulls)) if outcome == "unclear" else None
    return Verdict(outcome, metric.name, difference, float(low), float(high), *told, needed)


def _outcome(metric: Metric, low: float, high: float, p: float) -> Outcome:
    """What the interval and the test say where they agree."""
    gain = 1.0 if metric.higher_is_better else -1.0
    if p < LEVEL and min(low * gain, high * gain) > 0:
        return "helped"
    return "hurt" if p < LEVEL and max(low * gain, high * gain) < 0 else "unclear"


def _as_shares(task: Task, base: Measured, tuned: Measured, name: str) -> tuple[float, str] | None:
    """p that two shares of the same rows are one, and the test; None where the metric is no share of rows."""
    first, second = (None if tuned.groups else share_of(task, measured, name) for measured in (base, tuned))
    if first is None or second is None:
        return None
    return float(mcnemar((first > second).sum(), (second > first).sum())), "McNemar, mid-p"


def _randomized(difference: float, swapped: Numbers) -> float:
    """p of a difference, by those under the hypothesis that there is none."""
    more = np.sum(np.abs(swapped) > abs(difference) + 1e-12)
    same = np.sum(np.abs(np.abs(swapped) - abs(difference)) <= 1e-12)
    if same == len(swapped):  # nothing ever changes sides
        return 1.0
    return float((0.5 + more + 0.5 * same) / (len(swapped) + 1))


def apart(task: Task, metric: str, first: Measured, second: Measured) -> Apart:
    """The score of the first set of rows minus that of the second, where the two have no row in common. The interval is
    normal, with errors from what each row pulls at its score (infinitesimal jackknife; Efron 1982); of shares of rows,
    the one of two shares."""
    sets = [summed_of(task, measured) for measured in (first, second)]
    difference = reduced(task, sets[0], metric) - reduced(task, sets[1], metric)
    mine, rest = (None if first.groups or second.groups else share_of(task, measured, metric) for measured in sets)
    if mine is not None and rest is not None:
        low, high, p = share_difference((float(mine.sum()), len(mine)), (float(rest.sum()), len(rest)))
        return Apart(difference, low, high, p)
    error = math.hypot(*(_length(_pulls(task, measured)[metric]) for measured in sets))
    return Apart(difference, difference - SURE * error, difference + SURE * error, normal_p(difference, error))


def _pulls(task: Task, measured: Measured) -> dict[str, Numbers]:
    """Metric -> what each row, or group of rows, pulls at the score: how much it changes when the row counts a little
    more, over the number of rows (infinitesimal jackknife)."""
    found: dict[str, Numbers] = {}
    for count, names in sorted(alike(measured).items()):
        part = measured.only(names)
        sums = totals(part, None)
        step = 1e-3 / count
        moved = task.reduce({name: sums[name] + step * count * values for name, values in part.values.items()})
        number, groups = together(part.rows[names[0]], part.groups)
        for metric, point in task.reduce(sums).items():
            each = (moved[metric] - float(point)) / step / count
            summed = each if number is None else np.bincount(number, weights=each, minlength=groups)
            found[metric] = summed - summed.mean()
    return found


def _length(pulls: Numbers) -> float:
    """The standard error of a score that rows pull at so."""
    return float(np.sqrt(np.sum(pulls**2)))


def _interval(draws: Numbers, point: float, pulls: Numbers | None) -> tuple[float, float]:
    """The 95 % interval of a score from its replicates: the percentiles that its bias, and its skewness where the pulls
    are known, point to; the score itself is always in it. Replicates that are no number do not count."""
    from scipy.special import ndtr, ndtri

    known = draws[np.isfinite(draws)]
    if not len(known):
        return point, point
    below = (np.sum(known < point) + 0.5 * np.sum(known == point)) / len(known)
    bias = ndtri(np.clip(below, 1 / len(known), 1 - 1 / len(known)))
    skew, sure = 0.0, SURE
    if pulls is not None and np.any(pulls):
        skew, sure = float(np.sum(pulls**3) / (6 * np.sum(pulls**2) ** 1.5)), _sure(pulls)
    ends = bias + np.array([-sure, sure])
    low, high = np.quantile(known, ndtr(bias + ends / np.maximum(1 - skew * ends, 0.1)))
    return min(float(low), point), max(float(high), point)


def _sure(pulls: Numbers) -> float:
    """Standard errors on each side of a 95 % interval: as many as Student's t has where the standard error is itself an
    estimate, of degrees of freedom from how unevenly the rows pull (Satterthwaite 1946): 200 rows of which six decide
    tell no more than about ten."""
    from scipy.special import stdtrit

    squares = pulls**2
    uneven = float(squares @ squares / squares.sum() ** 2) - 1 / len(pulls)
    return float(stdtrit(min(2 / uneven, 1e9), 0.975)) if uneven > 0 else SURE


def win_rate(base: Measured, tuned: Measured, repeats: int = REPEATS) -> Score | None:
    """The share of rows whose reference the second system finds likelier, a token, than the first; a tie is half a win.
    None for systems without a loss a token."""
    if not all({"loss", "tokens"} <= found.values.keys() for found in (base, tuned)):
        return None
    tokens = tuned.values["tokens"][:, 0]
    known = tokens > 0
    gain = (base.values["loss"] - tuned.values["loss"])[known, 0]
    wins = 0.5 * (1 + np.sign(gain))
    counted = np.stack([wins, np.ones(len(wins))], 1)
    won, rows = drawn_sums(counted, tuned.rows["tokens"][known], tuned.groups, repeats).T
    low, high = np.quantile(won / rows, [0.025, 0.975])
    return Score(float(wins.mean()), float(low), float(high), len(wins))


def _resampled(measured: Measured, repeats: int) -> dict[str, Numbers]:
    """Sums of measures over drawn rows: [repeats, width]. Two systems on the same rows are resampled alike."""
    found: dict[str, list[Numbers]] = {name: [] for name in measured.rows}
    for names in alike(measured).values():
        for counts in draws(measured.rows[names[0]], measured.groups, repeats):
            for name in names:
                found[name].append(counts @ measured.values[name])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _swapped(task: Task, base: Measured, tuned: Measured, repeats: int) -> dict[str, Numbers]:
    """Metric -> differences under the hypothesis that the two systems are one: each row's measures change sides at
    random."""
    moved: dict[str, list[Numbers]] = {name: [] for name in base.rows}
    for names in alike(base).values():
        for sides in coins(base.rows[names[0]], base.groups, repeats):
            for name in names:
                moved[name].append(sides @ (tuned.values[name] - base.values[name]))
    sums = {name: np.concatenate(parts) for name, parts in moved.items()}
    first = task.reduce({name: base.values[name].sum(0) + sums[name] for name in sums})
    second = task.reduce({name: tuned.values[name].sum(0) - sums[name] for name in sums})
    return {name: second[name] - first[name] for name in second}
