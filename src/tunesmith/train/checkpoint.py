"""Checkpoints: trained tensors, optimizer, and a few numbers. One that exists under its name is complete.

Written beside and renamed; every file is on the disk before the name is. A manifest of sha256 sums tells a flipped
bit: such a checkpoint is passed over for the one before, and that is said.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from tunesmith.errors import NotFinite, RunError
from tunesmith.rundir import RunDir, beside, guarded, point, sync_folder, write_bytes
from tunesmith.train.average import averaged

_FILES = ("trained.safetensors", "optimizer.safetensors", "state.json")


@dataclass(frozen=True)
class Progress:
    """All that resuming needs beside tensors. The place in the data is `step` alone."""

    step: int = 0
    best_step: int | None = None
    best_score: float | None = None
    looks: int = 0
    """Looks at the validation rows since the best."""
    tokens: dict[str, float] = field(default_factory=lambda: {"real": 0, "padded": 0, "label": 0})
    seconds: float = 0.0
    """Spent in updates, over all attempts."""
    left_out: int = 0
    """Updates that were not finite."""


def folder_of(run: RunDir, step: int) -> Path:
    """Where the checkpoint after an update is."""
    return run.checkpoints / f"step_{step:06d}"


def write(run: RunDir, trained: dict[str, Tensor], optimizer: dict[str, Tensor], progress: Progress) -> None:
    """Commit a checkpoint, turn `last` and `best`, then remove those that neither points at.

    Raises NotFinite for a number that is NaN or infinite, and StorageError; the checkpoints before stay as they are.
    """
    for kind, tensors in (("weight", trained), ("optimizer's", optimizer)):
        for name, tensor in tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise NotFinite(progress.step - 1, rows=[f"({kind} {name})"])
    path = folder_of(run, progress.step)
    temporary = run.checkpoints / f".{path.name}.tmp"
    contents = {
        "trained.safetensors": save({k: v.contiguous().cpu() for k, v in trained.items()}, {"format": "pt"}),
        "optimizer.safetensors": save({k: v.contiguous().cpu() for k, v in optimizer.items()}, {"format": "pt"}),
        "state.json": (json.dumps(asdict(progress), indent=2) + "\n").encode(),
    }
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    with guarded(path, sum(map(len, contents.values()))):
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir()
            for name, content in contents.items():
                write_bytes(temporary / name, content)
            write_bytes(temporary / "manifest.json", (json.dumps(sums, indent=2) + "\n").encode())
            if path.exists():  # the same step, that was damaged
                _remove(path)
            temporary.rename(path)
            sync_folder(run.checkpoints)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    point_at(run, progress)
    prune(run)


def point_at(run: RunDir, progress: Progress) -> None:
    """Turn `last` and `best` to the checkpoints that some progress names: a death may have come before they were."""
    for link, step in (("last", progress.step), ("best", progress.best_step)):
        if step is not None and folder_of(run, step).is_dir():
            point(run.checkpoints / link, folder_of(run, step).name)


def prune(run: RunDir) -> None:
    """Remove the checkpoints that neither `best` nor `last` points at, and what a death left half-written."""
    kept = {(run.checkpoints / name).resolve().name for name in ("best", "last")}
    for entry in run.checkpoints.iterdir():
        stale = entry.name.startswith("step_") and entry.name not in kept
        if entry.is_dir() and not entry.is_symlink() and (stale or entry.name.startswith(".")):
            _remove(entry)


def _remove(folder: Path) -> None:
    """Under another name first: one that exists is complete, to the end."""
    hidden = beside(folder)
    with suppress(FileNotFoundError):
        folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The trained tensors of a checkpoint, and what was kept beside them. Raises RunError when a file is damaged."""
    trained, beside, _ = _opened(folder)
    return trained, beside


def read_best(run: RunDir) -> dict[str, Tensor]:
    """The tensors that scored best: of a run that averages them, the average. Raises RunError, also
    where the link to it leads out of the run."""
    while True:
        folder = best_folder(run)
        if folder is None:
            raise RunError("the run has no scored checkpoint", where=str(run.path))
        try:
            trained, beside = read(folder)
        except RunError:
            if best_folder(run) == folder:
                raise  # else a better one came while this one was read, and it was removed
        else:
            return trained | averaged(beside)


def best_folder(run: RunDir) -> Path | None:
    """Where the checkpoint is that scored best, by the link to it; by the newest one's word where a copy of the run has
    lost its links."""
    link = run.checkpoints / "best"
    if link.is_dir():
        if link.resolve().parent != run.checkpoints.resolve():
            raise RunError("the link to the best checkpoint leads out of the run", where=str(link))
        return link.resolve()
    found = read_latest(run, lambda _: None)
    return None if found is None or found[2].best_step is None else folder_of(run, found[2].best_step)


def read_latest(
    run: RunDir, warn: Callable[[str], None]
) -> tuple[dict[str, Tensor], dict[str, Tensor], Progress] | None:
    """The newest whole checkpoint by its number, or None. A damaged one is passed over with a word."""
    for folder in sorted(_folders(run), key=_step_of, reverse=True):
        try:
            return _opened(folder)
        except RunError as fault:
            warn(f"{fault.problem} ({fault.where}); going on from the checkpoint before it, or from the start")
    return None


def with_whole_best(run: RunDir, progress: Progress, warn: Callable[[str], None]) -> Progress:
    """The progress of a checkpoint, which stands in for the best one where that is damaged; that is said. The next
    look at the validation rows finds a better one, or there is none to come."""
    if progress.best_step is None or progress.best_step == progress.step:
        return progress
    try:
        _verified(folder_of(run, progress.best_step))
    except RunError as fault:
        warn(f"{fault.problem} ({fault.where}); it scored best, and that of update {progress.step} takes its place")
        return replace(progress, best_step=progress.step, best_score=None, looks=0)
    return progress


def _folders(run: RunDir) -> list[Path]:
    return [p for p in run.checkpoints.glob("step_*") if p.is_dir() and p.name.removeprefix("step_").isdecimal()]


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step_"))


def _opened(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], Progress]:
    contents = _verified(folder)
    try:
        progress = Progress(**json.loads(contents["state.json"]))
        if type(progress.step) is not int:
            raise TypeError("`step` is no whole number")
        return load(contents["trained.safetensors"]), load(contents["optimizer.safetensors"]), progress
    except (SafetensorError, ValueError, TypeError) as fault:
        raise RunError(f"a checkpoint cannot be read: {fault}", where=str(folder)) from None


def _verified(folder: Path) -> dict[str, bytes]:
    try:
        sums = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        contents = {name: (folder / name).read_bytes() for name in _FILES}
    except (OSError, ValueError) as fault:
        raise RunError(f"a checkpoint lacks a file: {fault}", where=str(folder)) from None
    if not isinstance(sums, dict):
        raise RunError("a checkpoint has no sums of its files", where=str(folder / "manifest.json"))
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != sums.get(name):
            raise RunError(f"a checkpoint is damaged: {name} is not what was written", where=str(folder))
    return contents
