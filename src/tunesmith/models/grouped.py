"""Attention of the tokens of a group of segments to one another, forward and backward.

Short segments of near lengths run as one batch of small products, long ones through torch's flash kernel. Both tell
the logs of their sums where what they made is only a part of a softmax (branches.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tunesmith.models import branches, flash
from tunesmith.models.draws import kept as kept_of
from tunesmith.models.segments import Group

if TYPE_CHECKING:
    from tunesmith.models.attention import Terms


def saved(group: Group) -> int:
    """How many tensors the forward keeps of a group."""
    return 2 if group.flash else 6


def flash_forward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, sums: Tensor | None, group: Group, terms: Terms
) -> list[Tensor | None]:
    """Torch's flash kernel over equal lengths. Returns what it made and the log of its sums [rows, heads, length]."""
    views = [_heads_first(part, q.shape[1]) for part in (group.asking.take(q), group.own.take(k), group.own.take(v))]
    mask = None if group.mask is None else group.mask[:, None].to(q.dtype)
    made, logs = flash.forward(*views, 0.0, terms.causal and mask is None, attn_mask=mask, scale=terms.scale)
    group.asking.put(out, made.transpose(1, 2))
    if sums is None:
        return [made, logs]
    group.asking.put(sums, logs.transpose(1, 2)[..., None])
    return [None, None]


def of_all(out: Tensor, sums: Tensor, group: Group) -> tuple[Tensor, Tensor]:
    """What the flash kernel's backward wants of a softmax of which it took a part: all that it made, and its sums."""
    made, logs = (group.asking.take(part).transpose(1, 2).contiguous() for part in (out, sums))
    return made, logs[..., 0]


def flash_back(
    grad: Tensor,
    qkv: Sequence[Tensor],
    parts: Sequence[Any],
    into: tuple[Tensor, Tensor, Tensor],
    group: Group,
    terms: Terms,
) -> None:
    """The way back of `flash_forward`, from queries, keys and values, what came out and its sums."""
    (q, k, v), (made, sums), (dq, dk, dv) = qkv, parts, into
    heads, few = q.shape[1], k.shape[1]
    taken = (group.asking.take(grad), group.asking.take(q), group.own.take(k), group.own.take(v))
    mask = None if group.mask is None else group.mask[:, None].to(q.dtype)
    found = flash.backward(
        *(_heads_first(part, heads) for part in taken),
        made,
        sums,
        0.0,
        terms.causal and mask is None,
        attn_mask=mask,
        scale=terms.scale,
    )
    found_q, *found_kv = (part.transpose(1, 2) for part in found)
    group.asking.put(dq, found_q)
    for target, part in zip((dk, dv), found_kv, strict=True):
        group.own.put(target, part if few == heads else part.unflatten(2, (few, heads // few)).sum(3))


def _heads_first(part: Tensor, heads: int) -> Tensor:
    """[rows, length, few, dim] -> [rows, heads, length, dim]; a head that several share is repeated."""
    made = part.transpose(1, 2)
    if made.shape[1] == heads:
        return made
    return made[:, :, None].expand(-1, -1, heads // made.shape[1], -1, -1).flatten(1, 2)


def dense_forward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, sums: Tensor | None, group: Group, terms: Terms
) -> list[Tensor | None]:
    """All heads of all rows of a group as one batch of small products. Returns what the backward needs."""
    few, width = k.shape[1], q.shape[2]
    qs = torch.mul(_fold(group.asking.take(q), few), terms.scale)
    ks, vs = (group.own.take(part).transpose(1, 2) for part in (k, v))
    if len(ks) > 1:  # of one row, the heads are a batch as they stand
        ks, vs = ks.contiguous(), vs.contiguous()
    scores = torch.matmul(qs, ks.transpose(-1, -2))
    bent: Tensor | None = None
    if terms.softcap is not None:
        bent = scores.div_(terms.softcap).tanh_()
        scores = bent * terms.softcap
    if group.mask is not None:
        shape = scores.shape
        mask = group.mask[:, None, None].to(scores.dtype)
        scores = scores.view(*shape[:2], -1, group.asking.longest, shape[-1]).add_(mask).view(shape)
    weights = torch.softmax(scores, -1)
    if sums is not None:
        logs = branches.log_sums(scores, weights)[..., None]
        group.asking.put(sums, _unfold(logs, group.asking.longest, q.shape[1], 1))
    drawn: Tensor | None = None
    used = weights
    if terms.dropout:
        drawn = kept_of(weights, terms.dropout, group.dice)
        used = weights * drawn
    made = torch.matmul(used, vs)
    group.asking.put(out, _unfold(made, group.asking.longest, q.shape[1], width))
    return [qs, ks, vs, weights, drawn, bent]


def dense_back(
    grad: Tensor,
    shares: branches.Shares | None,
    parts: Sequence[Any],
    into: tuple[Tensor, Tensor, Tensor],
    group: Group,
    terms: Terms,
) -> None:
    """The way back of `dense_forward`, from what it kept."""
    qs, ks, vs, weights, drawn, bent = parts
    dq, dk, dv = into
    few, heads, width = ks.shape[1], dq.shape[1], dq.shape[2]
    go = _fold(group.asking.take_or_zero(grad), few)
    mean: Tensor | None = None
    if shares is not None:
        own, inner = (_fold(group.asking.take_or_zero(part), few) for part in (shares.own, shares.inner))
        go, mean = (go * own).to(go.dtype), inner * own
    used = weights if drawn is None else weights * drawn
    group.own.put(dv, torch.matmul(used.transpose(-1, -2), go).transpose(1, 2))
    dw = torch.matmul(go, vs.transpose(-1, -2))
    if drawn is not None:
        dw.mul_(drawn)
    if mean is None:
        ds = torch.ops.aten._softmax_backward_data(dw, weights, -1, weights.dtype)
    else:
        ds = dw.sub_(mean).mul_(weights)
    if bent is not None:
        ds = ds * (1 - bent * bent)
    group.own.put(dk, torch.matmul(ds.transpose(-1, -2), qs).transpose(1, 2))
    made = torch.matmul(ds, ks).mul_(terms.scale)
    group.asking.put(dq, _unfold(made, group.asking.longest, heads, width))


def _fold(x: Tensor, few: int) -> Tensor:
    """[rows, length, heads, dim] -> [rows, few, heads / few * length, dim]: heads that share keys stand together."""
    rows, length, heads, width = x.shape
    return x.transpose(1, 2).reshape(rows, few, heads // few * length, width)


def _unfold(x: Tensor, length: int, heads: int, width: int) -> Tensor:
    """The way back: [rows, few, heads / few * length, dim] -> [rows, length, heads, dim]."""
    return x.reshape(len(x), heads, length, width).transpose(1, 2)
