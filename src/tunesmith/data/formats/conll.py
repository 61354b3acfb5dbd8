"""CoNLL's columns: a word a line, its tag in the last column, a blank line between sentences.

Where the first column counts the words of every sentence, the words are in the second. If the third then holds tags, as
in GermEval's files, it is taken, and what is nested inside, in the fourth, comes as `tags_2`. A file is read
twice: its columns are told from all of it, and no more of it than a sentence is held.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from tunesmith.contracts import BadRow
from tunesmith.data import spans
from tunesmith.data.textfile import text_lines
from tunesmith.errors import DataError

suffixes = (".conll", ".bio", ".iob")
_DOCUMENT = "-DOCSTART-"
_SPACES = re.compile(" +")
"""Between columns: not the spaces that are a part of a number, such as no-break ones."""
_LONGEST = 1_000_000
"""Words of a sentence: more is a file without empty lines."""
Table = list[list[str]]
"""The columns of each word of a sentence."""


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """(line it begins in, {tokens, tags}) of each sentence. A line that begins with `#` before a sentence is a remark
    where it has not as many columns as the line behind it."""
    width, first, last, more = _places(path)
    for item in _sentences(path):
        if isinstance(item, BadRow):
            yield item
            continue
        begun, table = item
        odd = next((k for k, line in enumerate(table) if len(line) != width), None)
        if odd is not None:
            reason = f"line {begun + odd} has {len(table[odd])} columns, nearly all others have {width}"
            yield BadRow(str(path), begun, reason, "put a tab between columns where a word has spaces in it")
            continue
        row = {"tokens": [line[first] for line in table], "tags": [line[last] for line in table]}
        yield begun, row | {f"tags_{k}": [line[at] for line in table] for k, at in enumerate(more, start=2)}


def _sentences(path: Path) -> Iterator[tuple[int, Table] | BadRow]:
    """(line it begins in, table) of each sentence."""
    table: Table = []
    begun, wrong = 0, ""
    for line, (text, behind) in enumerate(pairwise(chain(text_lines(path), ("", ""))), start=1):
        if not text.strip():
            if wrong:
                yield BadRow(str(path), begun, wrong, "give every word and its tag, with a tab or spaces between")
            elif table:
                yield begun, table
            table, wrong = [], ""
            continue
        pieces = _columns(text)
        if not table and not wrong:
            if pieces[0] == _DOCUMENT or (text.startswith("#") and len(pieces) != len(_columns(behind))):
                continue
            begun = line
        if len(pieces) < 2 or not pieces[0].strip():
            lacks = "a tag without a word" if len(pieces) > 1 else "a word without a tag"
            wrong = wrong or f"line {line} has {lacks}"
            continue
        if len(table) == _LONGEST:
            raise DataError(
                f"the sentence has more than {_LONGEST:,} words",
                where=f"{path}:{begun}",
                hint="an empty line ends a sentence",
            )
        table.append(pieces)


def _places(path: Path) -> tuple[int, int, int, tuple[int, ...]]:
    """How many columns there are, and those of words, of tags, and of further tags, decided over the whole file: by the
    sentences that have as many columns in every line as most lines have."""
    lines = Counter[int]()
    counts: dict[int, bool] = {}
    places: dict[int, set[int]] = {}
    for item in _sentences(path):
        if isinstance(item, BadRow):
            continue
        widths = Counter(map(len, item[1]))
        lines += widths
        if len(widths) > 1:
            continue
        (wide,) = widths
        counts[wide] = counts.get(wide, True) and all(line[0] == str(k) for k, line in enumerate(item[1], start=1))
        if counts[wide]:
            places[wide] = {k for k in places.get(wide, range(2, wide)) if all(_is_tag(line[k]) for line in item[1])}
    width = lines.most_common(1)[0][0] if lines else 0
    counted, tags = counts.get(width, width > 0), places.get(width, set(range(2, width)))
    if not counted:
        return width, 0, -1, ()
    return (width, 1, 2, tuple(sorted(tags - {2}))) if 2 in tags else (width, 1, -1, ())


def _is_tag(text: str) -> bool:
    return text == spans.OUTSIDE or (spans.prefixed(text) and len(text) > 2)


def _columns(text: str) -> list[str]:
    text = text.rstrip("\r\n")
    return [piece.strip() for piece in text.split("\t")] if "\t" in text else _SPACES.split(text.strip(" "))
