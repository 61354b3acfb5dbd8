"""Text files as users have them: byte-order marks, other encodings, lines that end in any way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tunesmith.errors import DataError

_WIDE = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """The file as UTF-8 with or without a byte-order mark, or as UTF-16 with one; line ends are kept.

    Raises DataError for an empty file, and with the line for one that is in another encoding.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(4)
        if not head:
            raise DataError("the file is empty", where=str(path))
        encoding = _WIDE.get(head[:2], "utf-8-sig")
        with open(path, encoding=encoding, newline="") as text:
            yield text
    except UnicodeDecodeError as fault:
        raise not_utf8(path, _bad_line(path), fault) from None
    except OSError as fault:
        raise DataError(f"the file cannot be read: {fault.strerror}", where=str(path)) from None


def not_utf8(path: Path, line: int, fault: UnicodeDecodeError) -> DataError:
    """The error for bytes that are not UTF-8. Guessing an encoding would change texts in silence."""
    return DataError(
        f"the file is not UTF-8: byte 0x{fault.object[fault.start]:02x}",
        where=f"{path}:{line}",
        hint=f"save it as UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8 {path.name} > utf8-{path.name}",
    )


def _bad_line(path: Path) -> int:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1
