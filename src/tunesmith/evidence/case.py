"""What the parts of a report look at: a finished run, judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Answer, Metric, Row, Task
from tunesmith.judgement import Judgement, headline
from tunesmith.models.model import Model
from tunesmith.recipe import Recipe


@dataclass(frozen=True)
class Case:
    """The rows of the verdict, with the answers and measures of all systems."""

    recipe: Recipe
    task: Task
    model: Model
    """The tuned one."""
    rows: Sequence[Row]
    """Of the verdict."""
    train: Sequence[Row]
    result: Judgement
    validation: Sequence[Row] = ()
    """Those of `result.held`."""

    @cached_property
    def metric(self) -> Metric:
        """What the verdict is on."""
        return headline(self.task, self.result.scores[self.result.split])

    @cached_property
    def base(self) -> Mapping[int, Answer]:
        """Row id -> answer of the untuned model."""
        return self.result.base_judged.answers if self.result.base_judged else {}

    @property
    def tuned(self) -> Mapping[int, Answer]:
        """Row id -> answer of the tuned model."""
        return self.result.tuned.answers

    @cached_property
    def sure(self) -> dict[int, float]:
        """Row id -> how sure the tuned model is of its answer, of answers that say so."""
        return {row: float(answer["probability"]) for row, answer in self.tuned.items() if "probability" in answer}

    @cached_property
    def right(self) -> dict[int, bool]:
        """Row id -> whether the tuned model's answer is right, of answers that are right or wrong."""
        found = {}
        for row in self.rows:
            if row.id in self.tuned:
                right = self.task.show(row, self.tuned[row.id]).right
                if right is not None:
                    found[row.id] = right
        return found

    def ids(self, rows: Sequence[Row]) -> NDArray[np.int64]:
        """Of some rows."""
        return np.array([row.id for row in rows], np.int64)
