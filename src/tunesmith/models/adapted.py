"""What stands beside, or around, a frozen matrix product: a module that can be folded into it and taken away."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith.models import anatomy
from tunesmith.models.swap import swapped

if TYPE_CHECKING:
    from tunesmith.models.model import Model


class Adapted(nn.Module, ABC):
    """A matrix product with something learned at it. Wraps anything with a weight."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    @property
    def weight(self) -> Tensor:
        """The frozen matrix: some stock blocks ask for its dtype."""
        return self.base.get_parameter("weight")

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias."""
        bias = getattr(self.base, "bias", None)
        return bias if isinstance(bias, Tensor) else None

    @property
    def matrix(self) -> Tensor:
        """The frozen matrix [out, in], whichever way round its module keeps it."""
        return self.weight if isinstance(self.base, nn.Linear) else self.weight.T

    @abstractmethod
    def folded(self) -> tuple[Tensor, Tensor | None]:
        """(matrix [out, in], bias) with which the product alone gives the same, in double precision."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What PEFT's config says of a module like this."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by the names that PEFT's files have for them."""


def shape_of(module: nn.Module) -> tuple[int, int]:
    """(in, out) features of a Linear, or of GPT-2's Conv1D, which keeps its weight the other way round."""
    first, second = module.get_parameter("weight").shape
    return (int(second), int(first)) if isinstance(module, nn.Linear) else (int(first), int(second))


def products(model: Model) -> list[str]:
    """Where, in a base model, the matrix products of its blocks are that are not new: what is new learns whole."""
    start = f"{model.root}." if model.root else ""
    paths = (path for path, _ in anatomy.linear_layers(model.base, model.anatomy))
    return [path for path in paths if f"{start}{path}.weight" not in model.fresh]


def found(net: nn.Module) -> Iterator[tuple[str, Adapted]]:
    """(path, module) of every adapted product in a net."""
    for name, module in net.named_modules():
        if isinstance(module, Adapted):
            yield name, module


def frozen_sum(net: nn.Module) -> str:
    """sha256 of the adapters that do not learn: with the pretrained weights they say what frozen blocks compute."""
    digest = hashlib.sha256()
    for name, module in found(net):
        own = module.tensors()
        if not any(parameter.requires_grad for parameter in module.parameters()):
            for part, value in own.items():
                digest.update(f"{name}.{part}\n".encode())
                digest.update(value.detach().float().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def merge(net: nn.Module) -> None:
    """Fold every adapter into the product it is at, and take it away. The outputs stay, up to rounding."""
    for name, module in list(found(net)):
        matrix, bias = module.folded()
        module.weight.copy_((matrix if isinstance(module.base, nn.Linear) else matrix.T).to(module.weight.dtype))
        if bias is not None and module.bias is not None:
            module.bias.copy_(bias.to(module.bias.dtype))
        net.set_submodule(name, module.base)


def bare(net: nn.Module) -> AbstractContextManager[None]:
    """The net without its adapters, as long as it lasts."""
    return swapped(net, {path: module.base for path, module in found(net)})
