"""Rows that stand twice: within a split, with another label, or on two sides of a split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from tunesmith.contracts import Row
from tunesmith.data.content import content
from tunesmith.data.rows import contents
from tunesmith.doctor.case import Case, asked
from tunesmith.doctor.finding import EXAMPLES, Finding, about

quick = True
whole = True
stopping = ("leak",)
_MOST = 200_000
"""Rows that stand twice which are made and compared: of very many, the first."""
_MOST_LEAKED = 0.05
"""Of the test rows; more of them in train makes a score on them meaningless."""


def find(case: Case) -> list[Finding]:
    """`duplicate`, `contradiction` and `leak`."""
    found: list[Finding] = []
    for split, rows in case.rows.items():
        found += _within(split, rows)
    return found + _leaks(case)


def _within(split: str, rows: Sequence[Row]) -> list[Finding]:
    sums = contents(rows)
    _, inverse, counts = np.unique(sums, return_inverse=True, return_counts=True)
    groups: dict[str, list[Row]] = defaultdict(list)
    copies: dict[str, list[Row]] = defaultdict(list)
    for k in np.flatnonzero(counts[inverse] > 1)[:_MOST].tolist():
        row = rows[k]
        groups[content(row)].append(row)
        said = row.values.get("label_documents", "")  # a query may have a row for each document
        copies[f"{content(row)} {said}"].append(row)
    again = sorted((row for group in copies.values() for row in group[1:]), key=lambda row: row.id)
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
                shown=[_text(row) for row in again[:EXAMPLES]],
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
                shown=[f"{row.values.get('label')}: {_text(row)}" for row in both[:EXAMPLES]],
            )
        )
    return found


def _leaks(case: Case) -> list[Finding]:
    found = []
    names = list(case.rows)
    sums = {name: contents(rows) for name, rows in case.rows.items()}
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            rows, of = case.rows[second], len(case.rows[second])
            shared = [rows[k] for k in np.flatnonzero(np.isin(sums[second], sums[first]))[:_MOST].tolist()]
            if not shared:
                continue
            train = first == "train"
            there = np.flatnonzero(np.isin(sums[first], sums[second])).tolist() if train else []
            found.append(
                about(
                    "leak",
                    f"{first}/{second}",
                    shared,
                    of,
                    f"these rows of {second} stand in {first} too, so that a score on {second} flatters",
                    f"remove them from {first}",
                    shown=[_text(row) for row in shared[:EXAMPLES]],
                    side=second,
                    remove=there,
                    stops=train and second == "test" and len(shared) > _MOST_LEAKED * of,
                )
            )
    return found


def _text(row: Row) -> str:
    return " | ".join(asked(row).values())
