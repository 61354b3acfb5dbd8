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
    """Two-sided, of a paired test on the same rows."""
    test: str
    """`approximate randomization`, or `McNemar, mid-p` where the metric is a share of rows."""
    needed: int | None
    """Rows that would tell a difference of this size four times out of five, where these did not."""


class Paired(Shape):
    """A system, and what another is worth beside it on the same rows."""

    name: str
    score: ScoreShape
    difference: float
    """The other minus this one, on the headline."""
    low: float
    high: float
    """95 % interval of the difference, by a paired bootstrap; over groups where the rows have them."""
    p: float
    test: str
    """How p was found: `McNemar, mid-p` or `approximate randomization`."""
    corrected: float
    """p among all that are held beside each other (Holm 1979)."""
    outcome: Literal["helped", "hurt", "unclear"]
    """`helped` where the other is better."""


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


class Advice(Shape):
    """Something to try next."""

    sign: str
    """What was measured."""
    do: str
    """What to do, in a sentence."""
    change: dict[str, Any]
    """Keys of the recipe -> new values; empty where the data is to be changed."""


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


class Beside(Shape):
    """A run among others, on the rows that all were scored on."""

    run: str
    score: ScoreShape


class RunAgainst(Paired):
    """A run against the first one."""

    kind: Literal["run"]
    difference: float
    """This run minus the first, on the headline."""
    outcome: Literal["helped", "hurt", "unclear"]
    """`helped` where this run is better than the first."""


class Comparison(Shape):
    """Printed by `compare`."""

    headline: str
    higher_is_better: bool
    rows: int
    """Rows that all runs were scored on."""
    runs: list[Beside]
    against: list[RunAgainst]
    """Each other run against the first."""


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


SHAPES: dict[str, type[Shape]] = {
    "result": Result,
    "check": CheckResult,
    "runs": Runs,
    "models": Models,
    "blend": Blend,
    "compare": Comparison,
    "verify": Verify,
    "reproduce": Reproduced,
    "licences": Licences,
}
