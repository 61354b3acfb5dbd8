"""The composition root: a recipe becomes a run directory, and a run directory is trained, resumed and judged."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tunesmith import recipefile
from tunesmith.attempt import State, work
from tunesmith.data import sql, tokens
from tunesmith.diagnosis import diagnose, refuse, refuse_unknown
from tunesmith.errors import RecipeError, RunError, TunesmithError, memory_told
from tunesmith.events import Event, Finished, describe
from tunesmith.evidence import fairness
from tunesmith.prepare import Prepared, Say, prepare
from tunesmith.provenance import (
    default_name,
    differences,
    examples_hash,
    model_hash,
    plan_json,
    receipt,
    refuse_changed,
    task_json,
)
from tunesmith.recipe import Recipe
from tunesmith.rundir import RunDir, create, guarded, open_run
from tunesmith.train import fit, ranging
from tunesmith.train.fit import Fit
from tunesmith.train.optimizer import moments_of
from tunesmith.train.ranks import ALONE, Ranks
from tunesmith.ways import PLAIN, Ways


def begin(
    recipe: Recipe,
    text: str | None,
    command: list[str],
    say: Say = lambda _: None,
    ranks: Ranks = ALONE,
    ways: Ways = PLAIN,
) -> tuple[RunDir, Prepared]:
    """A new run directory and all that training it needs. Raises UserError before anything is written."""
    refuse_search(recipe)
    refuse_unknown(recipe.data.allow)
    prepared = ranks.in_turn(lambda: prepare(recipe, say, ways=ways))
    path = ranks.from_first(lambda: str(_make(prepared, text, command, ranks).path))
    return RunDir(Path(path)), prepared


def refuse_search(recipe: Recipe) -> None:
    """Raise RecipeError for a recipe that is to be searched, not trained."""
    if recipe.search is not None:
        raise RecipeError(
            "the recipe has a `search`, and this trains one model",
            where="search",
            hint="`tunesmith search RECIPE` does what it says; or take `search` out",
        )


def _make(prepared: Prepared, text: str | None, command: list[str], ranks: Ranks) -> RunDir:
    """Look at the rows, measure, and write down all that the run is."""
    recipe = prepared.recipe
    prepared.findings = diagnose(prepared, quick=True)
    refuse(prepared.findings, recipe.data.allow)
    fairness.refuse(recipe, prepared.task, prepared.splits.rows[prepared.final_split])
    plan = plan_of(prepared, ranks)
    files = {
        "recipe.yaml": sql.safe(text) if text is not None else recipefile.dump(prepared.recipe),
        "resolved.json": prepared.recipe.model_dump(mode="json"),
        "receipt.json": receipt(prepared, command),
        "data.json": prepared.splits.describe(),
        "task.json": task_json(prepared),
        "plan.json": plan,
    }
    place = recipe.run
    return create(Path(place.dir), place.name or default_name(recipe, prepared.source), files)


def plan_of(prepared: Prepared, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Measure, and decide by it: what `plan.json` holds. The net and the generators are left as found."""
    recipe = prepared.recipe
    began = time.perf_counter()
    measured = fit.fit(
        prepared.model,
        prepared.task,
        tokens.longest(prepared.examples, recipe.train.batch_size, fit.PROBE),
        recipe.train.memory,
        recipe.train.batch_size,
        moments=moments_of(recipe.train),
        processes=ranks.here,
    )
    prepared.peak_bytes = measured.before_bytes
    prepared.seconds["measure"] = time.perf_counter() - began
    measure_rate(prepared, measured)
    return plan_json(prepared, measured, prepared.trunk_plan())


def measure_rate(prepared: Prepared, measured: Fit) -> None:
    """Measure the learning rate where the recipe asks for that, in the micro-batches that the run will have."""
    if prepared.recipe.train.learning_rate != "auto":
        return
    began = time.perf_counter()
    prepared.model.checkpointing = measured.checkpointing
    own, _ = prepared.rates()
    batches = prepared.batches(measured.budget)
    prepared.ranged = ranging.find(
        prepared.model, prepared.task, batches, prepared.recipe.train, own, prepared.head_rate, prepared.share_of
    )
    prepared.seconds["range"] = time.perf_counter() - began


