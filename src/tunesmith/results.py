"""What `--json` prints, as types: the JSON Schemas in `docs/reference/` are made from these. Stable."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """A JSON object."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ScoreShape(Shape):
    """A number, its 95 % bootstrap interval and the rows it rests on."""

    value: float
    low: float
    high: float
    n: int


Scores = dict[str, dict[str, ScoreShape]]
"""split -> metric -> score"""


class Verdict(Shape):
    """Whether tuning helped, on rows that neither side learned from."""

    outcome: Literal["helped", "hurt", "unclear"]
    metric: str
    difference: float
    """Tuned minus base, in the metric's own unit."""
    low: float
    high: float
    """95 % interval of the difference, by paired bootstrap."""
    p: float
    """Two-sided p of an approximate randomization test on the same rows."""


class TokenCounts(Shape):
    """Tokens that training computed."""

    real: int
    padded: int
    """Padding computed beside the real ones."""
    label: int
    """Targets of the loss: label tokens, or rows for a classifier."""


class Verified(Shape):
    """A promise, and whether it holds for this run."""

    name: str
    holds: bool | None
    """None where it says nothing of this run; `said` has the reason."""
    said: str


class Verify(Shape):
    """Printed by `verify`."""

    run: str
    verified: list[Verified]


class Change(Shape):
    """Something that a run was made of, and that is not what it was."""

    what: Literal["data", "model", "versions", "code", "machine"]
    name: str
    then: str
    now: str


class Reproduced(Shape):
    """Printed by `reproduce`."""

    run: str
    changed: list[Change]
    compared: list[Verified]
    """Empty where data or model have changed: nothing is made again then."""
    same: bool


class Result(Shape):
    """Printed by `train`, `resume` and `evaluate`."""

    run: str
    state: Literal["finished", "stopped"]
    task: str
    headline: str
    higher_is_better: bool
    scores: Scores
    base: Scores
    baselines: dict[str, Scores]
    verdict: Verdict | None
    """None when there is no base to compare with."""
    win_rate: ScoreShape | None
    """Share of rows whose reference the tuned model finds likelier than the base does; None without references."""
    seconds: dict[str, float]
    """Phase -> seconds of wall time."""
    tokens: TokenCounts
    peak_memory_bytes: int
    notes: list[str]
    """What a reader of the numbers must know."""
    verified: list[Verified]
    """What was found of the saved model when the run ended; `verify` has more."""


class BlendPoint(Shape):
    """A share of the tuned weights."""

    share: float
    score: ScoreShape
    """The headline on the run's validation rows."""
    kept: float | None
    """What the model still knows of the other rows."""


class SavedBlend(Shape):
    """A model between the untuned and the tuned one."""

    share: float
    folder: str
    split: str
    scores: dict[str, ScoreShape]


class Blend(Shape):
    """Printed by `blend`."""

    run: str
    headline: str
    higher_is_better: bool
    points: list[BlendPoint]
    kept: str | None
    """What `kept` measures."""
    plot: str
    saved: SavedBlend | None


class Spot(Shape):
    """A row of a file."""

    file: str
    line: int
    """0 for a row that is of no file."""
    shown: str
    """What is to be seen there, in a line."""


class Finding(Shape):
    """Something in the data that the user should look at."""

    kind: str
    split: str
    count: int
    of: int
    """Rows that were looked at."""
    examples: list[Spot]
    why: str
    hint: str
    stops: bool
    """Whether `train` refuses until it is mended, or allowed by `data.allow`."""
    fixed: int
    """Training rows that `--fix` leaves out for it."""


class Histogram(Shape):
    """How long the sequences are that the model reads, with what did not fit."""

    edges: list[int]
    """The first length of each bar, and one past the longest of all."""
    counts: dict[str, list[int]]
    """Split -> sequences in each bar."""
    limit: int
    """Tokens that the model reads at once."""


