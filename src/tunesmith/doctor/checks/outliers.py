"""Rows unlike nearly all others: by length, by script, by what a wrong encoding leaves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from tunesmith.contracts import Row
from tunesmith.doctor.case import Case, answered, asked
from tunesmith.doctor.finding import EXAMPLES, Finding, about, brief
from tunesmith.doctor.script import script

quick = False
_FEWEST = 50
_FAR = 6.0
"""Scaled median deviations of the logarithm of the length: of a normal spread two in 10^9 are as far."""
_LEAST = 0.35
"""The spread is taken to be at least this (a factor of 1.4): texts of one length are not outliers by a word."""
_RARE = 0.01
"""Of the rows; a script that fewer have is odd among them."""
_BEFORE = 60
"""Characters that are shown before and behind what is broken."""
_BROKEN = re.compile(
    "\ufffd|[ÂÃ][\x80-\xbf€‚ƒ„†‡ˆ‰Š‹ŒŽ•˜™š›œžŸ]|(?<![A-ZÀ-Þ])[ÂÃ][…‘’“”–—]|â€|ï»¿|Ð[°µ]Ð|Ñ\x80Ð"
)  # a word in capitals may end in Ã before a dash or a quote
"""UTF-8 that was read as Latin-1 or Windows-1252, or bytes that were given up."""


def find(case: Case) -> list[Finding]:
    """`length-outlier`, `script-outlier` and `mojibake`."""
    texts_of = {split: [" ".join(asked(row).values()) for row in rows] for split, rows in case.rows.items()}
    written = {split: [script(text) for text in texts] for split, texts in texts_of.items()}
    counts = Counter(name for names in written.values() for name in names)
    total = sum(count for name, count in counts.items() if name)
    rare = {name for name, count in counts.items() if name and count < _RARE * total} if total >= _FEWEST else set()
    found: list[Finding] = []
    for split, rows in case.rows.items():
        texts = texts_of[split]
        found += _lengths(split, rows, texts)
        odd = [k for k, name in enumerate(written[split]) if name in rare]
        if odd:
            usual = counts.most_common(1)[0][0]
            here = ", ".join(name for name, _ in Counter(written[split][k] for k in odd).most_common(3))
            why = f"they are written in {here}, nearly all others in {usual}"
            found.append(_about("script-outlier", split, rows, texts, odd, why, "are they meant to be here?"))
        whole = [" ".join((text, *answered(row))) for text, row in zip(texts, rows, strict=True)]
        broken = {k: match for k, text in enumerate(whole) if (match := _BROKEN.search(text))}
        if broken:
            why = "they hold what a wrong encoding leaves (such as Ã© for é), which no one will type"
            near = {k: whole[k][max(match.start() - _BEFORE, 0) : match.end() + _BEFORE] for k, match in broken.items()}
            found.append(_about("mojibake", split, rows, near, list(broken), why, "read the source again as UTF-8"))
    return found


def _lengths(split: str, rows: Sequence[Row], texts: Sequence[str]) -> list[Finding]:
    if len(rows) < _FEWEST:
        return []
    sizes = np.log1p([len(text) for text in texts])
    middle = float(np.median(sizes))
    spread = max(1.4826 * float(np.median(np.abs(sizes - middle))), _LEAST)
    far = np.abs(sizes - middle) / spread
    odd = [int(k) for k in np.argsort(-far, kind="stable") if far[k] > _FAR]
    if not odd:
        return []
    low, high = (max(0, round(np.expm1(middle + sign * _FAR * spread))) for sign in (-1, 1))
    why = (
        f"half of all texts have {round(np.expm1(middle)):,} characters or fewer; these lie outside {low:,} to {high:,}"
    )
    hint = "look whether several rows stand in one, or one is cut"
    shown = [f"{len(texts[k]):,} characters: {brief(texts[k], 90)}" for k in odd[:EXAMPLES]]
    return [about("length-outlier", split, [rows[k] for k in odd], len(rows), why, hint, shown=shown)]


def _about(
    kind: str,
    split: str,
    rows: Sequence[Row],
    texts: Sequence[str] | Mapping[int, str],
    chosen: Sequence[int],
    why: str,
    hint: str,
) -> Finding:
    shown = [brief(texts[k]) for k in chosen[:EXAMPLES]]
    return about(kind, split, [rows[k] for k in chosen], len(rows), why, hint, shown=shown)
