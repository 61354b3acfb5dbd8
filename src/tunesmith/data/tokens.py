"""Encoded rows on disk: flat columns that are memory-mapped, so that a table may be larger than memory.

A table is a folder of columns, each a file of plain numbers, with `table.json` that counts and sums them. It appears
whole or not at all; one that was torn since is noticed when it is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Example, Tokens
from tunesmith.rundir import guarded, sync_folder

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
_FORM = 1
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
    """Writes a table into a folder beside its final place; `close` moves it there."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.folder = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        self.names: list[str] = []
        self.refused: list[Refused] = []
        self.rows = 0
        self.sums = {name: hashlib.sha256() for name in _COLUMNS}
        self.counts = dict.fromkeys(_COLUMNS, 0)
        with guarded(place):
            self.folder.mkdir()
            self.files = {name: open(self.folder / name, "wb") for name in _COLUMNS}  # noqa: SIM115

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
        with guarded(self.place):
            self._append("target", np.frombuffer(bytes(targets), np.uint8))
            for name, values in made.items():
                self._append(name, np.array(values, _COLUMNS[name]))

    def join(self, table: Table) -> None:
        """The rows of a whole table, column by column."""
        numbers = np.array([self._number(name) for name in table.names], np.int16)
        columns = {**table.columns, "name": numbers[table.columns["name"]] if len(numbers) else table.columns["name"]}
        self.refused += [replace(row, row=self.rows + row.row) for row in table.refused]
        self.rows += len(table.columns["examples"])
        with guarded(self.place):
            for name, values in columns.items():
                for at in range(0, len(values), _CHUNK):
                    self._append(name, values[at : at + _CHUNK])

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

    def _append(self, name: str, values: NDArray[Any]) -> None:
        content = values.tobytes()
        self.files[name].write(content)
        self.sums[name].update(content)
        self.counts[name] += len(values)

    def close(self) -> None:
        """The table is complete. Raises StorageError."""
        said = {
            "form": _FORM,
            "names": self.names,
            "refused": [vars(row) for row in self.refused],
            "columns": {name: [self.counts[name], self.sums[name].hexdigest()] for name in _COLUMNS},
        }
        with guarded(self.place):
            for file in self.files.values():
                file.flush()
                os.fsync(file.fileno())
                file.close()
            with open(self.folder / "table.json", "w", encoding="utf-8") as written:
                json.dump(said, written)
                written.flush()
                os.fsync(written.fileno())
            try:
                self.folder.rename(self.place)
            except OSError:  # a torn one is in the way, or another process was quicker: this one is whole
                shutil.rmtree(self.place, ignore_errors=True)
                self.folder.rename(self.place)
            sync_folder(self.place.parent)

    def drop(self) -> None:
        """Leave nothing behind."""
        for file in self.files.values():
            file.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def open_table(place: Path) -> Table | None:
    """The table at a place, or None where there is none, or it is torn."""
    try:
        said = json.loads((place / "table.json").read_text(encoding="utf-8"))
        if said["form"] != _FORM or said["columns"].keys() != _COLUMNS.keys():
            return None
        columns = {}
        for name, (count, digest) in said["columns"].items():
            path = place / name
            if path.stat().st_size != count * np.dtype(_COLUMNS[name]).itemsize:
                return None
            with open(path, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return None
            columns[name] = np.memmap(path, _COLUMNS[name], "r") if count else np.empty(0, _COLUMNS[name])
        os.utime(place)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    refused = tuple(Refused(**row) for row in said["refused"])
    return table_of(columns, tuple(said["names"]), refused)


def table_of(columns: dict[str, NDArray[Any]], names: tuple[str, ...], refused: tuple[Refused, ...]) -> Table:
    """A table over columns, wherever they lie."""
    starts = {
        name: np.concatenate([[0], np.cumsum(columns[name], dtype=np.int64)])
        for name in ("examples", "parts", "tokens", "target_bytes")
    }
    return Table(columns, names, refused, starts, np.arange(len(columns["examples"]), dtype=np.int64))
