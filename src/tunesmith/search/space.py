"""The space of a search: as it is written, or the few keys that matter for a method; and where the recipe's own point
lies in it. Optuna's names for what searchspace.py says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from tunesmith.prepare import Prepared
from tunesmith.recipe import Recipe
from tunesmith.searchspace import Axis, Choice, Range, axes_of, where_is

_SPREAD = 10.0
"""How far an `auto` space goes from the method's own learning rate, both ways."""
_FEWEST = 4
"""Rows of the smallest batch of an `auto` space."""
_OPTIONS: dict[str, tuple[str, Range]] = {
    "lora": ("rank", Range(4, 64, log=True, integer=True, points=5)),
    "bottleneck": ("width", Range(8, 128, log=True, integer=True, points=5)),
    "prompt-tuning": ("tokens", Range(5, 50, log=True, integer=True, points=4)),
}
"""Method -> the option that decides how much it can learn, and its usual values."""
_MOST_LAYERS = 4


@dataclass(frozen=True)
class Space:
    """Axes, and what is picked on them at the recipe's own point; None where that is no point of the space."""

    axes: tuple[Axis, ...]
    start: Mapping[str, Any] | None

    def ends(self) -> dict[str, tuple[float, float, bool]]:
        """Name of a range's axis -> its ends, and whether it is of logarithms; of choices' own axes too."""
        return dict(_ends(self.axes, ""))


def _ends(axes: Sequence[Axis], prefix: str) -> list[tuple[str, tuple[float, float, bool]]]:
    found = []
    for axis in axes:
        name = prefix + axis.key
        if axis.range is not None:
            found.append((name, (axis.range.low, axis.range.high, axis.range.log)))
        for choice in axis.choices:
            found += _ends(choice.inner, f"{name}.{choice.label}.")
    return found


def space_of(recipe: Recipe, prepared: Prepared) -> Space:
    """The space of a recipe's `search`; `prepared` is of the recipe's own point."""
    assert recipe.search is not None
    space = recipe.search.space
    axes = auto(prepared) if space == "auto" else axes_of(space)
    params: dict[str, Any] = {}
    for axis in axes:
        own = _value_at(prepared, axis.key)
        tried = (where_is((axis,), {axis.key: value}) for value in (own, *_with_defaults(axis, own, prepared)))
        found = next((point for point in tried if point is not None), None)
        if found is None:
            return Space(axes, None)
        params |= found
    return Space(axes, params)


def _with_defaults(axis: Axis, own: Any, prepared: Prepared) -> Iterator[dict[str, Any]]:
    """The recipe's own method, or task, with those options written out that a choice has axes for."""
    if axis.key in ("method", "task") and isinstance(own, dict):
        plugin = getattr(prepared, axis.key)
        for choice in axis.choices:
            options = {inner.key: getattr(plugin, inner.key, None) for inner in choice.inner}
            yield {**options, **own}


def auto(prepared: Prepared) -> tuple[Axis, ...]:
    """The learning rate around the method's own, the batch size, and what of the method decides how much it learns."""
    recipe = prepared.recipe
    assert recipe.method is not None
    rate = prepared.rates()[0]
    size = recipe.train.batch_size
    sizes = sorted({max(size // 2, _FEWEST), size, size * 2})
    axes = [
        Axis("train.learning_rate", Range(rate / _SPREAD, rate * _SPREAD, log=True, points=5)),
        Axis("train.batch_size", choices=tuple(Choice(size, size) for size in sizes)),
    ]
    if recipe.method.name in _OPTIONS:
        option, values = _OPTIONS[recipe.method.name]
        axes.append(Axis(f"method.{option}", values))
    if recipe.method.name == "top-layers":
        depths = range(1, min(prepared.model.depth, _MOST_LAYERS) + 1)
        axes.append(Axis("method.layers", choices=tuple(Choice(depth, depth) for depth in depths)))
    return tuple(axes)


def _value_at(prepared: Prepared, key: str) -> Any:
    """What a key is at the recipe's own point; what is left to the method or the model as it was resolved."""
    if key == "train.learning_rate" and prepared.recipe.train.learning_rate is None:
        return prepared.rates()[0]
    if key == "train.head_learning_rate" and prepared.recipe.train.head_learning_rate is None:
        return prepared.rates()[1]
    if key.startswith("method."):
        return getattr(prepared.method, key.removeprefix("method."), None)
    if key.startswith("task."):
        return getattr(prepared.task, key.removeprefix("task."), None)
    here: Any = prepared.recipe
    *path, last = key.split(".")
    for part in path:
        here = getattr(here, part, None)
    value = getattr(here, last, None)
    return value.model_dump(mode="json", exclude_unset=True) if isinstance(value, BaseModel) else value
