"""How much of a batch goes through the net at once: decided by measuring, once per run.

The decision is written to the run's plan and used again by every resume, so it never changes the bits of a run. A small
piece tells what a token takes; only where that leaves memory in doubt, the worst micro-batch is really run.
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
from tunesmith.models.precision import available_bytes, release_freed_memory
from tunesmith.train.accumulate import Piece, accumulate

START = 2048
"""Tokens of a micro-batch where memory is no matter: larger ones were not faster on two cores."""
_SMALLEST = 64
_BEFORE_CHECKPOINTING = 256
"""Smaller micro-batches cost little down to here; below, computing blocks twice costs less."""
_SHARE = 0.8
"""Of the free memory, for `auto`."""
PROBE = 256
"""Tokens of the small piece."""
_DOUBT = 2.0
"""The worst micro-batch is not run where twice what the small piece foretells would still fit."""


@dataclass(frozen=True)
class Fit:
    """The token budget of a micro-batch, and what the worst one takes."""

    budget: int
    checkpointing: bool
    """Blocks are computed again in the backward, so that only their inputs are kept."""
    worst_tokens: int
    seconds: float
    """Of the worst micro-batch, forward and backward."""
    peak_bytes: int
    """Memory of the process while it runs."""
    measured_tokens: int
    """Tokens of the piece that was really run: fewer than `worst_tokens` where the worst was foretold from it."""
    optimizer_bytes: int
    """Gradients, and what the optimizer and averages keep, of everything that learns."""
    before_bytes: int
    """Most memory of the process until then: measuring sets the kernel's own mark back."""

    def as_json(self) -> dict[str, Any]:
        """For plan.json."""
        return asdict(self)


def fit(
    model: Model,
    task: Task,
    examples: Sequence[Example],
    memory: Literal["auto"] | float,
    batch_size: int,
    *,
    moments: int = 2,
    thorough: bool = False,
    processes: int = 1,
) -> Fit:
    """The largest budget up to `START` whose worst micro-batch fits; then with checkpointing. `thorough` always runs
    the worst. The net, its gradients and the generators are left as found. Of several `processes` on a machine each has
    its share of the memory.

    Raises RecipeError when a single row does not fit the memory that was allowed.
    """
    trained = sum(p.numel() * p.element_size() for _, p in model.learned())
    kept = (1 + moments) * trained
    before = peak_bytes()
    release_freed_memory()
    now = used_bytes()
    allowed = now + int(_SHARE * available_bytes() / processes) if memory == "auto" else int(memory * 2**30)
    worst = worst_piece(examples, START, batch_size)
    if not thorough:
        piece = small_piece(examples, batch_size)
        seconds, peak = _measure(model, task, piece)
        times = _tokens(worst) / _tokens(piece)
        grown = int(max(peak - now - trained, 0) * times) + attention_bytes(model, worst)
        if now + _DOUBT * grown + kept <= allowed:
            foretold = now + grown + kept
            sizes = (_tokens(worst), seconds * times, foretold, _tokens(piece), kept, before)
            return Fit(START, model.checkpointing, *sizes)
    for checkpointing, least in ((False, _BEFORE_CHECKPOINTING), (True, _SMALLEST)):
        model.checkpointing = checkpointing
        budget = START
        while True:
            worst = worst_piece(examples, budget, batch_size)
            seconds, peak = _measure(model, task, worst)
            peak += kept
            if peak <= allowed:
                sizes = (_tokens(worst), seconds, peak, _tokens(worst), kept, before)
                return Fit(budget, checkpointing, *sizes)
            if len(worst) == 1 or budget // 2 < least:
                break
            budget //= 2
    raise RecipeError(
        f"one row of {_tokens(worst)} tokens takes {peak / 2**30:.1f} GB, {allowed / 2**30:.1f} GB may be taken",
        where="train.memory",
        hint="allow more memory, lower `data.max_tokens`, or take `method: lora`",
    )


def small_piece(examples: Sequence[Example], batch_size: int) -> list[Example]:
    """The longest rows that together have at most `PROBE` tokens; the shortest where every row has more."""
    fitting = [example for example in examples if example.length <= PROBE]
    if not fitting:
        return [min(examples, key=lambda example: (example.length, example.row_id))]
    return worst_piece(fitting, PROBE, batch_size)


def attention_bytes(model: Model, piece: Sequence[Example]) -> int:
    """What does not grow with the tokens alone: weights of attention [heads, length, length], and the draws and their
    product, where dropout keeps the flash kernel out."""
    if not model.draws() and getattr(model.config, "attn_logit_softcapping", None) is None:
        return 0
    heads = int(getattr(model.config, "num_attention_heads", 12))
    squares = sum(example.length**2 for example in piece)
    return 3 * 4 * heads * squares * model.depth


def _tokens(piece: Sequence[Example]) -> int:
    return sum(example.length for example in piece)


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
    model.train()
    release_freed_memory()
    began = time.perf_counter()
    _reset_peak()
    try:
        accumulate(model, task, [Piece(0, piece)], task.weights(piece))
        peak = peak_bytes()
    except torch.OutOfMemoryError:  # of a GPU: the piece is too large, which is what was asked
        peak = 2**62
    seconds = time.perf_counter() - began
    model.forget_gradients()
    torch.set_rng_state(state)
    return seconds, peak


def used_bytes() -> int:
    """Memory taken now, of the kind that `peak_bytes` tells the most of."""
    return int(torch.cuda.memory_allocated()) if torch.cuda.is_available() else resident_bytes()


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
