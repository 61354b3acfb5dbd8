"""A finished run made once more, from all that it wrote down when it began."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from tunesmith import run
from tunesmith.events import Updated
from tunesmith.rundir import RunDir, create
from tunesmith.train import checkpoint

Losses = dict[int, dict[str, float]]
"""Update -> its losses."""


def again(directory: RunDir, place: Path, name: str) -> RunDir:
    """A new run directory with all that a run began with."""
    files = {f"{part}.json": directory.json(part) for part in ("resolved", "receipt", "data", "task", "plan")}
    return create(place, name, files)


def follow(directory: RunDir, steps: int) -> tuple[Losses, dict[str, Tensor]]:
    """Train until an update is done, as a process that is then stopped; the losses of all updates, and the weights.

    Raises UserError where the rows or the model are not what they were.
    """
    prepared = run.reopen(directory)
    seen = [0]
    for event in run.go(directory, prepared, lambda: seen[0] >= steps):
        if isinstance(event, Updated):
            seen[0] = event.step
    return losses_of(directory), checkpoint.read(directory.checkpoints / "last")[0]


def losses_of(directory: RunDir) -> Losses:
    """The losses that a run wrote down; an update that was made again counts as it was made last."""
    return {step: updated.losses for step, updated in directory.updates().items()}
