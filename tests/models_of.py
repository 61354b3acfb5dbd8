"""Copies of a tiny model of which one file is changed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[Path], Any]


def copied(model: Path, here: Path, change: Change) -> Path:
    """A copy of a model's folder, changed."""
    folder = here / "model"
    shutil.copytree(model, folder)
    change(folder)
    return folder


def put(name: str, content: bytes | str) -> Change:
    """Give a file this content, whatever it held."""
    held = content if isinstance(content, bytes) else content.encode()

    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(held)

    return change


def drop(*names: str) -> Change:
    """Take files away."""

    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def keys(name: str, /, **values: Any) -> Change:
    """Set keys of a JSON file; None takes one away."""

    def change(folder: Path) -> None:
        held = json.loads((folder / name).read_text())
        held |= values
        (folder / name).write_text(json.dumps({k: v for k, v in held.items() if v is not None}))

    return change


def inside(name: str, path: str, value: Any) -> Change:
    """Set a value deep in a JSON file, by a dotted path."""

    def change(folder: Path) -> None:
        whole = json.loads((folder / name).read_text())
        here = whole
        *way, last = path.split(".")
        for part in way:
            here = here[part]
        here[last] = value
        (folder / name).write_text(json.dumps(whole))

    return change


def both(*changes: Change) -> Change:
    """One after the other."""

    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change
