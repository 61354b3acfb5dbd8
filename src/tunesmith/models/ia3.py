"""(IA)^3 (Liu et al. 2022, arXiv:2205.05638): a learned factor for every number that a product makes, or reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models.adapted import Adapted, shape_of


class Ia3Linear(Adapted):
    """y = base(x) * l, or base(x * l) in the feed-forward part, with l = 1 at first."""

    def __init__(self, base: nn.Module, *, reads: bool) -> None:
        super().__init__(base)
        wide, out = shape_of(base)
        self.reads = reads
        """Whether the factors are of what is read."""
        shape = (1, wide) if reads else (out, 1)  # as PEFT keeps them
        self.ia3_l = nn.Parameter(torch.ones(shape, device=self.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]"""
        factors = self.ia3_l.flatten()
        y: Tensor = self.base(x * factors) if self.reads else self.base(x) * factors
        return y

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Columns, or rows and the bias, times their factors."""
        matrix = self.matrix.double() * self.ia3_l.double()
        if self.reads or self.bias is None:
            return matrix, self.bias
        return matrix, self.bias.double() * self.ia3_l.flatten().double()

    def config(self) -> dict[str, Any]:
        """Which way round the matrix is."""
        return {"fan_in_fan_out": not isinstance(self.base, nn.Linear)}

    def tensors(self) -> dict[str, Tensor]:
        """The factors."""
        return {"ia3_l": self.ia3_l}
