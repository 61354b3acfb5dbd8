"""How much data is enough: scores of a small model on growing parts of the training rows, and what more would bring.

The small model is a linear probe on the frozen states of the run's own, where a task has a head to fit; else the run's
own method, for one pass. A power law (Hestness et al. 2017, arXiv:1712.00409) is fitted to what was measured, and again
to each replicate of resampled validation rows and parts, so that what it foretells has an interval.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith import stats
from tunesmith.contracts import Row
from tunesmith.data.rows import select
from tunesmith.data.split import sampled
from tunesmith.errors import DataError, TunesmithError
from tunesmith.judgement import headline, untuned
from tunesmith.metrics.measured import Measured
from tunesmith.prepare import Prepared, Say
from tunesmith.train.evaluate import judge, value_of

_SHARES = (0.125, 0.25, 0.5, 1.0)
_PARTS = 3
"""Parts of each size below the whole, drawn independently."""
_MOST = 20_000
"""Training rows of the largest part."""
_SCORED = 2000
"""Validation rows that are scored."""
_POWERS = np.linspace(0.1, 1.5, 29)
_FEWEST = 40
"""Training rows; of fewer, a part has too few to tell."""


@dataclass(frozen=True)
class Point:
    """A score with a number of training rows."""

    rows: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """What was measured, and what more rows would bring."""

    metric: str
    higher_is_better: bool
    how: str
    """The small model, in words."""
    points: tuple[Point, ...]
    more: tuple[Point, ...]
    """Foretold for twice and four times the rows."""
    gain: tuple[float, float, float]
    """What twice the rows would bring, and its 95 % interval; positive is better."""
    verdict: str

    def as_json(self) -> dict[str, Any]:
        """As `check --json` prints it."""
        return asdict(self)


def measure(prepared: Prepared, say: Say) -> Curve:
    """Score parts of the training rows. Raises DataError where there are too few."""
    count = min(len(prepared.train_rows), _MOST)
    if count < _FEWEST:
        raise DataError(
            f"{count} training rows are too few to be cut into parts",
            where=prepared.splits.files["train"][0],
            hint=f"`--scaling` needs {_FEWEST}",
        )
    whole = select(prepared.train_rows, sampled(prepared.train_rows, count))
    rows = select(prepared.splits.rows["validation"], sampled(prepared.splits.rows["validation"], _SCORED))
    probed = prepared.task.probed and bool(prepared.model.fresh)
    parts = _PARTS if probed else 1
    sizes: list[int] = []
    found: list[list[Measured]] = []
    for share in _SHARES:
        size = round(share * count)
        made = []
        for part in range(parts if share < 1 else 1):
            say(
                f"learning from {size:,} of {count:,} rows"
                + (f", part {part + 1} of {parts}" if share < 1 < parts else "")
            )
            try:
                made.append(_probe(prepared, whole, size, part, rows) if probed else _tune(prepared, size, rows))
            except TunesmithError as fault:  # a small part may lack a label
                say(f"  left out: {fault.problem}")
        if made:
            sizes.append(size)
            found.append(made)
    if len(sizes) < 3:
        raise DataError("too few parts of the rows can be learned from", hint="add rows of the rare labels")
    how = "a linear probe on the frozen model" if probed else f"{_method(prepared)}, one pass"
    return _curve(prepared, sizes, found, how)


def _probe(prepared: Prepared, whole: Sequence[Row], size: int, part: int, rows: Sequence[Row]) -> Measured:
    """The probe that learned from as many of the rows, drawn for this part."""
    order = np.random.default_rng((prepared.recipe.train.seed, part)).permutation(len(whole))
    train = select(whole, np.sort(order[:size]))
    if prepared.task.learn(train).classes() != prepared.task.classes():
        raise DataError("the part lacks a label")
    model = untuned(prepared.task, prepared.recipe, prepared.source, train)
    return judge(model, prepared.task, rows, answers=0).measured


def _tune(prepared: Prepared, size: int, rows: Sequence[Row]) -> Measured:
    """One pass of the recipe's own method over a part."""
    from tunesmith import run

    recipe = prepared.recipe
    with tempfile.TemporaryDirectory() as folder:
        once = recipe.model_copy(
            update={
                "data": recipe.data.model_copy(update={"limit": size, "bad_rows": "skip"}),
                "train": recipe.train.model_copy(update={"epochs": 1.0, "steps": None, "unfreeze_every": None}),
                "evaluate": recipe.evaluate.model_copy(update={"compare": False, "answers": 0, "limit": 50}),
                "run": recipe.run.model_copy(update={"dir": folder, "name": "part"}),
            }
        )
        part, tuned = run.begin(once, None, ["scaling"])
        for _ in run.go(part, tuned):
            pass
    return judge(tuned.model, prepared.task, rows, answers=0).measured


