"""What a saved model promises: that use reads a row as training did, that the folder, and its adapter merged, answer as
the model in memory. `train` ends with these; `verify.py` has more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tunesmith.contracts import Example, Row, Task
from tunesmith.data.split import sampled
from tunesmith.models import reopened
from tunesmith.models.model import Model

TOLERANCE = 1e-4
"""Of logits, as a share of the largest of them (of 1, where they are smaller): rounding in fp32 is a tenth of it."""
FEW, MANY = 3, 16
"""Rows that are looked at, when a run ends and when it is verified."""


@dataclass(frozen=True)
class Check:
    """One promise, and whether it holds."""

    name: str
    holds: bool | None
    """None where it says nothing of this run; `said` has the reason."""
    said: str

    def as_json(self) -> dict[str, Any]:
        """For reports."""
        return asdict(self)


def short(model: Model, task: Task, folder: Path, rows: Sequence[Row]) -> list[Check]:
    """Of a model just saved in a folder: rendering, the folder opened by others, its adapter merged by PEFT."""
    model.net.eval()
    chosen = some(rows, FEW)
    return [rendering(model, task, [(row, row) for row in chosen]), *saved(model, task, folder, chosen)]


def some(rows: Sequence[Row], count: int) -> list[Row]:
    """A sample that is always the same."""
    return [rows[int(k)] for k in sampled(rows, count)]


def rendering(model: Model, task: Task, pairs: Sequence[tuple[Row, Row]]) -> Check:
    """Of (row as it is asked, row as it was learned): the first is read to the same tokens, and begins the second."""
    name = "rendering"
    if not pairs:
        return Check(name, None, "rows of this task are asked with candidates that training rows do not name")
    for asked_row, learned_row in pairs:
        asked = task.encode(asked_row, model, "answer")
        if asked != task.encode(learned_row, model, "answer"):
            return Check(name, False, f"{learned_row.place} is read to other tokens in use than in evaluation")
        if type(task).gather is not Task.gather:  # what it learned of a row is pairs
            continue
        learned = task.encode(learned_row, model, "learn")
        if not all(_begins(a, b) for a, b in zip(asked, learned, strict=True)):
            return Check(name, False, f"{learned_row.place} is read to other tokens in use than in training")
    return Check(name, True, f"{len(pairs)} rows are read in use to the tokens that training read")


def _begins(asked: Example, learned: Example) -> bool:
    """Whether what is asked is the beginning of what was learned, part by part."""
    for name, part in asked.parts.items():
        other = learned.parts[name]
        ids = getattr(part, "ids", None)
        if (part != other) if ids is None else (other.ids[: len(ids)] != ids):
            return False
    return True


def saved(model: Model, task: Task, folder: Path, rows: Sequence[Row]) -> list[Check]:
    """The folder opened by others, and its adapter merged by PEFT, beside the model."""
    name, other = "saved folder", "merged by PEFT"
    if not reopened.room_for(model):
        return [Check(name, None, "there is no memory for the net once more")]
    examples = [task.encode(row, model, "learn")[0] for row in rows]
    mine = [reopened.ours(model, example) for example in examples]
    try:
        opened = reopened.reopen(folder, model)
        if opened is None:
            return [Check(name, None, "the lines in the folder's README are needed to open it")]
        opened_ones = [reopened.theirs(opened, model, example) for example in examples]
    except Exception as fault:  # of libraries, which raise whatever they do
        reason = next(iter(str(fault).strip().splitlines()), "")
        return [Check(name, False, f"others cannot open it: {type(fault).__name__}: {reason}")]
    checks = [near(name, "opened by Transformers alone", mine, opened_ones)]
    alone = reopened.merged(opened)
    if alone is not None:
        checks.append(near(other, "its adapter merged", mine, [reopened.theirs(alone, model, e) for e in examples]))
    return checks


def near(name: str, what: str, mine: Sequence[Any], other: Sequence[Any]) -> Check:
    """That outputs of rows are the same, to rounding."""
    gap, most = difference(mine, other), largest(mine)
    said = f"{what}: outputs of {len(mine)} rows differ by at most {gap:.1e}, the largest is {most:.3g}"
    return Check(name, gap <= TOLERANCE * max(1.0, most), said)


def difference(a: Any, b: Any) -> float:
    """The largest between numbers of two values of one shape; infinite where anything else differs."""
    if isinstance(a, Tensor | np.ndarray | float | int):
        one, two = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
        if one.shape != two.shape:
            return float("inf")
        same = (one == two) | (np.isnan(one) & np.isnan(two))
        with np.errstate(invalid="ignore"):
            gaps = np.where(same, 0.0, np.abs(one - two))
        return float(np.nan_to_num(gaps, nan=np.inf, posinf=np.inf).max(initial=0.0))
    if isinstance(a, Mapping):
        if not isinstance(b, Mapping) or a.keys() != b.keys():
            return float("inf")
        return max((difference(a[key], b[key]) for key in a), default=0.0)
    if isinstance(a, list | tuple):
        if not isinstance(b, list | tuple) or len(a) != len(b):
            return float("inf")
        return max((difference(one, two) for one, two in zip(a, b, strict=True)), default=0.0)
    return 0.0 if a == b else float("inf")


def largest(value: Any) -> float:
    """The largest number in a value, without its sign."""
    if isinstance(value, Tensor | np.ndarray | float | int):
        numbers = np.asarray(value, dtype=np.float64)
        return float(np.abs(numbers[np.isfinite(numbers)]).max(initial=0.0))
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return max(map(largest, parts), default=0.0)
