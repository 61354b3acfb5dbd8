"""A search: a recipe's space becomes trials, the trials a winner, the winner a run. The only module of the search that
joins the others. `begin` or `reopen`, then `go`, as of a run."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import recipefile
from tunesmith.contracts import Metric
from tunesmith.data import sql
from tunesmith.data.rows import select
from tunesmith.data.split import sampled
from tunesmith.data.sums import of_code
from tunesmith.diagnosis import diagnose, refuse, refuse_unknown
from tunesmith.errors import RecipeError, RunError
from tunesmith.events import Phase, Warned
from tunesmith.models import matmul
from tunesmith.prepare import Prepared, Say
from tunesmith.recipe import Recipe
from tunesmith.search import report, winner
from tunesmith.search.directory import SearchDir, create, open_search
from tunesmith.search.events import Closed, Opened, SearchEvent
from tunesmith.search.opening import Opening, made_of, unlike
from tunesmith.search.shared import Shared
from tunesmith.search.space import space_of
from tunesmith.search.work import Stop, run_some
from tunesmith.train.evaluate import judge, value_of

if TYPE_CHECKING:
    from tunesmith.search.study import Line, Study

_FEW = 8
"""Rows that are scored to learn what the scores are called."""
_PATIENCE = 1.0
"""Seconds between looks at what other processes are doing."""


def refuse_without_engine(recipe: Recipe | None = None) -> None:
    """Raise RecipeError where the library that proposes trials is not installed, or the one that spreads them."""
    lacking = [name for name in ("optuna", "cmaes") if find_spec(name) is None]
    if lacking:
        raise RecipeError(
            f"a search needs the package {lacking[0]}", where="search", hint="pip install 'tunesmith[search]'"
        )
    if recipe is not None and recipe.search is not None and recipe.search.ray is not None and find_spec("ray") is None:
        raise RecipeError(
            "a search over several machines needs the package ray",
            where="search.ray",
            hint="pip install 'tunesmith[ray]', here and on each machine; or leave `search.ray` out",
        )


def begin(recipe: Recipe, text: str | None, say: Say = lambda _: None) -> Opening:
    """The search of a recipe: a new one, or that of the same recipe where its folder is there already.

    Raises UserError before anything is written.
    """
    refuse_without_engine(recipe)
    if recipe.search is None:
        raise RecipeError(
            "the recipe has no `search`",
            where="search",
            hint="add `search: auto`, or a `search.space` such as `{train.batch_size: [8, 16, 32]}`",
        )
    if recipe.evaluate.repeated:
        raise RecipeError(
            "a search trains each trial once, and its winner with `search.seeds` others",
            where="evaluate.folds" if recipe.evaluate.folds is not None else "evaluate.seeds",
            hint="leave it out; `tunesmith train` of the winning recipe takes it",
        )
    opening, prepared = _open(recipe, None, say)
    shown = recipe.model_copy(update={"search": recipe.search.model_copy(update={"storage": _shown(recipe)})})
    made = made_of(prepared)
    files = {
        "recipe.yaml": sql.safe(text) if text is not None else recipefile.dump(shown),
        "resolved.json": shown.model_dump(mode="json"),
        "made_of.json": made,
    }
    path = opening.directory.path
    directory = open_search(path) if path.exists() else create(path, files)
    return _settled(replace(opening, directory=directory), made)


def reopen(path: Path, say: Say = lambda _: None) -> Opening:
    """The search in a folder, to go on with. Raises UserError, also where its rows or its model have changed."""
    directory = open_search(path)
    recipe = recipefile.build(directory.json("resolved"), source=str(path / "resolved.json"))
    refuse_without_engine(recipe)
    assert recipe.search is not None
    if recipe.search.storage is not None and "***" in recipe.search.storage:
        raise RunError("the password of the database is not kept", where=str(path), hint="`tunesmith search RECIPE`")
    opening, prepared = _open(recipe, directory, say)
    return _settled(opening, made_of(prepared))


def _settled(opening: Opening, made: Mapping[str, Any]) -> Opening:
    """An opening whose trials are comparable with those of its folder. Raises RunError where they cannot be."""
    _refuse_changed(opening.directory, made)
    opening.shared.matmul = matmul.named(opening.directory.json("made_of")["matmul"])
    return opening


def _shown(recipe: Recipe) -> str | None:
    """The database's URL without its password."""
    assert recipe.search is not None
    return None if recipe.search.storage is None else sql.safe(recipe.search.storage)


