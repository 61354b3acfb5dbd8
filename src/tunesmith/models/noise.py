"""Noise on the embeddings of what is learned from (NEFTune, Jain et al. 2023, arXiv:2310.05914)."""

from __future__ import annotations

import torch
from torch import Tensor

from tunesmith.models.stream import Stream


def with_noise(embedded: Tensor, stream: Stream, alpha: float) -> Tensor:
    """Embeddings [tokens, width] of a stream in which nothing is shared, each moved by up to alpha / sqrt(tokens of its
    row x width) either way: so the noise of a row has about the same length whatever its size."""
    lengths = torch.tensor([segment.length for segment in stream.segments])
    sizes = lengths.repeat_interleave(lengths).to(embedded)
    scale = alpha / (sizes * embedded.shape[-1]).sqrt()
    return embedded + (torch.rand_like(embedded) * 2 - 1) * scale[:, None]
