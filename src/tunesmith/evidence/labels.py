"""Precision and recall of each label, or type of entity, and which labels are taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Answer
from tunesmith.evidence.case import Case
from tunesmith.metrics.measured import Measured


def look(case: Case) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """See reportshape.LabelShape and Confusion."""
    labels = case.task.classes()
    if labels:
        table = counts(case, labels, case.tuned)
        now = _of_counts(case, labels, case.tuned, table)
        before = _of_counts(case, labels, case.base, counts(case, labels, case.base)) if case.base else None
        found = [_label(name, now[k], before[k] if before is not None else None) for k, name in enumerate(labels)]
        return found, {"labels": list(labels), "counts": table.astype(int).tolist()}
    names = case.task.counted()
    if not names:
        return [], None
    base = case.result.base_judged
    sums = _of_measures(case.result.tuned.measured)
    befores = _of_measures(base.measured) if base and "hit" in base.measured.values else None
    return [_label(name, sums[k], befores[k] if befores is not None else None) for k, name in enumerate(names)], None


def counts(case: Case, labels: Sequence[str], answers: Mapping[int, Answer]) -> NDArray[np.float64]:
    """[gold, given], of rows whose label training has seen."""
    place = {label: number for number, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels)))
    for row in case.rows:
        if row["label"] in place and row.id in answers:
            table[place[row["label"]], place[answers[row.id]["label"]]] += 1
    return table


Rates = tuple[float, float, float]
"""How often it occurs, is given, and both."""


def _of_counts(
    case: Case, labels: Sequence[str], answers: Mapping[int, Answer], table: NDArray[np.float64]
) -> list[Rates]:
    """A row of a label that training never saw is given one all the same, wrongly."""
    given = Counter(answers[row.id]["label"] for row in case.rows if row.id in answers)
    return [(float(table[k].sum()), float(given[name]), float(table[k, k])) for k, name in enumerate(labels)]


def _of_measures(measured: Measured) -> list[Rates]:
    sums = [measured.values[name].sum(0) for name in ("gold", "found", "hit")]
    return [(float(a), float(b), float(c)) for a, b, c in zip(*sums, strict=True)]


def _label(name: str, now: Rates, before: Rates | None) -> dict[str, Any]:
    gold, given, hit = now
    return {
        "label": name,
        "n": int(gold),
        "precision": hit / given if given else 0.0,
        "recall": hit / gold if gold else 0.0,
        "f1": _f1(now),
        "base_f1": None if before is None else _f1(before),
    }


def _f1(rates: Rates) -> float:
    gold, given, hit = rates
    return 2 * hit / (gold + given) if gold + given else 0.0
