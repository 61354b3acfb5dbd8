"""Products of matrices, by whichever library is the faster on this machine.

Torch multiplies fp32 matrices with the BLAS it was built with; on some processors that one leaves half of the vector
units idle, and oneDNN, which torch carries too, is more than twice as fast at the same precision. A probe of a few
milliseconds decides; the choice is part of a run's plan, since the two round differently.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

Name = Literal["blas", "onednn"]
_SHORT = 64
"""Products that sum over fewer terms stay with BLAS: they only read and write, and oneDNN's start costs more."""
_GAIN = 1.4
"""By how much oneDNN must be faster to be taken: clearly, so that a busy moment does not change the choice, and with it
the last bits of a run. Where it is worth taking at all it is more than twice as fast."""


class Matmul(Protocol):
    """A library's products of 2-D tensors of any strides."""

    name: Name

    def mm(self, a: Tensor, b: Tensor) -> Tensor:
        """a [m, k] times b [k, n]."""

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x [m, k] times the transpose of weight [n, k], plus bias [n]."""

    def add(self, into: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Add a times b to a tensor, in place; returns it."""


class Blas:
    """What torch.mm calls: any dtype, any device."""

    name: Name = "blas"

    def mm(self, a: Tensor, b: Tensor) -> Tensor:
        """a [m, k] times b [k, n]."""
        return torch.mm(a, b)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x [m, k] times the transpose of weight [n, k], plus bias [n]."""
        return torch.mm(x, weight.T) if bias is None else torch.addmm(bias, x, weight.T)

    def add(self, into: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Add a times b to a tensor, in place; returns it."""
        return into.addmm_(a, b)


class OneDnn:
    """oneDNN's inner product, for fp32 on a CPU; all else is BLAS's."""

    name: Name = "onednn"

    def mm(self, a: Tensor, b: Tensor) -> Tensor:
        """a [m, k] times b [k, n]."""
        return _onednn(a, b.T, None) if _fits(a) else torch.mm(a, b)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x [m, k] times the transpose of weight [n, k], plus bias [n]."""
        return _onednn(x, weight, bias) if _fits(x) else BLAS.linear(x, weight, bias)

    def add(self, into: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Add a times b to a tensor, in place; returns it."""
        return into.add_(_onednn(a, b.T, None)) if _fits(a) else into.addmm_(a, b)


BLAS = Blas()
ONEDNN = OneDnn()


def named(name: Name) -> Matmul:
    """The library of a name, as a plan holds it."""
    return ONEDNN if name == "onednn" and available() else BLAS


def available() -> bool:
    """Whether this torch carries oneDNN with the operation that is called here."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def fastest(device: torch.device) -> Matmul:
    """The library to use on a device: measured on one product, forward and turned, best of a few."""
    if device.type != "cpu" or not available():
        return BLAS
    x, weight = torch.zeros(256, 384), torch.zeros(1536, 384)

    def seconds(library: Matmul) -> float:
        return min(_timed(lambda: library.mm(library.linear(x, weight, None), weight)) for _ in range(5))

    return ONEDNN if seconds(ONEDNN) * _GAIN < seconds(BLAS) else BLAS


def _timed(run: Callable[[], Tensor]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _fits(a: Tensor) -> bool:
    return a.dtype == torch.float32 and a.device.type == "cpu" and a.shape[1] >= _SHORT


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.as_tensor(torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], ""))
