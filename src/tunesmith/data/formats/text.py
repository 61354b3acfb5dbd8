"""Plain text: documents with an empty line between them; a line break inside one belongs to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.contracts import BadRow
from tunesmith.data.textfile import refuse_long, text_lines

suffixes = (".txt", ".text")


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """(line it begins in, {text}) of each document."""
    held: list[str] = []
    begun = size = 0
    for number, line in enumerate(text_lines(path), 1):
        if line.strip():
            begun = begun or number
            held.append(line.rstrip("\r\n"))
            size += len(line)
            refuse_long(size, path, begun, "document")
        elif held:
            yield begun, {"text": "\n".join(held)}
            held, begun, size = [], 0, 0
    if held:
        yield begun, {"text": "\n".join(held)}
