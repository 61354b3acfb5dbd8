"""The report of a run: `report.json` (all `--json` prints, and more), `report.md`, PNGs, and the model's card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.contracts import Row, Task
from tunesmith.events import Updated
from tunesmith.judgement import Judgement, as_json, headline
from tunesmith.prepare import Prepared
from tunesmith.report import plots, tables
from tunesmith.rundir import RunDir, guarded, write_bytes, write_json
from tunesmith.train.checkpoint import Progress

_SHOWN = 12


def summary(
    run: RunDir,
    prepared: Prepared,
    result: Judgement,
    seconds: dict[str, float],
    progress: Progress,
    peak: int,
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
        "peak_memory_bytes": peak,
        "notes": notes,
        "verified": [],
    }


def write(run: RunDir, prepared: Prepared, result: Judgement, summed: dict[str, Any]) -> None:
    """Write report/ and predictions/. report.json comes last: where it is, the report is whole."""
    split = prepared.final_split
    rows = prepared.splits.rows[split]
    predictions = run.path / "predictions"
    with guarded(run.report):
        run.report.mkdir(exist_ok=True)
        predictions.mkdir(exist_ok=True)
    lines = [
        json.dumps({"file": row.file, "line": row.line, **_plain(row), "prediction": result.tuned.answers[row.id]})
        for row in rows
        if row.id in result.tuned.answers
    ]
    write_bytes(predictions / f"{split}.jsonl", ("\n".join(lines) + "\n").encode())
    labels = prepared.task.classes()
    parts = [_head(summed), _curves(run, prepared, summed)]
    details = (
        _label_details(prepared.task, labels, rows, result) if labels else _answer_details(prepared.task, rows, result)
    )
    if labels:
        _confusion(run.report, labels, rows, result)
    counted = prepared.task.counted()
    if counted:
        details["per_label"] = _counted(counted, result)
    parts += _sections(details, bool(labels))
    write_bytes(run.report / "report.md", ("\n\n".join(parts) + "\n").encode())
    write_json(run.report / "report.json", {**summed, "details": details})


def card(summed: dict[str, Any], licence: str | None) -> str:
    """The saved model's README: metadata header, what it does, its scores, how it was made."""
    header = ["---", "library_name: tunesmith", f"tags: [{summed['task']}]"]
    if licence:
        header.append(f"base_model_licence: {licence}")
    body = [
        f"# {Path(summed['run']).name}",
        tables.verdict_line(summed),
        tables.markdown(tables.comparison(summed)),
        "Intervals are 95 % bootstrap intervals over rows. Tuned with Tunesmith; the run directory beside this "
        "folder holds the recipe, the receipt and the report.",
    ]
    return "\n".join([*header, "---"]) + "\n\n" + "\n\n".join(body) + "\n"


def _head(summed: dict[str, Any]) -> str:
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in summed["seconds"].items())
    tokens = summed["tokens"]
    lines = [
        f"# {Path(summed['run']).name}",
        f"**{tables.verdict_line(summed)}**",
        tables.markdown(tables.comparison(summed)),
        "\\* headline; brackets are 95 % bootstrap intervals.",
        *_wins(summed),
        f"Time: {seconds}. Tokens computed in training: {tokens['real']:,} real, {tokens['padded']:,} padding; "
        f"{tokens['label']:,} targets. Peak memory {summed['peak_memory_bytes'] / 2**30:.2f} GB.",
        *(f"Note: {note}." for note in summed["notes"]),
        *tables.verified_lines(summed["verified"]),
    ]
    return "\n\n".join(lines)


def _wins(summed: dict[str, Any]) -> list[str]:
    wins = summed["win_rate"]
    if wins is None:
        return []
    share = f"{wins['value']:.1%} [{wins['low']:.1%}, {wins['high']:.1%}] of {wins['n']:,}"
    return [f"The tuned model finds {share} references likelier than the base does."]


def _curves(run: RunDir, prepared: Prepared, summed: dict[str, Any]) -> str:
    events = list(run.events())
    looks = {e.step: e.scores for e in events if isinstance(e, Updated) and e.scores}
    watched = next((prepared.task.watched(scores).name for scores in looks.values()), summed["headline"])
    with guarded(run.report):
        plots.curves(events, watched, run.report / "curves.png")
    table = [["update", *next(iter(looks.values()))]] if looks else [["update"]]
    table += [[str(step), *map(tables.number, scores.values())] for step, scores in sorted(looks.items())]
    return "## Curves\n\n![training loss and validation score](curves.png)\n\n" + tables.markdown(table)


def _plain(row: Row) -> dict[str, Any]:
    return {key: value for key, value in row.values.items() if key not in ("label_type", "image_sha256")}


