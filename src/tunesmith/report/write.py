"""The report of a run: `report.json` (all `--json` prints, and more), `report.md`, PNGs, and the model's card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tunesmith.contracts import Row
from tunesmith.judgement import Judgement, as_json, headline
from tunesmith.prepare import Prepared
from tunesmith.report import measures, page, plots, text
from tunesmith.rundir import RunDir, guarded, write_bytes, write_json
from tunesmith.train.checkpoint import Progress


def summary(
    run: RunDir,
    prepared: Prepared,
    result: Judgement,
    seconds: dict[str, float],
    progress: Progress,
) -> dict[str, Any]:
    """The object that `train --json` prints: see results.Result."""
    assert prepared.recipe.task is not None
    task = prepared.task
    notes = []
    if prepared.final_split == "validation":
        notes.append("no test rows: the scores are on the rows that chose the checkpoint")
    if prepared.splits.made:
        notes.append(f"{' and '.join(prepared.splits.made)} rows were taken out of the training file")
    notes += task.notes()
    if progress.left_out:
        notes.append(f"{progress.left_out} updates were left out: their loss or gradient was not finite")
    metric = headline(task, result.scores[prepared.final_split])
    if metric != task.headline and task.has_references:
        notes.append(f"no answers were written, so {task.headline.name} is not known; see `evaluate.answers`")
    answers = list(result.tuned.answers.values())
    endless = sum(answer.get("ended") is False for answer in answers)
    if endless > 0.02 * len(answers):
        notes.append(f"{endless} of {len(answers)} answers were cut at the limit; see `task.max_new_tokens`")
    return {
        "run": str(run.path),
        "state": "finished",
        "task": prepared.recipe.task.name,
        "headline": metric.name,
        "higher_is_better": metric.higher_is_better,
        "scores": as_json(result.scores),
        "base": as_json(result.base),
        "baselines": {name: as_json(found) for name, found in result.baselines.items()},
        "verdict": asdict(result.verdict) if result.verdict else None,
        "win_rate": asdict(result.win_rate) if result.win_rate else None,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "tokens": {name: int(value) for name, value in progress.tokens.items()},
        "peak_memory_bytes": 0,
        "notes": notes,
        "verified": [],
    }


def write(run: RunDir, prepared: Prepared, result: Judgement, report: dict[str, Any]) -> None:
    """Write report/ and predictions/. report.json comes last: where it is, the report is whole."""
    split = prepared.final_split
    rows = prepared.splits.rows[split]
    predictions = run.path / "predictions"
    with guarded(run.report):
        run.report.mkdir(exist_ok=True)
        predictions.mkdir(exist_ok=True)
    write_bytes(predictions / f"{split}.jsonl", _predictions(rows, result))
    write_bytes(run.report / "measures.safetensors", measures.pack(prepared.task, rows, result))
    with guarded(run.report):
        plots.curves(list(run.events()), report["curves"]["watched"], run.report / "curves.png")
        if report["confusion"] is not None:
            found = report["confusion"]
            plots.confusion(found["labels"], np.array(found["counts"], float), run.report / "confusion.png")
    put(run, report)


def put(run: RunDir, report: dict[str, Any]) -> None:
    """Write what is made of a report, then the report itself."""
    write_bytes(run.report / "report.md", text.markdown(report).encode())
    write_bytes(run.report / "index.html", page.page(report).encode())
    write_json(run.report / "report.json", report)


def _predictions(rows: Sequence[Row], result: Judgement) -> bytes:
    """A line a row that was answered: what the file says, and the answers of the tuned model and of the base."""
    base = result.base_judged.answers if result.base_judged else {}
    lines = []
    for row in rows:
        if row.id in result.tuned.answers:
            made = {"file": row.file, "line": row.line, **_plain(row), "prediction": result.tuned.answers[row.id]}
            lines.append(json.dumps(made | ({"base": base[row.id]} if row.id in base else {})))
    return ("\n".join(lines) + "\n").encode()


def _plain(row: Row) -> dict[str, Any]:
    return {key: value for key, value in row.values.items() if key not in ("label_type", "image_sha256")}
