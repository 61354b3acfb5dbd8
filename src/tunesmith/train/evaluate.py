"""Rows -> outputs -> answers -> measures -> scores, independent of how rows are put into batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tunesmith.contracts import Answer, Example, Purpose, Row, Task, Vector
from tunesmith.data.batches import cut
from tunesmith.data.content import GROUP, together
from tunesmith.errors import DataError
from tunesmith.metrics.measured import Measured
from tunesmith.models.model import Model

BUDGET = 4096
"""Tokens of a batch without gradients."""
_ROWS = 2**16
"""Rows that are encoded at once, to be sorted by length."""
_PROMPTS = 128
"""Prompts handed to the decoder together: it takes them in as others end, and progress is told after these."""


@dataclass(frozen=True)
class Judged:
    """What a set of rows was worth, and the answers themselves by row id."""

    measured: Measured
    answers: dict[int, Answer]


def judge(model: Model, task: Task, rows: Sequence[Row], *, answers: int | None, losses: bool = True) -> Judged:
    """Measures of every row. A task that can assess rows by their own targets does so on all of them and answers
    the first `answers` in order; another answers all."""
    vectors: dict[str, list[tuple[int, Vector]]] = defaultdict(list)
    assessed = losses and _assess(model, task, rows, vectors)
    asked = rows
    if assessed:
        most = len(rows) if answers is None else answers
        asked = _askable(model, task, rows, most) if task.asks else []
    made = answer_rows(model, task, asked) if asked else {}
    for row in asked:
        for name, vector in task.measure(row, made[row.id]).items():
            vectors[name].append((row.id, vector))
    return Judged(_table(vectors, rows), made)


def _askable(model: Model, task: Task, rows: Sequence[Row], most: int) -> list[Row]:
    """The first rows that leave room for an answer."""
    found: list[Row] = []
    for row in rows:
        if len(found) == most:
            break
        try:
            task.encode(row, model, "answer")
        except DataError:
            continue
        found.append(row)
    return found


def judge_answers(task: Task, rows: Sequence[Row], answers: Sequence[Answer]) -> Judged:
    """Measures of answers that came from elsewhere: a baseline, a file."""
    vectors: dict[str, list[tuple[int, Vector]]] = defaultdict(list)
    for row, answer in zip(rows, answers, strict=True):
        for name, vector in task.measure(row, answer).items():
            vectors[name].append((row.id, vector))
    return Judged(_table(vectors, rows), {row.id: answer for row, answer in zip(rows, answers, strict=True)})


def answer_rows(
    model: Model, task: Task, rows: Sequence[Row], progress: Callable[[int], None] | None = None
) -> dict[int, Answer]:
    """Row id -> answer."""
    outputs = outputs_of(model, task, rows, progress)
    return {row.id: task.decode(row, outputs[row.id]) for row in rows}


def outputs_of(
    model: Model, task: Task, rows: Sequence[Row], progress: Callable[[int], None] | None = None
) -> Mapping[int, Sequence[Any]]:
    """Row id -> what the net makes of each of its examples."""
    outputs: dict[int, list[Any]] = defaultdict(list)
    for batch in _batches(model, task, rows, "answer"):
        with torch.no_grad():
            for example, output in zip(batch, task.predict(model, batch), strict=True):
                outputs[example.row_id].append(output)
        if progress is not None:
            progress(len(batch))
    with torch.no_grad():
        return task.together(model, rows, outputs)


def settle(model: Model, task: Task, rows: Sequence[Row]) -> Task:
    """The task with what only the tuned model's outputs on validation rows can tell."""
    if type(task).settle is Task.settle:
        return task
    return task.settle(rows, outputs_of(model, task, rows))


def value_of(task: Task, measured: Measured) -> dict[str, float]:
    """The scores of measures, without intervals."""
    sums = {name: values.sum(0) for name, values in measured.values.items() if name not in task.each}
    return {name: float(value) for name, value in task.reduce(sums).items()}


def _groups(rows: Sequence[Row]) -> dict[int, int]:
    """Row id -> the number of its group, where rows have some that are fewer than they."""
    numbers: dict[str, int] = {}
    found = {row.id: numbers.setdefault(together(row), len(numbers)) for row in rows if GROUP in row.values}
    return found if 1 < len(numbers) < len(found) == len(rows) else {}


def _assess(model: Model, task: Task, rows: Sequence[Row], vectors: dict[str, list[tuple[int, Vector]]]) -> bool:
    """Measure rows by their own targets; False where the task has no such measure."""
    for batch in _batches(model, task, rows, "learn"):
        with torch.no_grad():
            found = task.assess(model, batch)
        if not found:
            return False
        for example, measures in zip(batch, found, strict=True):
            for name, vector in measures.items():
                vectors[name].append((example.row_id, vector))
    return True


def _batches(model: Model, task: Task, rows: Sequence[Row], purpose: Purpose) -> Iterator[list[Example]]:
    model.net.eval()
    for start in range(0, len(rows), _ROWS):
        examples = [example for row in rows[start : start + _ROWS] for example in _encoded(task, row, model, purpose)]
        if model.kind in ("causal-lm", "seq2seq-lm") and purpose == "answer":
            yield from (examples[at : at + _PROMPTS] for at in range(0, len(examples), _PROMPTS))
        else:
            for piece in cut([example.length for example in examples], BUDGET, model.layout):
                yield [examples[k] for k in piece]


def _encoded(task: Task, row: Row, model: Model, purpose: Purpose) -> list[Example]:
    try:
        return task.encode(row, model, purpose)
    except DataError as fault:
        raise fault if fault.where else DataError(fault.problem, where=row.place, hint=fault.hint) from None


def _table(vectors: dict[str, list[tuple[int, Vector]]], rows: Sequence[Row]) -> Measured:
    measured = Measured(groups=_groups(rows))
    for name, pairs in vectors.items():
        summed: dict[int, Any] = {}
        for row, vector in pairs:  # a row of several examples counts once
            summed[row] = summed[row] + np.atleast_1d(vector) if row in summed else np.atleast_1d(vector)
        measured.rows[name] = np.array(sorted(summed), dtype=np.int64)
        measured.values[name] = np.array([summed[row] for row in sorted(summed)], dtype=np.float64)
    return measured
