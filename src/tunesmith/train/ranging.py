"""A learning rate from the rows themselves: a range test (Smith 2017, arXiv:1506.01186) that leaves no trace.

The rate rises exponentially, an update after another, from far below the method's own to far above it. Where the
smoothed loss falls steepest is what is taken; where it does not clearly fall, the method's own. Weights, gradients and
generators are then what they were, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from tunesmith.contracts import Task
from tunesmith.errors import NotFinite
from tunesmith.models.model import Model
from tunesmith.recipe import Train
from tunesmith.train.loop import Batches, train
from tunesmith.train.optimizer import Optimizer, Schedule, make_optimizer
from tunesmith.train.shape import shape_of

REACH = 30.0
"""How far it goes from the method's own rate, both ways."""
_UPDATES = (40, 100)
"""Least and most; between them, an epoch."""
_SMOOTH = 0.9
_LOST = 3.0
"""The test ends where the smoothed loss is this many times its least: what comes then is only worse."""
_FIRST = 5
"""Updates of which the smoothed loss is not yet to be trusted."""
_OUTER = 0.1
"""Of the logarithms of what is tried, at each end: a rate there may lie beyond."""
_CLEAR = 4.0
"""How many times the scatter of the smoothed loss its fall must be, to be one."""


@dataclass(frozen=True)
class Ranged:
    """What a range test saw, and the rate that it chose."""

    rate: float
    rates: tuple[float, ...]
    """Of each update that was made."""
    losses: tuple[float, ...]
    """Smoothed, after each."""

    def as_json(self) -> dict[str, Any]:
        """For plan.json."""
        return {"updates": len(self.rates), "from": self.rates[0], "to": self.rates[-1], "losses": list(self.losses)}


@dataclass(frozen=True)
class _Rising(Schedule):
    """Rates from `low` on, each the same times the one before; a fresh head's by its own rule."""

    low: float
    factor: float
    head: Callable[[float], float]
    fresh: frozenset[str]

    def rate(self, step: int) -> float:
        """Of an update, counted from 0."""
        return self.low * self.factor**step

    def apply(self, optimizer: Optimizer, step: int) -> float:
        """Set every group's rate: its share of the rate, or the head's."""
        rate = self.rate(step)
        for group in optimizer.param_groups:
            group["lr"] = self.head(rate) if group["names"][0] in self.fresh else rate * group["peak"]
        return rate


def find(
    model: Model,
    task: Task,
    batches: Batches,
    keys: Train,
    own: float,
    head: Callable[[float], float],
    share: Callable[[str], float],
) -> Ranged:
    """The rate for a model before its first update, between `own` / REACH and `own` * REACH.

    `head` is the rate of a fresh head beside a rate; `share` is what part of the rate a tensor has.
    """
    steps = min(max(batches.plan.per_epoch, _UPDATES[0]), _UPDATES[1])
    low = own / REACH
    schedule = _Rising(steps, 0, "constant", keys.clip, low, REACH ** (2 / (steps - 1)), head, model.fresh)
    held, generators = _held(model), _generators()
    fillers, training = model.fillers, model.net.training
    optimizer = make_optimizer(
        model.learned(), model.fresh, 1.0, 1.0, keys.weight_decay, kind=keys.optimizer, share=share
    )
    shape = shape_of(model, keys, batches.plan.per_epoch)
    losses: list[float] = []
    updates = train(
        model, task, batches, optimizer, schedule, start=0, every=steps + 1, evaluate=dict, shape=shape
    )  # fmt: skip
    try:
        with closing(updates), suppress(NotFinite):  # type: ignore[type-var]
            for updated in updates:
                losses.append(sum(updated.losses.values()))
                smooth = smoothed(losses)
                if len(losses) > _FIRST and smooth[-1] > _LOST * min(smooth):
                    break
    finally:
        _put_back(model, held, generators)
        model.fillers = fillers
        model.net.train(training)
    rates = [schedule.rate(step) for step in range(len(losses))]
    return Ranged(chosen(rates, losses, own), tuple(rates), tuple(smoothed(losses)))


def end_of(seen: Mapping[str, Any], rate: float) -> Literal["upper", "lower"] | None:
    """The end of what a range test tried at which it chose a rate: `lower`, in the lowest tenth; `upper`, where the
    loss was least in the highest tenth, and held the rate down. `seen` is of `Ranged.as_json`."""
    low, high, losses = seen["from"], seen["from"] * REACH**2, seen["losses"]
    if rate <= low * REACH ** (2 * _OUTER):
        return "lower"
    if len(losses) <= 2 * _FIRST:
        return None
    least = _FIRST + int(np.argmin(losses[_FIRST:]))
    at_least = low * (seen["to"] / low) ** (least / (len(losses) - 1))
    held = rate >= 0.99 * at_least / 10
    return "upper" if held and at_least >= high / REACH ** (2 * _OUTER) else None


def smoothed(losses: Sequence[float]) -> list[float]:
    """Exponential mean without the pull of its start."""
    made, mean, weight = [], 0.0, 0.0
    for loss in losses:
        mean, weight = _SMOOTH * mean + (1 - _SMOOTH) * loss, _SMOOTH * weight + (1 - _SMOOTH)
        made.append(mean / weight)
    return made


def chosen(rates: Sequence[float], losses: Sequence[float], own: float) -> float:
    """The rate at which the smoothed losses fall steepest by the logarithm of the rate, before their least; at most a
    tenth of the rate of the least, from which on it is too high.

    Where they fall by no more than they scatter, `own`; at most a tenth of the rate at which they have clearly risen.
    """
    smooth = np.array(smoothed(losses))
    if len(smooth) <= 2 * _FIRST:
        return rates[0]
    least = _FIRST + int(np.argmin(smooth[_FIRST:]))
    clear = _CLEAR * _scatter(losses[: max(least, 2 * _FIRST) + 1])
    if smooth[_FIRST] - smooth[least] <= clear:
        risen = np.flatnonzero(smooth[_FIRST:] - smooth[_FIRST] > clear)
        most = rates[_FIRST + int(risen[0])] / 10 if len(risen) else own
        return max(min(own, most), rates[0])
    slopes = np.gradient(smooth[: least + 1], np.log(np.array(rates[: least + 1])))
    found = rates[_FIRST + int(np.argmin(slopes[_FIRST:]))]
    return max(min(found, rates[least] / 10), rates[0])


def _scatter(losses: Sequence[float]) -> float:
    """The standard deviation that smoothed losses have from the chance of their rows alone."""
    return float(np.std(np.diff(losses))) / math.sqrt(2) * math.sqrt((1 - _SMOOTH) / (1 + _SMOOTH))


def _held(model: Model) -> dict[str, torch.Tensor]:
    """A copy of every tensor that learns, and of every buffer."""
    found = {name: tensor.detach().clone() for name, tensor in model.learned()}
    return found | {f"buffer {name}": buffer.clone() for name, buffer in model.net.named_buffers()}


@torch.no_grad()
def _put_back(model: Model, held: dict[str, torch.Tensor], generators: Sequence[torch.Tensor]) -> None:
    for name, parameter in model.learned():
        parameter.copy_(held[name])
    for name, buffer in model.net.named_buffers():
        buffer.copy_(held[f"buffer {name}"])
    model.spread()
    model.forget_gradients()
    torch.set_rng_state(generators[0])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(list(generators[1:]))


def _generators() -> list[torch.Tensor]:
    """The states of torch's generators, the host's first."""
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *devices]
