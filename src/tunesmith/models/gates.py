"""EfficientNet without squeeze-excite, as its Lite variants are: the stock class has gates, which are saturated there.

A gate that is exactly 1 for whatever it reads is left out while a net is at work, and put back when it is saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_NAME = "squeeze_excite"


class Open(nn.Module):
    """Lets everything through, and remembers the gate that it stands for."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = [gate]  # in a list, so that its parameters are not this net's

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """The same."""
        return states


def lift(net: nn.Module) -> None:
    """Take every saturated gate out: all weights 0, and a bias whose sigmoid is 1."""
    for path, module in list(net.named_modules()):
        if path.endswith(_NAME) and _saturated(module):
            net.get_submodule(path.rpartition(".")[0]).register_module(_NAME, Open(module))


def _saturated(gate: nn.Module) -> bool:
    tensors = dict(gate.named_parameters())
    bias = tensors.pop("expand.bias", None)
    if bias is None or not bool((torch.sigmoid(bias) == 1).all()):
        return False
    return all(not bool(tensor.any()) for tensor in tensors.values())


@contextmanager
def put_back(net: nn.Module) -> Iterator[None]:
    """The stock class, while it is saved."""
    lifted = [(path, module) for path, module in net.named_modules() if isinstance(module, Open)]
    for path, module in lifted:
        net.get_submodule(path.rpartition(".")[0]).register_module(_NAME, module.gate[0])
    try:
        yield
    finally:
        for path, module in lifted:
            net.get_submodule(path.rpartition(".")[0]).register_module(_NAME, module)
