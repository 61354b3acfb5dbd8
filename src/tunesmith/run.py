"""The composition root: a recipe becomes a run directory, and a run directory is trained, resumed and judged."""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import torch

from tunesmith import judgement as judging
from tunesmith import promises, recipefile
from tunesmith.data import sql, tokens
from tunesmith.diagnosis import diagnose, refuse, refuse_unknown
from tunesmith.errors import RunError, TunesmithError
from tunesmith.events import Event, Finished, Phase, Saved, Started, Updated, Warned, describe
from tunesmith.models import adapted, matmul, save
from tunesmith.models.model import Model
from tunesmith.prepare import Prepared, Say, prepare, untuned
from tunesmith.provenance import (
    default_name,
    examples_hash,
    model_hash,
    plan_json,
    receipt,
    refuse_changed,
    task_json,
)
from tunesmith.recipe import Recipe
from tunesmith.report import write as write_report
from tunesmith.rundir import RunDir, create, guarded, open_run, write_json
from tunesmith.train import checkpoint, fit, trunk
from tunesmith.train.average import Average, average_of, without_average
from tunesmith.train.checkpoint import Progress
from tunesmith.train.evaluate import judge, settle, value_of
from tunesmith.train.loop import train
from tunesmith.train.optimizer import Optimizer, load_optimizer_state, make_optimizer, moments_of, optimizer_state
from tunesmith.train.shape import shape_of
from tunesmith.train.trunk import TrunkPlan

_HEARTBEAT = 5.0
_SAID = ("leak", "group-leak", "bad-row", "unseen-label", "contradiction", "answer-cut", "truncated")
"""Findings that are said when a run begins; `check` has the others."""