def reopen(run: RunDir, say: Say = lambda _: None) -> Prepared:
    """What a run was made of, in memory again. Raises RunError when its data or model has changed since."""
    recipe = recipefile.build(run.json("resolved"), source=str(run.path / "resolved.json"))
    refuse_changed(run)
    plan = run.json("plan")
    earlier = not {"matmul", "trunk", "precision", "checkpointing"} <= plan.keys()
    if earlier or "examples_sha256" not in run.json("receipt"):
        raise RunError(
            "the run was begun by an earlier version, whose plan cannot be gone on with to the same bits",
            where=str(run.path / "plan.json"),
            hint="start a new run; `tunesmith predict` still opens this one",
        )
    if plan["precision"] not in ("fp32", "bf16"):
        raise RunError(f"the plan's precision is {plan['precision']!r}", where=str(run.path / "plan.json"))
    prepared = prepare(recipe, say, precision=plan["precision"])
    for name, part in run.json("data").items():
        if [file["path"] for file in part["files"]] != list(prepared.splits.files.get(name, ())):
            raise RunError(
                f"the rows of `{name}` are of other files than when the run began",
                where=str(prepared.splits.files.get(name, ("",))[0]),
                hint="put the files back as they were, or start a new run",
            )
    if differing := differences(run.json("receipt")["model_sha256"], model_hash(prepared)):
        raise RunError(
            f"the pretrained model has changed since the run began: {differing}",
            where=str(prepared.source.folder),
            hint="put the old files back, or start a new run",
        )
    if examples_hash(prepared) != run.json("receipt")["examples_sha256"]:
        raise RunError(
            "what training reads has changed since the run began: a file beside the rows, or the program",
            where=str(run.path / "receipt.json"),
            hint="put the old file back, or start a new run",
        )
    return prepared


def go(
    run: RunDir, prepared: Prepared, stop: Callable[[], bool] = lambda: False, ranks: Ranks = ALONE
) -> Generator[Event, None, None]:
    """Train from the last whole checkpoint to the end, judge, save, report. Yields and stores what happens.

    Leaving the iteration, or `stop`, or a file `control/stop`, ends it; the state is saved and can be resumed.
    Raises RunError when another process works in the run that is not one of its own.
    """
    with ExitStack() as held:
        attempt = ranks.from_first(lambda: _open_attempt(run, held))
        log = run.path / "logs" / f"attempt_{attempt}"
        state = State(run, prepared, attempt, ranks)
        if not ranks.first:
            yield from work(state, stop)
            return
        try:
            with memory_told():
                for event in work(state, stop):
                    run.append(event)
                    _write_line(log / "rank0.log", describe(event))
                    yield event
        except TunesmithError as fault:
            with suppress(TunesmithError):
                _write_line(log / "rank0.log", str(fault))
                run.append(Finished("failed", state.progress.step, fault.problem))
                state.status("failed")
            raise
        except (KeyboardInterrupt, GeneratorExit):
            with suppress(TunesmithError):
                state.status("stopped")
            raise


def _open_attempt(run: RunDir, held: ExitStack) -> int:
    """Hold the run, and number this attempt."""
    held.enter_context(run.lock())
    attempt = 1 + sum(1 for entry in (run.path / "logs").glob("attempt_*"))
    log = run.path / "logs" / f"attempt_{attempt}"
    with guarded(log):
        log.mkdir()
        run.stop_file.unlink(missing_ok=True)
    return attempt


def _write_line(path: Path, line: str) -> None:
    now = datetime.datetime.now().isoformat(timespec="seconds")
    with guarded(path), open(path, "a", encoding="utf-8") as file:
        file.write(f"{now} {line}\n")


def train_recipe(recipe: Recipe, text: str | None = None, command: list[str] | None = None) -> RunDir:
    """Train to the end without a screen: for Python."""
    run, prepared = begin(recipe, text, command or sys.argv)
    for _ in go(run, prepared):
        pass
    return run


def resume(path: Path, say: Say = lambda _: None, ranks: Ranks = ALONE) -> tuple[RunDir, Prepared | None]:
    """A run to go on with, or None beside it when it has finished. Raises RunError."""
    run = open_run(path)
    if (run.path / "status.json").exists() and run.status()["state"] == "finished":
        return run, None
    return run, ranks.in_turn(lambda: reopen(run, say))
