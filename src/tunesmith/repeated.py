"""One recipe trained several times, over folds of the rows and with several seeds, and what that tells: how far a score
moves by itself, and a score over all rows, each of which was tested once.

A folder holds a run directory for each part, and `repeated.json`. The folds' test rows are pooled: their measures are
sums, so the score of all rows is one of the usual scores, with the usual interval. Over seeds the mean is taken, with
rows drawn alike for all of them; what is left of it is the spread between seeds.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith import combining, recipefile, run, stats
from tunesmith import judgement as judging
from tunesmith.combined import Trained
from tunesmith.contracts import Metric, Task
from tunesmith.errors import RecipeError, RunError, TunesmithError
from tunesmith.events import Event, Finished, Phase
from tunesmith.metrics.measured import Measured, Score
from tunesmith.models import soup
from tunesmith.prepare import Prepared, Say, resolve
from tunesmith.provenance import default_name
from tunesmith.recipe import Recipe
from tunesmith.recipefile import task_from
from tunesmith.report import measures
from tunesmith.report.tables import final_split
from tunesmith.rundir import RunDir, guarded, list_runs, write_bytes, write_json

FILE = "repeated.json"
BEGUN = "repeat"
"""Name of the file that says what a folder of trainings was begun with."""
Stop = Callable[[], bool]


@dataclass(frozen=True)
class Part:
    """One training of the recipe."""

    name: str
    fold: int | None
    seed: int
    recipe: Recipe


def parts(recipe: Recipe, folder: Path) -> list[Part]:
    """The trainings that a recipe asks for. Raises RecipeError where folds are asked for twice."""
    folds, seeds = recipe.evaluate.folds, recipe.evaluate.seeds
    if folds is not None and recipe.data.split.folds is not None:
        raise RecipeError(
            "`evaluate.folds` trains on every fold, and `data.split.fold` names one",
            where="evaluate.folds",
            hint="keep one of the two",
        )
    made = []
    for fold in [None] if folds is None else range(folds):
        for number in range(seeds):
            seed = recipe.train.seed + number
            name = f"seed_{seed}" if fold is None else f"fold_{fold}_seed_{seed}"
            split = recipe.data.split.model_copy(update={} if fold is None else {"folds": folds, "fold": fold})
            changes = {
                "data": recipe.data.model_copy(update={"split": split}),
                "train": recipe.train.model_copy(update={"seed": seed}),
                "evaluate": recipe.evaluate.model_copy(update={"folds": None, "seeds": 1, "combine": "none"}),
                "run": recipe.run.model_copy(update={"dir": str(folder), "name": name}),
            }
            made.append(Part(name, fold, seed, recipe.model_copy(update=changes)))
    return made


def begin(recipe: Recipe, text: str | None, say: Say) -> tuple[Path, Recipe]:
    """A new folder for the trainings; the recipe with all that was found. Raises UserError before anything is
    written."""
    run.refuse_search(recipe)
    recipe, _, _, source = resolve(recipe, say)
    parts(recipe, Path())
    assert recipe.task is not None
    combining.refuse(recipe.evaluate.combine, recipe.task.name)
    parent = Path(recipe.run.dir)
    name = recipe.run.name or f"{default_name(recipe, source)}_repeated"
    with guarded(parent):
        parent.mkdir(parents=True, exist_ok=True)
        folder = next(path for path in _names(parent, name) if _made(path))
    write_bytes(folder / "recipe.yaml", (text if text is not None else recipefile.dump(recipe)).encode())
    write_json(folder / f"{BEGUN}.json", recipe.model_dump(mode="json"))
    return folder, recipe


def _names(parent: Path, name: str) -> Iterator[Path]:
    yield parent / name
    for number in range(2, 10_000):
        yield parent / f"{name}-{number}"
    raise RunError("ten thousand folders have this name", where=str(parent / name), hint="set `run.name`")


def _made(path: Path) -> bool:
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def recipe_of(folder: Path) -> Recipe:
    """What a folder of trainings was begun with. Raises RunError where it is none."""
    path = folder / f"{BEGUN}.json"
    if not path.is_file():
        raise RunError("this is no folder of repeated trainings", where=str(folder))
    return recipefile.build(RunDir(folder).json(BEGUN), source=str(path))


def go(folder: Path, recipe: Recipe, command: list[str], say: Say, stop: Stop) -> Generator[Event, None, bool]:
    """Train what is not finished: what happens. Returns whether all is done; a part that was stopped is gone on with
    when this is called again."""
    wanted = parts(recipe, folder)
    for number, part in enumerate(wanted, 1):
        there = RunDir(folder / part.name)
        if (there.path / "resolved.json").is_file():
            if (there.path / "status.json").exists() and there.status()["state"] == "finished":
                continue
            prepared = run.reopen(there, say)
        else:
            there, prepared = _begun(folder, part, recipe.evaluate.combine, command, say)
        yield Phase(f"{part.name}: {number} of {len(wanted)}")
        last: Event | None = None
        for last in run.go(there, prepared, stop):
            yield last
        if isinstance(last, Finished) and last.state == "stopped":
            return False
    found = summary(folder, recipe)
    how = recipe.evaluate.combine
    if how != "none" and not any(one["how"] == how for one in found["combined"]):
        return (yield from combine(folder, recipe, how, stop)) is not None
    write_json(folder / FILE, found)
    return True


def _begun(folder: Path, part: Part, how: str, command: list[str], say: Say) -> tuple[RunDir, Prepared]:
    """A part's run; where the very first cannot begin, or could not be combined with others, nothing is left of the
    folder."""
    first = not list_runs(folder)
    try:
        made, prepared = run.begin(part.recipe, None, command, say)
        if how == "weights":
            soup.refuse(prepared.model)
    except TunesmithError:
        if first:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return made, prepared


def combine(
    folder: Path, recipe: Recipe, how: combining.How, stop: Stop
) -> Generator[Event, None, dict[str, Any] | None]:
    """Make one model of trainings that have all finished, and write down what all of them tell: see
    repeatedshape.Combined; None where it was stopped. Raises RunError where one has not finished."""
    found = summary(folder, recipe)
    members = [Trained(part.name, part.fold, part.seed, RunDir(folder / part.name)) for part in parts(recipe, folder)]
    single = Score(**found["scores"][found["headline"]])
    try:
        made = yield from combining.combine(folder, members, how, single, stop)
    except TunesmithError:  # what the trainings tell is none the worse for it
        write_json(folder / FILE, found)
        raise
    if made is not None:
        write_json(folder / FILE, {**found, "combined": combining.list_made(folder)})
    return made


def summary(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """What all the trainings tell: see repeatedshape.Repeated. Raises RunError where one has not finished, or where
    folds learned different labels."""
    done = {made.path.name: made for made in list_runs(folder)}
    wanted = parts(recipe, folder)
    lost = next((part.name for part in wanted if part.name not in done), None)
    if lost is not None:
        raise RunError("a part was never trained", where=str(folder / lost), hint=f"`tunesmith resume {folder}`")
    reports = {part.name: done[part.name].json("report/report") for part in wanted}
    first = reports[wanted[0].name]
    metric = Metric(first["headline"], first["higher_is_better"])
    task: Task = task_from(done[wanted[0].name].json("task"))
    seeds = list(dict.fromkeys(part.seed for part in wanted))
    tuned = [_pooled([done[part.name] for part in wanted if part.seed == seed], "tuned") for seed in seeds]
    base = [_pooled([done[part.name] for part in wanted if part.seed == seed], "base") for seed in seeds]
    known = all(one.values for one in base)
    split = final_split(first)
    return {
        "folder": str(folder),
        "headline": metric.name,
        "higher_is_better": metric.higher_is_better,
        "parts": [
            {
                "run": str(done[part.name].path),
                "fold": part.fold,
                "seed": part.seed,
                "score": reports[part.name]["scores"][split][metric.name],
            }
            for part in wanted
        ],
        "scores": {name: asdict(score) for name, score in judging.mean_scores(task, tuned).items()},
        "base": {name: asdict(score) for name, score in judging.mean_scores(task, base).items()} if known else {},
        "between_seeds": _deviation([stats.value(task, one, metric.name) for one in tuned]),
        "between_folds": _deviation(
            [reports[part.name]["scores"][split][metric.name]["value"] for part in wanted if part.seed == seeds[0]]
        ),
        "verdicts": [asdict(stats.compare(task, metric, *pair)) for pair in zip(base, tuned, strict=True) if known],
        "combined": combining.list_made(folder),
    }


def _deviation(values: Sequence[float]) -> float | None:
    """The standard deviation of several numbers."""
    return statistics.stdev(values) if len(values) > 1 else None


def _pooled(runs: Sequence[RunDir], system: str) -> Measured:
    """The measures of the folds' test rows, end to end; empty where a run has no such system."""
    kept = [measures.unpack(made.report / "measures.safetensors") for made in runs]
    if any(system not in one.systems for one in kept):
        return Measured()
    whole = Measured()
    groups: dict[int, int] = {}
    offset = 0
    parts_of: dict[str, list[Any]] = {}
    for number, one in enumerate(kept):
        measured = one.systems[system]
        for name, values in measured.values.items():
            parts_of.setdefault(name, []).append((measured.rows[name] + offset, values))
        groups |= {row + offset: number * 2**32 + group for row, group in measured.groups.items()}
        offset += len(one.content)
    for name, found in parts_of.items():
        widths = {values.shape[1] for _, values in found}
        if len(widths) > 1 or len(found) < len(kept):
            raise RunError(
                "the folds learned different labels, so their rows cannot be pooled",
                where=str(runs[0].path.parent),
                hint="use fewer folds, or add rows of the rare labels",
            )
        whole.rows[name] = np.concatenate([rows for rows, _ in found])
        whole.values[name] = np.concatenate([values for _, values in found])
    return Measured(whole.rows, whole.values, groups)
