"""JSON Lines: one object a line. Only a line feed ends a line; U+2028 and U+0085 belong to the text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.contracts import BadRow
from tunesmith.data.content import kind_of
from tunesmith.data.textfile import lines, not_utf8

suffixes = (".jsonl", ".ndjson")


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """(line, values) of each row; a line that is not one JSON object comes as a BadRow. Empty lines are no rows."""
    for number, raw in enumerate(lines(path), 1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as fault:
            raise not_utf8(path, number, fault) from None
        if not line:
            continue
        row = parse_object(line)
        if isinstance(row, str):
            yield BadRow(str(path), number, row)
        else:
            yield number, row


def parse_object(text: str) -> dict[str, Any] | str:
    """The object in a text, or in words why there is none."""
    try:
        value = json.loads(text, object_pairs_hook=unique_keys, parse_constant=no_constant)
    except json.JSONDecodeError as fault:
        return f"the line is not valid JSON: {fault.msg} (column {fault.colno})"
    except (ValueError, RecursionError) as fault:
        return f"the line is not valid JSON: {words_of(fault)}"
    if not isinstance(value, dict):
        return f"the line holds {kind_of(value)}, not an object with columns"
    return value


def words_of(fault: ValueError | RecursionError) -> str:
    """What a parser of JSON ran into, without its own insides."""
    if isinstance(fault, RecursionError):
        return "it is nested too deeply"
    if isinstance(fault, json.JSONDecodeError):
        return fault.msg
    return "a number has thousands of digits" if "int_max_str_digits" in str(fault) else str(fault)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object in which a key stands twice: one of the two values would be lost."""
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key `{next(k for k in keys if keys.count(k) > 1)}` stands twice")
    return made


def no_constant(name: str) -> Any:
    """Refuse NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{name} is not JSON")
