"""The rows of a run: train, validation and test, each with its files and with what was set aside, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.contracts import BadRow, Row, Task
from tunesmith.data.files import SPLITS, find_files
from tunesmith.data.read import RowSet, read_rows, refuse_bad
from tunesmith.data.split import renumber, sample, split_rows
from tunesmith.errors import DataError
from tunesmith.recipe import Recipe


@dataclass(frozen=True)
class Splits:
    """The rows of each split in use, and the task that has learned from the training rows."""

    rows: Mapping[str, tuple[Row, ...]]
    bad: Mapping[str, tuple[BadRow, ...]]
    files: Mapping[str, tuple[str, ...]]
    task: Task
    made: tuple[str, ...]
    """Splits that were taken out of the training file."""
    read: Mapping[str, int]
    """Rows of each split before any limit."""

    def describe(self) -> dict[str, Any]:
        """`data.json`: per split its files, the rows used, and those set aside with the reason."""
        return {
            name: {
                "files": [{"path": path, "sha256": sha256(Path(path))} for path in self.files[name]],
                "rows": len(self.rows[name]),
                "read": self.read[name],
                "taken_from_train": name in self.made,
                "set_aside": [{"file": bad.file, "line": bad.line, "reason": bad.reason} for bad in self.bad[name]],
            }
            for name in self.rows
        }


def load(recipe: Recipe, task: Task) -> Splits:
    """Read, check, split and sample the rows of a recipe. Raises DataError.

    Where neither validation nor test is given, both are taken out of the training rows; where only test is given,
    validation is. A given validation without a test leaves the test out: its rows are not ours to choose.
    """
    sets = read_all(recipe, task)
    if recipe.data.bad_rows == "stop":
        refuse_bad([bad for found in sets.values() for bad in found.bad])
    for name, found in sets.items():
        if not found.rows:
            raise DataError(f"no row of `{name}` can be used", where=", ".join(found.files))
    learned = task.learn(sets["train"].rows)  # refuses what nothing can be learned from, before it is split
    rows: dict[str, list[Row]] = {name: list(found.rows) for name, found in sets.items()}
    shares = recipe.data.split.model_dump()
    missing = [name for name in ("validation", "test") if name not in sets]
    if "validation" in sets:
        missing = []
    made = tuple(missing)
    if missing:
        rows |= split_rows(sets["train"].rows, {name: shares[name] for name in missing})
        learned = task.learn(rows["train"])
    read = {name: len(part) for name, part in rows.items()}
    rows["train"] = renumber(sample(rows["train"], recipe.data.limit))
    if recipe.data.limit is not None:
        task.learn(rows["train"])  # a small sample may be of one label
    for name in ("validation", "test"):
        if name in rows:
            rows[name] = renumber(sample(rows[name], recipe.evaluate.limit))
    return Splits(
        rows={name: tuple(rows[name]) for name in SPLITS if name in rows},
        bad={name: sets[name].bad if name in sets else () for name in rows},
        files={name: sets[name if name in sets else "train"].files for name in rows},
        task=learned,
        made=made,
        read=read,
    )


def read_all(recipe: Recipe, task: Task) -> dict[str, RowSet]:
    """Split -> rows, as the recipe names them. Raises DataError."""
    files = find_files(Path(recipe.data.train))
    for name in ("validation", "test"):
        given = getattr(recipe.data, name)
        if given is not None:
            files[name] = find_files(Path(given))["train"]
    return {
        name: read_rows(files[name], task, recipe.column_map(), recipe.data.format) for name in SPLITS if name in files
    }


def sha256(path: Path) -> str:
    """Of a file's bytes; of an image folder, of the names and bytes of all that is in it."""
    if path.is_dir():
        digest = hashlib.sha256()
        for entry in sorted(entry for entry in path.rglob("*") if entry.is_file()):
            digest.update(f"{entry.relative_to(path)}\n{sha256(entry)}\n".encode())
        return digest.hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
