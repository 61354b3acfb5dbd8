"""Pieces of a block with a forward and backward of their own, which keep and compute the least.

Products of one input share it and add up its gradient in place; an adapter costs two thin products and no copy of the
output; what is cheap to compute again is not kept. Each equals plain autograd to rounding; tests hold it. They run on
any device. What multiplies no matrices is in `elementwise.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunesmith.models.adapted import Adapted
from tunesmith.models.draws import dropout
from tunesmith.models.elementwise import Gate, gate_of
from tunesmith.models.lora import LoraLinear
from tunesmith.models.matmul import BLAS, Matmul

if TYPE_CHECKING:
    from tunesmith.models.crew import Crew


class Thin(NamedTuple):
    """A low-rank adapter at a product: beside its A [rank, in] and B [out, rank]."""

    scale: float
    span: slice | None
    """The tokens that it is for; None: all."""

    def of(self, x: Tensor) -> Tensor:
        """Its tokens, as a view."""
        return x if self.span is None else x[self.span]


class Load(NamedTuple):
    """A product among several: its adapters, and where what belongs to it stands."""

    thins: Sequence[Thin]
    place: slice
    """In the row of all tensors: weight [out, in] and bias [out], then A and B of each adapter."""
    lows: slice
    """In the row of x A^T of all adapters."""


How = tuple[Matmul, Sequence[Load]]
"""What multiplies, and what is multiplied."""


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


def glu(
    x: Tensor,
    modules: tuple[nn.Module, nn.Module, nn.Module],
    act: Gate,
    matmul: Matmul,
    residual: Tensor | None,
    crew: Crew | None = None,
) -> Tensor:
    """down(act(gate(x)) * up(x)), plus residual, with the modules (gate, up, down) (Shazeer 2020, arXiv:2002.05202):
    [tokens, width] -> [tokens, width]."""
    if not all(_plain(module, crew) for module in modules):
        gate, up, down = modules
        hidden = act.forward(_apart(x, gate, crew)) * _apart(x, up, crew)
        made = _apart(hidden, down, crew)
        return made if residual is None else made + residual
    flat, how = _laid(modules, matmul, crew)
    out: Tensor = _Glu.apply(x, residual, act, how, *flat)  # type: ignore[no-untyped-call]
    return out


def feed(
    x: Tensor,
    modules: tuple[nn.Module, nn.Module],
    act: nn.Module,
    dropped: nn.Dropout,
    residual: Tensor,
    matmul: Matmul,
    crew: Crew | None,
) -> Tensor:
    """narrow(act(wide(x))), with dropout, plus residual, with the modules (wide, narrow): [tokens, width] -> same."""
    gate = gate_of(act)
    if gate is None or not all(_plain(module, crew) for module in modules):
        (wide,) = products(x, modules[:1], matmul, crew=crew)
        return added(torch.as_tensor(act(wide)), modules[1], dropped, residual, matmul, crew)
    flat, how = _laid(modules, matmul, crew)
    drops = _drops(dropped)
    made: Tensor = _Feed.apply(x, None if drops else residual, gate, how, *flat)  # type: ignore[no-untyped-call]
    return thinned(made, dropped, crew).add_(residual) if drops else made


def added(
    x: Tensor, module: nn.Module, dropped: nn.Dropout | None, residual: Tensor, matmul: Matmul, crew: Crew | None
) -> Tensor:
    """The product of a linear layer, with dropout, plus residual [tokens, out]."""
    if dropped is None or not _drops(dropped):
        return products(x, (module,), matmul, residual, crew)[0]
    (made,) = products(x, (module,), matmul, crew=crew)
    return thinned(made, dropped, crew).add_(residual)


def thinned(x: Tensor, dropped: nn.Dropout, crew: Crew | None) -> Tensor:
    """x [tokens, width] with dropout, where the layer that says so is learning."""
    if not _drops(dropped):
        return x
    return dropout(x, dropped.p) if crew is None else crew.dropout(x, dropped.p)


def _drops(dropped: nn.Dropout) -> bool:
    return bool(dropped.p and dropped.training)


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
    """True for a linear layer, adapted or not, whichever way round it keeps its matrix."""
    return type(module.base if isinstance(module, Adapted) else module) in (nn.Linear, Conv1D)


def _plain(module: nn.Module, crew: Crew | None) -> bool:
    """True for one whose forward and backward are written out here."""
    if not isinstance(module, Adapted):
        return isinstance(module, nn.Linear | Conv1D)
    alike = _low_rank(module) if crew is None else all(map(_low_rank, crew.adapters[module]))
    return alike and isinstance(module.base, nn.Linear | Conv1D)


def _low_rank(module: nn.Module) -> bool:
    return type(module) is LoraLinear and isinstance(module.dropout, nn.Identity)


def _apart(x: Tensor, module: nn.Module, crew: Crew | None) -> Tensor:
    """One product by itself, in operations that autograd follows."""
    return torch.as_tensor(module(x)) if crew is None else crew.product(x, module)


def _laid(modules: Sequence[nn.Module], matmul: Matmul, crew: Crew | None) -> tuple[list[Tensor | None], How]:
    """The tensors of some products in one row, and how they are used."""
    flat: list[Tensor | None] = []
    loads: list[Load] = []
    lows = 0
    for module in modules:
        first = len(flat)
        bias = module.bias
        assert bias is None or isinstance(bias, Tensor)
        weight = torch.as_tensor(module.weight)
        turned = isinstance(module.base if isinstance(module, Adapted) else module, Conv1D)
        flat += (weight.T if turned else weight, bias)
        thins: list[Thin] = []
        if isinstance(module, LoraLinear) and crew is None:
            flat += module.thin()
            thins.append(Thin(module.scale, None))
        elif isinstance(module, LoraLinear) and crew is not None:
            for one, span in zip(crew.adapters[module], crew.spans, strict=True):
                flat += one.thin()
                thins.append(Thin(one.scale, span))
        loads.append(Load(thins, slice(first, len(flat)), slice(lows, lows + len(thins))))
        lows += len(thins)
    return flat, (matmul, loads)


def _forward(matmul: Matmul, x: Tensor, flat: Sequence[Tensor | None], load: Load) -> tuple[Tensor, list[Tensor]]:
    """(x W^T + b, with scale x A^T B^T at each adapter's tokens, and x A^T of each)"""
    weight, bias, *pairs = flat[load.place]
    assert weight is not None
    y = matmul.linear(x, weight, bias)
    lows = []
    for k, thin in enumerate(load.thins):
        a, b = pairs[2 * k : 2 * k + 2]
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
    flat: Sequence[Tensor | None],
    load: Load,
    needs: Sequence[bool],
    dx: Tensor | None,
    wants_dx: bool,
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Add a product's share to dx (made where it is None); returns it with the gradients of weight and bias, and of
    each A and B. `lows`, `flat` and `needs` are those of all products."""
    weight, _, *pairs = flat[load.place]
    assert weight is not None
    needs = needs[load.place]
    grads: list[Tensor | None] = [None] * len(needs)
    if needs[0]:
        assert x is not None
        # As the layer keeps it: a matrix that is turned here is not turned a second time by a copy.
        grads[0] = matmul.mm(dy.T, x) if weight.is_contiguous() else matmul.mm(x.T, dy).T
    if needs[1]:
        grads[1] = dy.sum(0)
    if wants_dx:
        dx = matmul.mm(dy, weight) if dx is None else matmul.add(dx, dy, weight)
    for k, (own, low) in enumerate(zip(load.thins, lows[load.lows], strict=True)):
        a, b = pairs[2 * k : 2 * k + 2]
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
        matmul, loads = how
        made, lows = zip(*(_forward(matmul, x, flat, load) for load in loads), strict=True)
        if residual is not None:
            made[0].add_(residual)
        needs = ctx.needs_input_grad[3:]
        learns = any(any(needs[load.place][::2]) for load in loads)  # a weight or an A
        ctx.save_for_backward(x if learns else None, *(low for own in lows for low in own), *flat)
        ctx.how = how
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        matmul, loads = ctx.how
        x, *rest = ctx.saved_tensors
        lows, flat = _saved(rest, loads)
        wants_dx, wants_residual, _, *needs = ctx.needs_input_grad
        dx: Tensor | None = None
        found: list[Tensor | None] = []
        for dy, load in zip(grads, loads, strict=True):
            if dy is None:
                found += [None] * len(flat[load.place])
                continue
            dx, own = _backward(matmul, dy, x, lows, flat, load, needs, dx, wants_dx)
            found += own
        return dx, grads[0] if wants_residual else None, None, *found


def _saved(rest: Sequence[Any], loads: Sequence[Load]) -> tuple[Sequence[Tensor], Sequence[Any]]:
    """What was saved of products: x A^T of all adapters, and all tensors."""
    count = loads[-1].lows.stop
    return rest[:count], rest[count:]


class _Feed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor | None, act: Gate, how: How, *flat: Tensor | None) -> Tensor:
        matmul, (wide, narrow) = how
        w, lows_w = _forward(matmul, x, flat, wide)
        y, lows_n = _forward(matmul, act.forward(w), flat, narrow)
        learns = any(ctx.needs_input_grad[4:][wide.place][::2])  # a weight or an A
        ctx.save_for_backward(x if learns else None, w, *lows_w, *lows_n, *flat)
        ctx.act, ctx.how = act, how
        return y if residual is None else y.add_(residual)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        dy = grads[0]
        x, w, *rest = ctx.saved_tensors
        matmul, (wide, narrow) = ctx.how
        lows, flat = _saved(rest, ctx.how[1])
        wants_dx, wants_residual, _, _, *needs = ctx.needs_input_grad
        hidden = ctx.act.forward(w) if any(needs[narrow.place][::2]) else None
        dh, found_n = _backward(matmul, dy, hidden, lows, flat, narrow, needs, None, True)
        assert dh is not None
        del hidden
        dx, found_w = _backward(matmul, ctx.act.backward(dh, w), x, lows, flat, wide, needs, None, wants_dx)
        return dx, dy if wants_residual else None, None, None, *found_w, *found_n


class _Glu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor | None, act: Gate, how: How, *flat: Tensor | None) -> Tensor:
        matmul, (gate, up, down) = how
        g, lows_g = _forward(matmul, x, flat, gate)
        u, lows_u = _forward(matmul, x, flat, up)
        hidden = act.forward(g).mul_(u)
        y, lows_d = _forward(matmul, hidden, flat, down)
        ctx.save_for_backward(x, g, u, *lows_g, *lows_u, *lows_d, *flat)
        ctx.act, ctx.how = act, how
        return y if residual is None else y.add_(residual)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        dy = grads[0]
        x, g, u, *rest = ctx.saved_tensors
        matmul, (gate, up, down) = ctx.how
        lows, flat = _saved(rest, ctx.how[1])
        wants_dx, wants_residual, _, _, *needs = ctx.needs_input_grad
        s = ctx.act.forward(g)
        hidden = s * u if any(needs[down.place][::2]) else None
        dh, found_d = _backward(matmul, dy, hidden, lows, flat, down, needs, None, True)
        assert dh is not None
        du = s.mul_(dh)
        ds = dh.mul_(u)
        dg = ctx.act.backward(ds, g)
        dx, found_g = _backward(matmul, dg, x, lows, flat, gate, needs, None, wants_dx)
        dx, found_u = _backward(matmul, du, x, lows, flat, up, needs, dx, wants_dx)
        return dx, dy if wants_residual else None, None, None, *found_g, *found_u, *found_d
