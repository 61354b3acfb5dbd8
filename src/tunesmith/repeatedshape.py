"""What several trainings of one recipe tell, and what one model of them is worth, as types. Stable."""

from __future__ import annotations

from typing import Literal

from tunesmith.results import Paired, ScoreShape, Shape, Verdict, Verified


class RepeatedPart(Shape):
    """One of several trainings."""

    run: str
    fold: int | None
    seed: int
    score: ScoreShape


class Against(Paired):
    """What a combination is made of, and what the combination is worth beside it."""

    name: str
    """`the mean member`, whose score is the mean of the members' scores, or the best member on validation rows."""
    kind: Literal["member"]


class Member(Shape):
    """A training that is in a combination."""

    name: str
    fold: int | None
    seed: int
    sha256: str
    """Of the tensors that it learned."""
    validation: float
    """Its headline on its own validation rows, which chose its checkpoint."""


class Combined(Shape):
    """Printed by `combine`: one model of several trainings."""

    folder: str
    how: Literal["weights", "ensemble"]
    form: Literal["tensors", "adapters", "folded", "answers"]
    """Weights: tensor by tensor, with low-rank adapters end to end, or with adapters folded in; or answers."""
    task: str
    members: list[Member]
    headline: str
    higher_is_better: bool
    split: Literal["test", "validation"] | None
    """The rows that it was scored on. None where no row is unseen by all members: it has no score then."""
    scores: dict[str, ScoreShape]
    best: str
    """The member that was best on its validation rows."""
    against: list[Against]
    single: ScoreShape
    """The headline of one training, on rows that it did not learn from: over folds pooled, over seeds the mean."""
    says: str
    """What came of it, in a sentence."""
    notes: list[str]
    verified: list[Verified]
    """What was found of the saved model; of weights alone."""


class Repeated(Shape):
    """Printed by `train` and `resume` where a recipe asks for `evaluate.folds` or `evaluate.seeds`."""

    folder: str
    headline: str
    higher_is_better: bool
    parts: list[RepeatedPart]
    scores: dict[str, ScoreShape]
    """Of all folds' test rows together, the mean over seeds; intervals are over rows."""
    base: dict[str, ScoreShape]
    between_seeds: float | None
    """Standard deviation of the headline, of one seed and another."""
    between_folds: float | None
    """Of one fold and another, with the first seed."""
    verdicts: list[Verdict]
    """Of each seed."""
    combined: list[Combined]
    """The models that were made of these trainings."""