def _label_details(task: Task, labels: Sequence[str], rows: Sequence[Row], result: Judgement) -> dict[str, Any]:
    """Worst errors, rows fixed and broken against the base, and precision and recall per label."""
    answers = result.tuned.answers
    wrong = [row for row in rows if answers[row.id]["label"] != row["label"]]
    wrong.sort(key=lambda row: (-answers[row.id]["probability"], row.id))
    per_label = {}
    for label in labels:
        gold = sum(row["label"] == label for row in rows)
        said = sum(answers[row.id]["label"] == label for row in rows)
        hit = sum(row["label"] == label == answers[row.id]["label"] for row in rows)
        per_label[label] = _rates(gold, said, hit)
    base = result.base_judged.answers if result.base_judged else {}
    right_before = {row.id for row in rows if row.id in base and base[row.id]["label"] == row["label"]}
    right_now = {row.id for row in rows} - {row.id for row in wrong}
    return {
        "worst_errors": [_error(row, task.show(row, None).asked, answers[row.id]) for row in wrong[:_SHOWN]],
        "errors": len(wrong),
        "fixed": len(right_now - right_before) if base else None,
        "broken": len(right_before - right_now) if base else None,
        "per_label": per_label,
    }


def _counted(names: Sequence[str], result: Judgement) -> dict[str, Any]:
    """Precision and recall of each name that measures count."""
    sums = {name: result.tuned.measured.values[name].sum(0) for name in ("gold", "found", "hit")}
    return {name: _rates(*(float(sums[kind][k]) for kind in ("gold", "found", "hit"))) for k, name in enumerate(names)}


def _rates(gold: float, said: float, hit: float) -> dict[str, float]:
    return {
        "rows": int(gold),
        "precision": hit / said if said else 0.0,
        "recall": hit / gold if gold else 0.0,
        "f1": 2 * hit / (gold + said) if gold + said else 0.0,
    }


def _error(row: Row, asked: str, answer: dict[str, Any]) -> dict[str, Any]:
    place = {"file": row.file, "line": row.line, "text": asked, "label": row["label"]}
    return {**place, "predicted": answer["label"], "probability": answer["probability"]}


def _answer_details(task: Task, rows: Sequence[Row], result: Judgement) -> dict[str, Any]:
    """Answers of base and tuned beside the reference; how many became right, and wrong, where answers can be that."""
    base = result.base_judged.answers if result.base_judged else {}
    samples = []
    fixed = broken = None
    for row in rows:
        if row.id not in result.tuned.answers:
            continue
        now = task.show(row, result.tuned.answers[row.id])
        before = task.show(row, base[row.id]) if row.id in base else None
        if before is not None and now.right is not None:
            fixed = (fixed or 0) + (now.right and not before.right)
            broken = (broken or 0) + bool(before.right and not now.right)
        sample = {"file": row.file, "line": row.line, "question": now.asked, "reference": now.reference}
        samples.append({**sample, "base": before.answer if before else None, "tuned": now.answer, "right": now.right})
    return {"samples": samples, "fixed": fixed, "broken": broken}


def _sections(details: dict[str, Any], labelled: bool) -> list[str]:
    if not labelled:
        table = [["asked", "reference", "base", "tuned"]]
        wrong_first = sorted(details["samples"], key=lambda sample: sample["right"] is True)
        for sample in wrong_first[:_SHOWN]:
            table.append([tables.cell(sample[name] or "-") for name in ("question", "reference", "base", "tuned")])
        changed = ""
        if details["fixed"] is not None:
            changed = f"Against the base, {details['fixed']} rows became right and {details['broken']} wrong.\n\n"
        answers = [f"## Answers\n\n{changed}" + tables.markdown(table)] if details["samples"] else []
        return _labels(details["per_label"]) + answers if "per_label" in details else answers
    errors = [["the file says", "the model says", "sure", "text", "where"]]
    for error in details["worst_errors"]:
        place = f"{Path(error['file']).name}:{error['line']}"
        sure = f"{error['probability']:.2f}"
        errors.append(
            [
                tables.cell(error["label"]),
                tables.cell(error["predicted"]),
                sure,
                tables.cell(error["text"]),
                place,
            ]
        )
    changed = ""
    if details["fixed"] is not None:
        changed = f"Against the base, {details['fixed']} rows became right and {details['broken']} became wrong.\n\n"
    return [
        *_labels(details["per_label"]),
        "## Confusion\n\n![confusion](confusion.png)",
        f"## Worst errors\n\n{changed}{details['errors']} errors; the surest first.\n\n" + tables.markdown(errors),
    ]


def _labels(per_label: dict[str, Any]) -> list[str]:
    table = [["label", "occurs", "precision", "recall", "f1"]]
    for label, found in per_label.items():
        values = [tables.number(found[name]) for name in ("precision", "recall", "f1")]
        table.append([tables.cell(label), str(found["rows"]), *values])
    return ["## Labels\n\n" + tables.markdown(table)]


def _confusion(folder: Path, labels: Sequence[str], rows: Sequence[Row], result: Judgement) -> None:
    place = {label: number for number, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)))
    for row in rows:
        if row["label"] in place:
            counts[place[row["label"]], place[result.tuned.answers[row.id]["label"]]] += 1
    with guarded(folder):
        plots.confusion(labels, counts, folder / "confusion.png")
