"""All that a report says of a run beside its result: each part is a file of this folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
import yaml

from tunesmith.contracts import Metric, Row, Task
from tunesmith.data.split import sample
from tunesmith.diagnosis import diagnose
from tunesmith.doctor.case import Case as Looked
from tunesmith.doctor.checks import label_noise
from tunesmith.doctor.finding import Finding
from tunesmith.evidence import (
    advice,
    answered,
    calibration,
    changed,
    compared,
    cost,
    curves,
    fairness,
    kept,
    labels,
    overfitting,
    slices,
    thresholds,
)
from tunesmith.evidence.case import Case
from tunesmith.judgement import Judgement
from tunesmith.models.model import Model
from tunesmith.prepare import Prepared
from tunesmith.recipe import Recipe
from tunesmith.report import tables
from tunesmith.rundir import RunDir
from tunesmith.train import ranging
from tunesmith.train.checkpoint import Progress

_NOISE = 60_000
"""Rows times labels in which wrong labels are looked for: a few seconds. `check` looks at more."""


@dataclass
class Before:
    """What the untuned model knew; empty where it was not looked at."""

    probes: dict[str, kept.Probe] = field(default_factory=dict)
    by_heart: overfitting.Heart = field(default_factory=dict)
    written: dict[str, answered.Said] = field(default_factory=dict)

    def see(self, model: Model, task: Task, train: Sequence[Row], recipe: Recipe) -> None:
        """Look at it, where a closer look is wanted; answers are written where some are wanted at all."""
        if not recipe.evaluate.evidence:
            return
        self.probes = kept.measure(model)
        self.written = answered.ask(model) if recipe.evaluate.answers else {}
        self.by_heart = overfitting.knows(model, task, overfitting.tried(train))


def case_of(prepared: Prepared, result: Judgement) -> Case:
    """A run that was judged."""
    rows = prepared.splits.rows
    held = rows["validation"] if result.held else ()
    return Case(prepared.recipe, prepared.task, prepared.model, rows[result.split], rows["train"], result, held)


def report(
    run: RunDir,
    prepared: Prepared,
    result: Judgement,
    summed: dict[str, Any],
    before: Before,
    progress: Progress,
) -> dict[str, Any]:
    """All of reportshape.Report but what is known last: costs, and what was verified."""
    case = case_of(prepared, result)
    found_labels, confusion = labels.look(case)
    updates, plan = run.updates(), run.json("plan")
    looks = [updated.scores for updated in updates.values() if updated.scores]
    watched = prepared.task.watched(looks[-1]) if looks else case.metric
    closer = prepared.recipe.evaluate.evidence
    made: dict[str, Any] = {
        **summed,
        "headline_says": "",
        "needed_rows": summed["verdict"]["needed"] if summed["verdict"] else None,
        "compared": compared.look(case),
        "changed": changed.look(case),
        "labels": found_labels,
        "confusion": confusion,
        "calibration": calibration.look(case),
        "thresholds": thresholds.look(case),
        "slices": slices.look(case),
        "fairness": fairness.look(case),
        "kept": _kept(case, before) if closer else [],
        "written": answered.compared(before.written, answered.ask(case.model)) if before.written else None,
        "overfitting": _overfitting(case, before, progress) if closer else None,
        "curves": curves.look(updates, watched.name),
        "scaling": None,
        "models": [],
        "settings": _settings(prepared, progress, plan),
        "licence": prepared.source.licence,
        "sums": run.json("receipt")["data_sha256"],
        "advice": [],
    }
    made["headline_says"] = tables.verdict_line(made)
    made["advice"] = advice.look(_signs(run, case, prepared, made, watched))
    return {name: finite(part) for name, part in made.items()}


def finite(value: Any) -> Any:
    """The same without numbers that are none, or infinite: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _kept(case: Case, before: Before) -> list[dict[str, Any]]:
    found = kept.compared(before.probes, kept.measure(case.model)) if before.probes else []
    given = kept.labels_given(case)
    return found if given is None else [*found, given]


def _overfitting(case: Case, before: Before, progress: Progress) -> dict[str, Any] | None:
    by_heart = overfitting.knows(case.model, case.task, overfitting.tried(case.train))
    best = progress.step if progress.best_step is None else progress.best_step
    return overfitting.look(case, best, progress.step, by_heart, before.by_heart)