def _open(recipe: Recipe, directory: SearchDir | None, say: Say) -> tuple[Opening, Prepared]:
    """Prepare the recipe's own point: what is wrong with it is wrong with the search."""
    assert recipe.search is not None
    refuse_unknown(recipe.data.allow)
    shared = Shared()
    prepared = shared.prepare(recipe.model_copy(update={"search": None}), say)
    refuse(diagnose(prepared, quick=True), recipe.data.allow)
    resolved = prepared.recipe
    space = space_of(recipe.model_copy(update={"method": resolved.method}), prepared)
    kept: dict[str, Any] = {"data": resolved.data, "task": resolved.task}
    if not any(axis.key == "model" for axis in space.axes):
        kept["method"] = resolved.method  # else each model has its own usual one
    base = recipe.model_copy(update={**kept, "search": None})
    metric = _metric(prepared)
    path = Path(recipe.search.dir) / _name(recipe, prepared) if directory is None else directory.path
    tested = prepared.final_split == "test"
    return Opening(SearchDir(path), recipe, base, space, metric, tested, shared), prepared


def _metric(prepared: Prepared) -> Metric:
    """What picks checkpoints and trials: what the scores are called is told by scoring a few rows."""
    rows = prepared.splits.rows["validation"]
    few = select(rows, sampled(rows, _FEW))
    prepared.task.refit(prepared.model, prepared.splits.rows["train"])
    return prepared.task.watched(value_of(prepared.task, judge(prepared.model, prepared.task, few, answers=0).measured))


def _name(recipe: Recipe, prepared: Prepared) -> str:
    """data _ model _ hash of the recipe: the same recipe has the same folder, whoever begins it and when."""
    path = Path(recipe.data.parts()[0].path)
    data = re.sub(r"[^a-z0-9]+", "-", (path.stem if path.is_file() else path.name).lower()).strip("-") or "data"
    return f"{data}_{prepared.source.label}_{recipefile.digest(recipe)[:6]}"


def _refuse_changed(directory: SearchDir, now: Mapping[str, Any]) -> None:
    """Raise RunError where trials to come would not be comparable with those that have finished."""
    then = directory.json("made_of")
    odd = unlike(then, now)
    if odd is not None:
        raise RunError(
            f"the {odd[0]} have changed since the search began, so its trials could not be compared: {odd[1]}",
            where=str(directory.path),
            hint="put the old file back; or remove the folder, or set another `search.seed`, to begin anew",
        )


def go(opening: Opening, stop: Stop = lambda: False) -> Generator[SearchEvent, None, None]:
    """Run trials until none is left, then the winner: what happens. Any number of processes may do so at once.

    Leaving the iteration, or `stop`, lets go of the trials at hand, which are run again later. Raises RunError
    when every trial has failed.
    """
    from tunesmith.search.study import Study

    assert opening.recipe.search is not None
    directory = opening.directory
    study = Study(directory, opening.recipe.search, opening.space, opening.metric.higher_is_better)
    ended = sum(line.ended for line in study.lines())
    axes = tuple(axis.key for axis in opening.space.axes)
    yield Opened(str(directory.path), opening.metric.name, study.target, ended, axes)
    if directory.json("made_of")["code_sha256"] != of_code():
        yield Warned("Tunesmith itself has changed since the search began: trials before are of the code before")
    some = run_some if opening.recipe.search.ray is None else _spread()
    waiting = False
    while True:
        if stop():
            yield Closed("stopped")
            return
        claimed = yield from some(opening, study, stop)
        if claimed:
            waiting = False
        elif all(line.ended for line in study.lines()):
            break
        else:
            if not waiting:
                yield Phase("waiting for the trials of other processes")
            waiting = True
            time.sleep(_PATIENCE)
    report.table(directory, study.lines())  # a death may have come between a trial's end and its line
    _refuse_failed(study.lines())
    yield from winner.choose(opening, study, stop)
    yield Closed("finished" if directory.has("report") else "stopped")


def _spread() -> Callable[[Opening, Study, Stop], Generator[SearchEvent, None, bool]]:
    """As `run_some`, on workers of a cluster."""
    from tunesmith.search.ray_tune import run_spread

    return run_spread


def _refuse_failed(lines: list[Line]) -> None:
    """Raise RunError with the commonest reason where no trial came to a score."""
    if any(line.state == "complete" for line in lines):
        return
    reasons = [line.said for line in lines if line.state == "failed"]
    commonest = max(reasons, key=reasons.count)
    raise RunError(
        f"every trial failed; the commonest reason, {reasons.count(commonest)} of {len(reasons)} times: {commonest}",
        where="search.space",
        hint="narrow the space, or try its points with `tunesmith train`",
    )


def so_far(opening: Opening) -> dict[str, Any]:
    """What `--json` prints of a search that was stopped."""
    from tunesmith.search.study import Study

    assert opening.recipe.search is not None
    study = Study(opening.directory, opening.recipe.search, opening.space, opening.metric.higher_is_better)
    return {
        **report.tried(opening, study, study.lines(), "stopped"),
        "best": None,
        "recipe": None,
        "changes": {},
        "run": None,
        "optimism": None,
        "seeds": None,
        "importances": {},
        "advice": [],
        "notes": [f"stopped; `tunesmith search {opening.directory.path}` goes on"],
    }
