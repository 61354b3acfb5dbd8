"""A JSON file that holds a list of objects, or an object with such a list under `data` or `rows`.

SQuAD's own nesting (articles, paragraphs, questions) comes as one row a question.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.contracts import BadRow
from tunesmith.data.formats.jsonl import no_constant, unique_keys
from tunesmith.data.textfile import open_text
from tunesmith.errors import DataError

suffixes = (".json",)
_SPACE = re.compile(r"[ \t\r\n]*")
_WS = r"[ \t\r\n]*"
_PLAIN = rf'"[^"\\]*"{_WS}:{_WS}(?:"[^"\\]*"|[-\w.+]+){_WS},{_WS}'
_LIST = re.compile(rf'{_WS}\{{{_WS}(?:{_PLAIN})*"(?:data|rows)"{_WS}:{_WS}\[')
"""The list, after members that are a text or a number, such as SQuAD's version."""


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """(line it begins in, values) of each row. Raises DataError where the list itself is broken."""
    with open_text(path) as file:
        text = file.read()
    wrapped = _LIST.match(text)
    at = wrapped.end() if wrapped else _skip(text, 0) + 1
    if not wrapped and not text[at - 1 : at] == "[":
        raise DataError(
            "the file does not hold a list of rows",
            where=f"{path}:1",
            hint="write `[{...}, {...}]`, or one object a line in a .jsonl file",
        )
    decoder = json.JSONDecoder(object_pairs_hook=unique_keys, parse_constant=no_constant)
    line, counted = 1, 0
    at = _skip(text, at)
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as fault:
            bad = line + text.count("\n", at, fault.pos) if isinstance(fault, json.JSONDecodeError) else line
            reason = fault.msg if isinstance(fault, json.JSONDecodeError) else fault
            raise DataError(f"the file is not valid JSON: {reason}", where=f"{path}:{bad}") from None
        if isinstance(value, dict) and _is_article(value.get("paragraphs")):
            yield from _questions(path, line, value)
        elif isinstance(value, dict):
            yield line, value
        else:
            yield BadRow(str(path), line, f"the row is a {type(value).__name__}, not an object with columns")
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            here = 1 + text.count("\n", 0, at)
            raise DataError("the file is not valid JSON: the list of rows does not end", where=f"{path}:{here}")


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


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
