"""Attention over the segments of one stream, without padding the net's own work.

Registered with Transformers under one name; the stream travels as the keyword argument `stream` of the net's forward.
On a CPU it has a forward and backward of its own, in which nothing is filled with zeros that is overwritten: of the
tokens of a row to one another (grouped.py), and to what rows begin with in common (branches.py). On a GPU it is torch's
attention over lengths where the dtype allows it, else its scaled dot product, segment by segment.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tunesmith.models import branches, grouped
from tunesmith.models.segments import Beginning, Group, Look, beginnings_of, groups_of

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.models.stream import Stream

NAME = "tunesmith_packed"

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
    beginnings = beginnings_of(stream, terms.window, kept)
    assert not (beginnings and terms.dropout)  # what rows share would be one draw for all of them
    rope_q = rope if rope is None or kept is None else (rope[0][kept.index], rope[1][kept.index])
    cos, sin = rope if rope is not None else (None, None)
    cos_q, sin_q = rope_q if rope_q is not None else (None, None)
    made: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        query, key, value, cos_q, sin_q, cos, sin, groups, beginnings, terms
    )
    return made


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
        beginnings: tuple[Beginning, ...],
        terms: Terms,
    ) -> Tensor:
        q = turn(query, cos_q, sin_q) if cos_q is not None and sin_q is not None else query
        k = turn(key, cos, sin) if cos is not None and sin is not None else key
        out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        sums = branches.sums_of(query) if beginnings else None
        parts: list[Tensor | None] = []
        for group in groups:
            forward = grouped.flash_forward if group.flash else grouped.dense_forward
            parts += forward(q, k, value, out, sums, group, terms)
        whole: list[Tensor | None] = [None] * 3
        if sums is not None:
            whole = [out, sums, sums.clone()]
            parts += branches.join(q, k, value, out, sums, beginnings, terms)
        kept = [q, k, value] if beginnings or any(group.flash for group in groups) else [None] * 3
        ctx.save_for_backward(cos_q, sin_q, cos, sin, *kept, *whole, *parts)
        ctx.groups, ctx.beginnings, ctx.terms = groups, beginnings, terms
        ctx.shapes = (query.shape, key.shape)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0]
        cos_q, sin_q, cos, sin, *saved = ctx.saved_tensors
        qkv, (out, sums, own), saved = saved[:3], saved[3:6], saved[6:]
        shape_q, shape_k = ctx.shapes
        # Where only some tokens ask, segments of which none does belong to no group: their keys have no gradient.
        fresh = torch.empty if shape_q[0] == shape_k[0] else torch.zeros
        dq, dk, dv = (fresh(shape, dtype=grad.dtype, device=grad.device) for shape in (shape_q, shape_k, shape_k))
        into = (dq, dk, dv)
        shares = None if sums is None else branches.Shares.of(grad, out, sums, own)
        left = iter(saved)
        for group in ctx.groups:
            parts = tuple(islice(left, grouped.saved(group)))
            if not group.flash:
                grouped.dense_back(grad, shares, parts, into, group, ctx.terms)
            else:
                made = parts if sums is None else grouped.of_all(out, sums, group)
                grouped.flash_back(grad, qkv, made, into, group, ctx.terms)
        if shares is not None:  # a shared beginning is a segment too: its own gradient is written, then added to
            for beginning in ctx.beginnings:
                parts = tuple(islice(left, branches.SAVED))
                branches.back(qkv, shares, parts, into, beginning, ctx.terms)
        if cos_q is not None:
            dq, dk = turn(dq, cos_q, -sin_q), turn(dk, cos, -sin)
        return dq, dk, dv, *[None] * 7


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
