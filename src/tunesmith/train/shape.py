"""What is done to the gradients of an update before it is taken: the pull towards the start, and the hold on blocks
that are to learn later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.models.model import Model
from tunesmith.recipe import Train


@dataclass(frozen=True)
class Start:
    """L2-SP (Li et al. 2018, arXiv:1802.01483): the loss has strength / 2 times the squared distance of what learns
    from where it began. A fresh head has no start worth staying near; weight decay is for that."""

    strength: float
    values: dict[str, Tensor]

    @torch.no_grad()
    def pull(self, model: Model) -> None:
        """Add its gradient."""
        for name, parameter in model.learned():
            if parameter.grad is not None and name in self.values:
                parameter.grad.add_(parameter - self.values[name], alpha=self.strength)


def start_of(model: Model, strength: float) -> Start:
    """Of a model before its first update."""
    return Start(strength, {name: p.detach().clone() for name, p in model.learned() if name not in model.fresh})


@dataclass(frozen=True)
class Thaw:
    """Gradual unfreezing (Howard and Ruder 2018, arXiv:1801.06146): a fresh head alone at first, then one block more,
    from the last, every so many updates; the embeddings at the end. What is fresh learns from the beginning, and where
    nothing is, so does the last block that learns at all."""

    every: float
    """Updates between two blocks."""
    lowest: int
    """What learns at first: up to this height."""
    heights: Mapping[str, int]
    """Of what is not fresh, by name."""

    def hold(self, model: Model, step: int) -> None:
        """Drop the gradients of what is not to learn yet in update `step`, counted from 0."""
        thawed = self.lowest + int(step / self.every)
        for name, parameter in model.learned():
            if self.heights.get(name, 0) > thawed:
                parameter.grad = None


def thaw_of(model: Model, every: float) -> Thaw:
    """Of a model, with so many updates between two blocks."""
    heights = {name: model.height(name) for name, _ in model.learned() if name not in model.fresh}
    begins_with_head = len(heights) < len(model.learned())
    return Thaw(every, 0 if begins_with_head else min(heights.values(), default=0), heights)


def shape_of(model: Model, train: Train, per_epoch: int) -> Callable[[int], None]:
    """What a recipe asks for, as a function of the update's number; of a model before its first update."""
    start = start_of(model, train.l2_sp) if train.l2_sp else None
    every = train.unfreeze_every
    thaw = None if every is None else thaw_of(model, every * per_epoch)

    def shape(step: int) -> None:
        if thaw is not None:
            thaw.hold(model, step)
        if start is not None:
            start.pull(model)

    return shape