def _method(prepared: Prepared) -> str:
    assert prepared.recipe.method is not None
    return prepared.recipe.method.name


def _curve(prepared: Prepared, sizes: Sequence[int], found: Sequence[Sequence[Measured]], how: str) -> Curve:
    task = prepared.task
    metric = headline(task, stats.scores(task, found[-1][0]))
    draws = [[stats.replicates(task, measured, metric.name) for measured in made] for made in found]
    values = [[value_of(task, measured)[metric.name] for measured in made] for made in found]
    rng = np.random.default_rng(prepared.recipe.train.seed)
    each = np.stack([_spread(np.stack(made), rng) for made in draws])  # [sizes, replicates]
    means = np.array([np.mean(made) for made in values])
    return fitted(metric.name, metric.higher_is_better, how, np.array(sizes), means, each)


def _spread(draws: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """The mean over parts on resampled validation rows, the parts resampled too: [parts, n] -> [n]."""
    parts, replicates = draws.shape
    chosen = rng.integers(0, parts, (parts, replicates))
    mean: NDArray[np.float64] = np.take_along_axis(draws, chosen, 0).mean(0)
    return mean


def fitted(
    metric: str,
    higher_is_better: bool,
    how: str,
    sizes: NDArray[np.int64],
    means: NDArray[np.float64],
    draws: NDArray[np.float64],
) -> Curve:
    """The curve through measured means [sizes], with its interval from replicates [sizes, replicates]."""
    bounded = float(min(means.min(), draws.min())) >= 0 and float(max(means.max(), draws.max())) <= 1
    ahead = np.array([sizes[-1], 2 * sizes[-1], 4 * sizes[-1]])
    point = _foretold(sizes, means[:, None], ahead)[:, 0]
    every = _foretold(sizes, draws, ahead)
    if bounded and higher_is_better:
        point, every = np.clip(point, 0, 1), np.clip(every, 0, 1)
    points = tuple(
        Point(int(size), float(mean), *_interval(draw)) for size, mean, draw in zip(sizes, means, draws, strict=True)
    )
    more = tuple(Point(int(ahead[k]), float(point[k]), *_interval(every[k])) for k in (1, 2))
    sign = 1.0 if higher_is_better else -1.0
    gain = (float(sign * (point[1] - point[0])), *_interval(sign * (every[1] - every[0])))
    return Curve(metric, higher_is_better, how, points, more, gain, _verdict(metric, gain, int(ahead[1])))


def _interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _foretold(sizes: NDArray[np.int64], values: NDArray[np.float64], ahead: NDArray[np.int64]) -> NDArray[np.float64]:
    """values [sizes, curves] -> a + b n^-c, fitted to each by least squares over a and b for every c of a grid, at
    `ahead`: [ahead, curves]. b has the sign of what was measured, so that no curve turns."""
    best = np.full(values.shape[1], np.inf)
    made = np.tile(values[-1], (len(ahead), 1))
    falls = np.sign(values[0] - values[-1])
    for power in _POWERS:
        x = (sizes / sizes[0]) ** -power
        centred = x - x.mean()
        slope = centred @ (values - values.mean(0)) / (centred @ centred)
        slope = np.where(np.sign(slope) == falls, slope, 0.0)
        level = values.mean(0) - slope * x.mean()
        error = ((level + np.outer(x, slope) - values) ** 2).sum(0)
        better = error < best
        best = np.where(better, error, best)
        there = level + np.outer((ahead / sizes[0]) ** -power, slope)
        made = np.where(better, there, made)
    return made


def _verdict(metric: str, gain: tuple[float, float, float], rows: int) -> str:
    value, low, high = gain
    said = f"{metric} by about {value:+.3f} [{low:+.3f}, {high:+.3f}] with {rows:,} rows"
    if low > 0:
        return f"more rows like these would help: {said}"
    if high < 0.005:
        return f"more rows like these would not help: {said}"
    return f"whether more rows would help cannot be told: {said}"
