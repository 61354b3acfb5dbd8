"""Plugins by file name: `tasks/text_classification.py` is the task `text-classification`.

A plugin module names its class in `plugin`. Others bring theirs through the entry-point groups
`tunesmith.tasks`, `tunesmith.methods`, `tunesmith.formats` and `tunesmith.checks`. Nothing is registered by running
code.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal

from tunesmith.errors import RecipeError, did_you_mean

Kind = Literal["tasks", "methods", "formats", "checks"]
_PACKAGES: dict[str, str] = {
    "tasks": "tunesmith.tasks",
    "methods": "tunesmith.methods",
    "formats": "tunesmith.data.formats",
    "checks": "tunesmith.doctor.checks",
}


@cache
def _places(kind: Kind) -> dict[str, str]:
    package = importlib.import_module(_PACKAGES[kind])
    places = {
        found.name.replace("_", "-"): f"{_PACKAGES[kind]}.{found.name}"
        for found in pkgutil.iter_modules(package.__path__)
    }
    for point in entry_points(group=f"tunesmith.{kind}"):
        places.setdefault(point.name, point.module)
    return places


def names(kind: Kind) -> list[str]:
    """Every plugin of a kind, without importing any."""
    return sorted(_places(kind))


def load(kind: Kind, name: str) -> Any:
    """The plugin's class (tasks, methods) or its module (formats, checks).

    Raises RecipeError when there is none of that name.
    """
    place = _places(kind).get(name)
    if place is None:
        raise RecipeError(f"there is no {kind[:-1]} `{name}`", where=kind[:-1], hint=did_you_mean(name, names(kind)))
    module = importlib.import_module(place)
    return module if kind in ("formats", "checks") else module.plugin


def name_of(kind: Kind, plugin: type) -> str:
    """The name under which a plugin's class is found. Raises KeyError for one that is none."""
    return {place: name for name, place in _places(kind).items()}[plugin.__module__]
