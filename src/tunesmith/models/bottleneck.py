"""Bottleneck adapters (Houlsby et al. 2019, arXiv:1902.00751): a small net behind a part of a block."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.models.adapted import Adapted, shape_of


class Bottleneck(Adapted):
    """y + up(gelu(down(y))) of what a product made, with up = 0 at first."""

    def __init__(self, base: nn.Module, width: int, seed: int) -> None:
        super().__init__(base)
        _, out = shape_of(base)
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(out)
        drawn = torch.empty(width, out).uniform_(-bound, bound, generator=generator)
        self.down = nn.Linear(out, width, device=self.weight.device)
        self.up = nn.Linear(width, out, device=self.weight.device)
        with torch.no_grad():
            self.down.weight.copy_(drawn)
            for zero in (self.down.bias, self.up.weight, self.up.bias):
                zero.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]"""
        y: Tensor = self.base(x)
        return y + torch.as_tensor(self.up(nn.functional.gelu(self.down(y))))

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Raises ModelError: it is no matrix."""
        raise ModelError(
            "a bottleneck adapter bends what it reads, so it cannot be merged into the weights",
            where="method",
            hint="take `lora` or `ia3` for a model without adapters in it",
        )

    def config(self) -> dict[str, Any]:
        """Its width."""
        return {"width": self.down.out_features}

    def tensors(self) -> dict[str, Tensor]:
        """Both matrices and biases."""
        parts = {"down": self.down, "up": self.up}
        return {f"{name}.{kind}": t for name, part in parts.items() for kind, t in part.named_parameters()}
