"""Every promise of a finished run, proved for that run: `tunesmith verify`."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tunesmith import judgement as judging
from tunesmith import predictor, promises, provenance, redo
from tunesmith.contracts import BadRow, Purpose, Row, Task
from tunesmith.data import splits
from tunesmith.data.files import raw_rows
from tunesmith.errors import DataError, TunesmithError
from tunesmith.models import adapted, anypeft, reopened
from tunesmith.models.model import Model
from tunesmith.predictor import Predictor, named_task
from tunesmith.prepare import Say
from tunesmith.promises import MANY, TOLERANCE, Check, difference, largest, near, some
from tunesmith.recipe import Recipe
from tunesmith.recipefile import make_plugin
from tunesmith.rundir import RunDir, finished_run

_STEPS = 4
"""Updates that are made again."""


def whole(path: Path, say: Say = lambda _: None) -> Iterator[Check]:
    """Every promise, of a finished run. Raises UserError where the run has no model yet or its rows cannot be read."""
    directory = finished_run(path)
    torch.set_num_threads(directory.json("plan")["threads"])
    tuned = predictor.load(path, precise=True)
    model, task = tuned.model, tuned.task
    found = splits.load(tuned.recipe, make_plugin("tasks", *named_task(tuned.recipe)))
    split = "test" if "test" in found.rows else "validation"
    gathered = {name: tuned.readable(task.gather(found.rows[name], model, "answer")) for name in ("train", split)}
    chosen = some(gathered[split], MANY)
    yield promises.rendering(model, task, list(_as_asked(tuned, found.rows["train"], gathered["train"])))
    say("opening the saved folder with Transformers")
    yield from promises.saved(model, task, tuned.run.model, chosen)
    yield _batches(model, task, chosen)
    say(f"scoring the {split} rows again")
    yield _scores(tuned, split, gathered[split])
    yield _merged(model, task, chosen)
    say(f"making the first {_STEPS} updates again, with a stop and without")
    yield from _resumed(tuned.run)


def _as_asked(tuned: Predictor, rows: Sequence[Row], gathered: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Rows as a user asks them, without their targets and from their files again, beside the same rows as trained on.
    Where several sources have columns of their own, without their targets alone."""
    targets = {name for name, column in tuned.task.columns.items() if column.target}
    chosen = some(gathered, MANY)
    parts = tuned.recipe.data.parts()
    raw = _raw(chosen, tuned.recipe) if len(parts) == 1 else {}
    places = {name for target in targets for name in (target, *tuned.task.columns[target].names)}
    for name, column in tuned.recipe.column_map().items():
        places |= ({column} if isinstance(column, str) else set(column)) if name in targets else set()
    for row in chosen:
        values = raw.get((row.file, row.line))
        if values is None:
            bare = {name: value for name, value in row.values.items() if name not in targets}
            yield replace(row, values=bare if type(tuned.task).gather is Task.gather else row.values), row
            continue
        kept = {name: value for name, value in values.items() if name not in places}
        try:
            made = tuned.row(row.id, kept, Path(row.file).parent)
        except DataError:
            if type(tuned.task).gather is Task.gather:
                raise
            continue
        yield made, row


def _raw(rows: Sequence[Row], recipe: Recipe) -> dict[tuple[str, int], dict[str, Any]]:
    """What the files hold of some rows, by place; nothing of those that are of no file."""
    wanted: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        if row.line:
            wanted[row.file].add(row.line)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    form = recipe.data.parts()[0].format or recipe.data.format
    for file, lines in wanted.items():
        for item in raw_rows(Path(file), form):
            if not isinstance(item, BadRow) and item[0] in lines:
                found[file, item[0]] = item[1]
                lines.discard(item[0])
                if not lines:
                    break
    return found


def _batches(model: Model, task: Task, rows: Sequence[Row]) -> Check:
    """Losses and answers of rows together, and of each by itself."""
    together: list[Any] = []
    alone: list[Any] = []
    purposes: tuple[Purpose, ...] = ("learn", "answer") if task.asks else ("learn",)
    for purpose in purposes:
        examples = [example for row in rows for example in task.encode(row, model, purpose)]
        ask: Any = task.assess if purpose == "learn" else task.predict
        with torch.no_grad():
            if found := ask(model, examples):
                together.append(list(found))
                alone.append([ask(model, [example])[0] for example in examples])
    gap, most = difference(together, alone), largest(together)
    said = f"losses and answers of {len(rows)} rows, together and one by one, differ by at most {gap:.1e}"
    return Check("batch size", gap <= TOLERANCE * max(1.0, most), said)


def _scores(tuned: Predictor, split: str, rows: Sequence[Row]) -> Check:
    """The report's scores, from the run's checkpoint."""
    if tuned.run.json("plan")["precision"] == "bf16":  # `tuned` is in full precision
        tuned = predictor.load(tuned.run.path)
    reported = tuned.run.json("report/report")["scores"][split]
    found = judging.score(tuned.model, tuned.task, split, rows, tuned.recipe.evaluate.answers).scores
    again = judging.as_json(found)[split]
    gap = difference(reported, again)
    name = "scores"
    if gap == 0:
        return Check(
            name, True, f"{len(reported)} scores of {len(rows)} {split} rows, and their intervals, are the report's"
        )
    return Check(
        name, gap <= TOLERANCE, f"scores of {len(rows)} {split} rows differ from the report's by up to {gap:.1e}"
    )


def _merged(model: Model, task: Task, rows: Sequence[Row]) -> Check:
    """Adapters beside the weights and inside them. The model is changed by it."""
    name = "merged"
    if model.peft is None and not list(adapted.found(model.net)):
        return Check(name, None, "there is no adapter to merge")
    if model.prefix:
        return Check(name, None, "virtual tokens are no weights")
    examples = [task.encode(row, model, "learn")[0] for row in rows]
    beside = [reopened.ours(model, example) for example in examples]
    try:
        anypeft.merge(model)
    except TunesmithError as fault:
        return Check(name, None, fault.problem)
    return near(name, "adapters inside the weights", beside, [reopened.ours(model, example) for example in examples])


def _resumed(directory: RunDir) -> Iterator[Check]:
    """The run's first updates again: at one go, and with a stop half way; and beside what the run wrote down."""
    steps = min(_STEPS, directory.status()["steps"] - 1)
    if steps < 2:
        yield Check("resume", None, "the run is too short to be stopped in")
        return
    with tempfile.TemporaryDirectory(prefix="tunesmith-verify-") as place:
        try:
            losses, weights = redo.follow(redo.again(directory, Path(place), "once"), steps)
            halves = redo.again(directory, Path(place), "halves")
            redo.follow(halves, steps // 2)
            second, stopped = redo.follow(halves, steps)
        except TunesmithError as fault:
            yield Check("resume", None, f"{fault.problem} ({fault.where})")
            return
    same = losses == second and weights.keys() == stopped.keys()
    same = same and all(torch.equal(weights[name], stopped[name]) for name in weights)
    said = f"{len(weights)} tensors after {steps} updates, stopped after {steps // 2} and resumed"
    yield Check("resume", same, f"{said}: {'the same bits' if same else 'not the same bits'}")
    first = {step: found for step, found in redo.losses_of(directory).items() if step <= steps}
    if directory.json("receipt")["machine"] != provenance.machine():
        yield Check("first updates", None, "the run was made on another machine, or by several processes")
        return
    gap = difference(first, losses)
    how = "are the run's to the bit" if gap == 0 else f"differ from the run's by {gap:.1e}"
    yield Check("first updates", gap == 0, f"losses of {steps} updates, made again, {how}")
