"""What happens in a search, as data; beside `Phase` and `Warned` of a run. Who shows it is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.events import Phase, Warned

if TYPE_CHECKING:
    from tunesmith.search.study import Line


@dataclass(frozen=True)
class Opened:
    """A search begins or goes on."""

    folder: str
    metric: str
    target: int
    """Trials that it is to have."""
    ended: int
    """Of those, the ones that have."""
    axes: tuple[str, ...]
    """What is searched, as the table's columns."""


@dataclass(frozen=True)
class Began:
    """This process takes up a trial."""

    number: int
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Looked:
    """A trial was scored on the rows that choose."""

    number: int
    step: int
    """Updates that are done."""
    value: float


@dataclass(frozen=True)
class Ended:
    """A trial is done with."""

    line: Line


@dataclass(frozen=True)
class Closed:
    """The search stopped here: `finished`, or `stopped` (it can be gone on with)."""

    state: str


SearchEvent = Opened | Began | Looked | Ended | Closed | Phase | Warned
