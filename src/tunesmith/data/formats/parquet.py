"""Parquet files. A row's "line" is its number in the file, from 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.contracts import BadRow
from tunesmith.errors import DataError

suffixes = (".parquet",)


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """(row number, values) of each row. Raises DataError for what is not Parquet."""
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=4096):
            for values in batch.to_pylist():
                number += 1
                yield number, values
    except (pyarrow.ArrowException, OSError) as fault:
        raise DataError(f"the file is not readable Parquet: {fault}", where=str(path)) from None
