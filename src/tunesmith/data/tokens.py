"""Encoded rows on disk, as a table of columns that may be larger than memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Example, Tokens
from tunesmith.data.columns import ColumnWriter, open_columns, starts

_COLUMNS: dict[str, Any] = {
    "ids": np.int32,  # of every token
    "trained": np.bool_,  # of every token; False where a part says nothing of it
    "types": np.uint8,  # of every token; 0 where a part says nothing of it
    "tokens": np.int64,  # of every part: how many it has
    "name": np.int16,  # of every part: its name's number
    "says": np.uint8,  # of every part: 1 where it says which tokens are trained, 2 where of which types they are
    "cut": np.int32,  # of every part
    "lost": np.int32,  # of every part
    "parts": np.int32,  # of every example: how many it has
    "target": np.uint8,  # JSON of every example's target, end to end
    "target_bytes": np.int32,  # of every example
    "examples": np.int32,  # of every row: how many it has, 0 where it was refused
}
_FORM = 2
_CHUNK = 2**20


@dataclass(frozen=True)
class Refused:
    """A row that could not be encoded: its number, why, and how to mend it."""

    row: int
    reason: str
    hint: str | None


@dataclass(frozen=True)
class Table(Sequence[list[Example]]):
    """The examples of each row, made when they are asked for. A token's text is not kept: encode the row to see it."""

    columns: dict[str, NDArray[Any]]
    names: tuple[str, ...]
    refused: tuple[Refused, ...]
    starts: dict[str, NDArray[np.int64]]
    """Where what belongs to a row, an example, a part begins, by the column that counts it."""
    rows: NDArray[np.int64]
    """The table's row behind each row of this view."""

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> list[Example]: ...
    @overload
    def __getitem__(self, at: slice) -> Table: ...
    def __getitem__(self, at: int | slice) -> list[Example] | Table:
        if isinstance(at, slice):
            return replace(self, rows=self.rows[at])
        at = range(len(self.rows))[at]
        first, after = self.starts["examples"][self.rows[at] : self.rows[at] + 2]
        return [self._example(at, int(k)) for k in range(first, after)]

    def without_refused(self) -> Table:
        """The rows that could be encoded; they are numbered anew."""
        return replace(self, rows=self.rows[self.columns["examples"][self.rows] > 0])

    def _example(self, row: int, number: int) -> Example:
        first, after = self.starts["parts"][number : number + 2]
        parts = dict(self._part(int(k)) for k in range(first, after))
        begin, end = self.starts["target_bytes"][number : number + 2]
        return Example(row, parts, json.loads(self.columns["target"][begin:end].tobytes()))

    def _part(self, number: int) -> tuple[str, Tokens]:
        says = int(self.columns["says"][number])
        begin, end = self.starts["tokens"][number : number + 2]
        tokens = Tokens(
            tuple(self.columns["ids"][begin:end].tolist()),
            trained=tuple(self.columns["trained"][begin:end].tolist()) if says & 1 else (),
            cut=int(self.columns["cut"][number]),
            lost=int(self.columns["lost"][number]),
            types=tuple(self.columns["types"][begin:end].tolist()) if says & 2 else (),
        )
        return self.names[int(self.columns["name"][number])], tokens


class Writer:
    """Writes a table beside its final place; `close` moves it there."""

    def __init__(self, place: Path) -> None:
        self.columns = ColumnWriter(place, _COLUMNS, _FORM)
        self.names: list[str] = []
        self.refused: list[Refused] = []
        self.rows = 0

    @property
    def folder(self) -> Path:
        """Where it is written."""
        return self.columns.folder

    def add(self, rows: Iterable[list[Example] | Refused]) -> None:
        """The next rows, in order. Raises StorageError."""
        made: dict[str, list[Any]] = {name: [] for name in _COLUMNS if name != "target"}
        targets = bytearray()
        for row in rows:
            found = [] if isinstance(row, Refused) else row
            if isinstance(row, Refused):
                self.refused.append(replace(row, row=self.rows))
            self.rows += 1
            made["examples"].append(len(found))
            for example in found:
                target = json.dumps(example.target, separators=(",", ":")).encode()
                targets += target
                made["target_bytes"].append(len(target))
                made["parts"].append(len(example.parts))
                for name, part in example.parts.items():
                    self._add_part(made, name, part)
        self.columns.append("target", np.frombuffer(bytes(targets), np.uint8))
        for name, values in made.items():
            self.columns.append(name, values)

    def join(self, table: Table) -> None:
        """The rows of a whole table, column by column."""
        numbers = np.array([self._number(name) for name in table.names], np.int16)
        columns = {**table.columns, "name": numbers[table.columns["name"]] if len(numbers) else table.columns["name"]}
        self.refused += [replace(row, row=self.rows + row.row) for row in table.refused]
        self.rows += len(table.columns["examples"])
        for name, values in columns.items():
            for at in range(0, len(values), _CHUNK):
                self.columns.append(name, values[at : at + _CHUNK])

    def _number(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def _add_part(self, made: dict[str, list[Any]], name: str, part: Tokens) -> None:
        made["name"].append(self._number(name))
        made["says"].append(bool(part.trained) + 2 * bool(part.types))
        made["tokens"].append(len(part.ids))
        made["ids"].extend(part.ids)
        made["trained"].extend(part.trained or (False,) * len(part.ids))
        made["types"].extend(part.types or (0,) * len(part.ids))
        made["cut"].append(part.cut)
        made["lost"].append(part.lost)

    def close(self) -> None:
        """The table is complete. Raises StorageError."""
        self.columns.close({"names": self.names, "refused": [vars(row) for row in self.refused]})

    def drop(self) -> None:
        """Leave nothing behind."""
        self.columns.drop()


def open_table(place: Path) -> Table | None:
    """The table at a place, or None where there is none, or it is torn."""
    found = open_columns(place, _COLUMNS, _FORM)
    if found is None:
        return None
    columns, about = found
    refused = tuple(Refused(**row) for row in about["refused"])
    return table_of(columns, tuple(about["names"]), refused)


def table_of(columns: dict[str, NDArray[Any]], names: tuple[str, ...], refused: tuple[Refused, ...]) -> Table:
    """A table over columns, wherever they lie."""
    begin = {name: starts(columns[name]) for name in ("examples", "parts", "tokens", "target_bytes")}
    return Table(columns, names, refused, begin, np.arange(len(columns["examples"]), dtype=np.int64))
