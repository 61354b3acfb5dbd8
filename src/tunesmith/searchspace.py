"""The recipe's `search` section: which keys are tried at which values, and how. Knows no engine and no net.

A space is a list of axes. An axis is a range or a list of choices; a choice may be a plugin with ranges of its own,
which are there only where it is chosen. `walk` turns what was picked on the axes into values of the recipe's keys.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from pydantic import Field, model_validator

from tunesmith.errors import did_you_mean
from tunesmith.searchspread import Ray
from tunesmith.section import Section

Label = str | int | float | bool | None
Params = Mapping[str, Any]
"""Name of an axis (`train.learning_rate`, `method`, `method.lora.rank`) -> what was picked on it."""
_RANGE = ("from", "to", "log", "integer", "points")
PLUGINS = ("method", "task", "model")
"""Keys whose values may be mappings with a name."""
_NEVER = {
    "data": "the rows are what all trials are judged by",
    "run": "it says where a run is written, and changes no score",
    "search": "a search does not search itself",
    "evaluate": "it says how trials are judged, which must be alike for all",
    "train.seed": "a seed that scored best is luck; `search.seeds` repeats the winner with others",
}
"""Keys that may not be searched, and why."""


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, both included."""

    low: float
    high: float
    log: bool = False
    integer: bool = False
    points: int | None = None
    """How many of them a grid takes."""

    def grid(self) -> list[float]:
        """`points` of them, at equal steps (of the logarithm). Whole numbers come once each."""
        assert self.points is not None
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        steps = [low + (high - low) * k / (self.points - 1) for k in range(self.points)]
        values = [math.exp(step) if self.log else step for step in steps]
        values[0], values[-1] = self.low, self.high
        return list(dict.fromkeys(round(value) for value in values)) if self.integer else values

    def holds(self, value: Any) -> bool:
        """Whether a value lies in it."""
        number = isinstance(value, int if self.integer else int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """One of several values; `inner` are the axes of its own options."""

    label: Label
    """What it is called in a study: itself, where it is a plain value."""
    value: Any
    inner: tuple[Axis, ...] = ()


@dataclass(frozen=True)
class Axis:
    """A key of the recipe, or an option of a choice, and what may be picked for it."""

    key: str
    range: Range | None = None
    choices: tuple[Choice, ...] = ()

    @property
    def labels(self) -> list[Label]:
        """Of the choices."""
        return [choice.label for choice in self.choices]

    def chosen(self, label: Label) -> Choice:
        """The choice of that label."""
        return next(choice for choice in self.choices if _same(choice.label, label))


Pick = Callable[[str, Axis], Any]
"""Name and axis -> a number of its range, or the label of a choice."""


def walk(axes: Sequence[Axis], pick: Pick, prefix: str = "") -> dict[str, Any]:
    """Key -> value, by what is picked on each axis; on those of a choice only where it was chosen."""
    values: dict[str, Any] = {}
    for axis in axes:
        name = prefix + axis.key
        picked = pick(name, axis)
        if axis.range is not None:
            values[axis.key] = picked
            continue
        choice = axis.chosen(picked)
        inner = walk(choice.inner, pick, f"{name}.{choice.label}.")
        values[axis.key] = {**choice.value, **inner} if isinstance(choice.value, dict) else choice.value
    return values


def lookup(params: Params) -> Pick:
    """Picks what was picked before."""
    return lambda name, axis: params[name]


def grid(axes: Sequence[Axis], prefix: str = "") -> list[dict[str, Any]]:
    """Every point of a space, as what is picked. Ranges must have `points`."""
    each: list[list[dict[str, Any]]] = []
    for axis in axes:
        name = prefix + axis.key
        if axis.range is not None:
            each.append([{name: value} for value in axis.range.grid()])
            continue
        each.append(
            [
                {name: choice.label, **inside}
                for choice in axis.choices
                for inside in grid(choice.inner, f"{name}.{choice.label}.")
            ]
        )
    return [{name: value for part in parts for name, value in part.items()} for parts in product(*each)]


def where_is(axes: Sequence[Axis], values: Mapping[str, Any], prefix: str = "") -> dict[str, Any] | None:
    """What to pick to come to these values of the keys; None where the space does not hold them."""
    params: dict[str, Any] = {}
    for axis in axes:
        name, value = prefix + axis.key, values.get(axis.key)
        if axis.range is not None:
            if not axis.range.holds(value):
                return None
            params[name] = value
            continue
        for choice in axis.choices:
            inside = _inside(choice, value, f"{name}.{choice.label}.")
            if inside is not None:
                params |= {name: choice.label, **inside}
                break
        else:
            return None
    return params


def _inside(choice: Choice, value: Any, prefix: str) -> dict[str, Any] | None:
    """What is picked of a choice's own options to come to a value; None where it is another choice's."""
    if not isinstance(choice.value, dict):
        return {} if _same(choice.value, value) else None
    if not isinstance(value, dict):
        return None
    own = {axis.key for axis in choice.inner}
    if {key: part for key, part in value.items() if key not in own} != choice.value:
        return None
    return where_is(choice.inner, value, prefix)


def corners(axes: Sequence[Axis]) -> Iterator[tuple[str, Params]]:
    """Points that between them touch both ends of every range, and every choice, each with the axis that it is of: what
    is refused of a space is refused of one of these."""
    first = _first(axes, "")
    for axis in axes:
        for params in _ends(axis, ""):
            yield axis.key, {**first, **params}


def _first(axes: Sequence[Axis], prefix: str) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for axis in axes:
        name = prefix + axis.key
        if axis.range is not None:
            params[name] = _whole(axis.range, axis.range.low)
        else:
            choice = axis.choices[0]
            params |= {name: choice.label, **_first(choice.inner, f"{name}.{choice.label}.")}
    return params


def _ends(axis: Axis, prefix: str) -> Iterator[dict[str, Any]]:
    name = prefix + axis.key
    if axis.range is not None:
        low, high = axis.range.low, axis.range.high
        between = (
            () if axis.range.integer else (low + 0.618 * (high - low),)
        )  # what takes whole numbers only refuses it
        yield from ({name: _whole(axis.range, value)} for value in (low, high, *between))
    for choice in axis.choices:
        inside = f"{name}.{choice.label}."
        first = {name: choice.label, **_first(choice.inner, inside)}
        yield first
        for inner in choice.inner:
            yield from ({**first, **params} for params in _ends(inner, inside))


def _whole(of: Range, value: float) -> float:
    return int(value) if of.integer else value


def _same(a: Any, b: Any) -> bool:
    """Equal, and a truth value only to a truth value."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def axes_of(space: Mapping[str, Any]) -> tuple[Axis, ...]:
    """The axes of a space as it is written. Raises ValueError with the key and what to write."""
    for key in space:
        why = next((why for never, why in _NEVER.items() if key == never or key.startswith(f"{never}.")), None)
        if why is not None:
            raise ValueError(f"`search.space.{key}` cannot be searched: {why}")
        above = next((other for other in space if key.startswith(f"{other}.")), None)
        if above is not None:
            raise ValueError(
                f"`search.space` has `{above}` and `{key}`; write the second into a choice of the first: "
                f"`{above}: [{{name: ..., {key.rpartition('.')[2]}: ...}}]`"
            )
    return tuple(_axis(key, value, f"search.space.{key}") for key, value in space.items())


def _axis(key: str, value: Any, where: str) -> Axis:
    if isinstance(value, dict):
        return Axis(key, range=_range(value, where))
    if isinstance(value, list):
        return Axis(key, choices=_choices(key, value, where))
    raise ValueError(f"`{where}` is {value!r}; write a list of choices, or a range such as `{{from: 1, to: 8}}`")


def _range(written: Mapping[str, Any], where: str) -> Range:
    odd = next((str(key) for key in written if key not in _RANGE), None)
    if odd is not None:
        raise ValueError(f"`{where}` has no key `{odd}`; {did_you_mean(odd, _RANGE)}")
    ends = []
    for end in ("from", "to"):
        value = number(written.get(end))
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"`{where}.{end}` is {written.get(end)!r}; a range has two numbers, `from` and `to`")
        ends.append(value)
    low, high = ends
    log, integer, points = written.get("log", False), written.get("integer", False), written.get("points")
    if not isinstance(log, bool) or not isinstance(integer, bool):
        raise ValueError(f"`log` and `integer` of `{where}` are true or false")
    if not low < high:
        raise ValueError(f"`{where}` goes from {low} to {high}; `from` must be below `to`")
    if log and low <= 0:
        raise ValueError(f"`{where}` begins at {low}, which has no logarithm; begin above 0, or leave `log` out")
    if integer and not (float(low).is_integer() and float(high).is_integer()):
        raise ValueError(f"`{where}` is of whole numbers, and goes from {low} to {high}")
    if points is not None and (type(points) is not int or not 2 <= points <= 1000):
        raise ValueError(f"`{where}.points` is {points!r}; a grid takes 2 to 1000 points of a range")
    return Range(int(low) if integer else float(low), int(high) if integer else float(high), log, integer, points)


def _choices(key: str, written: Sequence[Any], where: str) -> tuple[Choice, ...]:
    if len(written) < 2:
        raise ValueError(f"`{where}` has {len(written)} choices; one alone belongs under `{key}` itself")
    choices: list[Choice] = []
    for place, value in enumerate(written):
        made = _choice(key, value, f"{where}.{place}")
        twins = sum(_same(other.value, made.value) and other.inner == made.inner for other in choices)
        if twins:
            raise ValueError(f"`{where}` has the choice {value!r} twice")
        alike = sum(str(other.label).partition(" #")[0] == str(made.label) for other in choices)
        label = f"{made.label} #{alike + 1}" if alike else made.label
        choices.append(Choice(label, made.value, made.inner))
    return tuple(choices)


def _choice(key: str, value: Any, where: str) -> Choice:
    if key in PLUGINS:
        if isinstance(value, str):
            value = {"name": value}
        elif isinstance(value, dict) and "encoder" in value:  # as the recipe itself keeps it
            value = {"name" if option == "encoder" else option: written for option, written in value.items()}
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise ValueError(f"`{where}` is {value!r}; write a name, or `{{name: ..., options}}`")
    if not isinstance(value, dict):
        plain = number(value)
        return Choice(json.dumps(plain) if isinstance(plain, list) else plain, plain)
    fixed: dict[str, Any] = {}
    inner: list[Axis] = []
    for option, written in value.items():
        if isinstance(written, dict) and "one_of" in written:
            if set(written) != {"one_of"} or not isinstance(written["one_of"], list):
                raise ValueError(f"`{where}.{option}` is written `{{one_of: [...]}}`, without other keys")
            inner.append(_axis(option, written["one_of"], f"{where}.{option}"))
        elif isinstance(written, dict) and ("from" in written or "to" in written):
            inner.append(_axis(option, written, f"{where}.{option}"))
        else:
            fixed[option] = number(written)
    return Choice(str(value.get("name", json.dumps(value))), fixed, tuple(inner))


def number(value: Any) -> Any:
    """YAML 1.1 reads `2e-5` as a string; a user means a number."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def as_search(value: Any) -> Any:
    """`search: auto` is a search of the usual keys."""
    return {"space": "auto"} if value == "auto" else value


class Search(Section):
    """What `tunesmith search` tries, and how it chooses."""

    space: Literal["auto"] | dict[str, Any] = "auto"
    """Key of the recipe -> `{from: 1e-5, to: 1e-3, log: true, integer: false}` or a list of choices, one of which may
    be `{name: lora, rank: {from: 4, to: 64}}`. `auto` takes the few that matter for the method, the learning rate
    first."""

    trials: int | None = Field(default=None, ge=1, le=100_000)
    """Trials, the recipe's own point among them. None makes 16; of a grid, all of its points."""

    sampler: Literal["tpe", "random", "grid", "cma-es"] = "tpe"
    """What proposes the next trial."""

    pruner: Literal["asha", "hyperband", "none"] = "asha"
    """What ends trials that fall behind, by their looks at the validation rows."""

    startup: int = Field(default=4, ge=1)
    """Finished trials before the sampler learns from them; those before are drawn at random."""

    together: int = Field(default=1, ge=1, le=16)
    """LoRA trials that train together over one frozen base, each as alone but for rounding: one base lies in memory
    for all. A trial that cannot join them is trained alone."""

    seeds: int = Field(default=3, ge=0, le=100)
    """Other seeds that the winner, and what it is compared with, are trained with. 0 leaves that out."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """The seed that all proposals come from."""

    storage: str | None = Field(default=None, min_length=1)
    """URL of a database that several machines share, such as `postgresql://...`. None keeps a journal in the
    search's folder, which several processes of one machine share."""

    ray: Ray | None = None
    """A cluster whose workers train the trials, by Ray Tune; it changes no proposal. None trains them in this
    process."""

    dir: str = "searches"
    """Folder that holds the searches."""

    @model_validator(mode="after")
    def _whole(self) -> Search:
        if self.ray is not None and self.together > 1:
            raise ValueError(
                "`search.together` trains trials in one process over one base, and `search.ray` gives each a worker of "
                "its own; leave one of them out"
            )
        if isinstance(self.space, dict):
            if not self.space:
                raise ValueError("`search.space` is empty; name a key, or write `space: auto`")
            axes = axes_of(self.space)
            lacking = _without_points(axes) if self.sampler == "grid" else None
            if lacking is not None:
                raise ValueError(
                    f"a grid needs to know how many points of `search.space.{lacking}` it takes; "
                    "add `points: 5` to the range, or write a list"
                )
        return self


def _without_points(axes: Sequence[Axis], prefix: str = "") -> str | None:
    for axis in axes:
        if axis.range is not None and axis.range.points is None:
            return prefix + axis.key
        for choice in axis.choices:
            found = _without_points(choice.inner, f"{prefix}{axis.key}.{choice.label}.")
            if found is not None:
                return found
    return None
