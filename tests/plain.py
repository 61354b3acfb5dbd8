"""What tests hold the engine against: numbers that are drawn, and attention in operations that autograd follows."""

import torch
from torch import Tensor

from tunesmith.models.attention import Terms


def made(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(q: Tensor, k: Tensor, v: Tensor, lengths: list[int], terms: Terms) -> Tensor:
    """Every row alone, every head alone, with a mask: nothing clever."""
    pieces, at, share = [], 0, q.shape[1] // k.shape[1]
    for n in lengths:
        heads = []
        for h in range(q.shape[1]):
            a, b, c = q[at : at + n, h], k[at : at + n, h // share], v[at : at + n, h // share]
            far = torch.arange(n)[:, None] - torch.arange(n)[None]
            seen = (far >= 0) if terms.causal else torch.ones(n, n, dtype=torch.bool)
            if terms.window is not None:
                seen = seen & (far.abs() < terms.window)
            scores = (a @ b.T) * terms.scale
            if terms.softcap is not None:
                scores = terms.softcap * torch.tanh(scores / terms.softcap)
            heads.append(scores.masked_fill(~seen, float("-inf")).softmax(-1) @ c)
        pieces.append(torch.stack(heads, 1))
        at += n
    return torch.cat(pieces)
