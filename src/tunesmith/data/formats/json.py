"""A JSON file that holds a list of objects, or an object with such a list under `data` or `rows`.

SQuAD's own nesting (articles, paragraphs, questions) comes as one row a question. A file is read row by row: no more of
it than a row is held.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from tunesmith.contracts import BadRow
from tunesmith.data.content import kind_of
from tunesmith.data.formats.jsonl import no_constant, unique_keys, words_of
from tunesmith.data.textfile import open_text, refuse_long
from tunesmith.errors import DataError

suffixes = (".json",)
_LISTS = ("data", "rows")
_CHUNK = 2**20
_SPACE = re.compile(r"[ \t\r\n]*")
_EDGE = 16
"""Characters before the end of what was read so far in which a fault, or the end of a number, may be due to that."""


class _Reader:
    """The text of a file, read as far as it is needed, and where in it we are."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self.file, self.path = file, path
        self.text, self.at, self.ended = "", 0, False
        self.lines, self.counted = 1, 0
        self.decoder = json.JSONDecoder(object_pairs_hook=unique_keys, parse_constant=no_constant)

    def peek(self) -> str:
        """The next character that is no space, nothing at the end."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text) or not self._more():
                return self.text[self.at : self.at + 1]

    def take(self, wanted: str) -> bool:
        """Whether the next character is the wanted one, which is then behind us."""
        found = self.peek() == wanted
        self.at += found
        return found

    def value(self) -> Any:
        """The next value. Raises DataError."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as fault:
                goes_on = fault.msg.startswith("Unterminated string") or fault.pos > len(self.text) - _EDGE
                if not goes_on or not self._more():
                    raise self.fault(fault.msg, fault.pos) from None
            except (ValueError, RecursionError) as fault:
                raise self.fault(words_of(fault)) from None
            else:
                if end < len(self.text) - _EDGE or not self._more():  # a number may go on
                    self.at = end
                    return value

    def line(self, at: int | None = None) -> int:
        """The line we are in, or that a place further on is in."""
        if at is not None:
            return self.line() + self.text.count("\n", self.at, at)
        self.lines += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.lines

    def fault(self, why: str, at: int | None = None) -> DataError:
        """What is wrong here."""
        return DataError(f"the file is not valid JSON: {why}", where=f"{self.path}:{self.line(at)}")

    def _more(self) -> bool:
        """Read on; what is behind us is let go. False at the end of the file, where nothing changes."""
        held = len(self.text) - self.at
        refuse_long(held, self.path, self.line(), "row")
        chunk = "" if self.ended else self.file.read(max(_CHUNK, held))
        if not chunk:
            self.ended = True
            return False
        self.text, self.at, self.counted = self.text[self.at :] + chunk, 0, 0
        return True


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """(line it begins in, values) of each row. Raises DataError where the list itself is broken, and where there are
    two."""
    with open_text(path) as file:
        reader = _Reader(file, path)
        if reader.take("["):
            yield from _rows(reader)
        elif reader.take("{"):
            yield from _of_object(reader)
        else:
            raise _no_list(path, [])
        if reader.peek():
            raise reader.fault("something stands behind its end")


def _of_object(reader: _Reader) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """The rows of the one list in an object, whatever stands before and behind it."""
    lists: list[str] = []
    read = ""
    more = reader.peek() != "}"
    while more:
        if reader.peek() != '"':
            raise reader.fault("a name in quotes is expected")
        name = reader.value()
        if not reader.take(":"):
            raise reader.fault("a colon is expected behind a name")
        if name in _LISTS and not read and reader.take("["):
            read = name
            yield from _rows(reader)
        elif _holds_rows(reader.value()):
            lists.append(name)
        more = reader.take(",")
    if not reader.take("}"):
        raise reader.fault("the object does not end")
    if not read:
        raise _no_list(reader.path, lists)
    if lists:
        raise DataError(
            f"the file has two lists of rows: `{read}` and `{lists[0]}`",
            where=str(reader.path),
            hint="put each into a file of its own",
        )


def _holds_rows(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _no_list(path: Path, lists: list[str]) -> DataError:
    named = f"; it has {', '.join(f'`{name}`' for name in lists)}, of which none is called `data` or `rows`"
    return DataError(
        f"the file does not hold a list of rows{named if lists else ''}",
        where=f"{path}:1",
        hint="write `[{...}, {...}]` (pandas: `to_json(orient='records')`), or one object a line in a .jsonl file",
    )


def _rows(reader: _Reader) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """The rows of a list whose bracket is behind us."""
    more = not reader.take("]")
    while more:
        reader.peek()
        line = reader.line()
        value = reader.value()
        if isinstance(value, dict) and _is_article(value.get("paragraphs")):
            yield from _questions(reader.path, line, value)
        elif isinstance(value, dict):
            yield line, value
        else:
            yield BadRow(str(reader.path), line, f"the row is {kind_of(value)}, not an object with columns")
        more = reader.take(",") and reader.peek() != "]"
        if not more and not reader.take("]"):
            raise reader.fault("the list of rows does not end")


def _is_article(paragraphs: Any) -> bool:
    return isinstance(paragraphs, list) and any(isinstance(part, dict) and "qas" in part for part in paragraphs)


def _questions(path: Path, line: int, article: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """The questions of an article of SQuAD 1 or 2; the line is the one that the article begins in."""
    for paragraph in article["paragraphs"]:
        asked = paragraph.get("qas") if isinstance(paragraph, dict) else None
        if not isinstance(asked, list) or not isinstance(paragraph.get("context"), str):
            yield BadRow(str(path), line, "a paragraph of this article lacks `context` or `qas`")
            continue
        for question in asked:
            if not isinstance(question, dict):
                yield BadRow(str(path), line, "a question of this article is no object")
                continue
            row = {key: value for key, value in question.items() if key != "plausible_answers"}
            yield line, {"title": article.get("title"), "context": paragraph["context"], **row}
