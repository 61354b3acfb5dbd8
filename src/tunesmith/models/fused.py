"""Pieces of a block with a forward and backward of their own, which keep and compute the least.

Products of one input share it and add up its gradient in place; an adapter costs two thin products and no copy of the
output; what is cheap to compute again (a normed state's spread, SwiGLU) is not kept. Each equals plain autograd to
rounding; tests hold it. They run on any device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith.models.adapted import Adapted
from tunesmith.models.lora import LoraLinear
from tunesmith.models.matmul import BLAS, Matmul

if TYPE_CHECKING:
    from tunesmith.models.crew import Crew


@dataclass(frozen=True)
class Thin:
    """A low-rank adapter at a product: beside its A [rank, in] and B [out, rank]."""

    scale: float
    span: slice | None = None
    """The tokens that it is for; None: all."""

    def of(self, x: Tensor) -> Tensor:
        """Its tokens, as a view."""
        return x if self.span is None else x[self.span]


How = tuple[Matmul, tuple[tuple[Thin, ...], ...]]
"""What multiplies, and the adapters at each of some products. The products' tensors stand in one row: weight [out, in]
and bias [out], then A and B of each adapter."""


def products(
    x: Tensor, modules: Sequence[nn.Module], matmul: Matmul, residual: Tensor | None = None, crew: Crew | None = None
) -> tuple[Tensor, ...]:
    """x [tokens, in] times each of some linear layers, adapted or not -> [tokens, out] each.

    `residual` is added to the first. With a `crew`, the tokens are of several models, whose adapters are for their own
    alone; the frozen product is one. What is more than a product and plain low-rank adapters runs by itself.
    """
    if not all(_plain(module, crew) for module in modules):
        apart = [_apart(x, module, crew) for module in modules]
        return tuple(apart if residual is None else [apart[0] + residual, *apart[1:]])
    flat, how = _laid(modules, matmul, crew)
    made: Tensor | tuple[Tensor, ...] = _Products.apply(x, residual, how, *flat)  # type: ignore[no-untyped-call]
    return made if isinstance(made, tuple) else (made,)


def swiglu(
    x: Tensor,
    gate: nn.Module,
    up: nn.Module,
    down: nn.Module,
    matmul: Matmul,
    residual: Tensor,
    crew: Crew | None = None,
) -> Tensor:
    """down(silu(gate(x)) * up(x)) + residual (Shazeer 2020, arXiv:2002.05202): [tokens, width] -> [tokens, width]."""
    if not all(_plain(module, crew) for module in (gate, up, down)):
        hidden = nn.functional.silu(_apart(x, gate, crew)) * _apart(x, up, crew)
        return _apart(hidden, down, crew) + residual
    flat, how = _laid((gate, up, down), matmul, crew)
    out: Tensor = _SwiGlu.apply(x, residual, how, *flat)  # type: ignore[no-untyped-call]
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


def _plain(module: nn.Module, crew: Crew | None) -> bool:
    """True for one whose forward and backward are written out here."""
    if not isinstance(module, Adapted):
        return isinstance(module, nn.Linear)
    owned = (module,) if crew is None else crew.adapters[module]
    low_rank = all(type(one) is LoraLinear and isinstance(one.dropout, nn.Identity) for one in owned)
    return low_rank and isinstance(module.base, nn.Linear)


def _apart(x: Tensor, module: nn.Module, crew: Crew | None) -> Tensor:
    """One product by itself, in operations that autograd follows."""
    return torch.as_tensor(module(x)) if crew is None else crew.product(x, module)


def _laid(modules: Sequence[nn.Module], matmul: Matmul, crew: Crew | None) -> tuple[list[Tensor | None], How]:
    """The tensors of some products in one row, and how they are used."""
    flat: list[Tensor | None] = []
    thins = []
    for module in modules:
        owned: Sequence[tuple[nn.Module, slice | None]] = ()
        if isinstance(module, LoraLinear):
            owned = [(module, None)] if crew is None else list(zip(crew.adapters[module], crew.spans, strict=True))
        bias = module.bias
        assert bias is None or isinstance(bias, Tensor)
        flat += [torch.as_tensor(module.weight), bias]
        for one, _ in owned:
            assert isinstance(one, LoraLinear)
            flat += one.thin()
        thins.append(tuple(Thin(one.scale, span) for one, span in owned if isinstance(one, LoraLinear)))
    return flat, (matmul, tuple(thins))


def _parts(row: Sequence[Any], thins: Sequence[Sequence[Thin]]) -> Iterator[Sequence[Any]]:
    """What belongs to each product in a row with a place for every tensor."""
    ends = list(accumulate(2 + 2 * len(own) for own in thins))
    return (row[start:end] for start, end in zip([0, *ends], ends, strict=False))


def _forward(
    matmul: Matmul, x: Tensor, part: Sequence[Tensor | None], thins: Sequence[Thin]
) -> tuple[Tensor, list[Tensor]]:
    """(x W^T + b, with scale x A^T B^T at each adapter's tokens, and x A^T of each)"""
    weight, bias, *rest = part
    assert weight is not None
    y = matmul.linear(x, weight, bias)
    lows = []
    for thin, a, b in zip(thins, rest[::2], rest[1::2], strict=True):
        assert a is not None and b is not None
        low = matmul.linear(thin.of(x), a, None)
        thin.of(y).addmm_(low, b.T, alpha=thin.scale)
        lows.append(low)
    return y, lows


def _backward(
    matmul: Matmul,
    dy: Tensor,
    x: Tensor | None,
    lows: Sequence[Tensor],
    part: Sequence[Tensor | None],
    thins: Sequence[Thin],
    needs: Sequence[bool],
    dx: Tensor | None,
    wants_dx: bool,
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Add a product's share to dx (made where it is None); returns it with the gradients of weight and bias, and of
    each A and B."""
    weight, _, *rest = part
    assert weight is not None
    grads: list[Tensor | None] = [None] * len(part)
    if needs[0]:
        assert x is not None
        grads[0] = matmul.mm(dy.T, x)
    if needs[1]:
        grads[1] = dy.sum(0)
    if wants_dx:
        dx = matmul.mm(dy, weight) if dx is None else matmul.add(dx, dy, weight)
    for k, (own, low, a, b) in enumerate(zip(thins, lows, rest[::2], rest[1::2], strict=True)):
        assert a is not None and b is not None
        dy_own, scale = own.of(dy), own.scale
        thin = matmul.mm(dy_own, b).mul_(scale)
        if needs[2 * k + 2]:
            assert x is not None
            grads[2 * k + 2] = matmul.mm(thin.T, own.of(x))
        if needs[2 * k + 3]:
            turned = matmul.mm(low.T, dy_own).mul_(scale)  # this way round the thin one is turned, not the wide one
            grads[2 * k + 3] = turned.T
        if dx is not None and wants_dx:
            own.of(dx).addmm_(thin, a)
    return dx, grads


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor | None, how: How, *flat: Tensor | None) -> tuple[Tensor, ...]:
        matmul, thins = how
        parts = zip(_parts(flat, thins), thins, strict=True)
        made, lows = zip(*(_forward(matmul, x, part, own) for part, own in parts), strict=True)
        if residual is not None:
            made[0].add_(residual)
        learns = any(any(needs[::2]) for needs in _parts(ctx.needs_input_grad[3:], thins))  # a weight or an A
        ctx.save_for_backward(x if learns else None, *(low for own in lows for low in own), *flat)
        ctx.how = how
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        matmul, thins = ctx.how
        x, *rest = ctx.saved_tensors
        lows, flat = _saved(rest, thins)
        wants_dx, wants_residual, _, *needs = ctx.needs_input_grad
        dx: Tensor | None = None
        found: list[Tensor | None] = []
        for dy, low, part, own, wants in zip(grads, lows, flat, thins, _parts(needs, thins), strict=True):
            if dy is None:
                found += [None] * len(part)
                continue
            dx, made = _backward(matmul, dy, x, low, part, own, wants, dx, wants_dx)
            found += made
        return dx, grads[0] if wants_residual else None, None, *found


def _saved(rest: Sequence[Any], thins: Sequence[Sequence[Thin]]) -> tuple[list[Sequence[Tensor]], list[Sequence[Any]]]:
    """What was saved of products: x A^T of each one's adapters, and each one's tensors."""
    ends = [0, *accumulate(map(len, thins))]
    lows = [rest[start:end] for start, end in pairwise(ends)]
    return lows, list(_parts(rest[ends[-1] :], thins))


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, how: How, *flat: Tensor | None) -> Tensor:
        matmul, thins = how
        gate, up, down = _parts(flat, thins)
        g, lows_g = _forward(matmul, x, gate, thins[0])
        u, lows_u = _forward(matmul, x, up, thins[1])
        hidden = torch.nn.functional.silu(g).mul_(u)
        y, lows_d = _forward(matmul, hidden, down, thins[2])
        ctx.save_for_backward(x, g, u, *lows_g, *lows_u, *lows_d, *flat)
        ctx.how = how
        return y.add_(residual)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        dy = grads[0]
        x, g, u, *rest = ctx.saved_tensors
        matmul, thins = ctx.how
        (lows_g, lows_u, lows_d), (gate, up, down) = _saved(rest, thins)
        wants_dx, wants_residual, _, *needs = ctx.needs_input_grad
        needs_g, needs_u, needs_d = _parts(needs, thins)
        s = torch.nn.functional.silu(g)
        hidden = s * u if any(needs_d[::2]) else None
        dh, found_d = _backward(matmul, dy, hidden, lows_d, down, thins[2], needs_d, None, True)
        assert dh is not None
        du = s.mul_(dh)
        ds = dh.mul_(u)
        dg = torch.ops.aten.silu_backward(ds, g)
        dx, found_g = _backward(matmul, dg, x, lows_g, gate, thins[0], needs_g, None, wants_dx)
        dx, found_u = _backward(matmul, du, x, lows_u, up, thins[1], needs_u, dx, wants_dx)
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
