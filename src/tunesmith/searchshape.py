"""What `search --json` prints, and `report.json` of a search holds, as types. Stable."""

from __future__ import annotations

from typing import Any, Literal

from tunesmith.results import Advice, ScoreShape, Shape


class LookShape(Shape):
    """A trial's score on the rows that choose, on its way."""

    share: float
    """Of its updates that were made."""
    value: float


class AxisShape(Shape):
    """What may be tried of a parameter."""

    name: str
    """As in a trial's `params`."""
    low: float | None
    high: float | None
    """The ends of a range; None of choices."""
    log: bool
    integer: bool
    choices: list[str | int | float | bool | None] | None
    """None of a range."""


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
    looks: list[LookShape]
    """Those that were numbers, in their order."""
    recipe: str | None
    """File of its recipe in the search's folder; None where another machine has it."""


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
    axes: list[AxisShape]
    """The space; those of a choice's own options behind it."""
    trials: list[TrialShape]
    best: int | None
    """Number of the winner; None where the search was stopped before there was one."""
    recipe: str | None
    """File of the winning recipe."""
    changes: dict[str, Any]
    """Keys in which it differs from the recipe as it was -> their values in it."""
    run: str | None
    """Run directory of the winner."""
    optimism: Optimism | None
    seeds: Seeds | None
    importances: dict[str, float]
    """Parameter -> its share of what the scores vary by."""
    advice: list[Advice]
    """What to try next."""
    notes: list[str]
