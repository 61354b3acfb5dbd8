"""Attention over the segments of one stream, without padding the net's own work.

Registered with Transformers under one name; the stream travels as the keyword argument `stream` of the net's forward.
On a CPU it has a forward and backward of its own: short segments of near lengths run as one batch of small products,
long ones through torch's flash kernel, and nothing is filled with zeros that is overwritten. On a GPU it is torch's
attention over lengths where the dtype allows it, else its scaled dot product, segment by segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tunesmith.models.draws import kept as kept_of
from tunesmith.models.segments import Group, Look, groups_of

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.models.stream import Stream

NAME = "tunesmith_packed"
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

Rope = tuple[Tensor, Tensor]
"""Cosines and sines [tokens, 1, half of the numbers of a head that turn] of the rotary positions."""


@dataclass(frozen=True)
class Terms:
    """How a block attends."""

    causal: bool
    scale: float
    window: int | None = None
    dropout: float = 0.0
    softcap: float | None = None
    """Scores are brought between minus and plus this by a tanh (Gemma 2, arXiv:2408.00118)."""


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    stream: Stream,
    terms: Terms,
    *,
    rope: Rope | None = None,
    kept: Look | None = None,
) -> Tensor:
    """[tokens, heads, dim] each -> [tokens, heads, dim]: every token attends to its own row alone.

    With `kept`, queries stand only at those tokens of the stream; keys and values have all. `rope` turns queries
    and keys by their positions first.
    """
    stream.calls += 1
    if query.is_cuda and kept is None and stream.places is None and terms.softcap is None:
        return _on_gpu(query, key, value, stream, terms, rope)
    flash = query.device.type == "cpu" and not terms.dropout and terms.softcap is None
    groups = groups_of(stream, terms.causal, terms.window, kept, flash=flash)
    rope_q = rope if rope is None or kept is None else (rope[0][kept.index], rope[1][kept.index])
    cos, sin = rope if rope is not None else (None, None)
    cos_q, sin_q = rope_q if rope_q is not None else (None, None)
    out: Tensor = _Attention.apply(query, key, value, cos_q, sin_q, cos, sin, groups, terms)  # type: ignore[no-untyped-call]
    return out


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    stream: Stream,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """The function that Transformers calls: [1, heads, tokens, dim] each -> [1, tokens, heads, dim].

    `rest` is what it sends to every attention function and this one has no use for.
    """
    assert attention_mask is None and query.shape[2] == len(stream.ids)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    terms = Terms(bool(getattr(module, "is_causal", False)), scale, sliding_window, dropout, softcap)
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
    return attend(q, k, v, stream, terms)[None], None


class _Attention(torch.autograd.Function):
    """Softmax attention with its own backward (Vaswani et al. 2017; the flash kernel's is Dao et al. 2022)."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cos_q: Tensor | None,
        sin_q: Tensor | None,
        cos: Tensor | None,
        sin: Tensor | None,
        groups: tuple[Group, ...],
        terms: Terms,
    ) -> Tensor:
        q = turn(query, cos_q, sin_q) if cos_q is not None and sin_q is not None else query
        k = turn(key, cos, sin) if cos is not None and sin is not None else key
        out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        kept: list[Tensor | None] = [cos_q, sin_q, cos, sin]
        kept += [q, k, value] if any(group.flash for group in groups) else [None] * 3
        for group in groups:
            kept += (_flash_forward if group.flash else _dense_forward)(q, k, value, out, group, terms)
        ctx.save_for_backward(*kept)
        ctx.groups, ctx.terms = groups, terms
        ctx.shapes = (query.shape, key.shape)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0]
        cos_q, sin_q, cos, sin, *saved = ctx.saved_tensors
        qkv, saved = saved[:3], saved[3:]
        shape_q, shape_k = ctx.shapes
        # Where only some tokens ask, segments of which none does belong to no group: their keys have no gradient.
        fresh = torch.empty if shape_q[0] == shape_k[0] else torch.zeros
        dq, dk, dv = (fresh(shape, dtype=grad.dtype, device=grad.device) for shape in (shape_q, shape_k, shape_k))
        # A shared beginning is a segment too and comes first: its own gradient is written before others add to it.
        for group in ctx.groups:
            if group.flash:
                parts, saved = saved[:2], saved[2:]
                _flash_back(grad, qkv, parts, (dq, dk, dv), group, ctx.terms)
            else:
                parts, saved = saved[:6], saved[6:]
                _dense_back(grad, parts, (dq, dk, dv), group, ctx.terms)
        if cos_q is not None:
            dq, dk = turn(dq, cos_q, -sin_q), turn(dk, cos, -sin)
        return dq, dk, dv, None, None, None, None, None, None


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864), halves as Transformers pairs them: [tokens, heads, dim], of
    which the first 2 x `cos.shape[-1]` numbers turn."""
    half = cos.shape[-1]
    a, b, still = x.split([half, half, x.shape[-1] - 2 * half], -1)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    torch.mul(a, cos, out=out[..., :half]).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=out[..., half : 2 * half]).addcmul_(a, sin)
    out[..., 2 * half :] = still
    return out


def _flash_forward(q: Tensor, k: Tensor, v: Tensor, out: Tensor, group: Group, terms: Terms) -> list[Tensor | None]:
    """Torch's flash kernel over equal lengths. Returns what it made and the log of its sums [rows, heads, length]."""
    views = [_heads_first(part, q.shape[1]) for part in (group.asking.take(q), group.take_keys(k), group.take_keys(v))]
    mask = None if group.mask is None else group.mask[:, None].to(q.dtype)
    made, sums = _flash(*views, 0.0, terms.causal and mask is None, attn_mask=mask, scale=terms.scale)
    group.asking.put(out, made.transpose(1, 2))
    return [made, sums]