def findings(prepared: Prepared) -> tuple[Finding, ...]:
    """What is wrong with the rows; likely wrong labels too, where a closer look is wanted and few seconds tell."""
    found = diagnose(prepared, quick=True) if prepared.findings is None else prepared.findings
    recipe, classes = prepared.recipe, prepared.task.classes()
    if not (recipe.evaluate.evidence and classes) or prepared.model.family == "vision":
        return tuple(found)
    assert recipe.task is not None
    rows = {"train": sample(prepared.train_rows, _NOISE // len(classes))}
    return (*found, *label_noise.find(Looked(rows, task=recipe.task.name, seed=recipe.train.seed)))


def _settings(prepared: Prepared, progress: Progress, plan: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader wants to know first."""
    recipe = prepared.recipe
    learns, parameters = prepared.model.sizes()
    assert recipe.task is not None and recipe.method is not None
    return {
        "model": prepared.source.label,
        "task": recipe.task.name,
        "method": recipe.method.name,
        "rows": {name: len(rows) for name, rows in prepared.splits.rows.items()},
        "updates": progress.step,
        "batch_size": recipe.train.batch_size,
        "learning_rate": plan["learning_rate"],
        "parameters": parameters,
        "trainable": learns,
        "seed": recipe.train.seed,
        "device": prepared.model.device.type,
        "threads": plan["threads"],
    }


def _signs(run: RunDir, case: Case, prepared: Prepared, made: Mapping[str, Any], watched: Metric) -> advice.Signs:
    task, model = case.task, case.model
    answers = list(case.tuned.values())
    classes = task.classes()
    options = frozenset(one.name for one in fields(task) if one.metadata.get("option", True))  # type: ignore[arg-type]
    assert prepared.recipe.task is not None
    rate, seen = made["settings"]["learning_rate"], run.json("plan").get("ranged")
    end = None if seen is None else ranging.end_of(seen, rate)
    return advice.Signs(
        report=made,
        recipe=prepared.recipe,
        findings=findings(prepared),
        learning_rate=rate,
        shares=dict(zip(classes, getattr(task, "shares", ()), strict=True)) if classes else {},
        options=options - {"smoothing"} if model.kind == "span-classifier" else options,
        room=getattr(task, "max_new_tokens", None),
        cut=sum(answer.get("ended") is False for answer in answers) / len(answers) if answers else 0.0,
        higher=watched.higher_is_better,
        context=None if model.family == "vision" else model.text.limit,
        ranged=None if seen is None or end is None else (end, seen["to" if end == "upper" else "from"]),
        task=None if _names_task(run) else prepared.recipe.task.name,
    )


def _names_task(run: RunDir) -> bool:
    """Whether the recipe says what its task is, as one that was resolved does."""
    try:
        said = yaml.safe_load((run.path / "recipe.yaml").read_text(encoding="utf-8-sig"))
    except (OSError, yaml.YAMLError):  # it is the user's: nothing that the run needs is read from it
        return True
    return not isinstance(said, dict) or "task" in said


def costs(
    prepared: Prepared, run: RunDir, seconds: Mapping[str, float], progress: Progress, peak: int
) -> dict[str, Any]:
    """`seconds`, `peak_memory_bytes` and `cost` as far as they are known."""
    spent = {name: round(value, 3) for name, value in seconds.items()}
    looked = prepared.splits.rows
    # A model that writes is asked few rows and scored by its loss on all: the time would be that of losses.
    names = () if prepared.model.kind in ("causal-lm", "seq2seq-lm") else {prepared.final_split, "validation"}
    answered = sum(len(looked[name]) for name in names if name in looked)
    gpus = torch.cuda.device_count() if prepared.model.device.type == "cuda" else 0
    found = cost.look(
        spent,
        {name: int(value) for name, value in progress.tokens.items()},
        prepared.examples[0][0].unit,
        peak,
        {"model": run.model, "checkpoints": run.checkpoints},
        (run.json("plan")["threads"], gpus),
        prepared.recipe.evaluate.money,
        (answered, spent["evaluate"]),
    )
    return {"seconds": spent, "peak_memory_bytes": peak, "cost": found}
