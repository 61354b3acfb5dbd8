"""CoNLL's columns: a word a line, its tag in the last column, a blank line between sentences.

Where the first column counts the words of a sentence, the word is in the second and its tag in the third, as in
GermEval's files, of which the fourth holds what is nested inside; it comes as `tags_2`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.contracts import BadRow
from tunesmith.data.textfile import open_text

suffixes = (".conll", ".bio", ".iob")
_DOCUMENT = "-DOCSTART-"


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """(line it begins in, {tokens, tags}) of each sentence. A line that begins with `#` before a sentence is a remark
    where it has not as many columns as the line behind it."""
    with open_text(path) as file:
        lines = [text.rstrip("\r\n") for text in file]
    table: list[list[str]] = []
    begun, wrong = 0, ""
    for line, text in enumerate((*lines, ""), start=1):
        if not text.strip():
            if wrong:
                yield BadRow(str(path), begun, wrong, "give every word and its tag, with a tab or spaces between")
            elif table:
                yield begun, _row(table)
            table, wrong = [], ""
            continue
        pieces = _columns(text)
        if not table and not wrong:
            behind = _columns(lines[line]) if line < len(lines) else []
            if pieces[0] == _DOCUMENT or (text.startswith("#") and len(pieces) != len(behind)):
                continue
            begun = line
        if len(pieces) < 2 or not pieces[0].strip():
            wrong = wrong or f"line {line} has a word without a tag"
            continue
        table.append(pieces)


def _row(table: list[list[str]]) -> dict[str, Any]:
    counted = all(len(line) > 2 and line[0] == str(k) for k, line in enumerate(table, start=1))
    if not counted:
        return {"tokens": [line[0] for line in table], "tags": [line[-1].strip() for line in table]}
    columns = [[line[k].strip() for line in table] for k in range(1, min(map(len, table)))]
    names = ["tokens", "tags", *(f"tags_{k}" for k in range(2, len(columns)))]
    return dict(zip(names, columns, strict=True))


def _columns(text: str) -> list[str]:
    return text.split("\t") if "\t" in text else text.split()
