"""Rows that stand twice: within a split, with another label, or on two sides of a split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tunesmith.contracts import Row
from tunesmith.data.content import content
from tunesmith.doctor.case import Case, asked
from tunesmith.doctor.finding import Finding, about

quick = True
_MOST_LEAKED = 0.05
"""Of the test rows; more of them in train makes a score on them meaningless."""


def find(case: Case) -> list[Finding]:
    """`duplicate`, `contradiction` and `leak`."""
    found: list[Finding] = []
    for split, rows in case.rows.items():
        found += _within(split, rows)
    return found + _leaks(case)


def _within(split: str, rows: Sequence[Row]) -> list[Finding]:
    groups: dict[str, list[Row]] = defaultdict(list)
    copies: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[content(row)].append(row)
        said = row.values.get("label_documents", "")  # a query may have a row for each document
        copies[f"{content(row)} {said}"].append(row)
    again = [row for group in copies.values() for row in group[1:]]
    torn = [group for group in groups.values() if len({row.values.get("label") for row in group}) > 1]
    found = []
    if again:
        found.append(
            about(
                "duplicate",
                split,
                again,
                len(rows),
                "the same row counts several times",
                "remove the copies",
                shown=[_text(row) for row in again[:5]],
                remove=[row.id for row in again] if split == "train" else (),
            )
        )
    if torn:
        both = [row for group in torn for row in group]
        found.append(
            about(
                "contradiction",
                split,
                both,
                len(rows),
                "the same text has different labels, so that one of them is learned as wrong",
                "decide which label is right",
                shown=[f"{row.values.get('label')}: {_text(row)}" for row in both[:5]],
            )
        )
    return found


def _leaks(case: Case) -> list[Finding]:
    found = []
    names = list(case.rows)
    keys = {name: {content(row) for row in case.rows[name]} for name in names}
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            shared = [row for row in case.rows[second] if content(row) in keys[first]]
            if not shared:
                continue
            there = {content(row) for row in shared}
            of = len(case.rows[second])
            train = first == "train"
            found.append(
                about(
                    "leak",
                    f"{first}/{second}",
                    shared,
                    of,
                    f"these rows of {second} stand in {first} too, so that a score on {second} flatters",
                    f"remove them from {first}",
                    shown=[_text(row) for row in shared[:5]],
                    side=second,
                    remove=[row.id for row in case.rows[first] if content(row) in there] if train else (),
                    stops=train and second == "test" and len(shared) > _MOST_LEAKED * of,
                )
            )
    return found


def _text(row: Row) -> str:
    return " | ".join(asked(row).values())
