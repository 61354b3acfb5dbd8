"""The tuned model beside each other system that was measured on the same rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from tunesmith import stats
from tunesmith.contracts import Metric, Task
from tunesmith.evidence.case import Case
from tunesmith.metrics.measured import Measured
from tunesmith.significance import corrected

System = tuple[str, str, Measured]
"""Name, kind, and what was measured."""


def look(case: Case) -> list[dict[str, Any]]:
    """Base and baselines: see reportshape.Compared."""
    result = case.result
    systems: list[System] = [("base", "base", result.base_judged.measured)] if result.base_judged else []
    systems += [(name, "baseline", judged.measured) for name, judged in result.baselines_judged.items()]
    return against(case.task, case.metric, result.tuned.measured, systems)


def against(task: Task, metric: Metric, tuned: Measured, systems: Iterable[System]) -> list[dict[str, Any]]:
    """The tuned model's measures beside those of others on the same rows; of those that lack the metric, nothing. p is
    corrected for their number, and the outcome is by that."""
    made: list[dict[str, Any]] = []
    for name, kind, measured in systems:
        score = stats.scores(task, measured).get(metric.name)
        if score is None:
            continue
        verdict = stats.compare(task, metric, measured, tuned)
        made.append(
            {
                "name": name,
                "kind": kind,
                "score": asdict(score),
                "difference": verdict.difference,
                "low": verdict.low,
                "high": verdict.high,
                "p": verdict.p,
                "test": verdict.test,
                "outcome": verdict.outcome,
            }
        )
    return together(made)


def together(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Several comparisons as one family: p is corrected for their number, and no outcome is surer than that."""
    for found, p in zip(made, corrected([one["p"] for one in made]), strict=True):
        found["corrected"] = p
        if p >= stats.LEVEL:
            found["outcome"] = "unclear"
    return made