class CheckResult(Shape):
    """Printed by `check`."""

    task: str
    model: str
    method: str
    files: dict[str, list[str]]
    """Split -> the files its rows are from."""
    rows: dict[str, int]
    """Split -> rows."""
    labels: dict[str, dict[str, int]]
    """Split -> label -> rows; empty for tasks without labels."""
    lengths: dict[str, dict[str, float]]
    """Split -> tokens per row: min, median, p95, max, and the share of rows cut."""
    histogram: Histogram | None
    """None for images."""
    findings: list[Finding]
    plan: dict[str, Any]
    """Tokens, updates, trainable share, and memory and time of the worst micro-batch as measured."""
    scaling: dict[str, Any] | None
    """Scores with growing parts of the rows, and what more would bring; None unless `--scaling` asked."""
    fixed: dict[str, Any] | None
    """The file that `--fix` wrote, its rows and how many were left out; None unless it asked."""


class RunLine(Shape):
    """One run of a folder."""

    run: str
    state: str
    """`running`, `finished`, `stopped`, `failed`, `interrupted` (its process is gone), `damaged` (its files are)."""
    task: str
    model: str
    method: str
    step: int
    steps: int
    headline: str | None
    value: float | None


class Runs(Shape):
    """Printed by `runs`."""

    runs: list[RunLine]


class ModelLine(Shape):
    """One model of the catalog."""

    name: str
    description: str
    parameters: int
    download_bytes: int
    licence: str
    tasks: list[str]
    here: bool
    reason: str | None


class Models(Shape):
    """Printed by `models`."""

    models: list[ModelLine]


class PackageLicence(Shape):
    """A package that is installed for Tunesmith."""

    name: str
    version: str
    licence: str
    needed: bool
    """False where only an extra asks for it."""


class ModelLicence(Shape):
    """A model of the catalog."""

    name: str
    licence: str


class Licences(Shape):
    """Printed by `licences`."""

    packages: list[PackageLicence]
    models: list[ModelLicence]


class TrialShape(Shape):
    """A trial of a search."""

    number: int
    state: Literal["waiting", "running", "complete", "pruned", "failed"]
    start: bool
    """Whether it is the recipe's own point."""
    params: dict[str, Any]
    """What was tried: key of the recipe, or `method.lora.rank` for an option of a choice -> value."""
    value: float | None
    """The best score on the rows that choose."""
    share: float | None
    """Of its updates that were made."""
    seconds: float | None
    said: str
    """Why it failed, where it fell behind, which trial it is the same as."""


class Optimism(Shape):
    """How much better the winner looks on the rows that chose it than on rows that chose nothing."""

    rows: str
    """Those that chose nothing: `test`, or a half of validation."""
    chose: ScoreShape
    fresh: ScoreShape
    by: float
    """The difference; positive where the choice flatters, whichever direction is better."""
    low: float
    high: float


class Against(Shape):
    """The winner held against its rival, seed by seed, with seeds that neither was chosen with."""

    gains: list[float]
    """Of each seed; positive where the winner is better, whichever direction is better."""
    mean: float
    low: float | None
    high: float | None
    """95 % interval, for the spread of seeds and of rows; None of a single seed."""
    outcome: Literal["better", "worse", "unclear"]


class Seeds(Shape):
    """The winner with other seeds."""

    values: list[float]
    mean: float
    low: float
    high: float
    """The least and the greatest."""
    rival: int | None
    """The trial that it is compared with: the recipe's own point, or where that won the second best."""
    rival_values: list[float]
    against: Against | None


class Searched(Shape):
    """Printed by `search`."""

    search: str
    state: Literal["finished", "stopped"]
    metric: str
    higher_is_better: bool
    chosen_on: Literal["validation", "half of validation"]
    trials: list[TrialShape]
    best: int | None
    """Number of the winner; None where the search was stopped before there was one."""
    recipe: str | None
    """File of the winning recipe."""
    run: str | None
    """Run directory of the winner."""
    optimism: Optimism | None
    seeds: Seeds | None
    importances: dict[str, float]
    """Parameter -> its share of what the scores vary by."""
    notes: list[str]


SHAPES: dict[str, type[Shape]] = {
    "result": Result,
    "check": CheckResult,
    "runs": Runs,
    "models": Models,
    "blend": Blend,
    "verify": Verify,
    "reproduce": Reproduced,
    "licences": Licences,
    "search": Searched,
}
