"""Whether the best trial lies at the edge of what was searched, and what to search instead.

A parameter is told where all of this holds: its range had at least eight trials that came to a score; the best one lies
in the outer tenth of the range, on its own scale (of logarithms, where the range is); the best three all lie in that
half of it, and on average further out than the others; it is not known to matter little; and the recipe takes values
further out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tunesmith.search.space import Space
from tunesmith.searchspace import PLUGINS, Axis, Choice, Range

if TYPE_CHECKING:
    from tunesmith.search.study import Line

FEWEST = 8
"""Trials that came to a score, from which an edge is told."""
_OUTER = 0.1
_BEST = 3
_MATTERS = 0.5
"""Of an equal share of the importances: what has less matters little."""
_MOST = 2
"""Parameters that are told, the most important first."""
_WIDER = (0.5, 0.25, 0.125)
"""Of its width, by which a range is made wider: the first that the recipe takes."""
Takes = Callable[[tuple[Axis, ...], Mapping[str, Any]], bool]
"""Axes, and what is picked on them -> whether such a recipe can be trained."""


@dataclass(frozen=True)
class Edge:
    """A parameter whose best value lies at an end of its range."""

    name: str
    range: Range
    upper: bool
    value: float


def advice(
    space: Space,
    auto: bool,
    best: Line,
    lines: Sequence[Line],
    importances: Mapping[str, float],
    higher_is_better: bool,
    takes: Takes,
) -> list[dict[str, Any]]:
    """See results.Advice: at most one, with the change of the space. `auto` is whether the recipe leaves the space to
    be found; then all of it is written out."""
    axes, told, keys = space.axes, [], []
    for edge in at_edge(space, best, lines, importances, higher_is_better):
        for part in _WIDER:
            range_ = wider(edge.range, edge.upper, part)
            changed = None if range_ is None else with_range(axes, edge.name, range_)
            if changed is not None and range_ is not None:
                end = range_.high if edge.upper else range_.low
                if takes(changed, {**best.params, edge.name: end}):
                    axes = changed
                    told.append(edge)
                    keys.append(next(axis.key for axis in axes if _within(edge.name, axis)))
                    break
        if len(told) == _MOST:
            break
    if not told:
        return []
    whole = as_written(axes)
    change = {"search.space": whole} if auto else {f"search.space.{key}": whole[key] for key in keys}
    ends = "; ".join(
        f"{edge.name} {_said(edge.value)} at the {'upper' if edge.upper else 'lower'} end of "
        f"{_said(edge.range.low)} to {_said(edge.range.high)}"
        for edge in told
    )
    return [{
        "sign": f"the best trial lies at the edge of what was searched, and the next best on the same side: {ends}",
        "do": "search further out",
        "change": change,
    }]  # fmt: skip


def at_edge(
    space: Space, best: Line, lines: Sequence[Line], importances: Mapping[str, float], higher_is_better: bool
) -> list[Edge]:
    """The parameters at an end of their range, the most important first."""
    sign = 1.0 if higher_is_better else -1.0
    found = []
    for name, of in ((name, axis.range) for name, axis in named(space.axes) if axis.range is not None):
        tried = [line for line in lines if name in line.params and line.value is not None]
        little = name in importances and importances[name] < _MATTERS / len(importances)
        if name not in best.params or len(tried) < FEWEST or little:
            continue
        upper = _place(of, best.params[name]) >= 0.5
        # Those that were pruned have fallen behind: whatever their score was then, it is no better.
        ranked = sorted(tried, key=lambda line: (line.state != "complete", -sign * (line.value or 0.0), line.number))
        third = (ranked[_BEST - 1].state, ranked[_BEST - 1].value)
        front = sum(place < _BEST or (line.state, line.value) == third for place, line in enumerate(ranked))
        out = [_outward(of, upper, line.params[name]) for line in ranked]
        ahead, behind = out[:front], out[front:]
        if _outward(of, upper, best.params[name]) < 1 - _OUTER or min(ahead) < 0.5 or not behind:
            continue
        if sum(ahead) / len(ahead) > sum(behind) / len(behind):
            found.append(Edge(name, of, upper, best.params[name]))
    return sorted(found, key=lambda edge: -importances.get(edge.name, 0.0))


def named(axes: Sequence[Axis], prefix: str = "") -> Iterator[tuple[str, Axis]]:
    """Every axis with its name; choices' own axes too, behind theirs."""
    for axis in axes:
        name = prefix + axis.key
        yield name, axis
        for choice in axis.choices:
            yield from named(choice.inner, f"{name}.{choice.label}.")


def _place(of: Range, value: float) -> float:
    """From 0 to 1, on the range's own scale."""
    if of.log:
        return math.log(value / of.low) / math.log(of.high / of.low)
    return (value - of.low) / (of.high - of.low)


def _outward(of: Range, upper: bool, value: float) -> float:
    place = _place(of, value)
    return place if upper else 1 - place


def wider(of: Range, upper: bool, part: float) -> Range | None:
    """A range that goes on at one end by a part of its width, to a round number; None where there is nothing beyond.
    One that begins at or above zero never goes below it."""
    if of.log:
        reach = (of.high / of.low) ** part
        end = of.high * reach if upper else of.low / reach
    else:
        end = of.high + part * (of.high - of.low) if upper else of.low - part * (of.high - of.low)
        end = max(end, 0.0) if of.low >= 0 else end
    end = float(f"{end:.2g}")
    if of.integer:
        end = max(math.ceil(end), of.high + 1) if upper else min(math.floor(end), of.low - 1)
    if (of.log and end <= 0) or (of.low >= 0 > end) or not (end > of.high if upper else end < of.low):
        return None
    return replace(of, high=end) if upper else replace(of, low=end)


def with_range(axes: Sequence[Axis], name: str, range_: Range, prefix: str = "") -> tuple[Axis, ...]:
    """The same axes, with another range on that of a name."""
    made = []
    for axis in axes:
        here = prefix + axis.key
        if axis.range is not None:
            made.append(replace(axis, range=range_) if here == name else axis)
            continue
        choices = tuple(
            replace(choice, inner=with_range(choice.inner, name, range_, f"{here}.{choice.label}."))
            for choice in axis.choices
        )
        made.append(replace(axis, choices=choices))
    return tuple(made)


def _within(name: str, axis: Axis) -> bool:
    return any(name == inner for inner, _ in named((axis,)))


def as_written(axes: Sequence[Axis]) -> dict[str, Any]:
    """Axes as a recipe's `search.space` has them."""
    return {axis.key: _written(axis) for axis in axes}


def _written(axis: Axis) -> Any:
    if axis.range is None:
        return [_of_choice(axis.key, choice) for choice in axis.choices]
    of = axis.range
    made: dict[str, Any] = {"from": of.low, "to": of.high}
    made |= {name: True for name in ("log", "integer") if getattr(of, name)}
    return made if of.points is None else {**made, "points": of.points}


def _of_choice(key: str, choice: Choice) -> Any:
    if not isinstance(choice.value, dict):
        return choice.value
    if key in PLUGINS and set(choice.value) == {"name"} and not choice.inner:
        return choice.value["name"]
    inner = {
        axis.key: _written(axis) if axis.range is not None else {"one_of": _written(axis)} for axis in choice.inner
    }
    return {**choice.value, **inner}


def _said(value: float) -> str:
    return f"{value:.3g}"
