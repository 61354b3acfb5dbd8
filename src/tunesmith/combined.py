"""One model of several trainings: the mean of their weights, or an ensemble whose answer is the mean of theirs.

A folder with `combined.json` and small runs in it: one whose tensors are the mean, or a copy of what each member
learned. Paths are relative, so the folder can be moved; it opens as a run does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith import judgement as judging
from tunesmith import predictor, stats
from tunesmith.contracts import Answer, Row, Task
from tunesmith.data.rows import contents, select
from tunesmith.errors import RunError
from tunesmith.judgement import Judgement
from tunesmith.predictor import Predictor
from tunesmith.recipefile import task_from
from tunesmith.rundir import COMBINED, RunDir, read_json
from tunesmith.train import checkpoint
from tunesmith.train.evaluate import judge_answers, outputs_of

SEEN = "seen.safetensors"
"""Name of the file with the sum of every row that a member learned from or was chosen by."""


@dataclass(frozen=True)
class Trained:
    """A finished training of several."""

    name: str
    fold: int | None
    seed: int
    run: RunDir


class Combination(Predictor):
    """Several nets that answer as one."""

    def __init__(self, path: Path, task: Task, nets: Sequence[Predictor], *, tested: bool) -> None:
        """`tested` says whether the recipe's test rows are unseen by all of them."""
        super().__init__(RunDir(path), nets[0].recipe, task, nets[0].source, nets[0].model)
        self.nets = tuple(nets)
        self.tested = tested

    def answers(self, rows: Sequence[Row]) -> dict[int, Answer]:
        """Row id -> answer: of one net its own, else the mean of all."""
        if len(self.nets) == 1:
            return super().answers(rows)
        outputs = self.outputs(rows)
        return {row.id: self.task.decode(row, outputs[row.id]) for row in rows}

    def outputs(self, rows: Sequence[Row]) -> Mapping[int, Sequence[Any]]:
        """Row id -> what all nets together make of each of its examples."""
        if len(self.nets) == 1:
            return outputs_of(self.model, self.task, rows)
        task: Any = self.task
        tasks = [net.task for net in self.nets]
        found = [outputs_of(net.model, net.task, rows) for net in self.nets]
        return {
            row.id: [task.mean_of(each, tasks) for each in zip(*(one[row.id] for one in found), strict=True)]
            for row in rows
        }

    def judged(self, split: str, rows: Sequence[Row]) -> Judgement:
        """What rows with their targets are worth."""
        if len(self.nets) == 1:
            return super().judged(split, rows)
        answers = self.answers(rows)
        judged = judge_answers(self.task, rows, [answers[row.id] for row in rows])
        return judging.Judgement(split, judged, {split: stats.scores(self.task, judged.measured)})

    def rows_to_score(
        self, data: Path | None, columns: Mapping[str, str], notes: list[str]
    ) -> tuple[Sequence[Row], str]:
        """The recipe's test rows, or those of a file, without any that a member has seen."""
        if data is None and not self.tested:
            raise RunError(
                "every row was learned from, or chosen by, in some of the trainings: there is none to score this on",
                where=str(self.run.path),
                hint="give rows that none of them has seen: `--data FILE`",
            )
        rows, split = super().rows_to_score(data, columns, notes)
        if data is None:
            return rows, split
        new = np.flatnonzero(~np.isin(contents(rows), seen_by(self.run.path)))
        if not len(new):
            raise RunError(
                "a member learned from, or was chosen by, every one of these rows",
                where=str(data),
                hint="give rows that none of them has seen",
            )
        if len(new) < len(rows):
            notes.append(f"{len(rows) - len(new)} of {len(rows)} rows were seen by a member and are left out")
            rows = select(rows, new)
        return rows, split


def load(path: Path, *, precise: bool = False) -> Combination:
    """The combination in a folder. Raises RunError where it is damaged, or names what is not in it."""
    about = RunDir(path).json(COMBINED)
    nets = []
    for net in _nets(path, about):
        place = path / net["path"]
        if sum_of(RunDir(place)) != net["sha256"]:
            raise RunError("a net of the combination is another than it was made of", where=str(place))
        nets.append(predictor.load(place, precise=precise))
    return Combination(path, task_from(about["task"]), nets, tested=about["result"]["split"] is not None)


def sum_of(run: RunDir) -> str:
    """sha256 of what a run learned, as its best checkpoint has it. Raises RunError where it has none."""
    best = checkpoint.best_folder(run)
    if best is None:
        raise RunError("there is no scored checkpoint", where=str(run.path))
    return str(read_json(best / "manifest.json")["trained.safetensors"])


def _nets(path: Path, about: Mapping[str, Any]) -> list[dict[str, str]]:
    """What the folder says of its nets. Raises RunError for a path that leads out of it."""
    nets = about["nets"]
    if not isinstance(nets, list) or not nets:
        raise RunError("the combination names no nets", where=str(path / f"{COMBINED}.json"))
    for net in nets:
        named = PurePosixPath(str(net.get("path") if isinstance(net, dict) else net))
        if named.is_absolute() or ".." in named.parts or not (path / named).is_dir():
            raise RunError(f"`{named}` is no folder in the combination", where=str(path / f"{COMBINED}.json"))
        if not (path / named).resolve().is_relative_to(path.resolve()):
            raise RunError(f"`{named}` leads out of the combination", where=str(path / f"{COMBINED}.json"))
    return nets


def seen_by(path: Path) -> NDArray[np.uint64]:
    """The sums of the rows that a member has seen. Raises RunError where they are lost."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load((path / SEEN).read_bytes())["content"]
    except (OSError, SafetensorError, KeyError) as fault:
        raise RunError(f"which rows the members have seen is lost: {fault}", where=str(path / SEEN)) from None
