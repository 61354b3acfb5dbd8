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
    lost = 0
    learned = [parameter for _, parameter in model.learned()]
    for step in range(start, schedule.steps):
        began = time.perf_counter()
        rate = schedule.apply(optimizer, step)
        if not model.net.training:  # a look at the validation rows has left it so
            model.train()
        fillers = model.fillers
        examples = batches.chosen(step)
        weights = task.weights(examples)
        pieces, batches, losses = _gradients(model, task, batches, step, weights, ranks)
        shape(step)
        length = torch.nn.utils.get_total_norm([p.grad for p in learned if p.grad is not None])
        found = torch.stack([length.to(model.device, torch.float64), *losses.values()])
        if any(weights.values()) and clip(optimizer, found, schedule.clip):
            optimizer.step()
            model.spread()
        optimizer.zero_grad(set_to_none=True)
        norm, *values = found.tolist()  # the one time in an update that the host waits for a device
        lost = 0 if all(map(math.isfinite, (norm, *values))) else lost + 1
        if lost and (not skip or lost == _IN_A_ROW):
            raise NotFinite(step, rows=batches.places(step))
        if not lost:
            follow(step)
        seconds = time.perf_counter() - began
        looks = (step + 1) % every == 0 or step + 1 == schedule.steps
        yield Updated(
            step=step + 1,
            losses={name: value for name, value in zip(losses, values, strict=True) if math.isfinite(value)},
            grad_norm=norm if math.isfinite(norm) else None,
            left_out=lost > 0,
            learning_rate=rate,
            tokens=sum(example.count for example in examples),
            unit=examples[0].unit,
            padded=model.fillers - fillers + _padding(pieces, model.layout),
            labels=sum(weights.values()),
            seconds=seconds,
            budget=batches.budget,
            scores=evaluate() if looks else None,
        )


def _padding(pieces: Sequence[Piece], layout: Literal["packed", "padded"]) -> int:
    return sum(padding([example.length for example in piece.examples], layout) for piece in pieces)


def _gradients(
    model: Model, task: Task, batches: Batches, step: int, weights: dict[str, float], ranks: Ranks
) -> tuple[list[Piece], Batches, dict[str, Tensor]]:
    """The gradients of an update, and its losses. A device that runs out of memory gets the same update in pieces half
    as large, from here on. Raises torch.OutOfMemoryError when a row alone does not fit."""
    while True:
        pieces = batches.at(step, model.layout, ranks.count)
        try:
            return pieces, batches, accumulate(model, task, pieces, weights, ranks)
        except torch.OutOfMemoryError:
            model.forget_gradients()
            if ranks.count > 1 or all(len(piece.examples) == 1 for piece in pieces):
                raise  # the other processes wait for the sums of these pieces
        largest = max(sum(example.length for example in piece.examples) for piece in pieces)
        batches = replace(batches, budget=max(min(batches.budget, largest) // 2, 1))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
