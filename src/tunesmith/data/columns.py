"""Tables on disk: a folder of flat columns that are memory-mapped, so that a table may be larger than memory.

Each column is a file of plain numbers; `table.json` counts and sums them and says what else belongs to them. A table
appears whole or not at all; one that was torn since is noticed when it is opened.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tunesmith.rundir import beside, guarded, sync_folder

_THREADS = 4
Dtypes = Mapping[str, Any]
"""Column -> the numpy type of its numbers."""
Columns = dict[str, NDArray[Any]]


class ColumnWriter:
    """Writes a table into a folder beside its final place; `close` moves it there."""

    def __init__(self, place: Path, dtypes: Dtypes, form: int) -> None:
        self.place = place
        self.folder = beside(place)
        self.dtypes = dtypes
        self.form = form
        self.sums = {name: hashlib.sha256() for name in dtypes}
        self.counts = dict.fromkeys(dtypes, 0)
        with guarded(place):
            self.folder.mkdir()
            self.files = {name: open(self.folder / name, "wb") for name in dtypes}  # noqa: SIM115

    def append(self, name: str, values: ArrayLike) -> None:
        """The next numbers of a column. Raises StorageError."""
        content = np.asarray(values, self.dtypes[name]).tobytes()
        with guarded(self.place):
            self.files[name].write(content)
        self.sums[name].update(content)
        self.counts[name] += len(content) // np.dtype(self.dtypes[name]).itemsize

    def close(self, about: Mapping[str, Any]) -> None:
        """The table is complete. Raises StorageError."""
        said = {
            "form": self.form,
            "about": dict(about),
            "columns": {name: [self.counts[name], self.sums[name].hexdigest()] for name in self.dtypes},
        }
        with guarded(self.place):
            for file in self.files.values():
                file.flush()
                os.fsync(file.fileno())
                file.close()
            with open(self.folder / "table.json", "w", encoding="utf-8") as written:
                json.dump(said, written)
                written.flush()
                os.fsync(written.fileno())
            self._take_place()
            sync_folder(self.place.parent)

    def _take_place(self) -> None:
        """Move there. A torn table that is in the way is moved aside; a whole one, of another process that was quicker,
        is as good as this one, and others may be reading it."""
        while True:
            try:
                self.folder.rename(self.place)
                return
            except OSError as fault:
                if fault.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise
            if open_columns(self.place, self.dtypes, self.form) is not None:
                shutil.rmtree(self.folder)
                return
            torn = beside(self.place)
            with suppress(FileNotFoundError):
                self.place.rename(torn)
            shutil.rmtree(torn, ignore_errors=True)

    def drop(self) -> None:
        """Leave nothing behind."""
        for file in self.files.values():
            file.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Opened:
    """A table that was found whole."""

    columns: Columns
    sums: dict[str, str]
    """Column -> sha256 of its bytes."""
    about: dict[str, Any]
    """What else was said of it."""


def open_columns(place: Path, dtypes: Dtypes, form: int) -> Opened | None:
    """The table at a place; None where there is none, or it is torn."""
    try:
        said = json.loads((place / "table.json").read_text(encoding="utf-8"))
        if said["form"] != form or said["columns"].keys() != dtypes.keys():
            return None
        counts = {name: count for name, (count, _) in said["columns"].items()}
        for name, count in counts.items():
            if (place / name).stat().st_size != count * np.dtype(dtypes[name]).itemsize:
                return None
        with ThreadPoolExecutor(_THREADS) as threads:  # reading and summing leave the interpreter to others
            found = dict(zip(counts, threads.map(lambda name: _sum(place / name), counts), strict=True))
        if any(found[name] != digest for name, (_, digest) in said["columns"].items()):
            return None
        # Plain views: slices of a memmap are memmaps, which take several times as long to make.
        columns: Columns = {
            name: np.memmap(place / name, dtypes[name], "r").view(np.ndarray) if count else np.empty(0, dtypes[name])
            for name, count in counts.items()
        }
        os.utime(place)
        return Opened(columns, {name: digest for name, (_, digest) in said["columns"].items()}, said["about"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def starts(counts: NDArray[Any]) -> NDArray[np.int64]:
    """Where the things begin that are counted, and where the last one ends: [len(counts) + 1]."""
    made = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, dtype=np.int64, out=made[1:])
    return made
