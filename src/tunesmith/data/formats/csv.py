"""CSV with a header line: quoted fields, quoted line ends, comma or semicolon."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from tunesmith.contracts import BadRow
from tunesmith.data.textfile import text_lines
from tunesmith.errors import DataError

suffixes = (".csv",)
_LONGEST_FIELD = 100_000_000


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """(line of its first character, values) of each row. Raises DataError for a header that cannot be used."""
    yield from read_delimited(path, None)


def read_delimited(path: Path, delimiter: str | None) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """As `read`; None takes the comma, or the semicolon or tab where the header has no comma."""
    csv.field_size_limit(_LONGEST_FIELD)
    lines = text_lines(path)
    first = next(lines, "")
    reader = csv.reader(chain((first,), lines), delimiter=delimiter or _delimiter(first), strict=True)
    header = _header(reader, path)
    last = reader.line_num
    while True:
        start = last + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as fault:
            last = reader.line_num
            yield BadRow(str(path), start, f"the row is not valid CSV: {_plain(fault)}")
            continue
        last = reader.line_num
        if not fields or (len(fields) == 1 and not fields[0].strip()):
            continue
        if len(fields) != len(header):
            yield BadRow(
                str(path),
                start,
                f"the row has {len(fields)} fields, the header has {len(header)}",
                "put quotes around fields that hold the separator",
            )
            continue
        yield start, dict(zip(header, fields, strict=True))


def _delimiter(first: str) -> str:
    if "," in first:
        return ","
    return max(";\t", key=first.count) if any(mark in first for mark in ";\t") else ","


def _header(reader: Any, path: Path) -> list[str]:
    try:
        header = [name.strip() for name in next(reader)]
    except StopIteration:
        raise DataError("the file is empty", where=str(path)) from None
    except csv.Error as fault:
        raise DataError(f"the header is not valid CSV: {_plain(fault)}", where=f"{path}:1") from None
    if any("\0" in name for name in header):
        raise DataError("the header holds a NUL character", where=f"{path}:1",
                        hint="if the file is UTF-16 without a byte-order mark, save it as UTF-8")  # fmt: skip
    if not any(header):
        raise DataError("the header names no column", where=f"{path}:1")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(
            f"the header has the column `{twice[0]}` more than once",
            where=f"{path}:1",
            hint="give each column a name of its own",
        )
    return header


def _plain(fault: csv.Error) -> str:
    text = str(fault)
    return "a quote is opened and never closed" if "unexpected end" in text else text
