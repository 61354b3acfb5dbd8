"""CoNLL's columns: a word a line, its tag in the last column, a blank line between sentences."""

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
    tokens: list[str] = []
    tags: list[str] = []
    begun, wrong = 0, ""
    for line, text in enumerate((*lines, ""), start=1):
        if not text.strip():
            if wrong:
                yield BadRow(str(path), begun, wrong, "give every word and its tag, with a tab or spaces between")
            elif tokens:
                yield begun, {"tokens": tokens, "tags": tags}
            tokens, tags, wrong = [], [], ""
            continue
        pieces = _columns(text)
        if not tokens and not wrong:
            behind = _columns(lines[line]) if line < len(lines) else []
            if pieces[0] == _DOCUMENT or (text.startswith("#") and len(pieces) != len(behind)):
                continue
            begun = line
        if len(pieces) < 2 or not pieces[0].strip():
            wrong = wrong or f"line {line} has a word without a tag"
            continue
        tokens.append(pieces[0])
        tags.append(pieces[-1].strip())


def _columns(text: str) -> list[str]:
    return text.split("\t") if "\t" in text else text.split()
