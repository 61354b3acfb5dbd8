"""Pieces of a block with a forward and backward of their own, which keep and compute the least.

Products of one input share it and add up its gradient in place; an adapter costs two thin products and no copy of the
output; what is cheap to compute again (a normed state's spread, SwiGLU) is not kept. Each equals plain autograd to
rounding; tests hold it. They run on any device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models.adapted import Adapted
from tunesmith.models.lora import LoraLinear
from tunesmith.models.matmul import BLAS, Matmul

Part = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]
"""Weight [out, in], bias [out], and an adapter's A [rank, in] and B [out, rank]."""


def products(
    x: Tensor, modules: Sequence[nn.Module], matmul: Matmul, residual: Tensor | None = None
) -> tuple[Tensor, ...]:
    """x [tokens, in] times each of some linear layers, adapted or not -> [tokens, out] each.

    `residual` is added to the first. What is more than a product and a plain low-rank adapter runs by itself.
    """
    if not all(map(_plain, modules)):
        apart = [torch.as_tensor(module(x)) for module in modules]
        return tuple(apart if residual is None else [apart[0] + residual, *apart[1:]])
    parts, scales = zip(*(_part(module) for module in modules), strict=True)
    flat = [tensor for part in parts for tensor in part]
    made: Tensor | tuple[Tensor, ...] = _Products.apply(x, residual, (matmul, scales), *flat)  # type: ignore[no-untyped-call]
    return made if isinstance(made, tuple) else (made,)


