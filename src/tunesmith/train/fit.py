"""How much of a batch goes through the net at once: decided by measuring the worst micro-batch, once per run.

The decision is written to the run's plan and used again by every resume, so it never changes the bits of a run.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from tunesmith.contracts import Example, Task
from tunesmith.errors import RecipeError
from tunesmith.models.model import Model
from tunesmith.models.precision import available_bytes
from tunesmith.train.accumulate import Piece, accumulate

START = 2048
"""Tokens of a micro-batch where memory is no matter: larger ones were not faster on two cores."""
_SMALLEST = 64
_SHARE = 0.8
"""Of the free memory, for `auto`."""


@dataclass(frozen=True)
class Fit:
    """The token budget of a micro-batch, and what the worst one took."""

    budget: int
    worst_tokens: int
    seconds: float
    peak_bytes: int
    """Memory of the process while the worst micro-batch ran."""
    optimizer_bytes: int
    """Gradients and AdamW's two moments of everything that learns."""
    before_bytes: int
    """Most memory of the process until then: measuring sets the kernel's own mark back."""

    def as_json(self) -> dict[str, Any]:
        """For plan.json."""
        return asdict(self)


def fit(model: Model, task: Task, examples: Sequence[Example], memory: Literal["auto"] | float, batch_size: int) -> Fit:
    """Halve the budget until the worst micro-batch fits. The net, its gradients and the generators are left as found.

    Raises RecipeError when a single row does not fit the memory that was allowed.
    """
    trained = sum(p.numel() * p.element_size() for _, p in model.trained())
    optimizer_bytes = 3 * trained
    now, before = resident_bytes(), peak_bytes()
    allowed = now + int(_SHARE * available_bytes()) if memory == "auto" else int(memory * 2**30)
    budget = START
    while True:
        worst = worst_piece(examples, budget, batch_size)
        seconds, peak = _measure(model, task, worst)
        tokens = sum(example.length for example in worst)
        found = Fit(budget, tokens, seconds, peak + optimizer_bytes, optimizer_bytes, before)
        if found.peak_bytes <= allowed:
            return found
        if len(worst) == 1 or budget // 2 < _SMALLEST:
            gigabytes = found.peak_bytes / 2**30
            raise RecipeError(
                f"one row of {tokens} tokens takes {gigabytes:.1f} GB, {allowed / 2**30:.1f} GB may be taken",
                where="train.memory",
                hint="allow more memory, lower `data.max_tokens`, or take `method: lora`",
            )
        budget //= 2


def worst_piece(examples: Sequence[Example], budget: int, batch_size: int) -> list[Example]:
    """The longest rows that can share a micro-batch."""
    longest = sorted(examples, key=lambda example: (-example.length, example.row_id))
    piece: list[Example] = []
    used = 0
    for example in longest[:batch_size]:
        if piece and used + example.length > budget:
            break
        piece.append(example)
        used += example.length
    return piece


def _measure(model: Model, task: Task, piece: Sequence[Example]) -> tuple[float, int]:
    state = torch.get_rng_state()
    model.net.train()
    began = time.perf_counter()
    _reset_peak()
    accumulate(model, task, [Piece(0, piece)], task.weights(piece))
    peak = peak_bytes()
    seconds = time.perf_counter() - began
    model.net.zero_grad(set_to_none=True)
    torch.set_rng_state(state)
    return seconds, peak


def resident_bytes() -> int:
    """Memory of this process now."""
    return _status("VmRSS") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak_bytes() -> int:
    """Most memory of this process since it began, or since the peak was last set back."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:  # the kernel may forbid it: the peak since the start is then an upper bound
        return


def _status(key: str) -> int | None:
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None
