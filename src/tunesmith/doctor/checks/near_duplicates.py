"""Rows whose every text is nearly the same as another row's: a word or a letter apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Row
from tunesmith.data.rows import contents
from tunesmith.doctor import minhash
from tunesmith.doctor.case import Case, answered, asked
from tunesmith.doctor.finding import EXAMPLES, Finding, about, brief
from tunesmith.doctor.pairing import partners, superfluous

quick = False
_ALIKE = 0.65
"""Of two texts' n-grams: half a sentence's words in common have less, a changed word in a question has more."""
_HALF = 70


def find(case: Case) -> list[Finding]:
    """`near-duplicate`, within each split and between two; exact copies are found elsewhere."""
    names = list(case.rows)
    rows = [row for name in names for row in case.rows[name]]
    side = np.repeat(np.arange(len(names)), [len(case.rows[name]) for name in names])
    first, second, capped = _alike(rows)
    note = "; some texts are so common that not all of their pairs were looked at" if capped else ""
    found = []
    for name in range(len(names)):
        inside = (side[first] == name) & (side[second] == name)
        if inside.any():
            found.append(_within(names[name], rows, first[inside], second[inside], len(case.rows[names[name]]), note))
        for other in range(name + 1, len(names)):
            across = (side[first] == name) & (side[second] == other)
            if across.any():
                sides = (names[name], names[other])
                found.append(_across(sides, rows, first[across], second[across], len(case.rows[sides[1]]), note))
    return found


def _alike(rows: Sequence[Row]) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """(lesser, greater) numbers of near-duplicate rows, and whether some pairs were not looked at."""
    plain = [[minhash.plain(text) for text in _texts(row)] for row in rows]
    known = [k for k, columns in enumerate(plain) if any(columns)]
    pairs = minhash.pairs([" | ".join(plain[k]) for k in known], _ALIKE)
    numbers = np.array(known, np.int64)
    first, second = numbers[pairs.left], numbers[pairs.right]
    sums = contents(rows)
    kept = sums[first] != sums[second]
    first, second = first[kept], second[kept]
    widths = np.array([len(columns) for columns in plain])
    kept = widths[first] == widths[second]
    for column in range(widths.max(initial=0) if widths.max(initial=0) > 1 else 0):
        # the same long context with another question is another row
        sets = minhash.sets_of([columns[column] if column < len(columns) else "" for columns in plain])
        kept &= minhash.compare(sets, first, second)[0] >= _ALIKE
    return first[kept], second[kept], pairs.capped


def _texts(row: Row) -> list[str]:
    """What must be alike: all that the model reads, and in a chat what it is to say, which is no label but the row."""
    texts = list(asked(row).values())
    return [*texts, "\n".join(answered(row))] if "messages" in row.values else texts


def _within(
    split: str, rows: Sequence[Row], first: NDArray[np.int64], second: NDArray[np.int64], of: int, note: str
) -> Finding:
    before = partners(first.tolist(), second.tolist())
    agree = {k: [j for j in earlier if _label(rows[j]) == _label(rows[k])] for k, earlier in before.items()}
    torn = {k for k, earlier in before.items() if len(agree[k]) < len(earlier)}
    gone = superfluous({k: earlier for k, earlier in agree.items() if earlier and k not in torn})
    differ = len(torn)
    why = "rows that say nearly the same count several times" + (
        f"; {differ} of them have another label than the row they are like, so one of the two may be wrong"
        if differ
        else ""
    )
    ordered = sorted(before, key=lambda k: (k not in torn, k))
    return about(
        "near-duplicate",
        split,
        [rows[k] for k in ordered],
        of,
        why,
        f"keep one of each{note}",
        shown=[_both(rows[k], rows[_odd(rows, k, before[k])]) for k in ordered[:EXAMPLES]],
        remove=[rows[k].id for k in sorted(gone)] if split == "train" else (),
    )


def _across(
    sides: tuple[str, str],
    rows: Sequence[Row],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    of: int,
    note: str,
) -> Finding:
    before = partners(first.tolist(), second.tolist())
    later = list(before)
    return about(
        "near-duplicate",
        "/".join(sides),
        [rows[k] for k in later],
        of,
        f"{sides[0]} has rows that say nearly the same, so that a score on {sides[1]} flatters",
        f"remove them from {sides[0]}{note}",
        shown=[_both(rows[k], rows[before[k][0]]) for k in later[:EXAMPLES]],
        side=sides[1],
        remove=sorted({rows[k].id for k in first.tolist()}) if sides[0] == "train" else (),
    )


def _odd(rows: Sequence[Row], k: int, earlier: Sequence[int]) -> int:
    """Of the rows that a row is like, the one to show: the first with another label, else the first."""
    return next((j for j in earlier if _label(rows[j]) != _label(rows[k])), earlier[0])


def _label(row: Row) -> str:
    return repr([value for name, value in sorted(row.values.items()) if name.startswith("label")])


def _both(row: Row, like: Row) -> str:
    texts = [brief(" | ".join(asked(one).values()), _HALF) for one in (row, like)]
    return f"{texts[0]} ~ {texts[1]} ({like.place.rpartition('/')[2]})"
