"""`tunesmith check`: what would be trained, and what is wrong with it, before anything is paid for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.console import Screen
from tunesmith.contracts import Row
from tunesmith.data import tokens
from tunesmith.data.rows import spread
from tunesmith.diagnosis import diagnose, refuse_unknown
from tunesmith.doctor.finding import Finding
from tunesmith.prepare import Prepared, Say, prepare
from tunesmith.recipe import Recipe
from tunesmith.report import checkpage, pagetext, tokentext, tokenview
from tunesmith.run import measure_rate
from tunesmith.rundir import write_bytes
from tunesmith.train import fit
from tunesmith.train.optimizer import moments_of

_COUNTED = 50_000
"""Rows whose labels are counted one by one; of more, as many from all over."""
_BARS = 32
"""Of the histogram."""
_TAIL = 99.5
"""Percentile behind which lengths share the last bar, where the longest is far away."""
_ROWS, _PAGE_ROWS = 3, 20
"""Rows that the screen and the page show unless they are told how many."""
_SHOWN_TOKENS = 500
"""Of a row, on the screen."""


@dataclass(frozen=True)
class CheckUp:
    """What `check --json` prints, and what the token view needs beside it."""

    value: dict[str, Any]
    prepared: Prepared
    findings: tuple[Finding, ...]


def check(recipe: Recipe, say: Say) -> CheckUp:
    """Read, encode and measure. Bad rows are findings here, not errors. Raises UserError; writes nothing."""
    refuse_unknown(recipe.data.allow)
    lenient = recipe.model_copy(update={"data": recipe.data.model_copy(update={"bad_rows": "skip"})})
    prepared = prepare(lenient, say)
    assert prepared.recipe.task is not None and prepared.recipe.method is not None
    findings = diagnose(prepared)
    value = {
        "task": prepared.recipe.task.name,
        "model": prepared.source.name,
        "method": prepared.recipe.method.name,
        "files": {name: list(files) for name, files in prepared.splits.files.items()},
        "rows": {name: len(rows) for name, rows in prepared.splits.rows.items()},
        "labels": {name: _labels(rows) for name, rows in prepared.splits.rows.items()},
        "lengths": _lengths(prepared),
        "histogram": _histogram(prepared),
        "findings": [finding.as_json() for finding in findings],
        "plan": _plan(prepared),
        "scaling": None,
        "fixed": None,
    }
    return CheckUp(value, prepared, tuple(findings))


def _labels(rows: Sequence[Row]) -> dict[str, int]:
    return dict(Counter(row.values["label"] for row in rows if "label" in row.values).most_common())


def _lengths(prepared: Prepared) -> dict[str, dict[str, float]]:
    """Tokens per row of each split, and the share of rows that lose some."""
    lengths = {}
    for name in prepared.splits.rows:
        whole, cut = tokens.lengths(prepared.encoded[name])
        low, middle, high, top = np.percentile(whole + cut, [0, 50, 95, 100]).tolist()
        lengths[name] = {"min": low, "median": middle, "p95": high, "max": top, "cut": float((cut > 0).mean())}
    return lengths


def _histogram(prepared: Prepared) -> dict[str, Any] | None:
    """How long the sequences of each split are; None for images."""
    if prepared.model.family == "vision":
        return None
    sizes = {name: tokens.sequences(encoded) for name, encoded in prepared.encoded.items()}
    every = np.concatenate(list(sizes.values()))
    low, top, most = int(every.min()), float(np.percentile(every, _TAIL)), int(every.max())
    edges = np.unique(np.linspace(low, (top if most > 2 * top else most) + 1, _BARS + 1).round().astype(int))
    edges[-1] = most + 1
    counts = {name: np.histogram(found, edges)[0].tolist() for name, found in sizes.items()}
    return {"edges": edges.tolist(), "counts": counts, "limit": prepared.model.text.max_tokens}


def _plan(prepared: Prepared) -> dict[str, Any]:
    """What the run would cost, from one worst micro-batch that is really run."""
    recipe, schedule = prepared.recipe, prepared.schedule()
    train = recipe.train
    most = tokens.longest(prepared.examples, train.batch_size, fit.PROBE)
    measured = fit.fit(prepared.model, prepared.task, most, train.memory, train.batch_size,
                       moments=moments_of(train), thorough=True)  # fmt: skip
    measure_rate(prepared, measured)
    count = int(tokens.lengths(prepared.examples)[0].sum())
    some = spread(len(prepared.examples), _COUNTED).tolist()
    weights = prepared.task.weights([example for k in some for example in prepared.examples[k]])
    labels = sum(weights.values()) * len(prepared.examples) / len(some)
    epochs = schedule.steps / prepared.plan().per_epoch
    learns, parameters = prepared.model.sizes()
    rate, head_rate = prepared.rates()
    return {
        "updates": schedule.steps,
        "updates_per_epoch": prepared.plan().per_epoch,
        "epochs": epochs,
        "tokens_per_epoch": count,
        "label_tokens_per_epoch": int(labels),
        "tokens": int(count * epochs),
        "parameters": parameters,
        "trainable": learns,
        "trainable_share": learns / parameters,
        "learning_rate": rate,
        "head_learning_rate": head_rate,
        "micro_batch_tokens": measured.budget,
        "worst_micro_batch_tokens": measured.worst_tokens,
        "worst_micro_batch_seconds": measured.seconds,
        "memory_bytes": measured.peak_bytes,
        "trunk": prepared.trunk_plan().as_json(),
        "train_seconds": measured.seconds / max(measured.worst_tokens, 1) * count * epochs,
    }


def write_page(found: CheckUp, target: Path, rows: int | None) -> None:
    """All of it in one HTML file. Raises StorageError."""
    views = tokenview.views(found.prepared, _PAGE_ROWS if rows is None else rows)
    write_bytes(target, checkpage.page(found.value, views).encode())


def show(found: CheckUp, screen: Screen, rows: int | None) -> None:
    """The findings, the plan and some rows as the model sees them, for people."""
    value = found.value
    table = [["split", "rows", "tokens: min", "median", "95 %", "max", "cut"]]
    for split, count in value["rows"].items():
        sizes = value["lengths"][split]
        middle = [f"{sizes[key]:.0f}" for key in ("min", "median", "p95", "max")]
        table.append([split, f"{count:,}", *middle, f"{100 * sizes['cut']:.1f} %"])
    screen.table(table)
    if value["labels"].get("train"):
        screen.say("\nlabels in train: " + ", ".join(f"{k} {n}" for k, n in value["labels"]["train"].items()))
    screen.say()
    for finding in value["findings"]:
        stops = "; stops training" if finding["stops"] else ""
        fixed = f"; --fix leaves {finding['fixed']:,} out" if finding["fixed"] else ""
        screen.say(f"{finding['kind']} in {finding['split']}: {finding['count']:,} of {finding['of']:,}{stops}{fixed}")
        for spot in finding["examples"][:3]:
            screen.say(f"    {spot['file']}:{spot['line']}  {pagetext.visible(spot['shown'])}".rstrip())
        screen.say(f"  why: {finding['why']}\n  do:  {finding['hint']}")
    if not value["findings"]:
        screen.say("nothing found wrong with the rows")
    _say_more(value, screen)
    plan = value["plan"]
    screen.say(
        f"\nplan: {plan['updates']:,} updates over {plan['epochs']:.1f} epochs, {plan['tokens']:,} tokens; "
        f"{plan['trainable']:,} of {plan['parameters']:,} parameters learn ({100 * plan['trainable_share']:.2f} %)\n"
        f"measured on the worst micro-batch of {plan['worst_micro_batch_tokens']} tokens: "
        f"{plan['worst_micro_batch_seconds']:.2f} s, {plan['memory_bytes'] / 2**30:.2f} GB; "
        f"training takes about {plan['train_seconds'] / 60:.1f} minutes\n"
    )
    kept = plan["trunk"]
    if kept["blocks"]:
        screen.say(
            f"the first {kept['blocks']} blocks are frozen: they run once a row, and what they make is kept "
            f"({kept['bytes'] / 2**20:,.0f} MB, {kept['place']}), which saves {100 * kept['saves']:.0f} % of the work\n"
        )
    _token_view(found.prepared, screen, _ROWS if rows is None else rows)


def _say_more(value: dict[str, Any], screen: Screen) -> None:
    """What was asked for beside findings."""
    if (fixed := value["fixed"]) is not None:
        screen.say(f"\n{fixed['file']}: {fixed['rows']:,} rows, {fixed['left_out']:,} left out")
    if (curve := value["scaling"]) is not None:
        screen.say(f"\n{curve['how']}, scored on the validation rows:")
        table = [["rows", curve["metric"], "95 % interval", ""]]
        for kind, points in (("measured", curve["points"]), ("foretold", curve["more"])):
            for point in points:
                interval = f"[{point['low']:.3f}, {point['high']:.3f}]"
                table.append([f"{point['rows']:,}", f"{point['value']:.3f}", interval, kind])
        screen.table(table)
        screen.say(curve["verdict"])


def _token_view(prepared: Prepared, screen: Screen, rows: int) -> None:
    from rich.console import Console

    console = Console(file=screen.out, highlight=False, soft_wrap=True)
    colours = console.is_terminal and console.color_system is not None
    if rows:
        console.print(tokentext.legend(colours=colours))
    for view in tokenview.views(prepared, rows, _SHOWN_TOKENS):
        console.print()
        for line in tokentext.lines(view, colours=colours):
            console.print(line)
