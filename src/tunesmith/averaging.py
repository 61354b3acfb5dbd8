"""What a task may be beside contracts.Task: one whose nets, trained several times, can be put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self, runtime_checkable


@runtime_checkable
class Averaging(Protocol):
    """A task whose outputs have a mean: probabilities, numbers."""

    def mean_of(self, outputs: Sequence[Any], tasks: Sequence[Self]) -> Any:
        """The output for an example, as this task reads it, from those of several nets, each with its own task."""


@runtime_checkable
class Uniting(Protocol):
    """A task that learned more from rows and outputs than several of it share (thresholds, a temperature)."""

    def united(self, tasks: Sequence[Self]) -> Self:
        """The task of several nets together, from the task of each."""
