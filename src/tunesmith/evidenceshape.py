"""What `report.json` holds of a model's confidences and of what it knew before: parts of reportshape.Report."""

from __future__ import annotations

from typing import Literal

from tunesmith.results import ScoreShape, Shape


class Bin(Shape):
    """Answers of about the same confidence."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


class Coverage(Shape):
    """What is left, and how good it is, when answers below a confidence are not given."""

    threshold: float
    coverage: float
    accuracy: float


class Wish(Shape):
    """From which confidence on answers are wrong no more often than is wished."""

    wrong: float
    """The share of wrong answers that is wished for."""
    threshold: float | None
    """The lowest confidence from which on, by the validation rows, the wish is fulfilled nine times in ten; 0 where all
    answers may be given, None where no threshold is found."""
    chosen_on: int
    """Validation rows."""
    answered: ScoreShape | None
    """Share of the rows of the verdict whose answer is as sure."""
    among: ScoreShape | None
    """Share of these answers that is wrong."""
    outcome: Literal["held", "broken", "unclear"] | None
    """Whether the interval of `among` is below the wish, above it, or neither."""


class Calibration(Shape):
    """Whether a confidence is the chance to be right."""

    bins: list[Bin]
    error: ScoreShape
    """Expected calibration error over these bins, as the saved model answers."""
    raw_error: ScoreShape | None
    """Of the net's own probabilities, before the temperature."""
    temperature: float | None
    """Fitted on the validation rows and saved with the model; None where there is none."""
    base_error: ScoreShape | None
    coverage: list[Coverage]
    wishes: list[Wish]
    """Empty where no rows beside those of the verdict can choose a threshold."""


class ThresholdPoint(Shape):
    """What is given from a threshold on."""

    threshold: float
    given: float
    """Share of the rows."""
    precision: float | None
    """None where nothing is given."""
    recall: float
    f1: float


class AtThreshold(Shape):
    """A threshold on the rows of the verdict."""

    threshold: float
    given: float
    precision: float | None
    recall: float
    f1: ScoreShape


class Threshold(Shape):
    """A label that a threshold on its probability decides about."""

    label: str
    """The rarer of two, one of several a row, or `has an answer`."""
    rows: int
    n: int
    """Rows that have it."""
    in_force: AtThreshold
    chosen: AtThreshold | None
    """The best F1 of the validation rows; None where they are the rows of the verdict, or have no such label."""
    gain: ScoreShape | None
    """F1 at the chosen one minus that at the one in force, on the same rows."""
    points: list[ThresholdPoint]


class Kept(Shape):
    """Something that the untuned model knew, before and after."""

    name: str
    what: str
    """What it is, in a sentence."""
    n: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    higher_is_better: bool
    outcome: Literal["kept", "lost", "gained", "unclear"]


class WrittenAnswer(Shape):
    """A request, and what both models write."""

    asked: str
    base: str
    tuned: str
    base_right: bool
    tuned_right: bool


class WrittenProbe(Shape):
    """Requests of a kind."""

    name: Literal["format", "refusal", "harmless"]
    what: str
    """What is counted."""
    room: int
    """Most tokens of an answer."""
    n: int
    base_hits: int
    tuned_hits: int
    base: ScoreShape
    """The share of hits, with Jeffreys' interval."""
    tuned: ScoreShape
    p: float
    """That as many became right as wrong (McNemar, mid-p)."""
    corrected: float
    """p among these probes (Holm)."""
    outcome: Literal["lost", "gained", "unclear"]
    rows: list[WrittenAnswer]


class Written(Shape):
    """What both models write when they are asked: in which form, and what they decline."""

    left_out: int
    """Requests that leave no room for an answer in what the model reads."""
    tokens: dict[str, int]
    """`base`, `tuned` -> tokens that were written: what it cost."""
    probes: list[WrittenProbe]
