"""Lion (Chen et al. 2023, arXiv:2302.06675, algorithm 2): steps of one size, in the direction of a sign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_UPDATE, _KEEP = 0.9, 0.99
"""Of the momentum: its share in the step, and what is kept of it."""


class Lion(torch.optim.Optimizer):
    """w <- w - lr (sign(.9 m + .1 g) + wd w), then m <- .99 m + .01 g."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            for p in params:
                if not self.state[p]:
                    self.state[p]["exp_avg"] = torch.zeros_like(p)
            moments = [self.state[p]["exp_avg"] for p in params]
            steps = torch._foreach_mul(moments, _UPDATE)
            torch._foreach_add_(steps, grads, alpha=1 - _UPDATE)
            torch._foreach_sign_(steps)
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(params, steps, alpha=-group["lr"])
            torch._foreach_lerp_(moments, grads, 1 - _KEEP)
