"""THE loop: a generator of updates. It knows no task, method, format or screen; whoever iterates prints, stores, or
stops by leaving the `for`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tunesmith.contracts import Example, Row, Task
from tunesmith.data.batches import Plan, cut, padding
from tunesmith.errors import NotFinite
from tunesmith.events import Updated
from tunesmith.models.model import Model
from tunesmith.train.accumulate import Piece, accumulate, piece_seed
from tunesmith.train.optimizer import Optimizer, Schedule, clip
from tunesmith.train.ranks import ALONE, Ranks

_MIXED = 2**40
"""Keeps the generators of updates apart from those of epochs and rows."""
_IN_A_ROW = 10
"""Updates that are not finite, one after another, after which no more are left out: the weights are at fault."""


@dataclass(frozen=True)
class Batches:
    """Encoded training rows, their order, and the tokens a micro-batch may have."""

    rows: Sequence[Row]
    examples: Sequence[Sequence[Example]]
    """Of each row."""
    plan: Plan
    budget: int
    vary: Callable[[Example, np.random.Generator], Example] | None = None
    """What an epoch makes of an example."""
    mix: Callable[[Sequence[Example], np.random.Generator], Sequence[Example]] | None = None
    """What an update makes of its examples."""

    def chosen(self, step: int) -> Sequence[Example]:
        """The examples of an update, in the plan's order, as this epoch sees them."""
        made = self._varied(step)
        return made if self.mix is None else self.mix(made, np.random.default_rng((self.plan.seed, _MIXED, step)))

    def _varied(self, step: int) -> list[Example]:
        rows = self.plan.at(step)
        if self.vary is None:
            return [example for k in rows for example in self.examples[k]]
        epoch = step // self.plan.per_epoch
        return [
            self.vary(example, np.random.default_rng((self.plan.seed, epoch, k, number)))
            for k in rows
            for number, example in enumerate(self.examples[k])
        ]

    def at(self, step: int, layout: str, shares: int = 1) -> list[Piece]:
        """The micro-batches of an update; not much fewer than `shares` of them."""
        chosen = self.chosen(step)
        lengths = [example.length for example in chosen]
        budget = min(self.budget, -(-sum(lengths) // shares))
        cuts = cut(lengths, budget, "padded" if layout == "padded" else "packed")
        return [
            Piece(piece_seed(self.plan.seed, step, number), [chosen[k] for k in positions])
            for number, positions in enumerate(cuts)
        ]

    def places(self, step: int) -> list[str]:
        """Where the rows of an update stand in their files."""
        return [self.rows[k].place for k in self.plan.at(step)]


@dataclass(frozen=True)
class Member:
    """A model, what it learns and how: alone, or with others over the same frozen trunk (team.py)."""

    model: Model
    task: Task
    batches: Batches
    optimizer: Optimizer
    schedule: Schedule
    every: int
    """Updates between two looks at the validation rows."""
    evaluate: Callable[[], dict[str, float]]
    """A look."""
    start: int = 0
    """Updates that were made before."""
    shape: Callable[[int], None] = lambda step: None
    """May change the gradients of an update before it is taken."""
    follow: Callable[[int], None] = lambda step: None
    """Comes after an update that was taken."""
    skip: bool = False
    """Leave out updates that are not finite."""


@dataclass(frozen=True)
class Begun:
    """An update that waits for its gradients."""

    step: int
    rate: float
    examples: Sequence[Example]
    weights: dict[str, float]
    """What each loss is divided by."""
    fillers: int
    seconds: float


class Updates:
    """The updates of a member, one after the other: `begin` one, make its gradients, `end` it."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.step = member.start
        self.batches = member.batches
        """Its budget falls where a device runs out of memory."""
        self._lost = 0
        self._learned = [parameter for _, parameter in member.model.learned()]

    @property
    def done(self) -> bool:
        """Whether none is left."""
        return self.step >= self.member.schedule.steps

    def begin(self) -> Begun:
        """The next update: its rate is set, its rows are chosen."""
        began = time.perf_counter()
        model, task, step = self.member.model, self.member.task, self.step
        rate = self.member.schedule.apply(self.member.optimizer, step)
        if not model.net.training:  # a look at the validation rows has left it so
            model.train()
        examples = self.batches.chosen(step)
        return Begun(step, rate, examples, task.weights(examples), model.fillers, time.perf_counter() - began)

    def end(self, begun: Begun, pieces: Sequence[Piece], losses: dict[str, Tensor], seconds: float) -> Updated:
        """Take the update, whose gradients are there and took so many seconds; look at the validation rows where it is
        time. Raises NotFinite, as `train` says."""
        began = time.perf_counter()
        member, model, step, batches = self.member, self.member.model, begun.step, self.batches
        member.shape(step)
        norm, *values = self._take(losses, any(begun.weights.values()))
        lost = self._lost
        lost = 0 if all(map(math.isfinite, (norm, *values))) else lost + 1
        self._lost = lost
        if lost and (not member.skip or lost == _IN_A_ROW):
            raise NotFinite(step, rows=batches.places(step))
        if not lost:
            member.follow(step)
        self.step = step + 1
        seconds += begun.seconds + time.perf_counter() - began
        looks = (step + 1) % member.every == 0 or self.done
        return Updated(
            step=step + 1,
            losses={name: value for name, value in zip(losses, values, strict=True) if math.isfinite(value)},
            grad_norm=norm if math.isfinite(norm) else None,
            left_out=lost > 0,
            learning_rate=begun.rate,
            tokens=sum(example.count for example in begun.examples),
            unit=begun.examples[0].unit,
            padded=model.fillers - begun.fillers + _padding(pieces, model.layout),
            labels=sum(begun.weights.values()),
            seconds=seconds,
            budget=batches.budget,
            scores=member.evaluate() if looks else None,
        )

    def _take(self, losses: dict[str, Tensor], labelled: bool) -> list[float]:
        """Move the weights, clipped, unless a number is not finite; drop the gradients. Their norm, and the losses."""
        model, optimizer, learned = self.member.model, self.member.optimizer, self._learned
        length = torch.nn.utils.get_total_norm([p.grad for p in learned if p.grad is not None])
        found = torch.stack([length.to(model.device, torch.float64), *losses.values()])
        if labelled and clip(optimizer, found, self.member.schedule.clip):
            optimizer.step()
            model.spread()
        optimizer.zero_grad(set_to_none=True)
        numbers: list[float] = found.tolist()  # the one time in an update that the host waits for a device
        return numbers


def train(
    model: Model,
    task: Task,
    batches: Batches,
    optimizer: Optimizer,
    schedule: Schedule,
    *,
    start: int,
    every: int,
    evaluate: Callable[[], dict[str, float]],
    shape: Callable[[int], None] = lambda step: None,
    follow: Callable[[int], None] = lambda step: None,
    skip: bool = False,
    ranks: Ranks = ALONE,
) -> Iterator[Updated]:
    """Yield each update when it is done, with scores when it was followed by a look at the validation rows. `shape` may
    change the gradients of an update before it is taken, `follow` comes after it.

    An update that is not finite touches no weight. It raises NotFinite; with `skip` it is left out, and the next is
    made, until as many as `_IN_A_ROW` were.
    """
    member = Member(model, task, batches, optimizer, schedule, every, evaluate, start, shape, follow, skip)
    updates = Updates(member)
    while not updates.done:
        begun = updates.begin()
        began = time.perf_counter()
        pieces, losses = _gradients(updates, begun, ranks)
        yield updates.end(begun, pieces, losses, time.perf_counter() - began)


def _padding(pieces: Sequence[Piece], layout: Literal["packed", "padded"]) -> int:
    return sum(padding([example.length for example in piece.examples], layout) for piece in pieces)


def _gradients(updates: Updates, begun: Begun, ranks: Ranks) -> tuple[list[Piece], dict[str, Tensor]]:
    """The gradients of an update, and its losses. A device that runs out of memory gets the same update in pieces half
    as large, from here on. Raises torch.OutOfMemoryError when a row alone does not fit."""
    model, task = updates.member.model, updates.member.task
    while True:
        pieces = updates.batches.at(begun.step, model.layout, ranks.count)
        try:
            return pieces, accumulate(model, task, pieces, begun.weights, ranks)
        except torch.OutOfMemoryError:
            model.forget_gradients()
            if ranks.count > 1 or all(len(piece.examples) == 1 for piece in pieces):
                raise  # the other processes wait for the sums of these pieces
        largest = max(sum(example.length for example in piece.examples) for piece in pieces)
        updates.batches = replace(updates.batches, budget=max(min(updates.batches.budget, largest) // 2, 1))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
