"""The rows of a run: train, validation and test, each with its files and with what was set aside, and why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith import plugins
from tunesmith.cache import cache_folder, prune
from tunesmith.contracts import BadRow, Row, Task
from tunesmith.data.columns import ColumnWriter, open_columns
from tunesmith.data.content import GROUP, SLICE, SOURCE, TIME
from tunesmith.data.files import SPLITS, find_files
from tunesmith.data.read import Batch, RowSet, read_batches, refuse_bad
from tunesmith.data.rows import StoredRows, identity, select
from tunesmith.data.split import intervals, sample, sampled, split_by_time, split_rows
from tunesmith.data.sums import of_code, sha256
from tunesmith.errors import DataError, RecipeError
from tunesmith.recipe import Part, Recipe
from tunesmith.recipefile import task_as_json, task_from

_KIND = "splits"
_FORM = 1


@dataclass(frozen=True)
class Splits:
    """The rows of each split in use, and the task that has learned from the training rows."""

    rows: Mapping[str, Sequence[Row]]
    bad: Mapping[str, tuple[BadRow, ...]]
    files: Mapping[str, tuple[str, ...]]
    task: Task
    made: tuple[str, ...]
    """Splits that were taken out of the training file."""
    read: Mapping[str, int]
    """Rows of each split before any limit."""
    begin: Mapping[str, float] = field(default_factory=dict)
    """The time that a split begins at, where rows were split by time."""

    def describe(self) -> dict[str, Any]:
        """`data.json`: per split its files, the rows used, and those set aside with the reason."""
        return {
            name: {
                "files": [{"path": path, "sha256": sha256(Path(path))} for path in self.files[name]],
                "rows": len(self.rows[name]),
                "read": self.read[name],
                "taken_from_train": name in self.made,
                **({"begins_at": self.begin[name]} if name in self.begin else {}),
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
    if isinstance(sets["train"].rows, StoredRows):
        return _kept(recipe, task, sets)
    return _split(recipe, task, sets)


def _split(recipe: Recipe, task: Task, sets: Mapping[str, RowSet]) -> Splits:
    learned = task.learn(sets["train"].rows)  # refuses what nothing can be learned from, before it is split
    rows: dict[str, Sequence[Row]] = {name: found.rows for name, found in sets.items()}
    split = recipe.data.split
    missing = () if "validation" in sets else tuple(name for name in ("validation", "test") if name not in sets)
    begin: dict[str, float] = {}
    if split.folds is not None and missing != ("validation", "test"):
        raise RecipeError(
            "folds choose the test rows, and there are rows for that already",
            where="data.split.folds",
            hint="leave `folds` out, or name one file that all rows are in",
        )
    said = {"validation": split.validation_from, "test": split.test_from}
    idle = next((name for name, at in said.items() if at is not None and name not in missing), None)
    if idle is not None:
        raise RecipeError(
            f"`{idle}_from` says where rows of `train` become those of `{idle}`, and none do",
            where=f"data.split.{idle}_from",
            hint=f"leave it out, or leave out the files that validation and test are read from ({', '.join(sets)})",
        )
    if missing:
        shares = {"validation": split.validation, "test": split.test}
        shares = {name: shares[name] for name in missing}
        if split.time is not None:
            given = {name: at for name in missing if (at := said[name]) is not None}
            parts, begin = split_by_time(sets["train"].rows, shares, given)
        else:
            fold = None if split.folds is None or split.fold is None else (split.fold, split.folds)
            parts = split_rows(sets["train"].rows, intervals(shares, fold))
        rows |= parts
        learned = task.learn(rows["train"])
    read = {name: len(part) for name, part in rows.items()}
    rows["train"] = sample(_capped(rows["train"], recipe.data.parts()), recipe.data.limit)
    if len(rows["train"]) < read["train"]:
        task.learn(rows["train"])  # a small sample may be of one label
    for name in ("validation", "test"):
        if name in rows:
            rows[name] = sample(rows[name], recipe.evaluate.limit)
    return Splits(
        rows={name: rows[name] for name in SPLITS if name in rows},
        bad={name: sets[name].bad if name in sets else () for name in rows},
        files={name: sets[name if name in sets else "train"].files for name in rows},
        task=learned,
        made=missing,
        read=read,
        begin=begin,
    )


def _capped(rows: Sequence[Row], parts: Sequence[Part]) -> Sequence[Row]:
    """The training rows, of each source at most its limit."""
    if all(part.limit is None for part in parts):
        return rows
    source = np.array([row.values.get(SOURCE, 0) for row in rows])
    chosen = []
    for number, part in enumerate(parts):
        mine = np.flatnonzero(source == number)
        chosen.append(mine[sampled(select(rows, mine), part.limit)])
    return select(rows, np.sort(np.concatenate(chosen)))


def _kept(recipe: Recipe, task: Task, sets: Mapping[str, RowSet]) -> Splits:
    """As `_split`, once for rows on disk: which of them are in which split is kept, and what the task learned."""
    try:
        folder = cache_folder(_KIND)
    except OSError:  # no cache can be had
        return _split(recipe, task, sets)
    prune(folder)
    place = folder / _name(recipe, task, sets)
    kept = open_columns(place, dict.fromkeys(SPLITS, np.int64), _FORM)
    if kept is None:
        found = _split(recipe, task, sets)
        _keep(place, found)
        return found
    columns, about = kept.columns, kept.about
    rows: dict[str, Sequence[Row]] = {}
    for name in SPLITS:
        if name in about["stored"]:
            whole = sets[name if name in sets else "train"].rows
            assert isinstance(whole, StoredRows)
            rows[name] = replace(whole, order=columns[name])
        elif name in sets:
            rows[name] = sample(sets[name].rows, recipe.evaluate.limit)
    return Splits(
        rows=rows,
        bad={name: sets[name].bad if name in sets else () for name in rows},
        files={name: sets[name if name in sets else "train"].files for name in rows},
        task=task_from(about["task"]),
        made=tuple(about["made"]),
        read=about["read"],
        begin=about["begin"],
    )


def _keep(place: Path, found: Splits) -> None:
    stored = {name: rows for name, rows in found.rows.items() if isinstance(rows, StoredRows)}
    writer = ColumnWriter(place, dict.fromkeys(SPLITS, np.int64), _FORM)
    try:
        for name, rows in stored.items():
            writer.append(name, rows.order)
        writer.close(
            {
                "stored": list(stored),
                "task": task_as_json(plugins.name_of("tasks", type(found.task)), found.task),
                "made": found.made,
                "read": dict(found.read),
                "begin": dict(found.begin),
            }
        )
    except BaseException:
        writer.drop()
        raise


def _name(recipe: Recipe, task: Task, sets: Mapping[str, RowSet]) -> str:
    """A sum of all that splits depend on."""
    data = recipe.data.model_dump(mode="json")
    said = [
        {name: identity(found.rows) for name, found in sets.items()},
        [data["limit"], data["split"], [part.limit for part in recipe.data.parts()], recipe.evaluate.limit],
        task_as_json(type(task).__name__, task),
        of_code(),
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def _of_split(given: str, name: str) -> list[Path]:
    """The files that a recipe names for a split: those of that name where they are a folder of splits. Raises
    DataError."""
    there = find_files(Path(given))
    if name in there:
        return there[name]
    if set(there) != {"train"}:
        raise DataError(
            f"the folder has no rows for `{name}`, but others",
            where=given,
            hint=f"name the file that is meant in `data.{name}`",
        )
    return there["train"]


def read_all(recipe: Recipe, task: Task) -> dict[str, RowSet]:
    """Split -> rows, as the recipe names them. Raises DataError."""
    batches = batches_of(recipe)
    return {name: read_batches(batches[name], task) for name in SPLITS if name in batches}


def batches_of(recipe: Recipe) -> dict[str, list[Batch]]:
    """Split -> files, as the recipe names them, and how they are read. Raises DataError."""
    batches: dict[str, list[Batch]] = {}
    split, parts = recipe.data.split, recipe.data.parts()
    beside = {name: column for name, column in ((GROUP, split.group), (TIME, split.time)) if column is not None}
    asked = dict.fromkeys((*recipe.evaluate.slices, *(f.by for f in recipe.evaluate.fairness if f.data is None)))
    shown = {SLICE + column: column for column in asked}
    for number, part in enumerate(parts):
        files = find_files(Path(part.path))
        for name in ("validation", "test"):
            given = getattr(recipe.data, name)
            if given is not None:
                files[name] = _of_split(given, name) if number == 0 else []
        for name, paths in files.items():
            batch = Batch(
                tuple(paths),
                {**recipe.column_map(), **part.columns},
                part.format or recipe.data.format,
                beside | shown,
                (*(beside.values() if name == "train" else ()), *(shown.values() if name != "validation" else ())),
                {SOURCE: number} if len(parts) > 1 else {},
            )
            batches.setdefault(name, []).append(batch)
    return batches
