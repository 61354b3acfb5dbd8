"""Rows of a file too large for memory: a table on disk, of which a row is made when it is asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import BadRow, Row
from tunesmith.data.columns import Columns, ColumnWriter, open_columns, starts
from tunesmith.data.content import GROUP, content, digest, place, together

_COLUMNS: dict[str, Any] = {
    "values": np.uint8,  # JSON of every row's values, end to end
    "bytes": np.int32,  # of every row
    "file": np.int32,  # number of its file
    "line": np.int64,
    "content": np.uint64,  # its content's sum
    "place": np.uint64,  # that of its group, or its content again: the side of a split
    "draw": np.uint64,  # its content's sum with another salt: whether it is in a sample
    "label": np.int32,  # number of its label, -1 where it has none
}
_FORM = 1
_CHUNK = 4096


@dataclass(frozen=True)
class Marks:
    """What splits and samples need to know of each row: [rows] each."""

    place: NDArray[np.float64]
    """In [0, 1), of its group or content."""
    draw: NDArray[np.float64]
    """In [0, 1), of its content, independent of `place`."""
    label: NDArray[np.int32]
    """The number of its label, in the order in which they come first."""


@dataclass(frozen=True, eq=False)
class StoredRows(Sequence[Row]):
    """Rows on disk, or some of them in any order; their ids are their positions."""

    columns: Columns
    begin: NDArray[np.int64]
    """Where each row's values begin."""
    files: tuple[str, ...]
    name: str
    """Of the table: it says what it was made from."""
    order: NDArray[np.int64]
    """The table's row behind each of these."""

    def __len__(self) -> int:
        return len(self.order)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> StoredRows: ...
    def __getitem__(self, at: int | slice) -> Row | StoredRows:
        if isinstance(at, slice):
            return replace(self, order=self.order[at])
        at = range(len(self.order))[at]
        k = int(self.order[at])
        values = json.loads(self.columns["values"][self.begin[k] : self.begin[k + 1]].tobytes())
        return Row(at, values, self.files[self.columns["file"][k]], int(self.columns["line"][k]))

    @property
    def identity(self) -> str:
        """A sum of all that is in these rows."""
        return hashlib.sha256(self.name.encode() + self.order.tobytes()).hexdigest()

    @property
    def contents(self) -> NDArray[np.uint64]:
        """Of each row, the sum of its content."""
        found: NDArray[np.uint64] = self.columns["content"][self.order]
        return found

    def marks(self) -> Marks:
        """Of each row."""
        place, draw = (self.columns[name][self.order].astype(np.float64) / 2.0**64 for name in ("place", "draw"))
        return Marks(place, draw, _in_order(self.columns["label"][self.order]))


class RowWriter:
    """Writes rows into a table."""

    def __init__(self, place: Path) -> None:
        self.columns = ColumnWriter(place, _COLUMNS, _FORM)
        self.files: dict[str, int] = {}
        self.labels: dict[Any, int] = {}
        self.waiting: list[Row] = []

    def append(self, row: Row) -> None:
        """The next row. Raises StorageError."""
        self.waiting.append(row)
        if len(self.waiting) == _CHUNK:
            self._flush()

    def _flush(self) -> None:
        written = [json.dumps(dict(row.values), ensure_ascii=False).encode() for row in self.waiting]
        said = [content(row) for row in self.waiting]
        keys = [key if GROUP not in row.values else together(row) for key, row in zip(said, self.waiting, strict=True)]
        labels = [row.values.get("label") for row in self.waiting]
        made: dict[str, Any] = {
            "values": np.frombuffer(b"".join(written), np.uint8),
            "bytes": [len(values) for values in written],
            "file": [self.files.setdefault(row.file, len(self.files)) for row in self.waiting],
            "line": [row.line for row in self.waiting],
            "content": [digest(key, "split") for key in said],
            "place": [digest(key, "split") for key in keys],
            "draw": [digest(key, "sample") for key in said],
            "label": [-1 if label is None else self.labels.setdefault(label, len(self.labels)) for label in labels],
        }
        for name, values in made.items():
            self.columns.append(name, np.asarray(values, _COLUMNS[name]))
        self.waiting.clear()

    def close(self, bad: Sequence[BadRow]) -> None:
        """The table is complete; `bad` are the rows that could not be used."""
        self._flush()
        self.columns.close({"files": list(self.files), "bad": [vars(row) for row in bad]})

    def drop(self) -> None:
        """Leave nothing behind."""
        self.columns.drop()


def open_rows(place: Path) -> tuple[StoredRows, tuple[BadRow, ...]] | None:
    """The rows at a place and those that could not be used; None where there are none, or the table is torn."""
    found = open_columns(place, _COLUMNS, _FORM)
    if found is None:
        return None
    counts = found.columns["bytes"]
    order = np.arange(len(counts), dtype=np.int64)
    rows = StoredRows(found.columns, starts(counts), tuple(found.about["files"]), place.name, order)
    return rows, tuple(BadRow(**row) for row in found.about["bad"])


def select(rows: Sequence[Row], numbers: NDArray[np.int64]) -> Sequence[Row]:
    """Some rows, in the order of the numbers; their ids are their new positions."""
    if isinstance(rows, StoredRows):
        return replace(rows, order=rows.order[numbers])
    return tuple(replace(rows[k], id=at) for at, k in enumerate(numbers.tolist()))


def spread(count: int, most: int) -> NDArray[np.int64]:
    """At most that many positions of `count`, from all over them: ascending."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.int64)


def identity(rows: Sequence[Row]) -> str:
    """A sum of all that is in some rows."""
    if isinstance(rows, StoredRows):
        return rows.identity
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row.values).encode() + b"\n")
    return digest.hexdigest()


def marks(rows: Sequence[Row]) -> Marks:
    """Of each row, what splits and samples need to know."""
    if isinstance(rows, StoredRows):
        return rows.marks()
    numbers: dict[Any, int] = {}
    labels = [numbers.setdefault(row.values.get("label"), len(numbers)) for row in rows]
    places = np.array([place(row) for row in rows])
    draws = np.array([digest(content(row), "sample") / 2**64 for row in rows])
    return Marks(places, draws, np.array(labels, np.int32))


def contents(rows: Sequence[Row]) -> NDArray[np.uint64]:
    """Of each row, the sum of its content: rows with the same have, but for chance (1 in 10^6 for 5 million rows), the
    same content."""
    if isinstance(rows, StoredRows):
        return rows.contents
    return np.array([digest(content(row), "split") for row in rows], np.uint64)


def _in_order(codes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Numbers of labels, anew in the order in which they come first."""
    if not len(codes):
        return codes
    values, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.empty(len(values), np.int32)
    rank[np.argsort(first)] = np.arange(len(values), dtype=np.int32)
    return rank[inverse]
