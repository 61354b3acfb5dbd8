"""What is wrong with the rows, before anything is trained: each finding counted, with places and what to do."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.contracts import BadRow, Row
from tunesmith.data.split import content

_EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """Something the user should look at."""

    kind: str
    split: str
    count: int
    examples: tuple[tuple[str, int], ...]
    """(file, line)"""
    hint: str

    def as_json(self) -> dict[str, Any]:
        """As `check --json` prints it."""
        places = [{"file": file, "line": line} for file, line in self.examples]
        return {
            "kind": self.kind,
            "split": self.split,
            "count": self.count,
            "examples": places,
            "hint": self.hint,
        }


def examine(rows: Mapping[str, Sequence[Row]], bad: Mapping[str, Sequence[BadRow]]) -> list[Finding]:
    """Rows that cannot be used, exact duplicates, texts with several labels, leaks between splits, labels that
    training does not have, and labels that are rare."""
    findings = [
        _finding("bad-row", split, [(b.file, b.line) for b in found], found[0].reason)
        for split, found in bad.items()
        if found
    ]
    for split, part in rows.items():
        findings += _within(split, part)
    findings += _leaks(rows)
    findings += _labels(rows)
    return findings


def _within(split: str, rows: Sequence[Row]) -> list[Finding]:
    groups: dict[str, list[Row]] = defaultdict(list)
    copies: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[content(row)].append(row)
        found = row.values.get("label_documents", "")  # a query may have a row for each document
        copies[f"{content(row)} {found}"].append(row)
    again = [row for group in copies.values() for row in group[1:]]
    torn = [group for group in groups.values() if len({row.values.get("label") for row in group}) > 1]
    findings = []
    if again:
        hint = "the same row counts several times; remove the copies"
        findings.append(_rows("duplicate", split, again, hint))
    if torn:
        hint = "the same text has different labels; decide which is right"
        findings.append(_rows("contradiction", split, [row for group in torn for row in group], hint))
    return findings


def _leaks(rows: Mapping[str, Sequence[Row]]) -> list[Finding]:
    findings = []
    names = list(rows)
    keys = {name: {content(row) for row in rows[name]} for name in names}
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            shared = [row for row in rows[second] if content(row) in keys[first]]
            if shared:
                hint = f"these rows stand in {first} too, so a score on {second} flatters; remove them from {first}"
                findings.append(_rows("leak", f"{first}/{second}", shared, hint))
    return findings


def _labels(rows: Mapping[str, Sequence[Row]]) -> list[Finding]:
    known = Counter(row.values["label"] for row in rows["train"] if "label" in row.values)
    if not known:
        return []
    findings = []
    for split, part in rows.items():
        unseen = [row for row in part if row.values.get("label") not in known]
        if unseen:
            hint = "no training row has this label, so these rows are always counted wrong"
            findings.append(_rows("unseen-label", split, unseen, hint))
    rare = {label for label, count in known.items() if count < 5}
    if rare:
        chosen = [row for row in rows["train"] if row.values["label"] in rare]
        hint = f"{len(rare)} labels have fewer than 5 training rows; add rows or join labels"
        findings.append(_rows("rare-label", "train", chosen, hint))
    if max(known.values()) > 10 * min(known.values()):
        most, least = known.most_common()[0], known.most_common()[-1]
        chosen = [row for row in rows["train"] if row.values["label"] == least[0]]
        hint = f"`{most[0]}` has {most[1]} rows, `{least[0]}` has {least[1]}; read macro_f1 rather than accuracy"
        findings.append(_rows("imbalance", "train", chosen, hint))
    return findings


def _rows(kind: str, split: str, rows: Sequence[Row], hint: str) -> Finding:
    return _finding(kind, split, [(row.file, row.line) for row in rows], hint)


def _finding(kind: str, split: str, places: Sequence[tuple[str, int]], hint: str) -> Finding:
    return Finding(kind, split, len(places), tuple(places[:_EXAMPLES]), hint)
