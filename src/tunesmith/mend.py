"""`tunesmith check --fix`: the training rows without those that findings would leave out, in a new file."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.contracts import BadRow, Row, Task
from tunesmith.data.content import content
from tunesmith.data.files import raw_rows
from tunesmith.data.read import Batch, read_file
from tunesmith.data.splits import Splits, batches_of
from tunesmith.doctor.finding import Finding
from tunesmith.errors import DataError
from tunesmith.recipe import Recipe
from tunesmith.rundir import write_pieces

_SUFFIXES = (".jsonl", ".csv")


def refuse_target(target: Path) -> None:
    """Raise DataError for a file that is there already, or of another kind than can be written."""
    if target.exists():
        raise DataError("the file exists already", where=str(target), hint="`--fix` writes a new file: name another")
    if target.suffix.lower() not in _SUFFIXES:
        raise DataError("rows are written as .jsonl or .csv", where=str(target), hint="`--fix rows-mended.jsonl`")


def mend(recipe: Recipe, task: Task, found: Splits, findings: Sequence[Finding], target: Path) -> tuple[int, int]:
    """Write the rows of the training files as they are, less those that findings would leave out and those that cannot
    be used. Test and validation rows are never left out: not those of their own files, which are not touched, nor those
    that were taken from the training files, which stay in it. Returns (rows written, rows left out).

    Raises DataError, StorageError.
    """
    refuse_target(target)
    train = found.rows["train"]
    batches = batches_of(recipe)["train"]
    gone = {k for finding in findings for k in finding.remove}
    left = Counter(_key(row) for row in (train[k] for k in sorted(gone)))
    counts = Counter[str]()
    known = {path: _columns(path, batch.format) for batch in batches for path in batch.files}
    rows = _kept(batches, task, left, counts, known)
    if target.suffix.lower() == ".csv":
        columns = dict.fromkeys(name for row in _kept(batches, task, left, Counter(), known) for name in row)
        write_pieces(target, _csv(rows, list(columns)))
    else:
        write_pieces(target, (f"{json.dumps(row, ensure_ascii=False, default=str)}\n".encode() for row in rows))
    return counts["kept"], counts["left"]


def _key(row: Row) -> tuple[str, int, str, str]:
    """What tells a row from the others of its file; rows of a list that is written in one line share the line."""
    return row.file, row.line, content(row), repr(row.values.get("label"))


def _columns(path: Path, file_format: str | None) -> list[str]:
    """The columns of a file, of whichever rows."""
    rows = (item for item in raw_rows(path, file_format) if not isinstance(item, BadRow))
    return list(dict.fromkeys(name for _, values in rows for name in values))


def _kept(
    batches: Sequence[Batch],
    task: Task,
    left: Counter[tuple[str, int, str, str]],
    counts: Counter[str],
    known: Mapping[Path, list[str]],
) -> Iterator[dict[str, Any]]:
    """The rows to be kept, in the columns of their files."""
    left = Counter(left)
    for batch in batches:
        for path in batch.files:
            for item, raw in read_file(path, batch, task, True, known[path]):
                if isinstance(item, BadRow):
                    counts["left"] += 1
                    continue
                key = _key(Row(0, item[1], str(path), item[0]))
                if left[key]:
                    left[key] -= 1
                    counts["left"] += 1
                else:
                    counts["kept"] += 1
                    yield raw


def _csv(rows: Iterator[dict[str, Any]], columns: list[str]) -> Iterator[bytes]:
    """CSV with a header; what is no plain value is written as JSON."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in columns])
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()


def _cell(value: Any) -> Any:
    plain = value is None or isinstance(value, str | int | float)
    return value if plain else json.dumps(value, ensure_ascii=False, default=str)
