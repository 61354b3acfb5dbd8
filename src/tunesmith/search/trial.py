"""One trial: a recipe trained as `tunesmith train` trains it, looked at on the rows that choose, and kept nowhere.

It draws on what is shared (shared.py), which never changes a number. It knows no engine: `prune` is a question. Alone
or together with others, all that is a trial's own is the same code.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tunesmith.contracts import Metric, Row, Task
from tunesmith.data.content import GROUP
from tunesmith.data.rows import select
from tunesmith.errors import RecipeError, TunesmithError, memory_told
from tunesmith.events import Event, Updated, Warned
from tunesmith.metrics.measured import Measured
from tunesmith.models import matmul
from tunesmith.prepare import Prepared
from tunesmith.recipe import Recipe
from tunesmith.run import plan_of
from tunesmith.search.shared import Shared
from tunesmith.train.average import Average, average_of
from tunesmith.train.evaluate import judge, value_of
from tunesmith.train.loop import Member, train
from tunesmith.train.optimizer import make_optimizer
from tunesmith.train.shape import shape_of
from tunesmith.train.team import join, train_team
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
    """That preparing, its updates and its looks took; of updates together with others, its share by tokens."""
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


def _never(share: float, value: float) -> bool:
    return False


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
        self.seconds = 0.0
        """That its looks took."""

    def look(self, average: Average | None) -> dict[str, float]:
        """Scores on the rows that choose; as a look of a run is (`attempt.work`)."""
        began = time.perf_counter()
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
        self.seconds += time.perf_counter() - began
        return scores


class Trial:
    """A recipe on its way: `member` makes its updates, alone or among others, and `after` is told of each.

    Where there are no test rows, one half of the validation rows choose; `keep` scores the other half too, which tells
    by how much choosing flatters. Raises UserError for a recipe that cannot be, OutOfMemory where it does not fit.
    """

    def __init__(self, recipe: Recipe, shared: Shared, prune: Prune = _never, *, keep: bool = False) -> None:
        began = time.perf_counter()
        with memory_told():
            self.prepared = prepared = shared.prepare(recipe)
            self.plan = plan_of(prepared)
            rows = prepared.splits.rows["validation"]
            chosen, others = (rows, ()) if prepared.final_split == "test" else halves(rows)
            self.ended = False
            """Whether no update is to follow."""
            self._prune, self._looker = prune, _Looker(prepared, chosen, others if keep else ())
            self._looks: list[Look] = []
            self._best = Look(0, 0.0, float("nan"))
            self._step, self._pruned = 0, False
            self.member = _member(prepared, self.plan, shared, self._looker)
        self._seconds = time.perf_counter() - began

    def after(self, updated: Updated) -> Iterator[Event]:
        """What an update that was made brings."""
        steps, looker = self.member.schedule.steps, self._looker
        self._step = updated.step
        self._seconds += updated.seconds
        if updated.budget < self.plan["budget"]:
            self.plan = {**self.plan, "budget": updated.budget}
            yield Warned(f"memory ran out: micro-batches have at most {updated.budget} tokens from here on")
        yield updated
        self.ended = updated.step >= steps
        if updated.scores is None:
            return
        now = Look(updated.step, updated.step / steps, updated.scores[looker.metric.name])
        self._looks.append(now)
        if looker.improved:
            self._best = now
        patience = self.prepared.recipe.evaluate.early_stopping
        if patience is not None and sum(look.step > self._best.step for look in self._looks) >= patience:
            self.ended = True
            return
        self._pruned = now.share < 1 and self._prune(now.share, now.value)
        self.ended = self.ended or self._pruned

    def outcome(self) -> Outcome:
        """What it has come to so far."""
        return Outcome(
            task=self.prepared.task,
            metric=self._looker.metric,
            value=self._best.value,
            best_step=self._best.step,
            step=self._step,
            steps=self.member.schedule.steps,
            pruned=self._pruned,
            looks=tuple(self._looks),
            seconds=self._seconds + self._looker.seconds,
            plan=self.plan,
            chose=self._looker.measured,
            kept=self._looker.kept,
        )


def _member(prepared: Prepared, plan: Mapping[str, Any], shared: Shared, looker: _Looker) -> Member:
    """What trains: by the plan, from what is shared."""
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
    return Member(
        model, prepared.task, prepared.batches(plan["budget"]), optimizer, schedule, plan["evaluate_every"],
        lambda: looker.look(average), shape=shape,
        follow=(lambda step: None) if average is None else average.update, skip=keys.not_finite == "skip",
    )  # fmt: skip


def run_trial(
    recipe: Recipe, shared: Shared, prune: Prune = _never, *, keep: bool = False
) -> Generator[Event, None, Outcome]:
    """Train a recipe alone: what happens, and in the end what came of it. Arguments and errors are those of `Trial`;
    raises NotFinite too, and OutOfMemory."""
    trial = Trial(recipe, shared, prune, keep=keep)
    yield from alone(trial)
    return trial.outcome()


def alone(trial: Trial) -> Generator[Event, None, None]:
    """Train a trial by itself, up to its end or to where it is pruned. Raises NotFinite and OutOfMemory."""
    one = trial.member
    torch.set_num_threads(trial.plan["threads"])
    with _swept([trial]), memory_told():
        for updated in train(
            one.model, one.task, one.batches, one.optimizer, one.schedule, start=one.start, every=one.every,
            evaluate=one.evaluate, shape=one.shape, follow=one.follow, skip=one.skip,
        ):  # fmt: skip
            yield from trial.after(updated)
            if trial.ended:
                return


def together(trials: Sequence[Trial]) -> Generator[tuple[int, Event | Outcome | TunesmithError], None, None]:
    """Train trials over one frozen base (train/team.py): (number of the trial, what happens to it). What came of one,
    or its own fault, comes last of it, at once; the others go on.

    Raises RecipeError for trials that cannot (`joins` tells), OutOfMemory where they do not fit together.
    """
    torch.set_num_threads(trials[0].plan["threads"])
    members = [trial.member for trial in trials]
    with _swept(trials), memory_told():
        for number, made in train_team(members, stop=lambda number: trials[number].ended):
            if isinstance(made, TunesmithError):
                yield number, made
                continue
            for event in trials[number].after(made):
                yield number, event
            if trials[number].ended:
                yield number, trials[number].outcome()


def joins(trial: Trial, others: Sequence[Trial]) -> bool:
    """Whether a trial can train with others that can with each other; it then has its frozen tensors from them, so that
    one base lies in memory for all. Where it cannot, nothing is changed."""
    try:
        join([one.member for one in (*others[:1], trial)])
    except RecipeError:
        return False
    return True


@contextmanager
def _swept(trials: Sequence[Trial]) -> Iterator[None]:
    """What nothing holds any more is looked for behind it, where the nets are large: they may hold themselves in
    circles."""
    try:
        yield
    finally:
        if any(sum(p.nbytes for p in trial.prepared.model.net.parameters()) > _LARGE for trial in trials):
            gc.collect()
