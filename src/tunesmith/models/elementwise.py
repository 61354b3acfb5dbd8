"""Pieces of a block that work number by number, or along one state, and keep less than autograd would.

What is cheap to compute again (a normed state's spread, an open gate) is not kept. Each equals plain autograd to
rounding; tests hold it. They run on any device.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation, GELUTanh, NewGELUActivation, SiLUActivation


class Gate(NamedTuple):
    """A function that opens a gate, and its gradient from (that of what it made, what it was given)."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


SILU = Gate(nn.functional.silu, torch.ops.aten.silu_backward)
GELU = Gate(nn.functional.gelu, torch.ops.aten.gelu_backward)
TANH_GELU = Gate(
    partial(nn.functional.gelu, approximate="tanh"), partial(torch.ops.aten.gelu_backward, approximate="tanh")
)


def gated(both: Tensor, act: Gate) -> Tensor:
    """act(gate) * up from both side by side [tokens, 2 x width] -> [tokens, width]."""
    out: Tensor = _Gated.apply(both, act)  # type: ignore[no-untyped-call]
    return out


_GATES: dict[type[nn.Module], Gate] = {
    GELUActivation: GELU,
    GELUTanh: TANH_GELU,
    NewGELUActivation: TANH_GELU,  # which writes it out in eight steps
    SiLUActivation: SILU,
    nn.SiLU: SILU,
}


def gate_of(act: nn.Module) -> Gate | None:
    """An activation of Transformers as a gate, by one kernel each way; None for one that is not known here."""
    return _GATES.get(type(act))


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x over its root mean square, times weight (Zhang and Sennrich 2019, arXiv:1910.07467), along the last axis."""
    out: Tensor = _RmsNorm.apply(x, weight, epsilon)  # type: ignore[no-untyped-call]
    return out


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor, act: Gate) -> Tensor:
        gate, up = both.chunk(2, 1)
        ctx.save_for_backward(both)
        ctx.act = act
        return act.forward(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        dh = grads[0]
        (both,) = ctx.saved_tensors
        gate, up = both.chunk(2, 1)
        found = torch.empty_like(both)
        dg, du = found.chunk(2, 1)
        torch.mul(ctx.act.forward(gate), dh, out=du)
        dg.copy_(ctx.act.backward(dh * up, gate))
        return found, None


class _RmsNorm(torch.autograd.Function):
    """In single precision at least, whatever it is given: the mean of squares of halves is no number to trust."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = _wide(x)
        mean = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        spread = mean.add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, spread)
        return torch.mul(wide, spread).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        given, weight, spread = ctx.saved_tensors
        dy, x = _wide(grads[0]), _wide(given)
        dx = dweight = None
        if ctx.needs_input_grad[1]:
            dweight = torch.mul(x, spread).mul_(dy).flatten(0, -2).sum(0).to(weight.dtype)
        if ctx.needs_input_grad[0]:
            dx = torch.mul(dy, weight)
            pull = torch.linalg.vecdot(dx, x)[..., None].mul_(spread**3).div_(x.shape[-1])
            dx = dx.mul_(spread).addcmul_(x, pull, value=-1).to(given.dtype)
        return dx, dweight, None


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
