"""Runs that were judged, made by hand: rows, what each system answers, and no net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from tunesmith import recipefile, stats
from tunesmith.contracts import Answer, Row, Task
from tunesmith.evidence.case import Case
from tunesmith.judgement import Judgement
from tunesmith.models.model import Model
from tunesmith.tasks.text_classification import TextClassification
from tunesmith.train.evaluate import judge_answers

NO_NET = cast(Model, None)


def answer(labels: Sequence[str], label: str, sure: float = 0.8) -> Answer:
    """What a classifier says that is so sure of a label, and of the others alike."""
    other = (1 - sure) / max(len(labels) - 1, 1)
    return {"label": label, "probability": sure, "probabilities": {n: sure if n == label else other for n in labels}}


def labelled_rows(gold: Sequence[str], file: str = "rows.csv", **beside: Sequence[Any]) -> list[Row]:
    """A row a label; of each keyword, the value beside it. All texts differ and are as long."""
    rows = []
    for k, label in enumerate(gold):
        values = {"text": f"text {k:06}", "label": label, "label_type": "str"}
        rows.append(Row(k, values | {name: column[k] for name, column in beside.items()}, file, k + 2))
    return rows


def of_labels(
    gold: Sequence[str],
    tuned: Sequence[str],
    base: Sequence[str] | None = None,
    sure: Sequence[float] | None = None,
    rows: Sequence[Row] | None = None,
    train: Sequence[Row] = (),
    labels: Sequence[str] = (),
    **evaluate: Any,
) -> Case:
    """A text classification: what the file says, what both models say, and how sure the tuned one is."""
    task = TextClassification(labels=tuple(labels) or tuple(sorted({*gold, *tuned})))
    rows = labelled_rows(gold) if rows is None else rows
    sures = [0.8] * len(gold) if sure is None else sure
    systems = {"tuned": [answer(task.labels, *pair) for pair in zip(tuned, sures, strict=True)]}
    if base is not None:
        systems["base"] = [answer(task.labels, label) for label in base]
    return case_of(task, rows, systems, train, **evaluate)


def case_of(
    task: Task,
    rows: Sequence[Row],
    systems: Mapping[str, Sequence[Answer]],
    train: Sequence[Row] = (),
    held: tuple[Sequence[Row], Sequence[Answer]] | None = None,
    **evaluate: Any,
) -> Case:
    """Any task: `systems` has the answers of `tuned`, and may have those of `base`; `held` are validation rows with
    the tuned model's answers."""
    judged = {name: judge_answers(task, rows, answers) for name, answers in systems.items()}
    result = Judgement("test", judged["tuned"], {"test": stats.scores(task, judged["tuned"].measured)})
    if "base" in judged:
        result.base_judged = judged["base"]
        result.base = {"test": stats.scores(task, judged["base"].measured)}
    recipe = recipefile.build({"model": "m", "data": "rows.csv", "evaluate": evaluate})
    result.held = judge_answers(task, *held) if held else None
    return Case(recipe, task, NO_NET, rows, train, result, held[0] if held else ())


def mostly(gold: Sequence[str], right: float | Sequence[float], rng: np.random.Generator) -> list[str]:
    """Answers that are right with this chance, one chance for all rows or one each; else another label."""
    labels = sorted(set(gold))
    hits = rng.random(len(gold)) < np.asarray(right)
    return [g if hit else str(rng.choice([n for n in labels if n != g])) for g, hit in zip(gold, hits, strict=True)]
