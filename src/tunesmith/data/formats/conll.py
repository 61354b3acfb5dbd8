"""CoNLL's columns: a word a line, its tag in the last column, a blank line between sentences.

Where the first column counts the words of every sentence, the words are in the second. If the third then holds tags, as
in GermEval's files, it is taken, and what is nested inside, in the fourth, comes as `tags_2`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.contracts import BadRow
from tunesmith.data import spans
from tunesmith.data.textfile import open_text

suffixes = (".conll", ".bio", ".iob")
_DOCUMENT = "-DOCSTART-"


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """(line it begins in, {tokens, tags}) of each sentence. A line that begins with `#` before a sentence is a remark
    where it has not as many columns as the line behind it."""
    with open_text(path) as file:
        lines = [text.rstrip("\r\n") for text in file]
    found: list[tuple[int, list[list[str]]] | BadRow] = []
    table: list[list[str]] = []
    begun, wrong = 0, ""
    for line, text in enumerate((*lines, ""), start=1):
        if not text.strip():
            if wrong:
                hint = "give every word and its tag, with a tab or spaces between"
                found.append(BadRow(str(path), begun, wrong, hint))
            elif table:
                found.append((begun, table))
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
        table.append([piece.strip() for piece in pieces])
    tables = [item[1] for item in found if not isinstance(item, BadRow)]
    first, last, more = _places(tables)
    for item in found:
        if isinstance(item, BadRow):
            yield item
            continue
        begun, table = item
        row = {"tokens": [line[first] for line in table], "tags": [line[last] for line in table]}
        yield begun, row | {f"tags_{k}": [line[at] for line in table] for k, at in enumerate(more, start=2)}


def _places(tables: list[list[list[str]]]) -> tuple[int, int, tuple[int, ...]]:
    """The columns of words, of tags, and of further tags, decided over the whole file."""
    counted = all(line[0] == str(k) for table in tables for k, line in enumerate(table, start=1))
    if not counted or max(map(len, tables), default=0) < 2:
        return 0, -1, ()
    width = min(len(line) for table in tables for line in table)
    tags = [k for k in range(2, width) if all(_is_tag(line[k]) for table in tables for line in table)]
    return (1, tags[0], tuple(tags[1:])) if tags[:1] == [2] else (1, -1, ())


def _is_tag(text: str) -> bool:
    return text == spans.OUTSIDE or (spans.prefixed(text) and len(text) > 2)


def _columns(text: str) -> list[str]:
    return text.split("\t") if "\t" in text else text.split()
