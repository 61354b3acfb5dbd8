"""Encoded rows on disk, as a table of columns that may be larger than memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Example, Tokens
from tunesmith.data.columns import Columns, ColumnWriter, open_columns, starts

_COLUMNS: dict[str, Any] = {
    "ids": np.int32,  # of every token
    "trained": np.bool_,  # of every token of a part that says it
    "types": np.uint8,  # of every token of a part that says it
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
_FORM = 4
_CHUNK = 2**20
_ROWS = 4096
_NONE = np.zeros(1, np.int64)


@dataclass(frozen=True)
class Refused:
    """A row that could not be encoded: its number, why, and how to mend it."""

    row: int
    reason: str
    hint: str | None


@dataclass(frozen=True)
class Table(Sequence[list[Example]]):
    """The examples of each row, made when they are asked for. A token's text is not kept: encode the row to see it."""

    columns: Columns
    names: tuple[str, ...]
    refused: tuple[Refused, ...]
    starts: dict[str, NDArray[np.int64]]
    """Where what belongs to a row, an example, a part begins, by the column that counts it."""
    rows: NDArray[np.int64]
    """The table's row behind each row of this view."""
    sums: Mapping[str, str] = field(default_factory=dict)
    """Column -> sha256 of its bytes, of a table on disk."""
    used: tuple[int, ...] = ()
    """The token ids that occur in a table on disk."""

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

    @property
    def plain(self) -> bool:
        """Whether these are all rows of the table, in its order."""
        return len(self.rows) == len(self.columns["examples"]) and bool((np.diff(self.rows) == 1).all())

    @property
    def filled(self) -> int:
        """Rows of the whole table that have examples."""
        return int((self.columns["examples"] > 0).sum())

    def per_example(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(row, sum over its parts) of every example, of a column that counts something of each part."""
        begin = starts(self.columns[name])
        whole = np.diff(begin[self.starts["parts"]])
        counts = self.columns["examples"][self.rows]
        rows = np.repeat(np.arange(len(self.rows)), counts)
        if self.plain:
            return rows, whole
        first = self.starts["examples"][self.rows]
        within = np.arange(len(rows)) - np.repeat(starts(counts)[:-1], counts)
        return rows, whole[np.repeat(first, counts) + within]

    def _example(self, row: int, number: int) -> Example:
        first, after = self.starts["parts"][number : number + 2]
        parts = dict(self._part(int(k)) for k in range(first, after))
        begin, end = self.starts["target_bytes"][number : number + 2]
        return Example(row, parts, json.loads(self.columns["target"][begin:end].tobytes()))

    def _part(self, number: int) -> tuple[str, Tokens]:
        says = int(self.columns["says"][number])
        tokens = Tokens(
            self._of("ids", "tokens", number),
            trained=self._of("trained", "trained", number) if says & 1 else (),
            cut=int(self.columns["cut"][number]),
            lost=int(self.columns["lost"][number]),
            types=self._of("types", "types", number) if says & 2 else (),
        )
        return self.names[int(self.columns["name"][number])], tokens

    def _of(self, name: str, counted: str, number: int) -> tuple[Any, ...]:
        begin, end = self.starts[counted][number : number + 2]
        return tuple(self.columns[name][begin:end].tolist())


class Writer:
    """Writes a table beside its final place; `close` moves it there."""

    def __init__(self, place: Path) -> None:
        self.columns = ColumnWriter(place, _COLUMNS, _FORM)
        self.names: list[str] = []
        self.refused: list[Refused] = []
        self.rows = 0
        self.used = np.empty(0, np.int32)

    @property
    def folder(self) -> Path:
        """Where it is written."""
        return self.columns.folder

    def add(self, rows: Iterable[list[Example] | Refused]) -> None:
        """The next rows, in order. Raises StorageError."""
        kept: list[list[Example]] = []
        for row in rows:
            if isinstance(row, Refused):
                self.refused.append(replace(row, row=self.rows))
            kept.append([] if isinstance(row, Refused) else row)
            self.rows += 1
        self._append(_columns_of(kept, self.names))

    def _append(self, columns: Columns) -> None:
        self.used = np.union1d(self.used, columns["ids"])
        for name, values in columns.items():
            self.columns.append(name, values)

    def join(self, table: Table) -> None:
        """The rows of a whole table, column by column."""
        numbers = np.array([_number(name, self.names) for name in table.names], np.int16)
        columns = {**table.columns, "name": numbers[table.columns["name"]] if len(numbers) else table.columns["name"]}
        self.refused += [replace(row, row=self.rows + row.row) for row in table.refused]
        self.rows += len(table.columns["examples"])
        self.used = np.union1d(self.used, np.array(table.used, np.int32))
        for name, values in columns.items():
            for at in range(0, len(values), _CHUNK):
                self.columns.append(name, values[at : at + _CHUNK])

    def close(self) -> None:
        """The table is complete. Raises StorageError."""
        refused = [vars(row) for row in self.refused]
        self.columns.close({"names": self.names, "refused": refused, "used": self.used.tolist()})

    def drop(self) -> None:
        """Leave nothing behind."""
        self.columns.drop()


def _columns_of(rows: Sequence[list[Example]], names: list[str]) -> Columns:
    """Rows as columns; `names` of parts grow as new ones are met."""
    made: dict[str, list[Any]] = {name: [] for name in _COLUMNS if name != "target"}
    targets = bytearray()
    for row in rows:
        made["examples"].append(len(row))
        for example in row:
            target = json.dumps(example.target, separators=(",", ":")).encode()
            targets += target
            made["target_bytes"].append(len(target))
            made["parts"].append(len(example.parts))
            for name, part in example.parts.items():
                made["name"].append(_number(name, names))
                made["says"].append(bool(part.trained) + 2 * bool(part.types))
                made["tokens"].append(len(part.ids))
                made["ids"].extend(part.ids)
                made["trained"].extend(part.trained)
                made["types"].extend(part.types)
                made["cut"].append(part.cut)
                made["lost"].append(part.lost)
    columns: Columns = {name: np.array(values, _COLUMNS[name]) for name, values in made.items()}
    return columns | {"target": np.frombuffer(bytes(targets), np.uint8)}


def _number(name: str, names: list[str]) -> int:
    if name not in names:
        names.append(name)
    return names.index(name)


def digest(examples: Sequence[list[Example]]) -> str:
    """sha256 of all that training makes of some rows' examples, the same whether they lie on disk or in memory."""
    read = [name for name in _COLUMNS if name not in ("cut", "lost")]
    if isinstance(examples, Table) and examples.plain and examples.sums:
        said = [list(examples.names), [examples.sums[name] for name in read]]
    else:
        names: list[str] = []
        sums = {name: hashlib.sha256() for name in read}
        for at in range(0, len(examples), _ROWS):
            columns = _columns_of(examples[at : at + _ROWS], names)
            for name in read:
                sums[name].update(columns[name].tobytes())
        said = [names, [sums[name].hexdigest() for name in read]]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def used_ids(examples: Sequence[list[Example]]) -> Iterable[int]:
    """The token ids that occur in some rows."""
    if isinstance(examples, Table) and examples.sums and len(examples.without_refused()) == examples.filled:
        return examples.used
    return {i for row in examples for example in row for part in example.parts.values() for i in part.ids}


def lengths(examples: Sequence[list[Example]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each row, what it costs in tokens over all its parts, and how many did not fit: [rows] each."""
    if isinstance(examples, Table):
        (rows, sizes), (_, cut) = examples.per_example("tokens"), examples.per_example("cut")
        made = [np.bincount(rows, weights, len(examples)).astype(np.int64) for weights in (sizes, cut)]
        return made[0], made[1]
    parts = [[part for example in row for part in example.parts.values()] for row in examples]
    return (
        np.array([sum(part.size for part in row) for row in parts], np.int64),
        np.array([sum(part.cut for part in row) for row in parts], np.int64),
    )


def sequences(examples: Sequence[list[Example]]) -> NDArray[np.int64]:
    """Of each sequence of tokens of some rows, how long it is, with what did not fit."""
    if not isinstance(examples, Table):
        parts = [part for row in examples for example in row for part in example.parts.values()]
        return np.array([part.size + part.cut for part in parts], np.int64)
    whole: NDArray[np.int64] = examples.columns["tokens"] + examples.columns["cut"]
    if examples.plain:
        return whole
    counts = examples.columns["examples"]
    rows = np.repeat(np.repeat(np.arange(len(counts)), counts), examples.columns["parts"])
    return whole[np.isin(rows, examples.rows)]


def rows_with(examples: Sequence[list[Example]], name: Literal["cut", "lost"]) -> NDArray[np.bool_]:
    """Of each row, whether something of it was cut, or something that was to be learned was lost."""
    if isinstance(examples, Table):
        rows, counts = examples.per_example(name)
        found = np.zeros(len(examples), bool)
        found[rows[counts > 0]] = True
        return found
    parts = [[part for example in row for part in example.parts.values()] for row in examples]
    return np.array([any(part.cut if name == "cut" else part.lost for part in row) for row in parts], bool)


def longest(examples: Sequence[list[Example]], most: int, below: int) -> list[Example]:
    """Of all examples, the `most` longest, the `most` longest of at most `below` tokens, and the shortest: those that
    tell what a micro-batch takes. All of them, where they are in memory."""
    if not isinstance(examples, Table):
        return [example for row in examples for example in row]
    rows, sizes = examples.per_example("tokens")
    order = np.lexsort((rows, -sizes))
    chosen = np.concatenate([order[:most], order[sizes[order] <= below][:most], order[-1:]])
    return [example for k in np.unique(rows[chosen]).tolist() for example in examples[k]]


def open_table(place: Path) -> Table | None:
    """The table at a place, or None where there is none, or it is torn."""
    found = open_columns(place, _COLUMNS, _FORM)
    if found is None:
        return None
    refused = tuple(Refused(**row) for row in found.about["refused"])
    made = table_of(found.columns, tuple(found.about["names"]), refused)
    return replace(made, sums=found.sums, used=tuple(found.about["used"]))


def table_of(columns: Columns, names: tuple[str, ...], refused: tuple[Refused, ...]) -> Table:
    """A table over columns, wherever they lie."""
    begin = {name: starts(columns[name]) for name in ("examples", "parts", "tokens", "target_bytes")}
    for name, says in (("trained", 1), ("types", 2)):
        begin[name] = starts(np.where(columns["says"] & says, columns["tokens"], 0)) if len(columns[name]) else _NONE
    return Table(columns, names, refused, begin, np.arange(len(columns["examples"]), dtype=np.int64))
