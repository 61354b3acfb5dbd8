"""One trial: a recipe trained as `tunesmith train` trains it, looked at on the rows that choose, and kept nowhere.

It draws on what is shared (shared.py), which never changes a number. It knows no engine: `prune` is a question.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tunesmith.contracts import Metric, Row, Task
from tunesmith.data.content import GROUP
from tunesmith.data.rows import select
from tunesmith.errors import memory_told
from tunesmith.events import Event, Updated, Warned
from tunesmith.metrics.measured import Measured
from tunesmith.models import matmul
from tunesmith.prepare import Prepared
from tunesmith.recipe import Recipe
from tunesmith.run import plan_of
from tunesmith.search.shared import Shared
from tunesmith.train.average import Average, average_of
from tunesmith.train.evaluate import judge, value_of
from tunesmith.train.loop import train
from tunesmith.train.optimizer import make_optimizer
from tunesmith.train.shape import shape_of
from tunesmith.train.trunk import TrunkPlan

Prune = Callable[[float, float], bool]
"""Share of the updates that are done, the score after them -> whether the trial has fallen behind."""
_LARGE = 2**25
"""Bytes of a net that are worth the third of a second that it takes to look for what nothing holds any more."""


@dataclass(frozen=True)
class Look:
    """The score on the rows that choose, after an update."""

    step: int
    share: float
    """Of the updates that the recipe asks for."""
    value: float


@dataclass(frozen=True)
class Outcome:
    """What a trial came to."""

    task: Task
    """As it learned from the training rows."""
    metric: Metric
    value: float
    """The best of its looks: that of the checkpoint that `train` would keep."""
    best_step: int
    step: int
    steps: int
    pruned: bool
    looks: tuple[Look, ...]
    seconds: float
    plan: Mapping[str, Any]
    chose: Measured
    """Of the rows that choose, at the best look."""
    kept: Measured | None
    """Of rows that choose nothing, at the best look; None where none were asked for."""


def better(value: float, best: float | None, metric: Metric) -> bool:
    """Whether a score is better than the best so far, if there is one; one that is no number never is."""
    if best is None or math.isnan(best):
        return best is None or not math.isnan(value)
    return value > best if metric.higher_is_better else value < best


def halves(rows: Sequence[Row]) -> tuple[Sequence[Row], Sequence[Row]]:
    """Two parts of the validation rows, the first to choose by and the second to choose nothing by; rows of one group
    are in one part. The same for the same rows."""
    groups = [row.values.get(GROUP, row.id) for row in rows]
    names = list(dict.fromkeys(groups))
    count = dict.fromkeys(names, 0)
    for group in groups:
        count[group] += 1
    first: set[Any] = set()
    taken = 0
    for place in np.random.default_rng(len(rows)).permutation(len(names)):
        if 2 * taken < len(rows):
            first.add(names[place])
            taken += count[names[place]]
    chosen = np.array([group in first for group in groups])
    return select(rows, np.flatnonzero(chosen)), select(rows, np.flatnonzero(~chosen))


def run_trial(
    recipe: Recipe, shared: Shared, prune: Prune = lambda share, value: False, *, keep: bool = False
) -> Generator[Event, None, Outcome]:
    """Train a recipe: what happens, and in the end what came of it. Where there are no test rows, one half of the
    validation rows choose; `keep` scores the other half too, which tells by how much choosing flatters.

    Raises UserError for a recipe that cannot be, NotFinite and OutOfMemory for what happened to it.
    """
    began = time.perf_counter()
    size = 0
    try:
        with memory_told():
            prepared = shared.prepare(recipe)
            size = sum(parameter.nbytes for parameter in prepared.model.net.parameters())
            plan = plan_of(prepared)
            rows = prepared.splits.rows["validation"]
            chosen, others = (rows, ()) if prepared.final_split == "test" else halves(rows)
            outcome = yield from _learn(
                prepared, plan, shared, prune, _Looker(prepared, chosen, others if keep else ())
            )
    finally:
        if size > _LARGE:
            gc.collect()  # nets may hold themselves in circles
    return replace(outcome, seconds=time.perf_counter() - began)


class _Looker:
    """Looks at the rows that choose, and remembers the best look."""

    def __init__(self, prepared: Prepared, chosen: Sequence[Row], others: Sequence[Row]) -> None:
        self.prepared, self.chosen, self.others = prepared, chosen, others
        self.metric = prepared.task.headline
        self.best: float | None = None
        self.improved = False
        """Whether the last look is the best."""
        self.measured = Measured()
        self.kept: Measured | None = None

    def look(self, average: Average | None) -> dict[str, float]:
        """Scores on the rows that choose; as a look of a run is (`attempt.work`)."""
        task, model = self.prepared.task, self.prepared.model
        task.refit(model, self.prepared.splits.rows["train"])
        model.keep_fitted()
        with nullcontext() if average is None else average.in_place():
            measured = judge(model, task, self.chosen, answers=0).measured
            scores = value_of(task, measured)
            self.metric = task.watched(scores)
            self.improved = better(scores[self.metric.name], self.best, self.metric)
            if self.improved:
                self.best, self.measured = scores[self.metric.name], measured
                self.kept = judge(model, task, self.others, answers=0).measured if self.others else None
        return scores


def _learn(
    prepared: Prepared, plan: dict[str, Any], shared: Shared, prune: Prune, looker: _Looker
) -> Generator[Event, None, Outcome]:
    """The updates of a trial, up to its end or to where it is pruned."""
    model, keys, schedule = prepared.model, prepared.recipe.train, prepared.schedule()
    torch.set_num_threads(plan["threads"])
    model.checkpointing, model.matmul = plan["checkpointing"], matmul.named(plan["matmul"])
    rates = (plan["learning_rate"], plan["head_learning_rate"])
    optimizer = make_optimizer(
        model.learned(), model.fresh, *rates, keys.weight_decay, kind=keys.optimizer, share=prepared.share_of
    )
    shape = shape_of(model, keys, prepared.plan().per_epoch)
    average = average_of(model, keys, schedule.steps)
    if plan["trunk"]["blocks"]:
        model.kept = shared.trunk(prepared, TrunkPlan(**plan["trunk"]))
    looks: list[Look] = []
    best = Look(0, 0.0, float("nan"))
    updated: Updated | None = None
    pruned = False
    for updated in train(
        model, prepared.task, prepared.batches(plan["budget"]), optimizer, schedule, start=0,
        every=plan["evaluate_every"], evaluate=lambda: looker.look(average), shape=shape,
        follow=(lambda step: None) if average is None else average.update, skip=keys.not_finite == "skip",
    ):  # fmt: skip
        if updated.budget < plan["budget"]:
            plan = {**plan, "budget": updated.budget}
            yield Warned(f"memory ran out: micro-batches have at most {updated.budget} tokens from here on")
        yield updated
        if updated.scores is None:
            continue
        now = Look(updated.step, updated.step / schedule.steps, updated.scores[looker.metric.name])
        looks.append(now)
        if looker.improved:
            best = now
        patience = prepared.recipe.evaluate.early_stopping
        if patience is not None and sum(look.step > best.step for look in looks) >= patience:
            break
        pruned = now.share < 1 and prune(now.share, now.value)
        if pruned:
            break
    assert updated is not None
    return Outcome(
        task=prepared.task,
        metric=looker.metric,
        value=best.value,
        best_step=best.step,
        step=updated.step,
        steps=schedule.steps,
        pruned=pruned,
        looks=tuple(looks),
        seconds=0.0,
        plan=plan,
        chose=looker.measured,
        kept=looker.kept,
    )
