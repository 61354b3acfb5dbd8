"""Sums of files: what says that data is what it was."""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache
from pathlib import Path


def sha256(path: Path) -> str:
    """Of a file's bytes; of a folder, of the names and bytes of all that is in it."""
    if path.is_dir():
        digest = hashlib.sha256()
        for entry in sorted(entry for entry in path.rglob("*") if entry.is_file()):
            digest.update(f"{entry.relative_to(path)}\n{sha256(entry)}\n".encode())
        return digest.hexdigest()
    now = path.stat()
    return _of_file(path, now.st_size, now.st_mtime_ns, now.st_ino)


@lru_cache(maxsize=1024)
def _of_file(path: Path, size: int, changed: int, inode: int) -> str:
    """Of the file as it was when it was asked for: a large one is read once a process."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def of_code(*more: Path) -> str:
    """Of all of our own code, and of some files of others: what was made by other code is made anew."""
    digest = hashlib.sha256()
    for code in (*sorted(Path(__file__).parent.parent.rglob("*.py")), *more):
        digest.update(code.read_bytes())
    return digest.hexdigest()
