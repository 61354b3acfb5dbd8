"""From files to rows: which columns; every row that cannot be used is collected.

Knows tasks only through their columns and their word on a single row.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tunesmith.cache import cache_folder, prune
from tunesmith.contracts import BadRow, Column, Purpose, Row, Task
from tunesmith.data.content import plain
from tunesmith.data.files import raw_rows
from tunesmith.data.rows import RowWriter, StoredRows, open_rows
from tunesmith.data.sums import of_code, sha256
from tunesmith.data.textfile import PACKED
from tunesmith.errors import DataError, did_you_mean
from tunesmith.recipefile import task_as_json

Columns = Mapping[str, str | list[str]]

_STORED_BYTES = 2**25
"""Files that are larger together are kept as a table on disk: their rows would take several times as much memory."""
_UNPACKED = 6
"""How much larger texts are than their compressed files."""
_KIND = "rows"
_LOOK = 20_000
"""Rows that are looked at for their columns before the first is used."""


@dataclass(frozen=True)
class RowSet:
    """Rows of one split, those set aside, and the files they came from."""

    rows: Sequence[Row]
    bad: tuple[BadRow, ...]
    files: tuple[str, ...]


@dataclass(frozen=True)
class Batch:
    """Files that are read alike."""

    files: tuple[Path, ...]
    columns: Columns = field(default_factory=dict)
    format: str | None = None
    beside: Mapping[str, str] = field(default_factory=dict)
    """Name under which a row keeps what the task does not read -> the file's column."""
    needs: tuple[str, ...] = ()
    """File columns that must be there."""
    constant: Mapping[str, Any] = field(default_factory=dict)
    """What every row of these files has beside its own."""


class MoreColumns(Exception):
    """A row had columns that no earlier one had, and they change what is read."""

    def __init__(self, path: Path, there: list[str]) -> None:
        super().__init__(path)
        self.path, self.there = path, there


def read_rows(
    files: Sequence[Path], task: Task, columns: Columns, given: str | None = None, *, targets: bool = True
) -> RowSet:
    """The rows of some files in the task's own columns; without `targets`, what is to be predicted may be missing.

    Raises DataError when a file has no rows at all or lacks a column in every row.
    """
    return read_batches([Batch(tuple(files), columns, given)], task, targets=targets)


def read_batches(batches: Sequence[Batch], task: Task, *, targets: bool = True) -> RowSet:
    """As `read_rows`, of files that are read in different ways. Rows of large files are kept on disk, by all that they
    depend on."""
    files = tuple(str(path) for batch in batches for path in batch.files)
    known: dict[Path, list[str]] = {}
    while True:
        try:
            folder = _folder(batches, task)
            if folder is not None:
                return RowSet(*_stored(folder, batches, task, targets, known), files)
            rows: list[Row] = []
            bad = _read(batches, task, targets, rows, known)
            return RowSet(tuple(rows), tuple(bad), files)
        except MoreColumns as found:
            known[found.path] = found.there


def _folder(batches: Sequence[Batch], task: Task) -> Path | None:
    """Where the rows are kept on disk; None where they are few, name files whose bytes are not in the sum of their own,
    or no cache can be had."""
    few = sum(_size(path) for batch in batches for path in batch.files) < _STORED_BYTES
    if few or any(column.path for column in task.columns.values()):
        return None
    try:
        return cache_folder(_KIND)
    except OSError:
        return None


def _stored(
    folder: Path, batches: Sequence[Batch], task: Task, targets: bool, known: Mapping[Path, list[str]]
) -> tuple[StoredRows, tuple[BadRow, ...]]:
    """The rows as a table on disk, found or made."""
    prune(folder)
    place = folder / _name(batches, task, targets)
    found = open_rows(place)
    if found is None:
        writer = RowWriter(place)
        try:
            writer.close(_read(batches, task, targets, writer, known))
        except BaseException:
            writer.drop()
            raise
        found = open_rows(place)
        assert found is not None, f"{place} was just written"
    return found


def _size(path: Path) -> int:
    if path.is_dir():  # images: a row is a path
        return 0
    packed = path.suffix.lower() in (*PACKED, ".parquet")
    return path.stat().st_size * (_UNPACKED if packed else 1)


def _name(batches: Sequence[Batch], task: Task, targets: bool) -> str:
    """Of the table of these rows: a sum of all that they depend on."""
    said = [
        [[str(path), sha256(path)] for path in batch.files]
        + [dict(batch.columns), batch.format, dict(batch.beside), dict(batch.constant)]
        for batch in batches
    ]
    code = of_code(Path(inspect.getfile(type(task))))
    parts = [said, task_as_json(type(task).__name__, task), targets, code]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _read(
    batches: Sequence[Batch], task: Task, targets: bool, rows: list[Row] | RowWriter, known: Mapping[Path, list[str]]
) -> list[BadRow]:
    """Append every row that can be used; returns the others. Raises MoreColumns."""
    bad: list[BadRow] = []
    count = 0
    for batch in batches:
        for path in batch.files:
            for item, _ in read_file(path, batch, task, targets, known.get(path, [])):
                if isinstance(item, BadRow):
                    bad.append(item)
                else:
                    rows.append(Row(count, item[1], str(path), item[0]))
                    count += 1
    return bad


