"""The recipe's `evaluate` section: when and on what a model is scored, and what its report looks at."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tunesmith.section import Section


def _several(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _labels(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Fairness(Section):
    """Groups that are to be treated alike."""

    by: str = Field(min_length=1)
    """The column that says which group a row is of."""

    positive: Annotated[list[str], BeforeValidator(_labels)] = Field(min_length=1)
    """The labels that it is bad to be given wrongly."""

    data: str | None = None
    """A file of rows to answer, such as template sentences. None takes the rows of the verdict."""

    innocent: Annotated[list[str], BeforeValidator(_labels)] = []
    """What that file's label column says of rows that should not be positive. Empty: all that is not in `positive`."""

    least: int = Field(default=20, ge=1)
    """Rows that a group needs to be looked at."""


class Evaluate(Section):
    """When and on what the model is scored."""

    every: int | None = Field(default=None, ge=1)
    """Updates between two looks at the validation rows. None looks once an epoch."""

    early_stopping: int | None = Field(default=None, ge=1)
    """Looks without a better score after which training stops. None never stops early."""

    limit: int | None = Field(default=None, ge=1)
    """Most rows of each split that are scored: a fixed sample."""

    answers: int = Field(default=20, ge=0)
    """Most rows of a split for which a generating model writes answers (they are slow); losses use every row. With 0
    it is not asked the report's few requests either."""

    compare: bool = True
    """Score the untuned base and the cheap baselines on the same rows."""

    evidence: bool = True
    """When the run ends, look closer for its report: at training rows, at what was forgotten or learned by heart."""

    slices: list[str] = []
    """Columns of the file whose values part the rows of the verdict, each part with a score of its own."""

    fairness: Annotated[list[Fairness], BeforeValidator(_several)] = []
    """Groups whose rows are to be given a bad label wrongly equally often: one, or several."""

    money: float | None = Field(default=None, ge=0)
    """What this machine costs an hour, for the report."""

    folds: int | None = Field(default=None, ge=2, le=100)
    """Train so many times, each with another part of the rows as test: every row is tested once."""

    seeds: int = Field(default=1, ge=1, le=100)
    """Train so many times with other seeds, and say how far the score moves by itself."""

    combine: Literal["none", "weights", "ensemble"] = "none"
    """Make one model of these trainings: the mean of their `weights`, or an `ensemble` that gives the mean of their
    answers."""

    verify: bool = True
    """When the run ends, open the saved model as others would and hold a few rows against the tuned one."""

    @model_validator(mode="after")
    def _several_to_combine(self) -> Evaluate:
        if self.combine != "none" and not self.repeated:
            raise ValueError(
                f"`evaluate.combine: {self.combine}` puts several trainings together, and this is one; "
                "set `evaluate.seeds` or `evaluate.folds`, or leave it out"
            )
        return self

    @property
    def repeated(self) -> bool:
        """Whether more than one training is asked for."""
        return self.folds is not None or self.seeds > 1
