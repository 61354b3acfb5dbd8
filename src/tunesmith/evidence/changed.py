"""What tuning did to single rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tunesmith.contracts import Row
from tunesmith.evidence.case import Case
from tunesmith.significance import flipped, mcnemar

EACH = 40
"""Rows of each kind that are shown."""
KINDS = ("broken", "both wrong", "fixed", "both right", "other")


def look(case: Case) -> dict[str, Any] | None:
    """Rows fixed and broken: see reportshape.Changed. None where nothing was answered."""
    answered = [row for row in case.rows if row.id in case.tuned]
    if not answered:
        return None
    kinds: dict[str, list[Row]] = {kind: [] for kind in KINDS}
    for row in answered:
        kinds[_kind(case, row)].append(row)
    counts = {kind: len(rows) for kind, rows in kinds.items()}
    known = bool(case.base) and not kinds["other"]
    return {
        "fixed": counts["fixed"],
        "broken": counts["broken"],
        "both_right": counts["both right"],
        "both_wrong": counts["both wrong"],
        "p": _p(case, kinds["fixed"], kinds["broken"]) if known else None,
        "rows": [shown(case, row, kind) for kind, rows in kinds.items() for row in _surest(case, rows)],
    }


def _p(case: Case, fixed: Sequence[Row], broken: Sequence[Row]) -> float:
    """That as many were fixed as broken; rows of a group change sides together."""
    groups = case.result.tuned.measured.groups
    if not groups:
        return float(mcnemar(len(broken), len(fixed)))
    gains: Counter[int] = Counter(groups[row.id] for row in fixed)
    gains.subtract(groups[row.id] for row in broken)
    return flipped([gain for _, gain in sorted(gains.items())])


def _kind(case: Case, row: Row) -> str:
    now = case.right.get(row.id)
    if now is None:
        return "other"
    before = case.task.show(row, case.base[row.id]).right if row.id in case.base else None
    if before is None or before == now:  # without a base, right and wrong are all there is to tell
        return "both right" if now else "both wrong"
    return "fixed" if now else "broken"


def _surest(case: Case, rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (-case.sure.get(row.id, 0.0), row.id))[:EACH]


def shown(case: Case, row: Row, kind: str) -> dict[str, Any]:
    """A row with both answers: see reportshape.ChangedRow."""
    now = case.task.show(row, case.tuned[row.id])
    base = case.task.show(row, case.base[row.id]).answer if row.id in case.base else None
    return {
        "file": row.file,
        "line": row.line,
        "text": now.asked,
        "reference": now.reference,
        "base": base,
        "tuned": now.answer,
        "change": kind,
        "sure": case.sure.get(row.id),
    }
