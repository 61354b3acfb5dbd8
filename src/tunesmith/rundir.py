"""The run directory: the interface between whoever trains and whoever looks. Plain files, atomic writes.

A file or directory that exists under its final name is complete. Knows nothing of what is in a checkpoint.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tunesmith.errors import RunError, StorageError
from tunesmith.events import Event, Updated, from_line, to_line

_NEEDED = {
    "resolved": ("model", "task", "data", "method"),
    "status": ("state", "step", "steps"),
    "task": ("name",),
    "combined": ("result", "nets", "task"),
    "report/report": ("headline", "scores", "notes"),
}
"""Name of a JSON file -> the keys that its readers rely on."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
COMBINED = "combined"
"""Name of the file that says what a combination of runs is."""
_LOOKS = 10
_LOOK_SECONDS = 0.02


@contextmanager
def guarded(path: Path, size: int | None = None) -> Iterator[None]:
    """Turn what a disk can do wrong into a StorageError that names the path and, where known, the bytes needed."""
    try:
        yield
    except Exception as fault:
        told = _told_by_disk(fault)
        if told is None:
            raise
        needed = f"; it takes {size:,} bytes" if size else ""
        if told.errno in _FULL:
            raise StorageError(
                f"no space left to write{needed}",
                where=str(path),
                hint="free some space, then `tunesmith resume`",
            ) from fault
        raise StorageError(f"cannot write: {told.strerror or told}{needed}", where=str(path)) from fault


def _told_by_disk(fault: Exception) -> OSError | None:
    """What a disk said, if it was one: writers in Rust (safetensors, tokenizers) wrap it in exceptions of their own."""
    if isinstance(fault, OSError):
        return fault
    found = re.search(r"\(os error (\d+)\)", str(fault))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make all files of a folder durable, before it gets the name that says it is complete."""
    for path in (folder, *folder.rglob("*")):
        sync_folder(path)  # the call is the same for a file


def beside(path: Path) -> Path:
    """A name beside a path, for what is written before it is taken: no other process has it, nor one that died."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one step: its old content or its new one is there, never a part. Raises StorageError."""
    write_pieces(path, (content,), len(content))


