"""Paths of a recipe file: relative to the file, made absolute once it is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_PATHS = (
    ("data", "train"), ("data", "validation"), ("data", "test"), ("run", "dir"), ("task", "corpus"), ("search", "dir"),
    ("search", "storage"),
)  # fmt: skip


def _there(name: str, folder: Path) -> str:
    """The absolute path of a folder that is named from another; else the name."""
    if not name.strip():
        return name
    place = folder / os.path.expanduser(name)
    return str(place.resolve()) if place.is_dir() else name


def _absolute(path: str, folder: Path) -> str:
    """The absolute path of a file that is named from a folder. A URL stays, but for the file of a database."""
    scheme, mark, rest = path.partition("://")
    if not mark:
        return str(folder / os.path.expanduser(path))
    if scheme.startswith("sqlite") and rest.startswith("/") and rest[1:2] not in ("", "/", ":"):
        return f"{scheme}:///{folder / rest[1:]}"
    return path


def _anchored(source: Any, folder: Path) -> Any:
    """One of several sources, its path absolute."""
    if isinstance(source, str):
        return _absolute(source, folder)
    if isinstance(source, dict) and isinstance(source.get("path"), str):
        return {**source, "path": _absolute(source["path"], folder)}
    return source


def anchor(values: dict[str, Any], folder: Path) -> None:
    """Make the paths of a recipe file absolute."""
    if isinstance(values.get("data"), str | list):
        values["data"] = {"train": values["data"]}
    for section, key in _PATHS:
        part = values.get(section)
        if isinstance(part, dict) and isinstance(part.get(key), str):
            part[key] = _absolute(part[key], folder)
        elif isinstance(part, dict) and isinstance(part.get(key), list):
            part[key] = [_anchored(source, folder) for source in part[key]]
    evaluate = values.get("evaluate")
    groups = evaluate.get("fairness") if isinstance(evaluate, dict) else None
    for asked in groups if isinstance(groups, list) else [groups]:
        if isinstance(asked, dict) and isinstance(asked.get("data"), str):
            asked["data"] = _absolute(asked["data"], folder)
    for key in ("model", "method"):
        if key in values:
            values[key] = _anchored_plugin(key, values[key], folder)
    search = values.get("search")
    space = search.get("space") if isinstance(search, dict) else None
    for key in ("model", "method"):
        if isinstance(space, dict) and isinstance(space.get(key), list):
            space[key] = [_anchored_plugin(key, choice, folder) for choice in space[key]]


def _anchored_plugin(key: str, value: Any, folder: Path) -> Any:
    """A model or a method, its paths absolute."""
    if key == "model" and isinstance(value, str):
        return _there(value, folder)
    if key == "model" and isinstance(value, dict):
        names = {part: value[part] for part in ("name", "encoder", "decoder") if isinstance(value.get(part), str)}
        return {**value, **{part: _there(name, folder) for part, name in names.items()}}
    if key == "method" and isinstance(value, dict) and isinstance(value.get("start"), str):
        return {**value, "start": str(folder / os.path.expanduser(value["start"]))}
    return value
