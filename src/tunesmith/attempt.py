"""One attempt at a run: from the last whole checkpoint to the end, then judged, saved and reported."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from tunesmith import judgement as judging
from tunesmith import promises, recipefile
from tunesmith.diagnosis import diagnose
from tunesmith.events import Event, Finished, Phase, Saved, Started, Updated, Warned
from tunesmith.evidence import gather
from tunesmith.models import adapted, matmul, save
from tunesmith.models.model import Model
from tunesmith.prepare import Prepared, untuned
from tunesmith.provenance import task_json
from tunesmith.report import modelcard
from tunesmith.report import write as write_report
from tunesmith.rundir import RunDir, write_json
from tunesmith.train import checkpoint, fit, trunk
from tunesmith.train.average import Average, average_of, without_average
from tunesmith.train.checkpoint import Progress
from tunesmith.train.evaluate import judge, settle, value_of
from tunesmith.train.loop import train
from tunesmith.train.optimizer import Optimizer, load_optimizer_state, make_optimizer, optimizer_state
from tunesmith.train.ranks import Ranks
from tunesmith.train.shape import shape_of
from tunesmith.train.spikes import Spikes
from tunesmith.train.trunk import TrunkPlan

_HEARTBEAT = 5.0
_NAMED = 8
"""Rows of an odd update that are named."""
_SAID = ("leak", "group-leak", "bad-row", "unseen-label", "contradiction", "answer-cut", "truncated")
"""Findings that are said when a run begins; `check` has the others."""


class State:
    """What changes while a run goes on."""

    def __init__(self, run: RunDir, prepared: Prepared, attempt: int, ranks: Ranks) -> None:
        self.run = run
        self.ranks = ranks
        self.prepared = prepared
        self.attempt = attempt
        self.steps = prepared.schedule().steps
        self.progress = Progress()
        self.beat = 0.0
        self.seconds = dict(prepared.seconds)

    def status(self, state: str) -> None:
        """Write down how the run is doing."""
        if not self.ranks.first:
            return
        self.run.set_status(state, step=self.progress.step, steps=self.steps, attempt=self.attempt)
        self.beat = time.monotonic()

    def alive(self) -> None:
        """The same, now and then, while updates are made."""
        if time.monotonic() - self.beat > _HEARTBEAT:
            self.status("running")


def work(state: State, stop: Callable[[], bool]) -> Iterator[Event]:
    """All that is left to do of a run: what happens. Of several processes all learn, and the first does the rest."""
    run, prepared, ranks, plan = state.run, state.prepared, state.ranks, state.run.json("plan")
    model, train_keys = prepared.model, prepared.recipe.train
    torch.set_num_threads(plan["threads"])
    model.checkpointing, model.matmul = plan["checkpointing"], matmul.named(plan["matmul"])
    optimizer = _optimizer(prepared, plan)
    shape = shape_of(model, train_keys, prepared.plan().per_epoch)
    average = average_of(model, train_keys, state.steps)
    yield from map(Warned, _restore(state, optimizer, average))
    yield from _keep_trunk(state, TrunkPlan(**plan["trunk"]))
    state.status("running")
    yield _started(state)
    yield from map(Warned, _cautions(prepared))

    updates = train(
        model,
        prepared.task,
        prepared.batches(plan["budget"]),
        optimizer,
        prepared.schedule(),
        start=state.progress.step,
        every=plan["evaluate_every"],
        evaluate=lambda: _look(state, average),
        shape=shape,
        follow=(lambda step: None) if average is None else average.update,
        skip=train_keys.not_finite == "skip",
        ranks=ranks,
    )
    enough = _enough(state)
    spikes = Spikes(_losses_before(state))
    while not enough:
        updated = next(updates)
        best = _note(state, updated)
        yield updated
        yield from map(Warned, _odd(prepared, updated, spikes))
        if updated.budget < plan["budget"]:
            plan = {**plan, "budget": updated.budget}
            write_json(run.path / "plan.json", plan)
            yield Warned(f"memory ran out: micro-batches have at most {updated.budget} tokens from here on")
        state.alive()
        enough = _enough(state)
        stopping = ranks.from_first(lambda: stop() or run.stop_file.exists()) and not enough
        if best or stopping or enough or updated.step % plan["save_every"] == 0:
            if ranks.first:
                beside = optimizer_state(optimizer) | ({} if average is None else average.state())
                checkpoint.write(run, model.state(), beside, state.progress)
            yield Saved(updated.step, best)
        if stopping:
            state.status("stopped")
            yield Finished("stopped", updated.step, f"resume with `tunesmith resume {run.path}`")
            return
    if ranks.first:
        yield from _conclude(state)


def _look(state: State, average: Average | None) -> dict[str, float]:
    """Scores on the validation rows; all processes fit what no update learns, and the first judges."""
    task, model, splits = state.prepared.task, state.prepared.model, state.prepared.splits
    task.refit(model, splits.rows["train"])
    model.keep_fitted()
    with nullcontext() if average is None else average.in_place():
        return state.ranks.from_first(
            lambda: value_of(task, judge(model, task, splits.rows["validation"], answers=0).measured)
        )


def _optimizer(prepared: Prepared, plan: Mapping[str, Any]) -> Optimizer:
    train_keys = prepared.recipe.train
    return make_optimizer(
        prepared.model.learned(),
        prepared.model.fresh,
        plan["learning_rate"],
        plan["head_learning_rate"],
        train_keys.weight_decay,
        kind=train_keys.optimizer,
        share=prepared.share_of,
    )


def _restore(state: State, optimizer: Optimizer, average: Average | None) -> list[str]:
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
        if state.ranks.first:
            checkpoint.point_at(state.run, state.progress)
    return warnings


def _keep_trunk(state: State, plan: TrunkPlan) -> Iterator[Event]:
    """Run the frozen blocks over the rows once, where the plan says so."""
    if not plan.blocks:
        return
    yield Phase(f"running the {plan.blocks} frozen blocks over every row once")
    began = time.perf_counter()
    prepared = state.prepared
    identity = json.dumps([state.run.json("receipt")["model_sha256"], adapted.frozen_sum(prepared.model.net)])
    prepared.model.kept = state.ranks.in_turn(lambda: trunk.fill(prepared.model, plan, prepared.seen_rows(), identity))
    state.seconds["trunk"] = time.perf_counter() - began


def _started(state: State) -> Started:
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


def _note(state: State, updated: Updated) -> bool:
    """Take an update into the progress; True when its scores are the best so far."""
    before = state.progress
    tokens = dict(before.tokens)
    for name, count in (("real", updated.tokens), ("padded", updated.padded), ("label", updated.labels)):
        tokens[name] += count
    state.progress = replace(before, step=updated.step, tokens=tokens, seconds=before.seconds + updated.seconds,
                             left_out=before.left_out + updated.left_out)  # fmt: skip
    if updated.scores is None:
        return False
    metric = state.prepared.task.watched(updated.scores)
    value = updated.scores[metric.name]
    better = _better(value, before.best_score, metric.higher_is_better)
    if better:
        state.progress = replace(state.progress, best_step=updated.step, best_score=value, looks=0)
    else:
        state.progress = replace(state.progress, looks=before.looks + 1)
    return better


def _better(value: float, best: float | None, higher: bool) -> bool:
    """Whether a score is better than the best; one that is no number (a correlation of equal answers) never is."""
    if best is None or math.isnan(best):
        return best is None or not math.isnan(value)
    return value > best if higher else value < best


def _losses_before(state: State) -> list[float]:
    """Of the updates before this attempt, as they were made last."""
    made = [updated for step, updated in sorted(state.run.updates().items()) if step <= state.progress.step]
    return [sum(updated.losses.values()) for updated in made if not updated.left_out]


def _odd(prepared: Prepared, updated: Updated, spikes: Spikes) -> Iterator[str]:
    """What is odd about an update, with its rows."""
    loss = sum(updated.losses.values())
    usual = None if updated.left_out else spikes.see(loss)
    if usual is None and not updated.left_out:
        return
    rows = prepared.batches(1).places(updated.step - 1)
    named = ", ".join(rows[:_NAMED]) + (f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else "")
    if updated.left_out:
        yield f"update {updated.step} was left out: its loss or gradient is not finite; its rows are {named}"
    else:
        yield f"the loss of update {updated.step} is {loss:.4g}, where {usual:.4g} is usual; its rows are {named}"


def _enough(state: State) -> bool:
    """All updates done, or the score has not risen for as many looks as the recipe allows."""
    patience = state.prepared.recipe.evaluate.early_stopping
    return state.progress.step >= state.steps or (patience is not None and state.progress.looks >= patience)


def _conclude(state: State) -> Iterator[Event]:
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
        held = judging.score(model, task, "validation", validation, answers=0)
        result.held = held.tuned
        result.scores |= held.scores
    seconds["evaluate"] = time.perf_counter() - began
    before = gather.Before()
    if recipe.evaluate.compare:
        began = time.perf_counter()
        visit = partial(before.see, task=task, train=prepared.train_rows, recipe=recipe)
        for phase in judging.compare(result, task, recipe, prepared.source, prepared.splits.rows, rows, visit):
            state.alive()
            yield Phase(phase)
        seconds["compare"] = time.perf_counter() - began
    seconds["train"] = state.progress.seconds
    summary = write_report.summary(run, prepared, result, seconds, state.progress)
    yield Phase("looking closer, for the report")
    began = time.perf_counter()
    report = gather.report(run, prepared, result, summary, before, state.progress)
    state.alive()
    seconds["look"] = time.perf_counter() - began
    report |= gather.costs(prepared, run, seconds, state.progress, max(fit.peak_bytes(), prepared.peak_bytes))
    yield Phase("saving the model")
    whole = _full_precision(prepared, run)
    save.save(
        whole,
        run.model,
        getattr(task, "labels", ()),
        modelcard.card(report),
        recipefile.task_as_json(report["task"], task.portable(model)),
    )
    if recipe.evaluate.verify:
        yield Phase("verifying the saved model")
        began = time.perf_counter()
        found = promises.short(whole, task, run.model, rows)
        report["verified"] = [check.as_json() for check in found]
        seconds["verify"] = time.perf_counter() - began
        yield from (Warned(f"{check.name} does not hold: {check.said}") for check in found if check.holds is False)
    yield Phase("writing the report")
    report |= gather.costs(prepared, run, seconds, state.progress, max(fit.peak_bytes(), prepared.peak_bytes))
    write_report.write(run, prepared, result, report)
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
    if prepared.findings is None:  # of a run that is gone on with; the report asks for them too
        prepared.findings = diagnose(prepared, quick=True)
    for finding in prepared.findings:
        if finding.kind in _SAID:
            said = f"{finding.why}; {finding.hint}"
            first = f" (first at {finding.examples[0].place})" if finding.examples else ""
            yield f"{finding.count} x {finding.kind} in {finding.split}{first}: {said}"
    for rows in prepared.splits.rows.values():
        yield from prepared.task.cautions(rows)
    if prepared.final_split == "validation":
        yield "no test rows: the scores are on the rows that chose the checkpoint, and flatter a little"