def write_pieces(path: Path, pieces: Iterable[bytes], size: int | None = None) -> None:
    """As `write_bytes`, of a content that comes piece by piece; `size` in bytes, where it is known."""
    temporary = beside(path)
    with guarded(path, size):
        try:
            with open(temporary, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file in one step."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises RunError when it is missing or torn."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError("the run lacks a file", where=str(path)) from None
    except (OSError, ValueError) as fault:
        raise RunError(f"the file cannot be read: {fault}", where=str(path)) from None


def point(link: Path, target: str) -> None:
    """Make a relative symbolic link, or turn it, in one step."""
    temporary = beside(link)
    with guarded(link):
        if link.is_dir() and not link.is_symlink():  # a copy of the run that followed the links
            shutil.rmtree(link)
        os.symlink(target, temporary)
        os.replace(temporary, link)
        sync_folder(link.parent)


@dataclass(frozen=True)
class RunDir:
    """Paths of one run, and the small files that say how it is doing."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def report(self) -> Path:
        return self.path / "report"

    @property
    def stop_file(self) -> Path:
        return self.path / "control" / "stop"

    def json(self, name: str) -> Any:
        """Content of `name.json`. Raises RunError where it is no object, or lacks what every run writes there."""
        path = self.path / f"{name}.json"
        value = read_json(path)
        if not isinstance(value, dict):
            raise RunError("the file holds no JSON object", where=str(path))
        lost = next((key for key in _NEEDED.get(name, ()) if value.get(key) is None), None)
        if lost is not None:
            raise RunError(f"the file lacks `{lost}`, which every run writes", where=str(path))
        return value

    def status(self) -> dict[str, Any]:
        """state, step, steps, attempt, pid, heartbeat. A run whose process is gone is `interrupted`."""
        status: dict[str, Any] = self.json("status")
        if status.get("state") == "running" and not self.locked():
            status = self.json("status")  # what it was when its process let go
            if status.get("state") == "running":
                status["state"] = "interrupted"
        return status

    def set_status(self, state: str, *, step: int, steps: int, attempt: int) -> None:
        """Replace status.json."""
        write_json(
            self.path / "status.json",
            {
                "state": state,
                "step": step,
                "steps": steps,
                "attempt": attempt,
                "pid": os.getpid(),
                "heartbeat": time.time(),
            },
        )

    def append(self, event: Event) -> None:
        """Add one line to events.jsonl. A line torn by an earlier death is closed first."""
        path = self.path / "events.jsonl"
        line = to_line(event) + "\n"
        with guarded(path), open(path, "ab+") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    line = "\n" + line
            file.write(line.encode())

    def updates(self) -> dict[int, Updated]:
        """The updates by their number; one that was made again counts as it was made last."""
        return {event.step: event for event in self.events() if isinstance(event, Updated)}

    def events(self) -> Iterator[Event]:
        """Every whole event; a torn line is passed over."""
        path = self.path / "events.jsonl"
        if not path.exists():
            return
        with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
            for line in file:
                try:
                    yield from_line(line)
                except ValueError:
                    continue

    def locked(self) -> bool:
        """True while a process works in the run."""
        try:
            with open(self.path / "lock") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process. The kernel lets go when the process dies, so no lock is ever stale.

        Raises RunError with the pid of the process that holds it.
        """
        with guarded(self.path / "lock"):
            for name in ("lock", "events.jsonl"):
                _unshare(self.path / name)
            file = open(self.path / "lock", "a+")  # noqa: SIM115
        with file:
            if not _held(file):
                file.seek(0)
                raise RunError(
                    f"another process works in this run (pid {file.read().strip() or 'unknown'})",
                    where=str(self.path),
                    hint="wait for it, or stop it with `touch control/stop` in the run",
                )
            with guarded(self.path / "lock"):
                self._sweep()
                file.truncate(0)
                os.write(file.fileno(), str(os.getpid()).encode())  # unbuffered: nothing is left for `close` to fail at
            yield

    def _sweep(self) -> None:
        """Remove what a death left half-written or half-removed; only who holds the run may."""
        for folder in (self.path, self.checkpoints, self.report, self.path / "predictions"):
            for left in folder.glob(".*.tmp"):
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink()


def _held(file: TextIO) -> bool:
    """Whether the lock could be had. Who only looks whether it is held has it for a moment: that one is waited out."""
    for _ in range(_LOOKS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(_LOOK_SECONDS)
    return False


def _unshare(path: Path) -> None:
    """Give a file of a run that was copied by hard links a content of its own: it is not replaced but added to."""
    with suppress(FileNotFoundError):
        if path.stat().st_nlink > 1:
            write_bytes(path, path.read_bytes())


def open_run(path: Path) -> RunDir:
    """The run at a path. Raises RunError when it is none."""
    run = RunDir(path)
    if not (path / "resolved.json").is_file():
        raise RunError(
            "this is not a run directory",
            where=str(path),
            hint="`tunesmith runs` lists the runs of a folder",
        )
    return run


def open_model(path: Path) -> None:
    """Raise RunError where neither a run is, nor a combination of some."""
    if (path / f"{COMBINED}.json").is_file():
        return
    if (path / "repeat.json").is_file():
        raise RunError(
            "these are several trainings, and it is not said which is meant",
            where=str(path),
            hint="name one of the folders in it; `tunesmith combine` makes one model of them",
        )
    open_run(path)


def finished_run(path: Path) -> RunDir:
    """The run at a path. Raises RunError where it has not finished."""
    run = open_run(path)
    if run.status()["state"] != "finished":
        raise RunError("the run has not finished", where=str(path), hint=f"`tunesmith resume {path}` goes on with it")
    return run


def create(parent: Path, name: str, files: dict[str, Any]) -> RunDir:
    """A new run directory with its first files, made in one step: it exists whole or not at all.

    `files` maps a file name to text or to a JSON value. A name that is taken gets a number.
    """
    with guarded(parent):
        parent.mkdir(parents=True, exist_ok=True)
        temporary = beside(parent / name)
        try:
            temporary.mkdir()
            for folder in ("checkpoints", "logs", "control"):
                (temporary / folder).mkdir()
            for file, value in files.items():
                text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False) + "\n"
                write_bytes(temporary / file, text.encode())
            path = _claim(parent, name, temporary)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(parent)
    return RunDir(path)


def _claim(parent: Path, name: str, temporary: Path) -> Path:
    for number in range(1, 10_000):
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            os.rename(temporary, path)
        except OSError as fault:
            if fault.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                continue
            raise
        return path
    raise RunError("ten thousand runs have this name", where=str(parent / name), hint="set `run.name`")


def list_runs(parent: Path) -> list[RunDir]:
    """The runs of a folder, oldest first by name."""
    if not parent.is_dir():
        return []
    return [RunDir(p) for p in sorted(parent.iterdir()) if (p / "resolved.json").is_file() and p.name[0] != "."]
