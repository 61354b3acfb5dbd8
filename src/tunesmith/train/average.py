"""Averages of the weights along a run, which are scored and saved in their place (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.models.model import Model
from tunesmith.recipe import Train

_MARK = "/average"


@dataclass(frozen=True)
class Ema:
    """a <- d a + (1 - d) w after every update, with d = min(decay, (1 + t) / (10 + t)) after t of them, so that the
    first weights are soon forgotten."""

    decay: float

    def share(self, step: int) -> float:
        """Of the weights after update `step`, counted from 0, in the average."""
        return 1.0 if step == 0 else 1.0 - min(self.decay, (1 + step) / (10 + step))


@dataclass(frozen=True)
class Tail:
    """The mean of the weights after each of the last updates (Izmailov et al. 2018, arXiv:1803.05407, of every update
    and along the usual schedule)."""

    first: int
    """The update that it begins after, counted from 0."""

    def share(self, step: int) -> float:
        """As above; before the first, the weights as they are."""
        return 1.0 / max(step - self.first + 1, 1)


class Average:
    """The running average of all that learns, in the precision of the masters."""

    def __init__(self, model: Model, rule: Ema | Tail) -> None:
        self.model = model
        self.rule = rule
        self.held = {name: parameter.detach().clone() for name, parameter in model.learned()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after an update, counted from 0."""
        share = self.rule.share(step)
        for name, parameter in self.model.learned():
            self.held[name].lerp_(parameter, share)

    def state(self) -> dict[str, Tensor]:
        """For the checkpoint, beside the optimizer's tensors."""
        return {name + _MARK: value for name, value in self.held.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint's."""
        for name, value in averaged(state).items():
            self.held[name].copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The average in the net, the weights again afterwards."""
        own = {name: parameter.detach().clone() for name, parameter in self.model.learned()}
        self._put(self.held)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.model.learned():
            parameter.copy_(values[name])
        self.model.spread()


def averaged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The average among a checkpoint's tensors, by parameter name; nothing where none was kept."""
    return {name.removesuffix(_MARK): value for name, value in state.items() if name.endswith(_MARK)}


def without_average(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The optimizer's own tensors of a checkpoint."""
    return {name: value for name, value in state.items() if not name.endswith(_MARK)}


def average_of(model: Model, train: Train, steps: int) -> Average | None:
    """The average that a recipe asks for."""
    if train.ema is not None:
        return Average(model, Ema(train.ema))
    if train.average is not None:
        return Average(model, Tail(steps - max(round(train.average * steps), 1)))
    return None
