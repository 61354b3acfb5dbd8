"""What happened, as data: an event is a frozen dataclass and one JSON line. Who prints or stores it is elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Started:
    """Training begins or goes on."""

    run: str
    attempt: int
    step: int
    steps: int
    task: str
    method: str
    model: str
    trainable: int
    parameters: int
    rows: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """A part of the work begins."""

    name: str


@dataclass(frozen=True)
class Updated:
    """One update of the weights, and the scores when this update was followed by a look at the validation rows."""

    step: int
    losses: dict[str, float]
    """Those that are finite."""
    grad_norm: float | None
    """None where it is not finite."""
    learning_rate: float
    tokens: int
    """Real tokens of the update, padding not counted; or its images, where `unit` says so."""
    padded: int
    """Padding and filler tokens that were computed beside them."""
    labels: float
    """Targets of the update: rows, or label tokens."""
    seconds: float
    budget: int = 0
    """Tokens that a micro-batch might have: smaller than before when memory ran out in this update."""
    scores: dict[str, float] | None = None
    unit: str = "tokens"
    left_out: bool = False
    """It was not taken, as its loss or gradient is not finite."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint is complete on disk."""

    step: int
    best: bool


@dataclass(frozen=True)
class Warned:
    """Something the user should know that stops nothing."""

    message: str


@dataclass(frozen=True)
class Finished:
    """The run ended: `finished`, `stopped` (it can be resumed) or `failed`."""

    state: str
    step: int
    reason: str


Event = Started | Phase | Updated | Saved | Warned | Finished
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Started, Phase, Updated, Saved, Warned, Finished)}


def to_line(event: Event) -> str:
    """One JSON line, without its end."""
    return json.dumps({"event": type(event).__name__, **asdict(event)}, ensure_ascii=True)


def from_line(line: str) -> Event:
    """The event of a line. Raises ValueError for what `to_line` did not write."""
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError("an event is a JSON object")
    kind = _KINDS.get(values.pop("event", ""))
    if kind is None:
        raise ValueError("the line names no known event")
    try:
        event: Event = kind(**values)
    except TypeError as fault:
        raise ValueError(str(fault)) from None
    return event


def describe(event: Event) -> str:
    """An event as one plain line for people."""
    match event:
        case Started():
            share = 100 * event.trainable / event.parameters
            rows = ", ".join(f"{n:,} {split}" for split, n in event.rows.items())
            return (
                f"{event.task} with {event.model}, {event.method}: {event.trainable:,} of {event.parameters:,} "
                f"parameters learn ({share:.2f} %); rows: {rows}; update {event.step} of {event.steps}; run {event.run}"
            )
        case Phase():
            return event.name
        case Updated():
            losses = " ".join(f"{name} {value:.4f}" for name, value in event.losses.items())
            scores = "".join(f", {name} {value:.4f}" for name, value in (event.scores or {}).items())
            losses = losses or "left out"
            speed = event.tokens / max(event.seconds, 1e-9)
            mark = " | validation" if event.scores else ""
            return f"update {event.step}: {losses}, {speed:,.0f} {event.unit}/s{mark}{scores}"
        case Saved():
            return f"saved update {event.step}{' (best so far)' if event.best else ''}"
        case Warned():
            return f"warning: {event.message}"
        case Finished():
            return f"{event.state} after update {event.step}: {event.reason}"