def read_file(
    path: Path, batch: Batch, task: Task, targets: bool, known: list[str]
) -> Iterator[tuple[tuple[int, dict[str, Any]] | BadRow, dict[str, Any]]]:
    """((line, values in the task's columns), values in the file's columns) of each row of a file. A column may be in
    some rows only: the first rows alone would hide it from all others. Raises MoreColumns."""
    wanted = {name: column for name, column in task.columns.items() if targets or not column.target}
    said = {name: column for name, column in batch.columns.items() if name in wanted or name not in task.columns}
    items = raw_rows(path, batch.format)
    first = list(islice(items, _LOOK))
    if not first:
        raise DataError("the file has no rows", where=str(path))
    while first and all(isinstance(item, BadRow) for item in first):
        yield from ((item, {}) for item in first if isinstance(item, BadRow))
        first = list(islice(items, _LOOK))
    if not first:
        return
    read = [item for item in first if not isinstance(item, BadRow)]
    there = list(dict.fromkeys((*known, *(name for _, values in read for name in values))))
    where = f"{path}:{read[0][0]}"
    mapping = map_columns(wanted, said, there, where)
    _has(batch.needs, there, where)
    names = set(there)
    purpose: Purpose = "learn" if targets else "answer"
    for item in chain(first, items):
        if isinstance(item, BadRow):
            yield item, {}
            continue
        line, values = item
        if not values.keys() <= names:
            names |= values.keys()
            there = list(dict.fromkeys((*there, *values)))
            if map_columns(wanted, said, there, where) != mapping:
                raise MoreColumns(path, there)
        beside = {name: plain(values.get(column)) for name, column in batch.beside.items()}
        place_files(wanted, mapping, values, path.parent)
        made = in_task_columns(task, mapping, values, purpose)
        if isinstance(made, str):
            yield BadRow(str(path), line, made), values
        else:
            yield (line, {**made, **beside, **batch.constant}), values


def _has(columns: Iterable[str], there: list[str], where: str) -> None:
    """Raise DataError for a column that the file does not have."""
    lost = next((column for column in columns if column not in there), None)
    if lost is not None:
        raise DataError(f"there is no column `{lost}`", where=where, hint=did_you_mean(lost, there))


def place_files(
    columns: Mapping[str, Column], mapping: Mapping[str, list[str]], values: dict[str, Any], folder: Path
) -> None:
    """Make paths absolute that are named from a folder."""
    for name, column in columns.items():
        for source in mapping.get(name, ()) if column.path else ():
            if isinstance(values.get(source), str) and values[source].strip() and "://" not in values[source]:
                values[source] = str((folder / values[source]).absolute())


def map_columns(wanted: Mapping[str, Column], given: Columns, there: list[str], where: str) -> dict[str, list[str]]:
    """Task column -> the file columns it is made of. Raises DataError for what the file does not have."""
    for name in given:
        if name not in wanted:
            raise DataError(
                f"the task has no column `{name}`",
                where=f"data.columns.{name}",
                hint=did_you_mean(name, wanted),
            )
    mapping: dict[str, list[str]] = {}
    taken = {c for said in given.values() for c in ([said] if isinstance(said, str) else said)}
    for name, column in wanted.items():
        said = given.get(name)
        if said is not None:
            mapping[name] = [said] if isinstance(said, str) else list(said)
            _has(mapping[name], there, where)
            continue
        found = next((c for c in (name, *column.names) if c in there and c not in taken), None)
        if found is not None:
            mapping[name] = [found]
        elif column.required:
            raise DataError(
                f"there is no column for `{name}` ({column.accepts})",
                where=where,
                hint=f"the file has {', '.join(f'`{c}`' for c in there)}; "
                f"say which with `data.columns.{name}` or `--set data.columns.{name}=...`",
            )
    return mapping


def in_task_columns(
    task: Task, mapping: Mapping[str, list[str]], values: dict[str, Any], purpose: Purpose
) -> dict[str, Any] | str:
    """The row as the task sees it, or in words why it cannot be used."""
    made: dict[str, Any] = {}
    for name, sources in mapping.items():
        parts = [values.get(source) for source in sources]
        if len(parts) == 1:
            made[name] = parts[0]
        else:
            made[name] = "\n".join(str(part) for part in parts if part not in (None, ""))
    reason = task.check_row(made, purpose)
    return reason if reason is not None else task.normalize(made)


def refuse_bad(bad: tuple[BadRow, ...] | list[BadRow]) -> None:
    """Raise DataError that names the first of the bad rows and counts the others."""
    if not bad:
        return
    first = bad[0]
    others = "".join(f"\n  also {row.file}:{row.line}: {row.reason}" for row in bad[1:6])
    more = f"\n  and {len(bad) - 6} more" if len(bad) > 6 else ""
    hint = "to leave such rows out, and have them listed, set `data.bad_rows: skip`"
    raise DataError(
        first.reason,
        where=f"{first.file}:{first.line}{others}{more}",
        hint=f"{first.hint}; {hint}" if first.hint else hint,
    )
