"""The user's cache: models, tables of tokens, tables of a frozen trunk. What is there can be made again at any time."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from pathlib import Path

_DAY = 86_400.0
_KEPT_DAYS = 30


def cache_root() -> Path:
    """$TUNESMITH_CACHE, else `tunesmith` in $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("TUNESMITH_CACHE"):
        return Path(os.path.expanduser(own)).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunesmith"


def cache_folder(kind: str) -> Path:
    """The folder of one kind of table. Raises OSError where none can be had that can be written."""
    folder = cache_root() / kind
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, "the cache cannot be written", str(folder))
    return folder


def prune(folder: Path) -> None:
    """Remove what was not used for a month, and what dead processes left half-written (its name begins with a dot)."""
    now = time.time()
    for path in folder.iterdir():
        days = 1 if path.name.startswith(".") else _KEPT_DAYS
        if _in_work(path):  # however old it looks: a clock may have been set
            continue
        try:
            if now - path.stat().st_mtime <= days * _DAY:
                continue
        except FileNotFoundError:  # another process was quicker
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _in_work(path: Path) -> bool:
    """Whether a process of this machine lives that `rundir.beside` named the path for."""
    found = re.fullmatch(r"\..*\.(\d+)-[0-9a-f]+\.tmp", path.name)
    return found is not None and Path(f"/proc/{found[1]}").exists()
