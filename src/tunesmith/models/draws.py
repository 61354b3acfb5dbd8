"""Dropout's masks: on a CPU four draws from each 64 random bits, as torch takes one draw from each.

The bits come from torch's default generator, so whoever seeds it decides the mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_STEPS = 2**16


class Dice:
    """A place in the random numbers of torch's default generators, the host's and a device's, which several models take
    turns with: each draws what it would draw alone, whatever the others draw between."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.state = self.now()

    def now(self) -> tuple[Tensor, ...]:
        """Where the generators stand."""
        host = torch.get_rng_state()
        return (host, torch.cuda.get_rng_state(self.device)) if self.device.type == "cuda" else (host,)

    def put(self, state: tuple[Tensor, ...]) -> None:
        """Have the generators stand there."""
        torch.set_rng_state(state[0])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state[1], self.device)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Draw from this place on; afterwards the generator stands where it stood."""
        others = self.now()
        self.put(self.state)
        try:
            yield
        finally:
            self.state = self.now()
            self.put(others)


def seed(value: int, device: torch.device) -> None:
    """Have the generators that a net draws from, the host's and its device's, begin at a seed. `torch.manual_seed` is
    for those of every device there could be: where there is none, it writes down a traceback for each of them."""
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(value)


def kept(like: Tensor, rate: float, dice: Dice | None = None) -> Tensor:
    """A mask of `like`'s shape for dropout: 0 with chance `rate`, else 1 over the share that is kept.

    On a CPU the chance is a whole number of 65,536ths, and the scale is of that chance, so the mean stays 1.
    """
    if dice is not None:
        with dice.turn():
            return kept(like, rate)
    if like.device.type != "cpu":
        return torch.empty_like(like).bernoulli_(1 - rate).div_(1 - rate)
    dropped = round(rate * _STEPS)
    bits = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    draws = bits.view(torch.int16)[: like.numel()].view(like.shape)
    return (draws >= dropped - _STEPS // 2).to(like.dtype).mul_(_STEPS / (_STEPS - dropped))


def dropout(x: Tensor, rate: float) -> Tensor:
    """x with some of its numbers set to 0 and the others scaled up."""
    return x * kept(x, rate)
