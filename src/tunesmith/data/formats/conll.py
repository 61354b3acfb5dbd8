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
    """(line it begins in, {tokens, tags}) of each sentence. Lines that begin with `#` before a sentence are remarks."""
    tokens: list[str] = []
    tags: list[str] = []
    begun, wrong = 0, ""
    with open_text(path) as file:
        for line, text in enumerate((*file, "\n"), start=1):
            pieces = text.rstrip("\r\n").split("\t") if "\t" in text else text.split()
            if not text.strip():
                if wrong:
                    yield BadRow(str(path), begun, wrong, "give every word and its tag, with a tab or spaces between")
                elif tokens:
                    yield begun, {"tokens": tokens, "tags": tags}
                tokens, tags, wrong = [], [], ""
                continue
            if not tokens and not wrong and (text.startswith("# ") or pieces[0] == _DOCUMENT):
                continue
            begun = begun if tokens or wrong else line
            if len(pieces) < 2 or not pieces[0].strip():
                wrong = wrong or f"line {line} has a word without a tag"
                continue
            tokens.append(pieces[0])
            tags.append(pieces[-1].strip())
