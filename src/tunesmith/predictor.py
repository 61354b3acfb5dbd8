"""A finished (or stopped) run, ready to answer: the same rendering, the same net, the same numbers as in training."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tunesmith import encoding, recipefile
from tunesmith import judgement as judging
from tunesmith.contracts import Answer, BadRow, Row, Task
from tunesmith.data import splits
from tunesmith.data.files import find_files, raw_rows, unusable
from tunesmith.data.read import in_task_columns, map_columns, place_files, read_rows, refuse_bad
from tunesmith.data.split import sample
from tunesmith.errors import DataError, RunError, TunesmithError
from tunesmith.models import matmul
from tunesmith.models.catalog import Source
from tunesmith.models.model import Model
from tunesmith.prepare import find_model, part_refused, untuned
from tunesmith.recipe import Recipe
from tunesmith.recipefile import make_plugin, task_from
from tunesmith.rundir import COMBINED, RunDir, beside, guarded, open_model, open_run
from tunesmith.train import checkpoint, fit
from tunesmith.train.evaluate import answer_rows

_CHUNK = 1024
_ALONE = ("text", "image", "document", "source", "prompt", "query")
"""Columns that a row given as one text may be."""
Given = str | Mapping[str, Any]


class Predictor:
    """The tuned model of a run."""

    def __init__(self, run: RunDir, recipe: Recipe, task: Task, source: Source, model: Model) -> None:
        self.run = run
        self.recipe = recipe
        self.task = task
        self.source = source
        self.model = model

    def predict(self, rows: Sequence[Given], folder: Path | None = None) -> list[Answer]:
        """An answer per row: a text or the path of an image, or a mapping of the columns that training had (targets may
        be missing). Paths are from `folder`, else from here.

        Raises DataError that names the row by its position.
        """
        made = [self.row(number, row, folder or Path()) for number, row in enumerate(rows)]
        answers = self.answers(made)
        return [answers[row.id] for row in made]

    def answers(self, rows: Sequence[Row]) -> dict[int, Answer]:
        """Row id -> answer."""
        return answer_rows(self.model, self.task, rows)

    def judged(self, split: str, rows: Sequence[Row]) -> judging.Judgement:
        """What rows with their targets are worth."""
        return judging.score(self.model, self.task, split, rows, self.recipe.evaluate.answers)

    def row(self, number: int, given: Given, folder: Path = Path()) -> Row:
        """What is given of a row, as the task reads it. Raises DataError that names it by its position, from 0 on."""
        place = f"row {number + 1}"
        broken = unusable(dict(given) if isinstance(given, Mapping) else given)
        if broken:
            raise DataError(f"the row holds {broken}", where=place)
        if isinstance(given, str):
            asked = self.task.asked()
            column = next((name for name in _ALONE if name in asked), None)
            others = [name for name, one in asked.items() if one.required and name != column]
            if column is None or others:
                needed = ", ".join(f"`{name}`" for name in asked)
                raise DataError(f"a row of this task has {needed}", where=place, hint="give rows of a file: `--input`")
            values: dict[str, Any] = {column: given}
            place_files(self.task.columns, {column: [column]}, values, folder)
            reason = self.task.check_row(values, "answer")
            found: dict[str, Any] | str = reason if reason is not None else self.task.normalize(values)
        else:
            wanted = self.task.asked()
            said = {
                name: value  # what training called a column counts first; where it is not there, the task's own name
                for name, value in self.recipe.column_map().items()
                if name in wanted and any(part in given for part in ([value] if isinstance(value, str) else value))
            }
            mapping = map_columns(wanted, said, list(given), place)
            raw = dict(given)
            place_files(self.task.columns, mapping, raw, folder)
            found = in_task_columns(self.task, mapping, raw, "answer")
        if isinstance(found, str):
            raise DataError(found, where=place)
        return Row(number, found, place, 0)

    def predict_file(self, source: Path, target: Path) -> int:
        """Answer every row of a file into a .jsonl or .csv file that appears whole or not at all; returns the rows.

        Raises DataError for a row that cannot be answered, with its line.
        """
        kind = target.suffix.lower()
        if kind not in (".jsonl", ".csv"):
            raise DataError("answers are written to .jsonl or .csv", where=str(target))
        temporary = beside(target)
        count = 0
        with guarded(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(temporary, "w", encoding="utf-8", newline="") as file:
                    for chunk in _chunks(source):
                        raw = [values for _, values in chunk]
                        try:
                            answers = self.predict(raw, source.parent)
                        except DataError as fault:
                            told = re.fullmatch(r"row (\d+)", fault.where or "")
                            if told is None:  # of another file
                                raise
                            number = int(told.group(1))
                            where = f"{source}:{chunk[number - 1][0]}"
                            raise DataError(fault.problem, where=where, hint=fault.hint) from None
                        for values, answer in zip(raw, answers, strict=True):
                            file.write(_pair(values, answer) if kind == ".csv" else _line(values, answer))
                            count += 1
                if kind == ".csv":
                    _as_csv(temporary)
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return count

    def evaluate(self, data: Path | None = None, columns: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The object that `evaluate --json` prints, for the run's own test rows or for the rows of a file.

        The base and the baselines are fitted on the run's training rows; where those are gone, it says so.
        """
        began = time.perf_counter()
        notes: list[str] = []
        given, split = self.rows_to_score(data, columns or {}, notes)
        rows = self.readable(self.task.gather(given, self.model, "answer"))
        if len(rows) < len(given):
            notes.append(
                f"{len(given) - len(rows)} of {len(given)} rows are more than the model takes and were left out"
            )
        result = self.judged(split, rows)
        seconds = {"evaluate": time.perf_counter() - began}
        if self.recipe.evaluate.compare:
            began = time.perf_counter()
            try:
                own = splits.load(self.recipe, make_plugin("tasks", *named_task(self.recipe))).rows
            except TunesmithError as fault:
                notes.append(f"no base and no baselines: {fault.problem}")
            else:
                fitted = {name: self.readable(own[name]) for name in ("train", "validation")}
                for _ in judging.compare(result, self.task, self.recipe, self.source, fitted, rows):
                    pass
                seconds["compare"] = time.perf_counter() - began
        metric = judging.headline(self.task, result.scores[split])
        return {
            "run": str(self.run.path),
            "state": "finished",
            "task": named_task(self.recipe)[0],
            "headline": metric.name,
            "higher_is_better": metric.higher_is_better,
            "scores": judging.as_json(result.scores),
            "base": judging.as_json(result.base),
            "baselines": {name: judging.as_json(found) for name, found in result.baselines.items()},
            "verdict": vars(result.verdict) if result.verdict else None,
            "win_rate": vars(result.win_rate) if result.win_rate else None,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "tokens": {"real": 0, "padded": 0, "label": 0},
            "peak_memory_bytes": fit.peak_bytes(),
            "notes": notes,
            "verified": [],
        }

    def readable(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows that the model can take, where the recipe leaves the others out."""
        if self.recipe.data.bad_rows == "stop":
            return rows
        _, refused = encoding.encode(named_task(self.recipe)[0], self.task, rows, self.model)
        kept, lost = part_refused(rows, refused)
        if not kept:
            raise DataError("no row can be used", where=lost[0].file)
        return kept if lost else rows

    def rows_to_score(
        self, data: Path | None, columns: Mapping[str, str], notes: list[str]
    ) -> tuple[Sequence[Row], str]:
        """The run's own test rows, or those of a file, and what they are called."""
        if data is None:
            found = splits.load(self.recipe, make_plugin("tasks", *named_task(self.recipe)))
            split = "test" if "test" in found.rows else "validation"
            return found.rows[split], split
        said = {**self.recipe.column_map(), **columns}
        there = find_files(data)
        files = there["train"] if set(there) == {"train"} else there.get("test", [data])
        made = read_rows(files, self.task, said)
        if self.recipe.data.bad_rows == "stop":
            refuse_bad(made.bad)
        if not made.rows:
            raise DataError("no row can be used", where=str(data))
        return sample(made.rows, self.recipe.evaluate.limit), "data"


def load(path: str | Path, *, precise: bool = False) -> Predictor:
    """The tuned model of a run, from its best checkpoint, or a combination of some; `precise` leaves it in full
    precision where it was tuned in half. Raises RunError when it has none yet."""
    open_model(Path(path))
    if (Path(path) / f"{COMBINED}.json").is_file():
        from tunesmith import combined

        return combined.load(Path(path), precise=precise)
    run = open_run(Path(path))
    recipe = recipefile.build(run.json("resolved"), source=str(run.path / "resolved.json"))
    if checkpoint.best_folder(run) is None:
        raise RunError(
            "the run has no scored checkpoint yet",
            where=str(run.path),
            hint=f"`tunesmith resume {run.path}` goes on with it",
        )
    task = task_from(_as_saved_now(run.json("task")))
    source = find_model(recipe)
    assert recipe.method is not None
    method = make_plugin("methods", recipe.method.name, {**recipe.method.options()})
    model = untuned(recipe, task, method, source)
    model.load_state(checkpoint.read_best(run))
    plan = run.json("plan")
    if plan.get("precision") == "bf16" and not precise:
        model.halve()
    model.net.eval()
    model.matmul = matmul.named(plan.get("matmul", "blas"))
    return Predictor(run, recipe, task, source, model)


def _as_saved_now(saved: dict[str, Any]) -> dict[str, Any]:
    """A task as this version saves it: earlier ones guessed the room of answers from their characters."""
    characters = saved.get("longest_answer")
    if characters is None or saved.get("max_new_tokens") is not None:
        return saved
    return {**saved, "max_new_tokens": max(16, int(1.2 * characters / 2.5))}


def named_task(recipe: Recipe) -> tuple[str, dict[str, Any]]:
    """Name and options of a run's task."""
    assert recipe.task is not None
    return recipe.task.name, recipe.task.options()


def _chunks(source: Path) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    items = raw_rows(source)
    while chunk := list(islice(items, _CHUNK)):
        refuse_bad([item for item in chunk if isinstance(item, BadRow)])
        yield [item for item in chunk if not isinstance(item, BadRow)]


def _line(values: dict[str, Any], answer: Answer) -> str:
    return json.dumps({**values, "prediction": answer}, ensure_ascii=False, default=str) + "\n"


def _pair(values: dict[str, Any], answer: Answer) -> str:
    return json.dumps([values, answer], ensure_ascii=False, default=str) + "\n"


def _as_csv(path: Path) -> None:
    """Turn a file of `_pair`s into a table of all columns that any row has; an answer's objects are left out."""
    columns: dict[str, None] = {}
    for row in _flat_rows(path):
        columns |= dict.fromkeys(row)
    made = path.with_name(path.name + ".csv")
    try:
        with open(made, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(columns), restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(_flat_rows(path))
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)


def _flat_rows(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            row, answer = json.loads(line)
            row |= {f"predicted_{name}": value for name, value in answer.items() if not isinstance(value, dict)}
            yield {k: json.dumps(v, ensure_ascii=False) if isinstance(v, list | dict) else v for k, v in row.items()}
