"""Attention to what rows begin with in common: its keys serve all that stands behind it in one product, and are not
copied for each row.

The softmax over a row's keys is taken in parts, over its own tokens and over each beginning, and the parts are merged
by the logs of their sums, as flash attention merges its tiles (Dao et al. 2022, arXiv:2205.14135; for shared
beginnings Juravsky et al. 2024, arXiv:2402.05099). Taken over everything at once it would be the same to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tunesmith.models import flash
from tunesmith.models.segments import Beginning

if TYPE_CHECKING:
    from tunesmith.models.attention import Terms

SAVED = 3
"""Tensors that `join` keeps of each beginning."""
_LEAST = -1e30
"""The log of the sum of a part of which a token sees nothing."""


@dataclass(frozen=True)
class Shares:
    """What a backward wants to know of a softmax that was taken in parts."""

    grad: Tensor
    """The gradient [asking, heads, dim]."""
    out: Tensor
    """What came out of the whole [asking, heads, dim]."""
    sums: Tensor
    """The logs of the sums of the whole [asking, heads, 1]."""
    inner: Tensor
    """The mean gradient of a weight of the whole [asking, heads, 1]."""
    own: Tensor
    """What the part over a row's own tokens has of the whole [asking, heads, 1]."""

    @classmethod
    def of(cls, grad: Tensor, out: Tensor, sums: Tensor, own: Tensor) -> Shares:
        """`own` are the logs of the sums of the part over a row's own tokens."""
        inner = torch.linalg.vecdot(grad.to(sums.dtype), out.to(sums.dtype))[..., None]
        return cls(grad, out, sums, inner, (own - sums).exp_())


def sums_of(query: Tensor) -> Tensor:
    """Room for the logs of the sums [asking, heads, 1], for queries [asking, heads, dim]: in full precision."""
    return query.new_empty(*query.shape[:2], 1, dtype=torch.promote_types(query.dtype, torch.float32))


def log_sums(scores: Tensor, weights: Tensor) -> Tensor:
    """The log of the sum of exp(scores) over the last dimension, from their softmax where that is exact enough."""
    if weights.dtype in (torch.float16, torch.bfloat16):
        return torch.logsumexp(scores.float(), -1)
    return scores.amax(-1).sub_(weights.amax(-1).log_())


def join(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, sums: Tensor, beginnings: Sequence[Beginning], terms: Terms
) -> list[Tensor | None]:
    """Merge the beginnings into `out` [asking, heads, dim] and `sums` [asking, heads, 1], which hold what attention to
    the rows' own tokens made and the logs of its sums. Returns what the backward needs."""
    kept: list[Tensor | None] = []
    for one in beginnings:
        asking = _folded(q[one.asking], k.shape[1])
        keys, values = (_spread(x[one.keys], asking) for x in (k, v))
        if _by_kernel(q, one, terms):
            made, logs = flash.forward(asking, keys, values, 0.0, False, attn_mask=None, scale=terms.scale)
            part = logs[..., None]
            kept += [None] * SAVED
        else:
            weights, part, bent = _softmax(asking.mul_(terms.scale), keys, one, terms, sums.dtype)
            made = torch.matmul(weights, values)
            kept += [weights, part, bent]
        _merge(out[one.asking], sums[one.asking], made, part)
    return kept


def _by_kernel(q: Tensor, one: Beginning, terms: Terms) -> bool:
    """Whether torch's flash kernel does it: it keeps no weights, and its forward takes .3 to .9 of the time."""
    return q.device.type == "cpu" and one.mask is None and terms.softcap is None


def _softmax(
    asking: Tensor, keys: Tensor, one: Beginning, terms: Terms, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Weights of the keys, the logs of their sums, and the tanh that bends the scores, where one does."""
    scores = torch.matmul(asking, keys.transpose(-1, -2)).to(dtype)
    bent: Tensor | None = None
    if terms.softcap is not None:
        tanh = scores.div_(terms.softcap).tanh_()
        scores, bent = tanh * terms.softcap, tanh.to(asking.dtype)
    if one.mask is not None:
        scores.add_(one.mask.to(dtype))
    part = torch.logsumexp(scores, -1, keepdim=True).clamp_(min=_LEAST)
    return scores.sub_(part).exp_().to(asking.dtype), part, bent


def _merge(out: Tensor, sums: Tensor, made: Tensor, part: Tensor) -> None:
    """A part [few, heads / few, asking, dim], with the logs of its sums [few, heads / few, asking, 1], into the
    rest."""
    made, part = _unfolded(made), _unfolded(part)
    total = torch.logaddexp(sums, part)
    out.copy_((out * (sums - total).exp_()).addcmul_(made.to(total.dtype), (part - total).exp_()))
    sums.copy_(total)


def back(
    qkv: tuple[Tensor, Tensor, Tensor],
    shares: Shares,
    parts: Sequence[Any],
    into: tuple[Tensor, Tensor, Tensor],
    one: Beginning,
    terms: Terms,
) -> None:
    """Add what a beginning has to the gradients of queries, keys and values."""
    (q, k, v), (dq, dk, dv), (weights, part, bent) = qkv, into, parts
    few = k.shape[1]
    go, asking, sums = (_folded(x[one.asking], few) for x in (shares.grad, q, shares.sums))
    keys, values = (_spread(x[one.keys], asking) for x in (k, v))
    if weights is None:  # the kernel takes the whole's sums, and what came out
        made = _folded(shares.out[one.asking], few)
        given = (go, asking, keys, values, made, sums[..., 0])
        queries, of_keys, of_values = flash.backward(*given, 0.0, False, attn_mask=None, scale=terms.scale)
    else:  # what a part's own softmax shares out is only a share of the whole
        share = (part - sums).exp_()
        go.mul_(share)
        ds = torch.matmul(go, values.transpose(-1, -2))
        ds.sub_(_folded(shares.inner[one.asking], few).mul_(share)).mul_(weights)
        if bent is not None:
            ds.mul_(1 - bent * bent)
        of_values = torch.matmul(weights.transpose(-1, -2), go)
        of_keys = torch.matmul(ds.transpose(-1, -2), asking).mul_(terms.scale)
        queries = torch.matmul(ds, keys).mul_(terms.scale)
    dv[one.keys] += of_values.sum(1).transpose(0, 1)
    dk[one.keys] += of_keys.sum(1).transpose(0, 1)
    dq[one.asking] += _unfolded(queries)


def _folded(x: Tensor, few: int) -> Tensor:
    """[tokens, heads, dim] -> a copy [few, heads / few, tokens, dim]: heads that share keys stand together."""
    tokens, heads, width = x.shape
    made = x.new_empty(few, heads // few, tokens, width)
    return made.copy_(x.unflatten(1, (few, heads // few)).permute(1, 2, 0, 3))


def _unfolded(x: Tensor) -> Tensor:
    """The way back: [few, heads / few, tokens, dim] -> [tokens, heads, dim]."""
    return x.flatten(0, 1).transpose(0, 1)


def _spread(x: Tensor, asking: Tensor) -> Tensor:
    """[keys, few, dim] -> a view [few, heads / few, keys, dim], for queries [few, heads / few, tokens, dim]."""
    return x.transpose(0, 1)[:, None].expand(-1, asking.shape[1], -1, -1)