def _flash_back(
    grad: Tensor,
    qkv: Sequence[Tensor],
    parts: Sequence[Any],
    into: tuple[Tensor, Tensor, Tensor],
    group: Group,
    terms: Terms,
) -> None:
    (q, k, v), (made, sums), (dq, dk, dv) = qkv, parts, into
    heads, few = q.shape[1], k.shape[1]
    taken = (group.asking.take(grad), group.asking.take(q), group.take_keys(k), group.take_keys(v))
    mask = None if group.mask is None else group.mask[:, None].to(q.dtype)
    found = _flash_backward(
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
        group.put_keys(target, part if few == heads else part.unflatten(2, (few, heads // few)).sum(3))


def _heads_first(part: Tensor, heads: int) -> Tensor:
    """[rows, length, few, dim] -> [rows, heads, length, dim]; a head that several share is repeated."""
    made = part.transpose(1, 2)
    if made.shape[1] == heads:
        return made
    return made[:, :, None].expand(-1, -1, heads // made.shape[1], -1, -1).flatten(1, 2)


def _dense_forward(q: Tensor, k: Tensor, v: Tensor, out: Tensor, group: Group, terms: Terms) -> list[Tensor | None]:
    """All heads of all rows of a group as one batch of small products. Returns what the backward needs."""
    few, width = k.shape[1], q.shape[2]
    qs = torch.mul(_fold(group.asking.take(q), few), terms.scale)
    ks, vs = (group.take_keys(part).transpose(1, 2) for part in (k, v))
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
    drawn: Tensor | None = None
    used = weights
    if terms.dropout:
        drawn = kept_of(weights, terms.dropout, group.dice)
        used = weights * drawn
    made = torch.matmul(used, vs)
    group.asking.put(out, _unfold(made, group.asking.longest, q.shape[1], width))
    return [qs, ks, vs, weights, drawn, bent]


def _dense_back(
    grad: Tensor,
    parts: list[Any],
    into: tuple[Tensor, Tensor, Tensor],
    group: Group,
    terms: Terms,
) -> None:
    qs, ks, vs, weights, drawn, bent = parts
    dq, dk, dv = into
    few, heads, width = ks.shape[1], dq.shape[1], dq.shape[2]
    go = _fold(group.asking.take_or_zero(grad), few)
    used = weights if drawn is None else weights * drawn
    group.put_keys(dv, torch.matmul(used.transpose(-1, -2), go).transpose(1, 2))
    dw = torch.matmul(go, vs.transpose(-1, -2))
    if drawn is not None:
        dw.mul_(drawn)
    ds = torch.ops.aten._softmax_backward_data(dw, weights, -1, weights.dtype)
    if bent is not None:
        ds = ds * (1 - bent * bent)
    group.put_keys(dk, torch.matmul(ds.transpose(-1, -2), qs).transpose(1, 2))
    made = torch.matmul(ds, ks).mul_(terms.scale)
    group.asking.put(dq, _unfold(made, group.asking.longest, heads, width))


def _fold(x: Tensor, few: int) -> Tensor:
    """[rows, length, heads, dim] -> [rows, few, heads / few * length, dim]: heads that share keys stand together."""
    rows, length, heads, width = x.shape
    return x.transpose(1, 2).reshape(rows, few, heads // few * length, width)


def _unfold(x: Tensor, length: int, heads: int, width: int) -> Tensor:
    """The way back: [rows, few, heads / few * length, dim] -> [rows, length, heads, dim]."""
    return x.reshape(len(x), heads, length, width).transpose(1, 2)


def _on_gpu(query: Tensor, key: Tensor, value: Tensor, stream: Stream, terms: Terms, rope: Rope | None) -> Tensor:
    """Torch's attention over lengths (flash) for half precision without dropout; else segment by segment."""
    if rope is not None:
        query, key = (_turned(part, rope) for part in (query, key))
    grouped = query.shape[1] != key.shape[1]
    if query.dtype in (torch.float16, torch.bfloat16) and not terms.dropout:
        from torch.nn.attention.varlen import varlen_attn

        longest = max(segment.length for segment in stream.segments)
        far = -1 if terms.window is None else terms.window - 1
        sides = (far, 0 if terms.causal else far)
        ends = stream.ends()
        return torch.as_tensor(
            varlen_attn(
                query,
                key,
                value,
                ends,
                ends,
                longest,
                longest,
                scale=terms.scale,
                window_size=sides,
                enable_gqa=grouped,
            )
        )
    return segment_by_segment(query, key, value, stream, terms)


def _turned(x: Tensor, rope: Rope) -> Tensor:
    """`turn` in operations that autograd follows."""
    cos, sin = rope
    half = cos.shape[-1]
    a, b, still = x.split([half, half, x.shape[-1] - 2 * half], -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, still], -1)


def segment_by_segment(query: Tensor, key: Tensor, value: Tensor, stream: Stream, terms: Terms) -> Tensor:
    """Torch's own attention, a call for each run of equal lengths: what a GPU takes in full precision."""
    pieces = []
    for group in groups_of(stream, terms.causal, terms.window, None, flash=True, near=False):
        q, k, v = (group.own.take(part).transpose(1, 2) for part in (query, key, value))
        with nullcontext() if group.dice is None else group.dice.turn():
            made = scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=None if group.mask is None else group.mask[:, None].to(q.dtype),
                dropout_p=terms.dropout,
                is_causal=terms.causal and group.mask is None,
                scale=terms.scale,
                enable_gqa=q.shape[1] != k.shape[1],
            )
        pieces.append(made.transpose(1, 2).flatten(0, 1))
    return torch.cat(pieces)


def register() -> None:
    """Make the function known to Transformers; doing it twice is harmless."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)
