"""Attention over sequences that lie end to end in one stream, without padding.

Registered with Transformers under one name; the sequence lengths travel as the keyword argument `segments` of the
net's forward. Rows of equal length that stand side by side share one call. GPUs run the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "tunesmith_packed"


@dataclass
class Segments:
    """Lengths of the sequences in one stream, as runs of equal length, and how often attention looked at them."""

    lengths: Sequence[int]
    runs: list[tuple[int, int, int]] = field(init=False)
    """(first token, rows, length of each)"""
    calls: int = 0

    def __post_init__(self) -> None:
        self.runs, at = [], 0
        for length, group in groupby(self.lengths):
            rows = len(list(group))
            self.runs.append((at, rows, length))
            at += rows * length

    @property
    def total(self) -> int:
        """Tokens in the stream."""
        return sum(self.lengths)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Segments,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """[1, heads, tokens, dim] each -> [1, tokens, heads, dim]: every sequence attends to itself alone.

    `rest` is what Transformers sends to every attention function and this one has no use for; a `softcap` would
    change the result and is refused.
    """
    assert attention_mask is None and query.shape[2] == segments.total
    assert rest.get("softcap") is None, "soft-capped attention has no packed form here"
    segments.calls += 1
    causal = bool(getattr(module, "is_causal", False))
    grouped = query.shape[1] != key.shape[1]
    pieces = []
    for start, rows, length in segments.runs:
        q, k, v = (
            part[0, :, start : start + rows * length].unflatten(1, (rows, length)).transpose(0, 1)
            for part in (query, key, value)
        )
        mask = None
        if sliding_window is not None and length > sliding_window:
            mask = _window(length, sliding_window, causal, query.device)
        attended = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=causal and mask is None and length > 1,
            scale=scaling,
            enable_gqa=grouped,
        )
        pieces.append(attended.transpose(1, 2).flatten(0, 1))
    return (pieces[0] if len(pieces) == 1 else torch.cat(pieces))[None], None


def _window(length: int, window: int, causal: bool, device: torch.device) -> Tensor:
    """[length, length], true where a token may look: Mistral's window is causal, ModernBERT's goes both ways."""
    at = torch.arange(length, device=device)
    distance = at[:, None] - at[None, :]
    return (distance >= 0) & (distance < window) if causal else distance.abs() < window


def register() -> None:
    """Make the function known to Transformers; doing it twice is harmless."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)
