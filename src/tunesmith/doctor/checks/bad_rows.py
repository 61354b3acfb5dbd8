"""Rows that the task cannot use."""

from __future__ import annotations

from tunesmith.doctor.case import Case
from tunesmith.doctor.finding import EXAMPLES, Finding, Spot

quick = True


def find(case: Case) -> list[Finding]:
    """`bad-row`, each with its reason."""
    return [
        Finding(
            "bad-row",
            split,
            len(bad),
            len(bad) + len(case.rows.get(split, ())),
            tuple(Spot(row.file, row.line, row.reason) for row in bad[:EXAMPLES]),
            "such rows are neither learned nor scored",
            bad[0].hint or "mend or remove them; `data.bad_rows: skip` trains without them",
        )
        for split, bad in case.bad.items()
        if bad
    ]
