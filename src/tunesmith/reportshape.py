"""What `report.json` holds beside the result, as types: what the page and `tunesmith report --json` show. Stable.

Every part is None, or empty, where a run says nothing of it.
"""

from __future__ import annotations

from typing import Any, Literal

from tunesmith import results
from tunesmith.evidenceshape import Calibration, Kept, Threshold, Written
from tunesmith.repeatedshape import Combined, Repeated
from tunesmith.results import Advice, Paired, Result, ScoreShape, Shape
from tunesmith.searchshape import Searched


class Compared(Paired):
    """Another system on the same rows, and what the tuned one is worth beside it."""

    kind: Literal["base", "baseline", "run", "model"]


class ChangedRow(Shape):
    """A row with the answers of both."""

    file: str
    line: int
    text: str
    reference: str
    base: str | None
    tuned: str
    change: Literal["fixed", "broken", "both right", "both wrong", "other"]
    """`other` where answers are better or worse, not right or wrong."""
    sure: float | None
    """How sure the tuned model is, where it says so."""


class Changed(Shape):
    """What tuning did to single rows."""

    fixed: int
    broken: int
    both_right: int
    both_wrong: int
    p: float | None
    """Two-sided, that as many were fixed as broken (McNemar, mid-p; of rows in groups, by signs drawn at random). None
    where answers are not right or wrong."""
    rows: list[ChangedRow]
    """Of each kind some: the surest first."""


class LabelShape(Shape):
    """A label, or a type of entity, on the rows of the verdict."""

    label: str
    n: int
    precision: float
    recall: float
    f1: float
    base_f1: float | None


class Confusion(Shape):
    """Rows are gold labels, columns the model's."""

    labels: list[str]
    counts: list[list[int]]


class SliceShape(Shape):
    """Rows that have something in common."""

    by: str
    """`length`, `label`, `language`, `source`, `confidence`, or a column."""
    value: str
    n: int
    score: ScoreShape
    """Accuracy or the headline, see `metric` of the slices."""
    base: float | None
    difference: float
    """From all other rows."""
    low: float
    high: float
    corrected: float
    """p of the difference, among all slices (Holm)."""
    worse: bool
    """Whether it is worse than the rest at 5 %, corrected."""


class Slices(Shape):
    """The scores of parts of the rows."""

    metric: str
    least: int
    """Rows that a slice needs to be looked at."""
    slices: list[SliceShape]


class Group(Shape):
    """People, or terms, that are to be treated alike."""

    value: str
    n: int
    rate: ScoreShape
    """Share of its rows that are given a positive label, of those that should not be (false positives)."""
    gap: float
    """From all other groups together."""
    low: float
    high: float
    corrected: float
    odd: bool
    """Whether the gap is there at 5 %, corrected."""


class Fairness(Shape):
    """False positives by group."""

    by: str
    file: str
    positive: list[str]
    """The labels that it is bad to be given wrongly."""
    overall: ScoreShape
    groups: list[Group]
    """The highest rate first."""
    least: int
    left_out: int
    """Groups of fewer rows."""
    spread: ScoreShape
    """Highest rate minus lowest."""


class Memorised(Shape):
    """Training rows that the tuned model writes on by heart."""

    tried: int
    exact: int
    base_exact: int
    """Of the same rows, by the untuned model."""
    rows: list[ChangedRow]


class Duplicates(Shape):
    """Rows of the verdict that are in the training rows too."""

    rows: int
    score: ScoreShape
    """Of all rows."""
    without: ScoreShape | None
    """Without these; None where no scored row is left."""


class Overfitting(Shape):
    """How much better the model is on what it learned from."""

    metric: str
    train: ScoreShape
    """On a sample of the training rows."""
    unseen: ScoreShape
    gap: float
    """How much better on training rows; negative where they are not."""
    low: float
    high: float
    best_step: int
    last_step: int
    memorised: Memorised | None
    duplicates: Duplicates | None


class Cost(Shape):
    """What the run took."""

    seconds: dict[str, float]
    """Phase -> seconds."""
    tokens: dict[str, int]
    tokens_per_second: float
    """Real tokens of training a second of training."""
    unit: str
    """`tokens` or `images`."""
    peak_memory_bytes: int
    bytes: dict[str, int]
    """`model`, `checkpoints` -> size on disk."""
    watt_hours: float
    energy: str
    """How that was estimated."""
    money: float | None
    """At `evaluate.money` an hour."""
    rate: float | None
    rows_per_second: float | None
    """Answered when the model was scored."""
    per_1000_rows: float | None
    """Seconds to answer 1,000 rows."""


class Point(Shape):
    """A score after an update."""

    step: int
    scores: dict[str, float]


class Curves(Shape):
    """How training went."""

    steps: list[int]
    losses: list[float]
    looks: list[Point]
    watched: str
    """The metric that picks the checkpoint."""


class Part(Shape):
    """A score with a number of training rows."""

    rows: int
    value: float
    low: float
    high: float


class Scaling(Shape):
    """Scores of growing parts of the rows, and what more would bring."""

    metric: str
    higher_is_better: bool
    how: str
    points: list[Part]
    more: list[Part]
    gain: list[float]
    """Of twice the rows: value, low, high."""
    verdict: str


class OtherModel(Shape):
    """Another model on the same rows, and what it costs."""

    name: str
    how: str
    """`tuned`, or how it was asked."""
    parameters: int
    score: ScoreShape
    seconds_per_1000: float
    money_per_1000: float | None


class Report(Result):
    """`report.json`, and what `report --json` prints."""

    headline_says: str
    """The verdict in a sentence."""
    needed_rows: int | None
    """Rows that would tell a difference of this size, where this test did not."""
    compared: list[Compared]
    changed: Changed | None
    labels: list[LabelShape]
    confusion: Confusion | None
    calibration: Calibration | None
    thresholds: list[Threshold]
    """The most frequent labels; empty where no threshold decides."""
    slices: Slices | None
    fairness: list[Fairness]
    kept: list[Kept]
    written: Written | None
    """Of chat models; None where nothing was asked."""
    overfitting: Overfitting | None
    cost: Cost
    advice: list[Advice]
    curves: Curves
    scaling: Scaling | None
    models: list[OtherModel]
    settings: dict[str, Any]
    """Model, task, method, rows by split, updates, trainable share: what a reader wants to know first."""
    licence: str | None
    """Of the base model."""
    sums: dict[str, str]
    """File of rows -> its sha256."""


SHAPES: dict[str, type[Shape]] = {
    **results.SHAPES,
    "repeated": Repeated,
    "combine": Combined,
    "report": Report,
    "search": Searched,
}
"""All that `--json` prints, by command."""
