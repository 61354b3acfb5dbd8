"""Parameter groups, the optimizers, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tunesmith.errors import RecipeError
from tunesmith.models.pretrained import still
from tunesmith.recipe import Train
from tunesmith.train.lion import Lion

Optimizer = torch.optim.Optimizer
Name = Literal["adamw", "adamw-8bit", "sgd", "adafactor", "lion"]

_FACTORS = ".ia3_l"
"""Factors begin as 1, and are kept as matrices: to decay them to 0 would undo the net."""


@dataclass(frozen=True)
class Kind:
    """What an optimizer is like."""

    make: Callable[[list[dict[str, Any]]], Optimizer]
    share: float
    """Its learning rate, as a share of AdamW's: what a recipe without a rate takes."""
    moments: int
    """Tensors as large as the weights that it keeps of them."""


def _eight_bits(groups: list[dict[str, Any]]) -> Optimizer:
    """AdamW whose moments are kept in blocks of 8 bits (Dettmers et al. 2022, arXiv:2110.02861), by bitsandbytes: of
    tensors from 4,096 numbers on. Raises RecipeError where the library is not installed."""
    try:
        with still():
            from bitsandbytes.optim import AdamW8bit
    except ImportError as fault:
        raise RecipeError(
            f"moments in 8 bits are the library bitsandbytes', which cannot be used here: {fault}",
            where="train.optimizer",
            hint="`pip install bitsandbytes`, or take `adafactor`, which keeps the least",
        ) from None
    made: Optimizer = AdamW8bit(groups)
    return made


KINDS: dict[Name, Kind] = {
    # Loshchilov and Hutter 2019, arXiv:1711.05101
    "adamw": Kind(lambda groups: torch.optim.AdamW(groups, fused=True), 1.0, 2),
    "adamw-8bit": Kind(_eight_bits, 1.0, 1),
    # its steps are of the gradients' size, not of the rate's: with a clipped norm of 1, these are about AdamW's. Not
    # fused: a first step that is passed over leaves a fused one's momentum as whatever was in memory (torch 2.13)
    "sgd": Kind(lambda groups: torch.optim.SGD(groups, momentum=0.9), 500.0, 1),
    # Shazeer and Stern 2018, arXiv:1804.04235; its steps are scaled by a tensor's own size, of which .04 is usual
    "adafactor": Kind(lambda groups: torch.optim.Adafactor(groups), 25.0, 0),
    "lion": Kind(Lion, 0.3, 1),
}


def moments_of(train: Train) -> int:
    """Tensors as large as the weights that are kept beside them and their gradients."""
    return KINDS[train.optimizer].moments + bool(train.l2_sp) + bool(train.ema or train.average)


@dataclass(frozen=True)
class Schedule:
    """The share of the peak learning rate at each update."""

    steps: int
    warmup: int
    shape: Literal["linear", "cosine", "constant"]
    clip: float

    def share(self, step: int) -> float:
        """Of update `step`, counted from 0: rises over the warm-up, then falls to 0 after the last update."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        if self.shape == "constant":
            return 1.0
        return 1.0 - done if self.shape == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))

    def apply(self, optimizer: Optimizer, step: int) -> float:
        """Set every group's rate for an update; returns that of the first group."""
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * self.share(step)
        return float(optimizer.param_groups[0]["lr"])


def warmup_steps(warmup: float, steps: int) -> int:
    """Updates of warm-up: a number below 1 is a share of all."""
    return min(int(warmup * steps) if warmup < 1 else int(warmup), steps)


def make_optimizer(
    trained: list[tuple[str, nn.Parameter]],
    fresh: frozenset[str],
    rate: float,
    head_rate: float,
    weight_decay: float,
    *,
    kind: Name = "adamw",
    share: Callable[[str], float] = lambda name: 1.0,
) -> Optimizer:
    """An optimizer of all that learns: pretrained and fresh tensors apart, no decay on vectors (biases and norms), and
    each pretrained tensor at its `share` of the rate."""
    groups: dict[tuple[bool, bool, float], dict[str, Any]] = {}
    for name, parameter in trained:
        is_fresh, is_vector = name in fresh, parameter.ndim < 2 or name.endswith(_FACTORS)
        part = 1.0 if is_fresh else share(name)
        group = groups.setdefault(
            (is_fresh, is_vector, -part),
            {
                "params": [],
                "names": [],
                "peak": head_rate if is_fresh else rate * part,
                "lr": 0.0,
                "weight_decay": 0.0 if is_vector else weight_decay,
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return KINDS[kind].make([groups[key] for key in sorted(groups)])


def clip(optimizer: Optimizer, found: Tensor, most: float) -> bool:
    """Have the next step take gradients of the norm `found[0]` as if theirs were at most `most`. False where no step is
    to be taken: where any number of `found` is not finite.

    Torch's fused optimizers divide each gradient by `grad_scale` as they read it, so clipping does not walk over them a
    second time; and they look at `found_inf` on the device and do nothing, so the host need not. Others wait for it.
    """
    over = ((found[0] + 1e-6) / most).clamp(min=1.0).float()
    if not optimizer.defaults.get("fused"):
        if not bool(found.isfinite().all()):
            return False
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if grads:
            torch._foreach_div_(grads, float(over))
        return True
    spare = over.device.type == "cpu" and float(over) == 1.0  # a division that changes nothing would still be written
    optimizer.grad_scale = None if spare else over  # type: ignore[attr-defined]
    optimizer.found_inf = (~found.isfinite().all()).float()  # type: ignore[attr-defined]
    return True


def optimizer_state(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors by parameter name: `NAME/exp_avg`, `NAME/exp_avg_sq`, `NAME/step`. Tables that tensors
    share, as bitsandbytes has them, stand under each name."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, parameter in _named(optimizer):
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, int):
                value = torch.tensor(value)
            if value is not None:
                state[f"{name}/{key}"] = value.clone() if value.data_ptr() in seen else value
                seen.add(value.data_ptr())
    return state


def load_optimizer_state(optimizer: Optimizer, state: dict[str, Tensor]) -> None:
    """Put tensors back by name, never by position."""
    by_name: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        name, _, part = key.rpartition("/")
        by_name.setdefault(name, {})[part] = value
    for name, parameter in _named(optimizer):
        if name in by_name:
            held: dict[str, Any] = {part: value.to(parameter.device) for part, value in by_name[name].items()}
            if "state1" in held:  # bitsandbytes counts steps in a plain number
                held["step"] = int(held["step"])
            optimizer.state[parameter] = held


def _named(optimizer: Optimizer) -> list[tuple[str, nn.Parameter]]:
    return [pair for group in optimizer.param_groups for pair in zip(group["names"], group["params"], strict=True)]
