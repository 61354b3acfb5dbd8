"""File formats: each a module of this package, found by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from tunesmith.contracts import BadRow


class Format(Protocol):
    """How a file is read: a module with these two names."""

    suffixes: tuple[str, ...]

    def read(self, path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
        """(line, values) of every row, in file order; what cannot be read comes as a BadRow."""
