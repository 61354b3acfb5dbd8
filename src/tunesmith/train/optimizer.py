"""Parameter groups, AdamW, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Optimizer = torch.optim.AdamW


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
) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101): pretrained and fresh tensors apart, and no decay on
    vectors (biases and norms)."""
    groups = []
    for is_fresh in (False, True):
        for is_matrix in (True, False):
            found = [(n, p) for n, p in trained if (n in fresh) == is_fresh and (p.ndim > 1) == is_matrix]
            if found:
                groups.append(
                    {
                        "params": [p for _, p in found],
                        "names": [n for n, _ in found],
                        "peak": head_rate if is_fresh else rate,
                        "lr": 0.0,
                        "weight_decay": weight_decay if is_matrix else 0.0,
                    }
                )
    return torch.optim.AdamW(groups, fused=True)


def clip(optimizer: Optimizer, found: Tensor, most: float) -> None:
    """Have the next step take gradients of the norm `found[0]` as if theirs were at most `most`, and do nothing at all
    where any number of `found` is not finite.

    Torch's fused AdamW divides each gradient by `grad_scale` as it reads it, so clipping does not walk over them a
    second time; and it looks at `found_inf` on the device, so the host need not.
    """
    over = ((found[0] + 1e-6) / most).clamp(min=1.0).float()
    spare = over.device.type == "cpu" and float(over) == 1.0  # a division that changes nothing would still be written
    optimizer.grad_scale = None if spare else over  # type: ignore[attr-defined]
    optimizer.found_inf = (~found.isfinite().all()).float()  # type: ignore[attr-defined]


def optimizer_state(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors by parameter name: `NAME/exp_avg`, `NAME/exp_avg_sq`, `NAME/step`."""
    state: dict[str, Tensor] = {}
    for name, parameter in _named(optimizer):
        for key, value in optimizer.state.get(parameter, {}).items():
            state[f"{name}/{key}"] = value
    return state


def load_optimizer_state(optimizer: Optimizer, state: dict[str, Tensor]) -> None:
    """Put tensors back by name, never by position."""
    by_name: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        name, _, part = key.rpartition("/")
        by_name.setdefault(name, {})[part] = value
    for name, parameter in _named(optimizer):
        if name in by_name:
            optimizer.state[parameter] = {part: value.to(parameter.device) for part, value in by_name[name].items()}


def _named(optimizer: Optimizer) -> list[tuple[str, nn.Parameter]]:
    return [pair for group in optimizer.param_groups for pair in zip(group["names"], group["params"], strict=True)]
