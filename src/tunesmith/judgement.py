"""What tuning was worth: the tuned net, the untuned base and cheap baselines on the same rows."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tunesmith import stats
from tunesmith.contracts import Metric, Row, Task
from tunesmith.data.split import sample
from tunesmith.metrics.measured import Measured, Score
from tunesmith.models.catalog import Source
from tunesmith.models.model import Model
from tunesmith.recipe import Recipe
from tunesmith.train.evaluate import Judged, judge, judge_answers, settle

Scores = dict[str, dict[str, Score]]
MOST = 100_000
"""Training rows that base and baselines learn from: their words of more rows would not fit in memory."""


@dataclass
class Judgement:
    """Scores by split, and what is behind them on the split of the verdict."""

    split: str
    tuned: Judged
    scores: Scores = field(default_factory=dict)
    base: Scores = field(default_factory=dict)
    baselines: dict[str, Scores] = field(default_factory=dict)
    verdict: stats.Verdict | None = None
    win_rate: Score | None = None
    """Of tasks with references: the share of rows whose reference the tuned model finds likelier than the base."""
    base_judged: Judged | None = None
    held: Judged | None = None
    """The tuned net on the validation rows, where the verdict is on others: what thresholds are chosen by."""
    baselines_judged: dict[str, Judged] = field(default_factory=dict)


def headline(task: Task, scores: Mapping[str, Score]) -> Metric:
    """What the verdict is on: the task's headline, or where no answers were written what picks its checkpoints."""
    if task.headline.name in scores:
        return task.headline
    return task.watched({name: score.value for name, score in scores.items()})


def score(model: Model, task: Task, split: str, rows: Sequence[Row], answers: int) -> Judgement:
    """The tuned net alone."""
    judged = judge(model, task, rows, answers=answers)
    return Judgement(split, judged, {split: stats.scores(task, judged.measured)})


_AS_PUBLISHED: dict[str, Any] = {"blocks": None, "new_tokens": []}
"""Of the model that a tuned one is compared with."""
_PROBED: dict[str, Any] = {"pooling": "auto", "head_layers": 1, "head_width": None, "head_dropout": None}
"""Of one whose untuned head is a linear probe on pooled states."""


def untuned(task: Task, recipe: Recipe, source: Source, train: Sequence[Row]) -> Model:
    """The model before tuning, doing the task by what its frozen states tell of the training rows."""
    changes = {**_AS_PUBLISHED, **(_PROBED if task.probed else {})}
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update=changes)})
    model = task.build(source, recipe, recipe.train.seed)
    task.base(model, train)
    return model


def compare(
    judgement: Judgement,
    task: Task,
    recipe: Recipe,
    source: Source,
    splits: Mapping[str, Sequence[Row]],
    rows: Sequence[Row],
    visit: Callable[[Model], None] = lambda _: None,
) -> Iterator[str]:
    """Add base, baselines and verdict to a judgement; yields what it is about to do. The base is fitted on the training
    rows, and settled on the validation rows, as the tuned model was; then it is shown to `visit`."""
    train = sample(splits["train"], MOST)
    split = judgement.split
    yield "base: the untuned model on the same rows"
    model = untuned(task, recipe, source, train)
    settled = settle(model, task, splits["validation"])
    judged = judge(model, settled, rows, answers=recipe.evaluate.answers)
    judgement.base_judged = judged
    judgement.base = {split: stats.scores(task, judged.measured)}
    metric = headline(task, judgement.scores[split])
    judgement.verdict = stats.compare(task, metric, judged.measured, judgement.tuned.measured)
    if task.has_references:
        judgement.win_rate = stats.win_rate(judged.measured, judgement.tuned.measured)
    visit(model)
    yield "baselines"
    answered = [row for row in rows if row.id in judgement.tuned.answers] or rows
    for name, answers in task.baselines(train, answered, model).items():
        judged = judge_answers(task, answered, answers)
        judgement.baselines_judged[name] = judged
        judgement.baselines[name] = {split: stats.scores(task, judged.measured)}


def mean_scores(task: Task, systems: Sequence[Measured]) -> dict[str, Score]:
    """The mean of each score over systems that were measured on the same rows, with the interval of that mean over rows
    drawn alike for all."""
    found = [stats.scores(task, one) for one in systems]
    if len(found) == 1:
        return found[0]
    drawn = [stats.replicates_each(task, one) for one in systems]
    made = {}
    for name in found[0]:
        point = statistics.fmean(one[name].value for one in found)
        draws = np.mean([one[name] for one in drawn], axis=0)
        shift = point - float(np.nanmean(draws))  # the bootstrap's own bias
        low, high = (float(edge) + shift for edge in np.nanquantile(draws, [0.025, 0.975]))
        made[name] = Score(point, low, high, found[0][name].n)
    return made


def as_json(scores: Scores) -> dict[str, Any]:
    """split -> metric -> {value, low, high, n}"""
    return {split: {name: asdict(score) for name, score in found.items()} for split, found in scores.items()}
