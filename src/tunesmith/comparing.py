"""Runs beside each other on the rows that all were scored on: paired tests, from what each left of every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith import stats
from tunesmith.contracts import Metric, Task
from tunesmith.errors import RunError
from tunesmith.evidence import compared
from tunesmith.metrics.measured import Measured, Score
from tunesmith.recipefile import task_from
from tunesmith.report import measures
from tunesmith.rundir import RunDir


@dataclass(frozen=True)
class Beside:
    """A run's tuned model on rows that others were scored on too."""

    run: RunDir
    measured: Measured
    scores: dict[str, Score]


@dataclass(frozen=True)
class Comparison:
    """Several runs on the rows that they share."""

    task: Task
    metric: Metric
    rows: int
    runs: tuple[Beside, ...]

    def first_against(self) -> list[dict[str, Any]]:
        """The first run against each other: see reportshape.Compared."""
        first, *others = self.runs
        systems = [(str(other.run.path), "run", other.measured) for other in others]
        return compared.against(self.task, self.metric, first.measured, systems)

    def against_first(self) -> list[dict[str, Any]]:
        """Each other run against the first: what it is better by."""
        turned = {"helped": "hurt", "hurt": "helped", "unclear": "unclear"}
        return [
            {
                **found,
                "difference": -found["difference"],
                "low": -found["high"],
                "high": -found["low"],
                "outcome": turned[found["outcome"]],
            }
            for found in self.first_against()
        ]


def compare(runs: Sequence[RunDir]) -> Comparison:
    """Raises RunError for runs of different tasks, and for runs that share no row."""
    first = runs[0]
    name, said = first.json("task")["name"], first.json("report/report")
    for run in runs[1:]:
        other = run.json("task")["name"]
        if other != name:
            raise RunError(f"the runs are of different tasks: {name} and {other}", where=str(run.path))
    kept = [measures.unpack(run.report / "measures.safetensors") for run in runs]
    common = kept[0].content
    for one in kept[1:]:
        common = np.intersect1d(common, one.content)
    common = np.unique(common)
    if not len(common):
        raise RunError(
            "no row was scored in all of these runs",
            where=", ".join(str(run.path) for run in runs),
            hint="name the same file in `data.test` of their recipes, with the same `evaluate.limit`",
        )
    task: Task = task_from(first.json("task"))
    made = [_on(one, common) for one in kept]
    for run, measured in zip(runs[1:], made[1:], strict=True):
        _refuse_apart(made[0], measured, run)
    metric = Metric(said["headline"], said["higher_is_better"])
    found = tuple(Beside(run, m, stats.scores(task, m)) for run, m in zip(runs, made, strict=True))
    return Comparison(task, metric, len(common), found)


def _on(kept: measures.Kept, rows: NDArray[np.uint64]) -> Measured:
    """The tuned model's measures of some rows, numbered in their order; of copies, the first."""
    known, first = np.unique(kept.content, return_index=True)
    return kept.systems["tuned"].numbered(first[np.searchsorted(known, rows)])


def _refuse_apart(first: Measured, other: Measured, run: RunDir) -> None:
    """Raise RunError where the same rows have other labels, or runs answered other rows of them."""
    same = first.values.keys() == other.values.keys() and all(
        first.values[name].shape == other.values[name].shape and np.array_equal(first.rows[name], other.rows[name])
        for name in first.values
    )
    if not same:
        raise RunError(
            "the run has other labels than the first, or answered other rows",
            where=str(run.path),
            hint="compare runs with the same labels and the same `evaluate.answers`",
        )
    if "gold" in first.values and not np.array_equal(first.values["gold"], other.values["gold"]):
        raise RunError("the same rows have other labels in the two runs' files", where=str(run.path))
