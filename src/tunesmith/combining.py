"""Making one model of several trainings.

Written beside and renamed, so a combination that exists is complete; one that was killed is made anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from tunesmith import combinedscores, plugins, predictor, promises, provenance
from tunesmith.averaging import Averaging, Uniting
from tunesmith.combined import SEEN, Combination, Trained, sum_of
from tunesmith.contracts import Task
from tunesmith.errors import RecipeError, RunError
from tunesmith.events import Event, Phase
from tunesmith.methods.lora import Lora
from tunesmith.metrics.measured import Score
from tunesmith.models import save, soup
from tunesmith.prepare import untuned
from tunesmith.recipe import Plugin, Recipe
from tunesmith.recipefile import make_plugin, task_as_json, task_from
from tunesmith.rundir import COMBINED, RunDir, guarded, read_json, sync_folder, sync_tree, write_bytes, write_json
from tunesmith.train import checkpoint

How = Literal["weights", "ensemble"]
Stop = Callable[[], bool]
FOLDER = "combined"
"""Where the combinations of a folder of trainings are."""
_LABELS = ("labels", "types")
_UNITS = ("mean", "deviation")


def refuse(how: str, task: str) -> None:
    """Raise RecipeError for an ensemble of a task whose answers have no mean."""
    if how == "ensemble" and not issubclass(plugins.load("tasks", task), Averaging):
        raise RecipeError(
            f"answers of {task} have no mean: an ensemble averages labels' probabilities and numbers, not words "
            "that are written, spans, or the order of documents",
            where="evaluate.combine",
            hint="take `weights`: that is one model, which answers as any does",
        )


def combine(
    folder: Path, members: Sequence[Trained], how: How, single: Score, stop: Stop
) -> Generator[Event, None, dict[str, Any] | None]:
    """Make a combination of a folder's trainings: see repeatedshape.Combined; None where it was stopped, and nothing is
    left of it. `single` is what one training is worth. Raises UserError where they cannot be combined."""
    name = members[0].run.json("task")["name"]
    refuse(how, name)
    task = _task(members, how)
    for member in members:
        provenance.refuse_changed(member.run)
    place = folder / FOLDER
    with guarded(place):
        place.mkdir(exist_ok=True)
    with RunDir(place).lock():
        final, temporary = place / how, place / f".{how}.tmp"
        with guarded(final):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
        try:
            found = yield from _make(temporary, final, members, how, task, single, stop)
            if found is None:
                shutil.rmtree(temporary)
                return None
            with guarded(final):
                _replace(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return found


def _replace(temporary: Path, final: Path) -> None:
    """Put a whole combination in the place of the one before."""
    sync_tree(temporary)
    old = final.with_name(f".{final.name}.old.tmp")  # what a death leaves of it is swept by who holds the lock next
    if final.exists():
        final.rename(old)
    temporary.rename(final)
    shutil.rmtree(old, ignore_errors=True)
    sync_folder(final.parent)


def _make(
    place: Path, final: Path, members: Sequence[Trained], how: How, task: Task, single: Score, stop: Stop
) -> Generator[Event, None, dict[str, Any] | None]:
    """Write all of it into a folder that will be called `final`."""
    form = "answers"
    if how == "weights":
        made = yield from _averaged(place / "net", members, task, stop)
        if made is None:
            return None
        form, paths = made, ["net"]
    else:
        paths = [f"members/{member.name}" for member in members]
        for member, path in zip(members, paths, strict=True):
            state = checkpoint.read_best(member.run)
            resolved, plan = member.run.json("resolved"), member.run.json("plan")
            _write_run(place / path, resolved, member.run.json("task"), plan, state)
    yield Phase("scoring what was made of them")
    nets = [predictor.load(place / path) for path in paths]
    whole = Combination(place, task, nets, tested=True)
    rows = combinedscores.rows_of(members, whole)
    whole.task = combinedscores.settled(whole, rows)
    if stop():
        return None
    found = combinedscores.result(whole, members, how, form, rows, single, final)
    saved = task_as_json(found["task"], whole.task)
    card = combinedscores.card(found, members)
    if how == "weights":
        yield Phase("saving the model")
        write_json(place / "net" / "task.json", saved)
        precise = predictor.load(place / "net", precise=True).model
        labels = getattr(task, "labels", ())
        portable = task_as_json(found["task"], whole.task.portable(precise))
        save.save(precise, place / "model", labels, card, portable, final / "model")
        if whole.recipe.evaluate.verify:
            checks = promises.short(precise, whole.task, place / "model", rows.some)
            found["verified"] = [check.as_json() for check in checks]
    _write_about(place, found, saved, paths, card, rows.seen)
    return found


def _write_about(
    place: Path, found: Mapping[str, Any], task: Mapping[str, Any], paths: Sequence[str], card: str, seen: Any
) -> None:
    from safetensors.numpy import save as as_bytes

    write_bytes(place / SEEN, as_bytes({"content": seen}))
    write_bytes(place / "README.md", card.encode())
    nets = [{"path": path, "sha256": sum_of(RunDir(place / path))} for path in paths]
    write_json(place / f"{COMBINED}.json", {"result": found, "nets": nets, "task": task})


def _task(members: Sequence[Trained], how: How) -> Task:
    """The task of all members together. Raises RunError where they did not learn the same."""
    tasks = [task_from(member.run.json("task")) for member in members]
    for member, task in zip(members, tasks, strict=True):
        _refuse_other(member, task, tasks[0], _LABELS, "other labels")
        if how == "weights":
            _refuse_other(member, task, tasks[0], _UNITS, "numbers in other units (the mean and deviation of its rows)")
        if member.run.json("receipt")["model_sha256"] != members[0].run.json("receipt")["model_sha256"]:
            raise RunError("the training began with other weights than the first", where=str(member.run.path))
    first: Any = tasks[0]
    together: Any = first.united(tasks) if isinstance(first, Uniting) else first
    united: Task = together
    return united


def _refuse_other(member: Trained, task: Task, first: Task, names: Sequence[str], what: str) -> None:
    if any(getattr(task, name, None) != getattr(first, name, None) for name in names):
        raise RunError(
            f"the training learned {what} than the first, so the two have no mean",
            where=str(member.run.path),
            hint="use fewer folds, or add rows of the rare labels" if names is _LABELS else "take `ensemble`",
        )


def _averaged(
    place: Path, members: Sequence[Trained], task: Task, stop: Stop
) -> Generator[Event, None, soup.Form | None]:
    """Write a small run whose tensors are the mean of those of all; how they were averaged, or None if stopped."""
    first = predictor.load(members[0].run.path, precise=True)
    forms = dict.fromkeys((soup.form_of(first.model), "folded"))
    for form in forms:
        mean = soup.Mean()
        for number, member in enumerate(members, 1):
            if stop():
                return None
            yield Phase(f"averaging weights: {number} of {len(members)}")
            mean.add(soup.own(predictor.load(member.run.path, precise=True).model, form))
        recipe = _recipe(first.recipe, form, len(members))
        assert recipe.method is not None
        method = make_plugin("methods", recipe.method.name, recipe.method.options())
        state = soup.state_for(untuned(recipe, task, method, first.source), mean.made(), loose=form == "folded")
        if state is not None:
            saved = task_as_json(predictor.named_task(recipe)[0], task)
            _write_run(place, recipe.model_dump(mode="json"), saved, members[0].run.json("plan"), state)
            return form
    raise AssertionError("folded weights are always told by their state")


def _recipe(recipe: Recipe, form: soup.Form, count: int) -> Recipe:
    """The recipe of a net that can hold the mean of several."""
    assert recipe.method is not None
    if form == "adapters":
        method = make_plugin("methods", recipe.method.name, recipe.method.options())
        assert isinstance(method, Lora)
        named = Plugin.model_validate({"name": recipe.method.name, **asdict(method.end_to_end(count))})
        return recipe.model_copy(update={"method": named})
    if form == "folded":
        train = recipe.train.model_copy(update={"freeze": []})
        return recipe.model_copy(update={"method": Plugin(name="full"), "train": train})
    return recipe


def _write_run(
    place: Path, resolved: Mapping[str, Any], task: Mapping[str, Any], plan: Mapping[str, Any], state: dict[str, Any]
) -> None:
    """A run with what its model is made of, and no more."""
    with guarded(place):
        (place / "checkpoints").mkdir(parents=True)
    files = {"resolved": resolved, "task": task, "plan": {k: plan[k] for k in ("precision", "matmul") if k in plan}}
    for name, value in files.items():
        write_json(place / f"{name}.json", value)
    checkpoint.write(RunDir(place), state, {}, checkpoint.Progress(step=1, best_step=1))


def list_made(folder: Path) -> list[dict[str, Any]]:
    """What was made of a folder's trainings so far: see repeatedshape.Combined."""
    found = sorted((folder / FOLDER).glob(f"*/{COMBINED}.json"))
    return [read_json(path)["result"] for path in found if path.parent.name[0] != "."]
