"""Modules that stand in for others of a net, as long as something lasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn


@contextmanager
def swapped(net: nn.Module, modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """The net with these modules at these paths; what was there is put back."""
    taken = {path: net.get_submodule(path) for path in modules}
    for path, module in modules.items():
        net.set_submodule(path, module)
    try:
        yield
    finally:
        for path, module in taken.items():
            net.set_submodule(path, module)
