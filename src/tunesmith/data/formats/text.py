"""Plain text: documents with an empty line between them; a line break inside one belongs to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.contracts import BadRow
from tunesmith.data.textfile import open_text

suffixes = (".txt", ".text")


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """(line it begins in, {text}) of each document."""
    held: list[str] = []
    begun = 0
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                begun = begun or number
                held.append(line.rstrip("\r\n"))
            elif held:
                yield begun, {"text": "\n".join(held)}
                held, begun = [], 0
    if held:
        yield begun, {"text": "\n".join(held)}
