"""Text files as users have them: packed or not, byte-order marks, other encodings, lines that end in any way."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, AnyStr, BinaryIO, TextIO, cast

from tunesmith.errors import DataError

PACKED = (".gz", ".zst")
_MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5": ".zst"}
_FOREIGN = {
    b"\x89PNG\r\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"PK\x03\x04": "a ZIP archive or a spreadsheet",
    b"%PDF-": "a PDF",
    b"SQLite format 3\0": "an SQLite database",
    b"\x1f\x8b\x08": "packed twice",
    b"BZh91AY&SY": "packed with bzip2",
    b"\xfd7zXZ\0": "packed with xz",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
}
"""How files begin that hold no text, whatever their name says."""
_WIDE = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
LONGEST = 2**28
"""Bytes or characters of one line, or of one row of several: more is no text, but what a packed file of zeros unpacks
to."""


def bare(path: Path) -> Path:
    """The path without the ending of its packing: `rows.csv` of `rows.csv.gz`."""
    return path.with_suffix("") if path.suffix.lower() in PACKED else path


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked as they are read where it is packed (gzip, zstandard), whatever its name.

    Raises DataError for a file that cannot be read, is empty or holds no text, and where a packed one is cut short or
    damaged.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(4)
            if not head:
                raise DataError("the file is empty", where=str(path))
            file.seek(0)
            packing = _MAGIC.get(head[:2], "")
            if packing == ".gz":
                unpacked: Any = gzip.GzipFile(fileobj=file)
            elif packing == ".zst":
                unpacked = io.BufferedReader(_zstandard(file))
            else:
                unpacked = file
            _refuse_foreign(unpacked.peek(512), path)
            yield cast(BinaryIO, unpacked)
    except (EOFError, zlib.error, gzip.BadGzipFile) as fault:
        raise _damaged(path, fault) from None
    except OSError as fault:
        if fault.errno is None:  # of the library that unpacks
            raise _damaged(path, fault) from None
        raise DataError(f"the file cannot be read: {fault.strerror}", where=str(path)) from None


def _refuse_foreign(head: bytes, path: Path) -> None:
    what = next((what for mark, what in _FOREIGN.items() if head.startswith(mark)), None)
    if what or head[257:262] == b"ustar":
        raise DataError(
            f"the file is {what or 'a tar archive'}, not text",
            where=str(path),
            hint="write its rows as .csv, .jsonl or .parquet, packed once with gzip or zstandard if at all",
        )


def _zstandard(file: BinaryIO) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise DataError(
            "zstandard files need the package pyarrow", where=file.name, hint="pip install 'tunesmith[parquet]'"
        ) from None
    return pyarrow.CompressedInputStream(pyarrow.PythonFile(file), "zstd")


def _damaged(path: Path, fault: Exception) -> DataError:
    said = str(fault).rstrip(".")
    said = said if said[:2].isupper() else said[:1].lower() + said[1:]
    return DataError(
        f"the packed file is cut short or damaged: {said}",
        where=str(path),
        hint="fetch or pack it again; what stands before the damage was not used",
    )


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """The file as UTF-8 with or without a byte-order mark, or as UTF-16 with one; line ends are kept.

    Raises DataError for an empty file, and with the line for one that is in another encoding.
    """
    try:
        with open_bytes(path) as file:
            head = file.read(2)
        encoding = _WIDE.get(head[:2], "utf-8-sig")
        with open_bytes(path) as file, io.TextIOWrapper(file, encoding=encoding, newline="") as text:
            yield text
    except UnicodeDecodeError as fault:
        raise not_utf8(path, _bad_line(path), fault) from None


def lines(path: Path) -> Iterator[bytes]:
    """Every line with its end. Raises DataError for one that is longer than any text's."""
    with open_bytes(path) as file:
        yield from _bounded(file.readline, path)


def text_lines(path: Path) -> Iterator[str]:
    """Every line of a file as `open_text` reads it, with its end. Raises DataError for one that is longer than any
    text's."""
    with open_text(path) as file:
        yield from _bounded(file.readline, path)


def _bounded(readline: Callable[[int], AnyStr], path: Path) -> Iterator[AnyStr]:
    number = 0
    while line := readline(LONGEST + 1):
        number += 1
        refuse_long(len(line), path, number, "line")
        yield line


def refuse_long(size: int, path: Path, line: int, what: str) -> None:
    """Raise DataError for a line or a row that is longer than any text's."""
    if size > LONGEST:
        raise DataError(f"the {what} has more than {LONGEST:,} characters", where=f"{path}:{line}")


def not_utf8(path: Path, line: int, fault: UnicodeDecodeError) -> DataError:
    """The error for bytes that are not UTF-8. Guessing an encoding would change texts in silence."""
    if fault.object[:2] in _WIDE:
        return DataError(
            "the file is UTF-16, and JSON Lines are UTF-8",
            where=str(path),
            hint=f"iconv -f utf-16 -t utf-8 {path.name} > utf8-{path.name}",
        )
    if fault.encoding.startswith("utf-16"):  # its mark said so
        return DataError(
            f"the file begins as UTF-16 and is not: {fault.reason}", where=str(path), hint="fetch or save it again"
        )
    return DataError(
        f"the file is not UTF-8: byte 0x{fault.object[fault.start]:02x}",
        where=f"{path}:{line}",
        hint=f"save it as UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8 {path.name} > utf8-{path.name}",
    )


def _bad_line(path: Path) -> int:
    for number, line in enumerate(lines(path), 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return number
    return 1
