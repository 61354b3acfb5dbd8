"""How what takes long before training is come by: rows, a net, encoded examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunesmith import encoding
from tunesmith.contracts import Example, Row, Task
from tunesmith.data import splits
from tunesmith.data.splits import Splits
from tunesmith.data.tokens import Refused
from tunesmith.models.catalog import Source
from tunesmith.models.model import Model
from tunesmith.recipe import Recipe

Encode = Callable[[str, Task, Sequence[Row], Model], tuple[Sequence[list[Example]], tuple[Refused, ...]]]
"""Name of a task, the task, rows, a model -> the examples of each row, and the rows that were refused."""


def build(recipe: Recipe, task: Task, source: Source) -> Model:
    """The pretrained net with the task's head."""
    return task.build(source, recipe, recipe.train.seed)


@dataclass(frozen=True)
class Ways:
    """A search hands in its own, which do each thing once for all its trials."""

    rows: Callable[[Recipe, Task], Splits] = splits.load
    net: Callable[[Recipe, Task, Source], Model] = build
    """A net that is the caller's own, to be changed."""
    examples: Encode = encoding.encode


PLAIN = Ways()
