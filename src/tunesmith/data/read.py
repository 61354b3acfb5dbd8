"""From files to rows: which columns; every row that cannot be used is collected.

Knows tasks only through their columns and their word on a single row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.contracts import BadRow, Column, Purpose, Row, Task
from tunesmith.data.files import raw_rows
from tunesmith.errors import DataError, did_you_mean

Columns = Mapping[str, str | list[str]]


@dataclass(frozen=True)
class RowSet:
    """Rows of one split, those set aside, and the files they came from."""

    rows: tuple[Row, ...]
    bad: tuple[BadRow, ...]
    files: tuple[str, ...]


def read_rows(
    files: list[Path], task: Task, columns: Columns, given: str | None = None, *, targets: bool = True
) -> RowSet:
    """The rows of some files in the task's own columns; without `targets`, what is to be predicted may be missing.

    Raises DataError when a file has no rows at all or lacks a column in every row.
    """
    rows: list[Row] = []
    bad: list[BadRow] = []
    wanted = {name: column for name, column in task.columns.items() if targets or not column.target}
    columns = {name: said for name, said in columns.items() if name in wanted or name not in task.columns}
    for path in files:
        found = list(raw_rows(path, given))
        bad += [item for item in found if isinstance(item, BadRow)]
        read = [item for item in found if not isinstance(item, BadRow)]
        if not found:
            raise DataError("the file has no rows", where=str(path))
        if not read:
            continue
        # A column may be in some rows only: the first row alone would hide it from all others.
        there = list(dict.fromkeys(name for _, values in read for name in values))
        mapping = map_columns(wanted, columns, there, f"{path}:{read[0][0]}")
        for line, values in read:
            place_files(wanted, mapping, values, path.parent)
            made = in_task_columns(task, mapping, values, "learn" if targets else "answer")
            if isinstance(made, str):
                bad.append(BadRow(str(path), line, made))
            else:
                rows.append(Row(len(rows), made, str(path), line))
    return RowSet(tuple(rows), tuple(bad), tuple(str(path) for path in files))


def place_files(
    columns: Mapping[str, Column], mapping: Mapping[str, list[str]], values: dict[str, Any], folder: Path
) -> None:
    """Make paths absolute that are named from a folder."""
    for name, column in columns.items():
        for source in mapping.get(name, ()) if column.path else ():
            if isinstance(values.get(source), str) and values[source].strip():
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
            lost = next((c for c in mapping[name] if c not in there), None)
            if lost is not None:
                raise DataError(f"there is no column `{lost}`", where=where, hint=did_you_mean(lost, there))
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
