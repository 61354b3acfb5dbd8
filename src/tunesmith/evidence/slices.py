"""The scores of parts of the rows: by length, label, language, source, confidence, and by columns that were named."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith import shares, stats
from tunesmith.contracts import Row
from tunesmith.data.content import SLICE, SOURCE
from tunesmith.doctor.language import language
from tunesmith.evidence.case import Case
from tunesmith.metrics.measured import Score
from tunesmith.significance import corrected, share_difference, share_interval
from tunesmith.train.evaluate import Judged

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
    ids = shares.rows_of(case.task, case.result.tuned.measured, metric)
    known = set(ids.tolist())
    rows = [row for row in case.rows if row.id in known]
    of = _scorer(case, metric)
    found: list[dict[str, Any]] = []
    for by, parts in ways(case, rows):
        for value, chosen in parts.items():
            if LEAST <= len(chosen) <= len(rows) - LEAST:
                made = of(np.isin(ids, case.ids(chosen)))
                if made is not None:
                    found.append({"by": by, "value": _brief(value), "n": len(chosen), **made})
    for one, p in zip(found, corrected([one["p"] for one in found]), strict=True):
        del one["p"]
        one["corrected"] = p
        one["worse"] = p < stats.LEVEL and (one["difference"] < 0) == higher
    return {"metric": metric, "least": LEAST, "slices": found} if found else None


def _scorer(case: Case, metric: str) -> Callable[[NDArray[np.bool_]], dict[str, Any] | None]:
    """What makes a slice's numbers of the rows that are in it. Shares of rows need no more than whether each is right:
    tables with columns for every label would take minutes."""
    base = case.result.base_judged if metric in case.result.base.get(case.result.split, {}) else None
    hits = shares.hits(case.task, case.result.tuned.measured, metric)
    before = None if base is None else shares.hits(case.task, base.measured, metric)
    if hits is None or (before is None and base is not None):
        return lambda chosen: _of_sums(case, metric, chosen, base)
    return lambda chosen: _of_shares(hits, before, chosen)


def _of_shares(
    hits: NDArray[np.float64], base: NDArray[np.float64] | None, chosen: NDArray[np.bool_]
) -> dict[str, Any]:
    mine, rest = hits[chosen], hits[~chosen]
    low, high = map(float, share_interval(mine.sum(), len(mine)))
    first, last, p = share_difference((float(mine.sum()), len(mine)), (float(rest.sum()), len(rest)))
    return {
        "score": asdict(Score(float(mine.mean()), low, high, len(mine))),
        "base": None if base is None else float(base[chosen].mean()),
        "difference": float(mine.mean() - rest.mean()),
        "low": first,
        "high": last,
        "p": p,
    }


def _of_sums(case: Case, metric: str, chosen: NDArray[np.bool_], base: Judged | None) -> dict[str, Any] | None:
    """None where one of the two parts has no such score."""
    task, measured = case.task, case.result.tuned.measured
    measured = measured.only([name for name in measured.rows if name not in task.each])
    ids = shares.rows_of(task, measured, metric)
    mine, rest = measured.of(ids[chosen]), measured.of(ids[~chosen])
    apart = stats.apart(task, metric, mine, rest)
    score = stats.scores(task, mine, _REPEATS)[metric]
    if not all(map(math.isfinite, (*asdict(score).values(), *asdict(apart).values()))):
        return None
    before = None if base is None else stats.value(task, base.measured.of(ids[chosen]), metric)
    return {"score": asdict(score), "base": before if before == before else None, **asdict(apart)}


def _brief(value: str) -> str:
    return value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"


def metric_of(case: Case) -> tuple[str, bool]:
    """What slices are scored by, and whether higher is better: accuracy where there is one, which a slice of one label
    has too; else the headline, or what rests on more rows."""
    scores = case.result.scores[case.result.split]
    if "accuracy" in scores:
        return "accuracy", True
    watched = case.task.watched({name: score.value for name, score in scores.items()})
    best = case.metric if scores[case.metric.name].n >= scores[watched.name].n else watched
    return best.name, best.higher_is_better


def ways(case: Case, rows: Sequence[Row]) -> Iterator[tuple[str, Parts]]:
    """By what rows are parted, and the parts."""
    if "image" not in case.task.columns:
        asked = [case.task.show(row, None).asked for row in rows]
        yield "length", by_length(rows, [len(text) for text in asked])
        yield "language", _by(rows, [language(text) for text in asked])
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
