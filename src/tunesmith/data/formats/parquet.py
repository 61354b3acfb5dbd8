"""Parquet files. A row's "line" is its number in the file, from 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.contracts import BadRow
from tunesmith.errors import DataError

suffixes = (".parquet",)
_ROWS = 1024
"""Rows that are made at once."""


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """(row number, values) of each row; one with bytes that are no text comes as a BadRow. Raises DataError for what is
    not Parquet, and for two columns of one name, of which one would be lost."""
    import pyarrow
    import pyarrow.parquet

    if path.stat().st_size == 0:
        raise DataError("the file is empty", where=str(path))
    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"the file has the column `{twice}` more than once", where=str(path))
        number = 0
        for batch in file.iter_batches(batch_size=_ROWS):
            for values in _plain(batch):
                number += 1
                yield BadRow(str(path), number, values) if isinstance(values, str) else (number, values)
    except (pyarrow.ArrowException, OSError, ValueError) as fault:  # also of names that are no UTF-8
        said = (str(fault).splitlines() or [""])[0].rstrip(".")
        raise DataError(f"the file is not readable Parquet: {said}", where=str(path)) from None


def _plain(batch: Any) -> list[dict[str, Any] | str]:
    """The values of each row of a batch, or in words why there are none."""
    try:
        found: list[dict[str, Any] | str] = _coarse(batch).to_pylist()
    except (ValueError, OverflowError) as fault:  # also UnicodeDecodeError: of one row, so that the others can be had
        if len(batch) == 1:
            return [f"the row's values cannot be read: {fault}"]
        return [values for k in range(len(batch)) for values in _plain(batch.slice(k, 1))]
    return found


def _coarse(batch: Any) -> Any:
    """The batch with times to the microsecond, which is as fine as Python's are."""
    import pyarrow

    for k, column in enumerate(batch.schema):
        kind = column.type
        if getattr(kind, "unit", None) != "ns":
            continue
        coarse = (
            pyarrow.timestamp("us", kind.tz)
            if pyarrow.types.is_timestamp(kind)
            else pyarrow.duration("us") if pyarrow.types.is_duration(kind) else pyarrow.time64("us")
        )  # fmt: skip
        batch = batch.set_column(k, column.name, batch.column(k).cast(coarse, safe=False))
    return batch
