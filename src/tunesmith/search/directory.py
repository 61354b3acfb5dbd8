"""The folder of a search: plain files that any number of processes of a machine share. What is in a study is the
engine's (study.py); here is where it lies, and the locks. A name that exists is complete.

    searches/tickets_minilm_3f2a/
      recipe.yaml  resolved.json  made_of.json     as written; every value in force; sums of rows, model and code
      journal.log                                  the study, append only; not there where a database holds it
      trials/0007/{recipe.yaml, result.json, events.jsonl}
      table.csv  best.yaml  report.json  report.html  report.md  history.png  importance.png  coordinates.png
      repeats/winner_1.json                        what the winner, and its rival, came to with other seeds
      runs/seed_0/                                 the run of the winner: a run directory as any
      locks/                                       held by processes; the kernel lets go of those of the dead
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.errors import RunError
from tunesmith.events import Event, to_line
from tunesmith.rundir import beside, guarded, read_json, sync_folder, write_bytes, write_json

_FOLDERS = ("trials", "repeats", "runs", "locks")


@dataclass(frozen=True)
class SearchDir:
    """Paths of one search."""

    path: Path

    @property
    def journal(self) -> Path:
        return self.path / "journal.log"

    @property
    def best(self) -> Path:
        return self.path / "best.yaml"

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    def trial(self, number: int) -> Path:
        """Where a finished trial is."""
        return self.path / "trials" / f"{number:04d}"

    def json(self, name: str) -> Any:
        """Content of `name.json`. Raises RunError."""
        return read_json(self.path / f"{name}.json")

    def has(self, name: str) -> bool:
        """Whether there is a `name.json`."""
        return (self.path / f"{name}.json").exists()

    def write(self, name: str, value: Any) -> None:
        """Replace `name.json` in one step."""
        write_json(self.path / f"{name}.json", value)

    def result(self, number: int) -> dict[str, Any] | None:
        """What a trial came to, if it has finished here."""
        path = self.trial(number) / "result.json"
        return read_json(path) if path.exists() else None

    def keep(self, number: int, recipe: str, result: Mapping[str, Any], events: Sequence[Event]) -> None:
        """Write a finished trial: its folder is there whole, or not at all."""
        place = self.trial(number)
        temporary = beside(place)
        with guarded(place):
            try:
                temporary.mkdir()
                write_bytes(temporary / "recipe.yaml", recipe.encode())
                write_bytes(temporary / "events.jsonl", "".join(to_line(event) + "\n" for event in events).encode())
                write_json(temporary / "result.json", dict(result))
                with suppress(OSError):  # another process went on with it too, and was quicker
                    temporary.rename(place)
                sync_folder(place.parent)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock, waiting for it."""
        with guarded(self.path / "locks" / name), open(self.path / "locks" / name, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def hold(self, name: str) -> int | None:
        """Take a lock until the handle that is returned is closed; None where another process has it."""
        with guarded(self.path / "locks" / name):
            handle = os.open(self.path / "locks" / name, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle


def create(path: Path, files: Mapping[str, Any]) -> SearchDir:
    """A new search's folder with its first files, whole or not at all; that of another process where it came first."""
    with guarded(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = beside(path)
        try:
            temporary.mkdir()
            for folder in _FOLDERS:
                (temporary / folder).mkdir()
            for name, value in files.items():
                if isinstance(value, str):
                    write_bytes(temporary / name, value.encode())
                else:
                    write_json(temporary / name, value)
            with suppress(OSError):
                temporary.rename(path)
            sync_folder(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return open_search(path)


def open_search(path: Path) -> SearchDir:
    """The search at a path. Raises RunError where there is none."""
    if not (path / "made_of.json").is_file():
        raise RunError(
            "this is not the folder of a search", where=str(path), hint="`tunesmith search RECIPE` makes one"
        )
    return SearchDir(path)