def swiglu(x: Tensor, gate: nn.Module, up: nn.Module, down: nn.Module, matmul: Matmul, residual: Tensor) -> Tensor:
    """down(silu(gate(x)) * up(x)) + residual (Shazeer 2020, arXiv:2002.05202): [tokens, width] -> [tokens, width]."""
    if not all(map(_plain, (gate, up, down))):
        return torch.as_tensor(down(nn.functional.silu(gate(x)) * up(x)) + residual)
    parts, scales = zip(*(_part(module) for module in (gate, up, down)), strict=True)
    out: Tensor = _SwiGlu.apply(x, residual, (matmul, scales), *[tensor for part in parts for tensor in part])  # type: ignore[no-untyped-call]
    return out


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x over its root mean square, times weight (Zhang and Sennrich 2019, arXiv:1910.07467), along the last axis."""
    out: Tensor = _RmsNorm.apply(x, weight, epsilon)  # type: ignore[no-untyped-call]
    return out


class FastLinear(nn.Linear):
    """A linear layer by another library than torch's own: for stock blocks, under the stock names."""

    matmul: Matmul = BLAS

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]"""
        (y,) = products(x.flatten(0, -2), (self,), self.matmul)
        return torch.as_tensor(y.unflatten(0, x.shape[:-1]))


def quicken(root: nn.Module) -> None:
    """Replace the linear layers of stock blocks by fast ones with the same parameters."""
    for name, module in list(root.named_modules()):
        if type(module) is nn.Linear:
            fast = FastLinear(module.in_features, module.out_features, bias=module.bias is not None, device="meta")
            fast.weight, fast.bias = module.weight, module.bias
            root.set_submodule(name, fast.train(module.training))


def known(module: nn.Module) -> bool:
    """True for a linear layer, adapted or not."""
    return type(module.base if isinstance(module, Adapted) else module) is nn.Linear


def _plain(module: nn.Module) -> bool:
    """True for one whose forward and backward are written out here."""
    if isinstance(module, Adapted):
        low_rank = type(module) is LoraLinear and isinstance(module.dropout, nn.Identity)
        return low_rank and isinstance(module.base, nn.Linear)
    return isinstance(module, nn.Linear)


def _part(module: nn.Module) -> tuple[Part, float]:
    if isinstance(module, LoraLinear):
        return (module.weight, module.bias, *module.thin()), module.scale
    assert isinstance(module, nn.Linear)
    return (module.weight, module.bias, None, None), 1.0


def _forward(matmul: Matmul, x: Tensor, part: Sequence[Tensor | None], scale: float) -> tuple[Tensor, Tensor | None]:
    """(x W^T + b + scale x A^T B^T, x A^T)"""
    weight, bias, a, b = part
    assert weight is not None
    y = matmul.linear(x, weight, bias)
    if a is None or b is None:
        return y, None
    low = matmul.linear(x, a, None)
    return y.addmm_(low, b.T, alpha=scale), low


def _backward(
    matmul: Matmul,
    dy: Tensor,
    x: Tensor | None,
    low: Tensor | None,
    part: Sequence[Tensor | None],
    scale: float,
    needs: Sequence[bool],
    dx: Tensor | None,
    wants_dx: bool,
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Add a product's share to dx (made where it is None); returns it with the gradients of weight, bias, A and B."""
    weight, _, a, b = part
    assert weight is not None
    grads: list[Tensor | None] = [None, None, None, None]
    if needs[0]:
        assert x is not None
        grads[0] = matmul.mm(dy.T, x)
    if needs[1]:
        grads[1] = dy.sum(0)
    if wants_dx:
        dx = matmul.mm(dy, weight) if dx is None else matmul.add(dx, dy, weight)
    if a is not None and b is not None:
        thin = matmul.mm(dy, b).mul_(scale)
        if needs[2]:
            assert x is not None
            grads[2] = matmul.mm(thin.T, x)
        if needs[3]:
            assert low is not None
            grads[3] = matmul.mm(low.T, dy).mul_(scale).T  # this way round the thin one is turned, not the wide one
        if dx is not None and wants_dx:
            dx.addmm_(thin, a)
    return dx, grads


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, how: tuple[Matmul, tuple[float, ...]], *flat: Tensor | None
    ) -> tuple[Tensor, ...]:
        matmul, scales = how
        parts = [flat[k : k + 4] for k in range(0, len(flat), 4)]
        made, lows = zip(
            *(_forward(matmul, x, part, scale) for part, scale in zip(parts, scales, strict=True)), strict=True
        )
        if residual is not None:
            made[0].add_(residual)
        learns = any(ctx.needs_input_grad[3 + k] for k in range(len(flat)) if k % 4 in (0, 2))
        ctx.save_for_backward(x if learns else None, *lows, *flat)
        ctx.how = how
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        matmul, scales = ctx.how
        count = len(scales)
        x, *rest = ctx.saved_tensors
        lows, flat = rest[:count], rest[count:]
        wants_dx, wants_residual, _, *needs = ctx.needs_input_grad
        dx: Tensor | None = None
        found: list[Tensor | None] = []
        for k, (dy, scale) in enumerate(zip(grads, scales, strict=True)):
            if dy is None:
                found += [None] * 4
                continue
            span = slice(4 * k, 4 * k + 4)
            dx, own = _backward(matmul, dy, x, lows[k], flat[span], scale, needs[span], dx, wants_dx)
            found += own
        return dx, grads[0] if wants_residual else None, None, *found


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor, how: tuple[Matmul, tuple[float, ...]], *flat: Tensor | None
    ) -> Tensor:
        matmul, scales = how
        gate, up, down = flat[:4], flat[4:8], flat[8:]
        g, low_g = _forward(matmul, x, gate, scales[0])
        u, low_u = _forward(matmul, x, up, scales[1])
        hidden = torch.nn.functional.silu(g).mul_(u)
        y, low_d = _forward(matmul, hidden, down, scales[2])
        ctx.save_for_backward(x, g, u, low_g, low_u, low_d, *flat)
        ctx.how = how
        return y.add_(residual)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        dy = grads[0]
        x, g, u, low_g, low_u, low_d, *flat = ctx.saved_tensors
        gate, up, down = flat[:4], flat[4:8], flat[8:]
        matmul, scales = ctx.how
        wants_dx, wants_residual, _, *needs = ctx.needs_input_grad
        s = torch.nn.functional.silu(g)
        hidden = s * u if needs[8] or needs[10] else None
        dh, found_d = _backward(matmul, dy, hidden, low_d, down, scales[2], needs[8:], None, True)
        assert dh is not None
        du = s.mul_(dh)
        ds = dh.mul_(u)
        dg = torch.ops.aten.silu_backward(ds, g)
        dx, found_g = _backward(matmul, dg, x, low_g, gate, scales[0], needs[:4], None, wants_dx)
        dx, found_u = _backward(matmul, du, x, low_u, up, scales[1], needs[4:8], dx, wants_dx)
        return dx, dy if wants_residual else None, None, *found_g, *found_u, *found_d


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
