"""The scores of parts of the rows: by length, label, language, source, confidence, and by columns that were named."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tunesmith import stats
from tunesmith.contracts import Row
from tunesmith.data.content import SLICE, SOURCE
from tunesmith.doctor.language import language
from tunesmith.evidence.case import Case
from tunesmith.metrics.measured import Measured
from tunesmith.significance import corrected

LEAST = 20
"""Rows of a slice: of fewer, a score says nothing."""
_LABELS = 30
"""Labels that are looked at: of more, those with most rows."""
_VALUES = 30
"""Values of a column."""
_REPEATS = 400
"""Of the bootstrap of each slice."""
_LONGEST = 60
"""Characters of a value that are shown."""
Parts = Mapping[str, Sequence[Row]]
"""Value -> its rows."""


def look(case: Case) -> dict[str, Any] | None:
    """See reportshape.Slices. None where there are too few rows to part."""
    metric, higher = metric_of(case)
    measured = case.result.tuned.measured
    base = case.result.base_judged
    rows = [row for row in case.rows if row.id in _measured(measured)]
    found: list[dict[str, Any]] = []
    for by, parts in ways(case, rows):
        for value, chosen in parts.items():
            if not LEAST <= len(chosen) <= len(rows) - LEAST:
                continue
            mine = measured.of(case.ids(chosen))
            names = {row.id for row in chosen}
            rest = measured.of(case.ids([row for row in rows if row.id not in names]))
            apart = stats.apart(case.task, metric, mine, rest)
            score = stats.scores(case.task, mine, _REPEATS)[metric]
            before = None
            if base is not None and metric in case.result.base[case.result.split]:
                before = stats.value(case.task, base.measured.of(case.ids(chosen)), metric)
            found.append(
                {
                    "by": by,
                    "value": value[:_LONGEST],
                    "n": len(chosen),
                    "score": asdict(score),
                    "base": before,
                    "difference": apart.difference,
                    "low": apart.low,
                    "high": apart.high,
                    "p": apart.p,
                }
            )
    for one, p in zip(found, corrected([one["p"] for one in found]), strict=True):
        del one["p"]
        one["corrected"] = p
        one["worse"] = p < stats.LEVEL and (one["difference"] < 0) == higher
    return {"metric": metric, "least": LEAST, "slices": found} if found else None


def metric_of(case: Case) -> tuple[str, bool]:
    """What slices are scored by, and whether higher is better: accuracy where there is one, which a slice of one label
    has too; else the headline, or what rests on more rows."""
    scores = case.result.scores[case.result.split]
    if "accuracy" in scores:
        return "accuracy", True
    watched = case.task.watched({name: score.value for name, score in scores.items()})
    best = case.metric if scores[case.metric.name].n >= scores[watched.name].n else watched
    return best.name, best.higher_is_better


def _measured(measured: Measured) -> set[int]:
    """The rows that every sum has."""
    return {int(row) for row in max(measured.rows.values(), key=len)} if measured.rows else set()


def ways(case: Case, rows: Sequence[Row]) -> Iterator[tuple[str, Parts]]:
    """By what rows are parted, and the parts."""
    lengths = [len(case.task.show(row, None).asked) for row in rows]
    if "image" not in case.task.columns:
        yield "length", by_length(rows, lengths)
        yield "language", _by(rows, [language(case.task.show(row, None).asked) for row in rows])
    if case.task.classes():
        yield "label", _by(rows, [row["label"] for row in rows], _LABELS)
    yield "source", _by(rows, [row.values.get(SOURCE) for row in rows])
    if len(case.sure) == len(rows):
        yield "confidence", by_confidence(rows, [case.sure[row.id] for row in rows])
    for column in case.recipe.evaluate.slices:
        yield column, _by(rows, [row.values.get(SLICE + column) for row in rows], _VALUES)


def by_length(rows: Sequence[Row], lengths: Sequence[int]) -> Parts:
    """Quarters of the rows, by the characters of what is asked."""
    edges = np.unique(np.quantile(lengths, [0.25, 0.5, 0.75])).astype(int).tolist() if lengths else []
    parts: dict[str, list[Row]] = defaultdict(list)
    for row, length in sorted(zip(rows, lengths, strict=True), key=lambda pair: (pair[1], pair[0].id)):
        after = next((edge for edge in edges if length <= edge), None)
        before = max((edge for edge in edges if edge < length), default=None)
        low = "" if before is None else f"over {before:,}"
        high = "" if after is None else f"up to {after:,}"
        parts[f"{', '.join(word for word in (low, high) if word) or 'all'} characters"].append(row)
    return parts


def by_confidence(rows: Sequence[Row], sure: Sequence[float]) -> Parts:
    """By how sure the model is."""
    parts: dict[str, list[Row]] = defaultdict(list)
    for low, high in ((0.0, 0.5), (0.5, 0.8), (0.8, 0.95), (0.95, 1.01)):
        for row, value in zip(rows, sure, strict=True):
            if low <= value < high:
                parts[f"{low:g} to {min(high, 1):g}"].append(row)
    return parts


def _by(rows: Sequence[Row], values: Sequence[Any], most: int = 1000) -> Parts:
    """By a value; rows without one are in no part, and neither are all rows of one value."""
    parts: dict[str, list[Row]] = defaultdict(list)
    for row, value in zip(rows, values, strict=True):
        if value not in (None, ""):
            parts[str(value)].append(row)
    if len(parts) < 2:
        return {}
    largest = sorted(parts, key=lambda value: (-len(parts[value]), value))[:most]
    return {value: parts[value] for value in sorted(largest)}
