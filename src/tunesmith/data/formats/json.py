"""A JSON file that holds a list of objects, or an object with such a list under `data` or `rows`."""

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
_LIST = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*"(?:data|rows)"[ \t\r\n]*:[ \t\r\n]*\[')


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
        if isinstance(value, dict):
            yield line, value
        else:
            yield BadRow(str(path), line, f"the row is a {type(value).__name__}, not an object with columns")
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            here = 1 + text.count("\n", 0, at)
            raise DataError("the file is not valid JSON: the list of rows does not end", where=f"{path}:{here}")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
