"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685) beside frozen matrix products, and their kin.

Our own modules, so that what runs is what is saved; their files are PEFT's (peftfiles.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models.adapted import Adapted, shape_of


@dataclass(frozen=True)
class LoraKind:
    """What a low-rank adapter is like."""

    rank: int
    scale: float
    """Of its output."""
    dropout: float = 0.0
    dora: bool = False
    pissa: bool = False


class LoraLinear(Adapted):
    """y = base(x) + scale (dropout(x) A^T) B^T, with B = 0 at first.

    As PiSSA (Meng et al. 2024, arXiv:2404.02948) A and B begin as the largest singular vectors of the matrix, and what
    they begin as is taken off again: y = base(x) + scale x (B A - B0 A0)^T. The matrix itself stays as it is.
    """

    start_A: Tensor | None
    start_B: Tensor | None

    def __init__(self, base: nn.Module, kind: LoraKind, seed: int) -> None:
        super().__init__(base)
        wide, out = shape_of(base)
        self.rank, self.scale = kind.rank, kind.scale
        self.dropout = nn.Dropout(kind.dropout) if kind.dropout else nn.Identity()
        device = self.weight.device
        if kind.pissa:
            a, b = _largest(self.matrix, kind, seed)
            self.register_buffer("start_A", a.clone())
            self.register_buffer("start_B", b.clone())
        else:
            generator = torch.Generator().manual_seed(seed)
            bound = 1 / math.sqrt(wide)
            a = torch.empty(kind.rank, wide).uniform_(-bound, bound, generator=generator).to(device)
            b = torch.zeros(out, kind.rank, device=device)
            self.start_A = self.start_B = None
        self.lora_A, self.lora_B = nn.Parameter(a), nn.Parameter(b)

    def thin(self) -> tuple[Tensor, Tensor]:
        """A [rank, in] and B [out, rank] of what is added; of twice the rank, with what PiSSA takes off."""
        if self.start_A is None or self.start_B is None:
            return self.lora_A, self.lora_B
        kind = self.lora_A.dtype  # in half precision both are rounded alike, so that they still cancel
        return torch.cat([self.lora_A, self.start_A.to(kind)]), torch.cat([self.lora_B, -self.start_B.to(kind)], 1)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]"""
        return self.beside(x, self.base(x))

    def beside(self, x: Tensor, plain: Tensor) -> Tensor:
        """The output [..., out] from the input [..., in] and what the frozen product makes of it."""
        a, b = self.thin()
        return plain + nn.functional.linear(nn.functional.linear(self.dropout(x), a), b) * self.scale

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """W + scale B A"""
        a, b = self.thin()
        return self.matrix.double() + (b.double() @ a.double()) * self.scale, self.bias

    def config(self) -> dict[str, Any]:
        """Rank and alpha, such that alpha / rank is the scale."""
        rank = len(self.thin()[0])
        alpha = self.scale * rank
        dropout = self.dropout.p if isinstance(self.dropout, nn.Dropout) else 0.0
        return {
            "r": rank,
            "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
            "lora_dropout": dropout,
            "fan_in_fan_out": not isinstance(self.base, nn.Linear),
        }

    def tensors(self) -> dict[str, Tensor]:
        """A and B."""
        a, b = self.thin()
        return {"lora_A.weight": a, "lora_B.weight": b}


class DoraLinear(LoraLinear):
    """DoRA (Liu et al. 2024, arXiv:2402.09353): the rows of W + scale B A, brought to lengths that are learned apart.
    No gradient goes through the lengths they had, as in the paper's section 4.3."""

    def __init__(self, base: nn.Module, kind: LoraKind, seed: int) -> None:
        super().__init__(base, kind, seed)
        self.magnitude = nn.Parameter(self._lengths())

    @torch.no_grad()
    def _lengths(self) -> Tensor:
        a, b = self.thin()
        lengths: Tensor = torch.linalg.vector_norm(self.matrix + self.scale * (b @ a), dim=1)
        return lengths

    def beside(self, x: Tensor, plain: Tensor) -> Tensor:
        """The same, with the rows at their learned lengths."""
        a, b = self.thin()
        share = self.magnitude / self._lengths()
        bare = plain if self.bias is None else plain - self.bias
        low = self.dropout(x)
        dropped = bare if isinstance(self.dropout, nn.Identity) else nn.functional.linear(low, self.matrix)
        added = nn.functional.linear(nn.functional.linear(low, a), b) * self.scale
        return plain + (share - 1) * dropped + share * added

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """The rows at their learned lengths."""
        matrix, bias = super().folded()
        lengths = torch.linalg.vector_norm(matrix, dim=1)
        return matrix * (self.magnitude.double() / lengths)[:, None], bias

    def config(self) -> dict[str, Any]:
        """As LoRA's, and that it is DoRA."""
        return {**super().config(), "use_dora": True}

    def tensors(self) -> dict[str, Tensor]:
        """A, B and the lengths."""
        return {**super().tensors(), "lora_magnitude_vector": self.magnitude}


def wrap(parent: nn.Module, path: str, kind: LoraKind, seed: int) -> None:
    """Put an adapter beside the matrix product at a path."""
    make = DoraLinear if kind.dora else LoraLinear
    parent.set_submodule(path, make(parent.get_submodule(path), kind, seed))


_ITERATIONS = 16
"""Of the randomized decomposition: the paper's own."""
_MORE = 8
"""Directions beyond twice the rank that are looked at, so that the largest come out exact where others are near."""


def _largest(matrix: Tensor, kind: LoraKind, seed: int) -> tuple[Tensor, Tensor]:
    """A and B with scale B A = the sum of the largest singular values and their vectors (Halko et al. 2009)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wide = min(2 * kind.rank + _MORE, *matrix.shape)
        u, s, v = torch.svd_lowrank(matrix.detach().float(), q=wide, niter=_ITERATIONS)
    root = (s[: kind.rank] / kind.scale).sqrt()
    return (root[:, None] * v[:, : kind.rank].T).contiguous(), (u[:, : kind.rank] * root).contiguous()