def begin(recipe: Recipe, text: str | None, command: list[str], say: Say = lambda _: None) -> tuple[RunDir, Prepared]:
    """A new run directory and all that training it needs. Raises UserError before anything is written."""
    refuse_unknown(recipe.data.allow)
    prepared = prepare(recipe, say)
    prepared.findings = diagnose(prepared, quick=True)
    refuse(prepared.findings, recipe.data.allow)
    began = time.perf_counter()
    measured = fit.fit(
        prepared.model,
        prepared.task,
        tokens.longest(prepared.examples, recipe.train.batch_size, fit.PROBE),
        recipe.train.memory,
        recipe.train.batch_size,
        moments=moments_of(recipe.train),
    )
    prepared.peak_bytes = measured.before_bytes
    prepared.seconds["measure"] = time.perf_counter() - began
    files = {
        "recipe.yaml": sql.safe(text) if text is not None else recipefile.dump(prepared.recipe),
        "resolved.json": prepared.recipe.model_dump(mode="json"),
        "receipt.json": receipt(prepared, command),
        "data.json": prepared.splits.describe(),
        "task.json": task_json(prepared),
        "plan.json": plan_json(prepared, measured, prepared.trunk_plan()),
    }
    place = recipe.run
    run = create(Path(place.dir), place.name or default_name(prepared), files)
    return run, prepared


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
    prepared = prepare(recipe, say, precision=plan["precision"])
    for name, part in run.json("data").items():
        if [file["path"] for file in part["files"]] != list(prepared.splits.files.get(name, ())):
            raise RunError(
                f"the rows of `{name}` are of other files than when the run began",
                where=str(prepared.splits.files.get(name, ("",))[0]),
                hint="put the files back as they were, or start a new run",
            )
    if model_hash(prepared) != run.json("receipt")["model_sha256"]:
        raise RunError(
            "the pretrained model has changed since the run began",
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


def go(run: RunDir, prepared: Prepared, stop: Callable[[], bool] = lambda: False) -> Generator[Event, None, None]:
    """Train from the last whole checkpoint to the end, judge, save, report. Yields and stores what happens.

    Leaving the iteration, or `stop`, or a file `control/stop`, ends it; the state is saved and can be resumed.
    Raises RunError when another process works in the run.
    """
    with run.lock():
        attempt = 1 + sum(1 for entry in (run.path / "logs").glob("attempt_*"))
        log = run.path / "logs" / f"attempt_{attempt}"
        with guarded(log):
            log.mkdir()
            run.stop_file.unlink(missing_ok=True)
        state = _State(run, prepared, attempt)
        try:
            for event in _work(state, stop):
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


def _write_line(path: Path, line: str) -> None:
    now = datetime.datetime.now().isoformat(timespec="seconds")
    with guarded(path), open(path, "a", encoding="utf-8") as file:
        file.write(f"{now} {line}\n")


class _State:
    """What changes while a run goes on."""

    def __init__(self, run: RunDir, prepared: Prepared, attempt: int) -> None:
        self.run = run
        self.prepared = prepared
        self.attempt = attempt
        self.steps = prepared.schedule().steps
        self.progress = Progress()
        self.beat = 0.0
        self.seconds = dict(prepared.seconds)

    def status(self, state: str) -> None:
        self.run.set_status(state, step=self.progress.step, steps=self.steps, attempt=self.attempt)
        self.beat = time.monotonic()

    def alive(self) -> None:
        if time.monotonic() - self.beat > _HEARTBEAT:
            self.status("running")


def _work(state: _State, stop: Callable[[], bool]) -> Iterator[Event]:
    run, prepared, plan = state.run, state.prepared, state.run.json("plan")
    task, model, train_keys = prepared.task, prepared.model, prepared.recipe.train
    torch.set_num_threads(plan["threads"])
    model.checkpointing, model.matmul = plan["checkpointing"], matmul.named(plan["matmul"])
    optimizer = make_optimizer(
        model.learned(),
        model.fresh,
        plan["learning_rate"],
        plan["head_learning_rate"],
        train_keys.weight_decay,
        kind=train_keys.optimizer,
        share=prepared.share_of,
    )
    shape = shape_of(model, train_keys, prepared.plan().per_epoch)
    average = average_of(model, train_keys, state.steps)
    yield from map(Warned, _restore(state, optimizer, average))
    yield from _keep_trunk(state, TrunkPlan(**plan["trunk"]))
    state.status("running")
    yield _started(state)
    yield from map(Warned, _cautions(prepared))

    def look() -> dict[str, float]:
        task.refit(model, prepared.train_rows)
        model.keep_fitted()
        with nullcontext() if average is None else average.in_place():
            return value_of(task, judge(model, task, prepared.splits.rows["validation"], answers=0).measured)

    updates = train(
        model,
        task,
        prepared.batches(plan["budget"]),
        optimizer,
        prepared.schedule(),
        start=state.progress.step,
        every=plan["evaluate_every"],
        evaluate=look,
        shape=shape,
        follow=(lambda step: None) if average is None else average.update,
    )
    enough = _enough(state)
    while not enough:
        updated = next(updates)
        best = _note(state, updated)
        yield updated
        if updated.budget < plan["budget"]:
            plan = {**plan, "budget": updated.budget}
            write_json(run.path / "plan.json", plan)
            yield Warned(f"memory ran out: micro-batches have at most {updated.budget} tokens from here on")
        state.alive()
        enough = _enough(state)
        stopping = (stop() or run.stop_file.exists()) and not enough
        if best or stopping or enough or updated.step % plan["save_every"] == 0:
            beside = optimizer_state(optimizer) | ({} if average is None else average.state())
            checkpoint.write(run, model.state(), beside, state.progress)
            yield Saved(updated.step, best)
        if stopping:
            state.status("stopped")
            yield Finished("stopped", updated.step, f"resume with `tunesmith resume {run.path}`")
            return
    yield from _conclude(state)


def _restore(state: _State, optimizer: Optimizer, average: Average | None) -> list[str]:
    """Take the last whole checkpoint, if there is one; returns what the user should know."""
    warnings: list[str] = []
    found = checkpoint.read_latest(state.run, warnings.append)
    if found is not None:
        trained, moments, progress = found
        state.progress = checkpoint.with_whole_best(state.run, progress, warnings.append)
        state.prepared.model.load_state(trained)
        load_optimizer_state(optimizer, without_average(moments))
        if average is not None:
            average.load(moments)
        checkpoint.point_at(state.run, state.progress)
    return warnings


def _keep_trunk(state: _State, plan: TrunkPlan) -> Iterator[Event]:
    """Run the frozen blocks over the rows once, where the plan says so."""
    if not plan.blocks:
        return
    yield Phase(f"running the {plan.blocks} frozen blocks over every row once")
    began = time.perf_counter()
    prepared = state.prepared
    identity = json.dumps([state.run.json("receipt")["model_sha256"], adapted.frozen_sum(prepared.model.net)])
    prepared.model.kept = trunk.fill(prepared.model, plan, prepared.seen_rows(), identity)
    state.seconds["trunk"] = time.perf_counter() - began


def _started(state: _State) -> Started:
    recipe, prepared = state.prepared.recipe, state.prepared
    learns, parameters = prepared.model.sizes()
    assert recipe.task is not None and recipe.method is not None
    return Started(
        run=str(state.run.path),
        attempt=state.attempt,
        step=state.progress.step,
        steps=state.steps,
        task=recipe.task.name,
        method=recipe.method.name,
        model=prepared.source.label,
        trainable=learns,
        parameters=parameters,
        rows={name: len(rows) for name, rows in prepared.splits.rows.items()},
    )


def _note(state: _State, updated: Updated) -> bool:
    """Take an update into the progress; True when its scores are the best so far."""
    before = state.progress
    tokens = dict(before.tokens)
    for name, count in (("real", updated.tokens), ("padded", updated.padded), ("label", updated.labels)):
        tokens[name] += count
    state.progress = replace(before, step=updated.step, tokens=tokens, seconds=before.seconds + updated.seconds)
    if updated.scores is None:
        return False
    metric = state.prepared.task.watched(updated.scores)
    value = updated.scores[metric.name]
    best = before.best_score
    better = best is None or (value > best if metric.higher_is_better else value < best)
    if better:
        state.progress = replace(state.progress, best_step=updated.step, best_score=value, looks=0)
    else:
        state.progress = replace(state.progress, looks=before.looks + 1)
    return better


def _enough(state: _State) -> bool:
    """All updates done, or the score has not risen for as many looks as the recipe allows."""
    patience = state.prepared.recipe.evaluate.early_stopping
    return state.progress.step >= state.steps or (patience is not None and state.progress.looks >= patience)


def _conclude(state: _State) -> Iterator[Event]:
    """Take the best checkpoint, judge it, save the model, write the report."""
    run, prepared, seconds = state.run, state.prepared, state.seconds
    recipe, model = prepared.recipe, prepared.model
    state.status("running")
    model.load_state(checkpoint.read_best(run))
    model.kept = None  # the rows to come are others
    task = prepared.task = settle(model, prepared.task, prepared.splits.rows["validation"])
    write_json(run.path / "task.json", task_json(prepared))
    began = time.perf_counter()
    yield Phase(f"scoring the tuned model on {prepared.final_split} rows")
    rows = prepared.splits.rows[prepared.final_split]
    result = judging.score(model, task, prepared.final_split, rows, recipe.evaluate.answers)
    if prepared.final_split == "test":
        validation = prepared.splits.rows["validation"]
        result.scores |= judging.score(model, task, "validation", validation, answers=0).scores
    seconds["evaluate"] = time.perf_counter() - began
    if recipe.evaluate.compare:
        began = time.perf_counter()
        for phase in judging.compare(result, task, recipe, prepared.source, prepared.splits.rows, rows):
            state.alive()
            yield Phase(phase)
        seconds["compare"] = time.perf_counter() - began
    yield Phase("saving the model")
    seconds["train"] = state.progress.seconds
    peak = max(fit.peak_bytes(), prepared.peak_bytes)
    summary = write_report.summary(run, prepared, result, seconds, state.progress.tokens, peak)
    whole = _full_precision(prepared, run)
    save.save(
        whole,
        run.model,
        getattr(task, "labels", ()),
        write_report.card(summary, prepared.source.licence),
        recipefile.task_as_json(summary["task"], task.portable(model)),
    )
    if recipe.evaluate.verify:
        yield Phase("verifying the saved model")
        began = time.perf_counter()
        found = promises.short(whole, task, run.model, rows)
        summary["verified"] = [check.as_json() for check in found]
        summary["seconds"]["verify"] = round(time.perf_counter() - began, 3)
        yield from (Warned(f"{check.name} does not hold: {check.said}") for check in found if check.holds is False)
    yield Phase("writing the report")
    write_report.write(run, prepared, result, summary)
    reason = "all updates done" if state.progress.step >= state.steps else "the score had stopped rising"
    state.status("finished")
    yield Finished("finished", state.progress.step, reason)


def _full_precision(prepared: Prepared, run: RunDir) -> Model:
    """What is saved: after a run in half precision, the pretrained weights as they were, with what was learned."""
    model = prepared.model
    if not model.masters:
        return model
    fresh = untuned(prepared.recipe, prepared.task, prepared.method, prepared.source)
    fresh.load_state(checkpoint.read_best(run))
    return fresh


def _cautions(prepared: Prepared) -> Iterator[str]:
    found = diagnose(prepared, quick=True) if prepared.findings is None else prepared.findings
    for finding in found:
        if finding.kind in _SAID:
            said = f"{finding.why}; {finding.hint}"
            first = f" (first at {finding.examples[0].place})" if finding.examples else ""
            yield f"{finding.count} x {finding.kind} in {finding.split}{first}: {said}"
    for rows in prepared.splits.rows.values():
        yield from prepared.task.cautions(rows)
    if prepared.final_split == "validation":
        yield "no test rows: the scores are on the rows that chose the checkpoint, and flatter a little"


def train_recipe(recipe: Recipe, text: str | None = None, command: list[str] | None = None) -> RunDir:
    """Train to the end without a screen: for Python."""
    run, prepared = begin(recipe, text, command or sys.argv)
    for _ in go(run, prepared):
        pass
    return run


def resume(path: Path, say: Say = lambda _: None) -> tuple[RunDir, Prepared | None]:
    """A run to go on with, or None beside it when it has finished. Raises RunError."""
    run = open_run(path)
    if (run.path / "status.json").exists() and run.status()["state"] == "finished":
        return run, None
    return run, reopen(run, say)
