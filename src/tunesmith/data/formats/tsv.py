"""Tab-separated values with a header line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.contracts import BadRow
from tunesmith.data.formats.csv import read_delimited

suffixes = (".tsv", ".tab")


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """(line, values) of each row."""
    yield from read_delimited(path, "\t")
