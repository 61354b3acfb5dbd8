"""Full tuning of MiniLM beside Hugging Face's Trainer: once with work made equal, once with the defaults of each."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

from bench.measure import QUIET, Side, brief, data_folder, largest_difference, side, speed_up, work_folder

FIRST, FIRST_TOLERANCE = 10, 1e-4
TOLERANCE = 1e-3
"""Of any loss. Two sides that round differently drift apart, as Adam amplifies it: see README.md for how much."""
ROUNDS = 2
ROWS, TEST_ROWS, EPOCHS, BATCH, RATE = 2000, 1000, 2, 16, 1e-4


def main() -> dict[str, Any]:
    """Tunesmith, Trainer, Tunesmith, Trainer: first with equal work, then with defaults."""
    from tunesmith.models.catalog import find

    source = data_folder("banking77")
    work = work_folder("trainer-banking77")
    files, labels = _write_rows(source, work)
    minilm = str(find("minilm", print).folder)
    start = str(work / "start")
    print(f"MiniLM, full tuning, {ROWS} rows of banking77 x {EPOCHS} epochs, batches of {BATCH}", flush=True)
    side("theirs", "start", {"do": "head", "folder": minilm, "out": start, "labels": labels, "seed": 0}, work)
    equal = _alternate("equal", _equal_recipe(start, files, work), _equal_trainer(start, files, labels, work), work)
    usual = _alternate("usual", _usual_recipe(files, work), _usual_trainer(minilm, files, labels, work), work)
    rows = {"equal_work": _judge_equal(*equal), "defaults": _judge_usual(*usual)}
    return {"passed": all(row["passed"] for row in rows.values()), **rows}


def _write_rows(source: Path, work: Path) -> tuple[dict[str, str], list[str]]:
    """Fixed samples in a fixed mixed order (the file is sorted by label), and the sorted labels."""
    files, labels = {}, []
    for name, limit in (("train", ROWS), ("validation", None), ("test", TEST_ROWS)):
        with open(source / f"{name}.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        random.Random(0).shuffle(rows)
        rows = rows[:limit]
        files[name] = str(work / f"{name}.jsonl")
        Path(files[name]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        if name == "train":
            labels = sorted({row["label"] for row in rows})
    assert len(labels) == 77, f"the sample has {len(labels)} of 77 labels"
    return files, labels


def _alternate(name: str, recipe: dict[str, Any], job: dict[str, Any], work: Path) -> tuple[list[Side], list[Side]]:
    ours, theirs = [], []
    for number in range(1, ROUNDS + 1):
        ours.append(side("ours", f"{name}-tunesmith-{number}", recipe, work))
        theirs.append(side("theirs", f"{name}-trainer-{number}", job, work))
    return ours, theirs


def _equal_recipe(start: str, files: dict[str, str], work: Path) -> dict[str, Any]:
    """No look at validation rows but the one that ends a run."""
    return {
        "model": {"name": start, "pooling": "cls", "dropout": 0},
        "task": "text-classification",
        "data": {"train": files["train"], "validation": files["validation"]},
        "method": "full",
        "train": {
            "epochs": EPOCHS,
            "batch_size": BATCH,
            "learning_rate": RATE,
            "head_learning_rate": RATE,
            "schedule": "linear",
            "warmup": 0,
            "weight_decay": 0,
            "clip": 1.0,
            "shuffle": False,
        },
        "evaluate": {"compare": False, "limit": 77, "every": EPOCHS * ROWS},
        "run": {"dir": str(work / "runs")},
    }


def _equal_trainer(start: str, files: dict[str, str], labels: list[str], work: Path) -> dict[str, Any]:
    arguments = {
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": BATCH,
        "learning_rate": RATE,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
    }
    return {**_trainer(start, files, labels, work), "test": None, "arguments": arguments}


def _usual_recipe(files: dict[str, str], work: Path) -> dict[str, Any]:
    return {
        "model": "minilm",
        "task": "text-classification",
        "data": files,
        "method": "full",
        "train": {"epochs": EPOCHS},
        "run": {"dir": str(work / "runs")},
    }


def _usual_trainer(folder: str, files: dict[str, str], labels: list[str], work: Path) -> dict[str, Any]:
    arguments = {"num_train_epochs": EPOCHS, "per_device_train_batch_size": BATCH}
    return {**_trainer(folder, files, labels, work), "test": files["test"], "arguments": arguments}


def _trainer(folder: str, files: dict[str, str], labels: list[str], work: Path) -> dict[str, Any]:
    return {"do": "trainer", "folder": folder, "train": files["train"], "labels": labels, "save": str(work / "trainer")}


def _judge_equal(ours: list[Side], theirs: list[Side]) -> dict[str, Any]:
    """Equal losses, and Tunesmith not slower."""
    a, b = ours[0], theirs[0]
    first = largest_difference(a["losses"][:FIRST], b["losses"][:FIRST])
    every = largest_difference(a["losses"], b["losses"])
    same_tokens = a["ids"] == b["ids"] and a["tokens"] == b["tokens"]
    repeats = all(run["losses"] == runs[0]["losses"] for runs in (ours, theirs) for run in runs)
    moved = abs(a["moved"] - b["moved"]) <= 0.01 * b["moved"] and a["moved"] > 0
    ratio = speed_up(ours, theirs)
    print(f"equal work: largest difference of a loss {every:.1e}, of the first {FIRST} {first:.1e}")
    print(f"equal work: Tunesmith is {ratio:.2f} times as fast in the updates", flush=True)
    equal = first <= FIRST_TOLERANCE and every <= TOLERANCE and same_tokens and moved
    return {
        "passed": equal and ratio >= 1.0,
        "goal": f"the first {FIRST} losses within {FIRST_TOLERANCE:g}, all within {TOLERANCE:g}; the same token ids; "
        "weights moved as far, to 1 %; ratio_train at least 1",
        "same_tokens": same_tokens,
        "largest_difference": every,
        "largest_difference_of_first": first,
        "both_repeat_bit_for_bit": repeats,
        **_ratios(ours, theirs),
        "tunesmith": brief(ours),
        "trainer": brief(theirs),
        "losses": {name: [round(x, 6) for x in run["losses"]] for name, run in (("tunesmith", a), ("trainer", b))},
    }


def _judge_usual(ours: list[Side], theirs: list[Side]) -> dict[str, Any]:
    """Not slower; what each scores is told beside it."""
    ratio = speed_up(ours, theirs)
    print(f"defaults: Tunesmith is {ratio:.2f} times as fast in the updates", flush=True)
    print(f"defaults: test accuracy {ours[0]['accuracy']:.3f}, Trainer {theirs[0]['accuracy']:.3f}", flush=True)
    return {
        "passed": ratio >= 1.0,
        "goal": "ratio_train at least 1",
        **_ratios(ours, theirs),
        "tunesmith": brief(ours),
        "trainer": brief(theirs),
    }


def _ratios(ours: list[Side], theirs: list[Side]) -> dict[str, Any]:
    """Their time over ours."""
    return {
        "ratio_train": round(speed_up(ours, theirs), 3),
        "ratio_train_by_round": [round(speed_up([a], [b]), 3) for a, b in zip(ours, theirs, strict=True)],
        "quiet": all(run["others_cpu"] <= QUIET for run in (*ours, *theirs)),
        "ratio_wall": round(speed_up(ours, theirs, "wall_seconds"), 3),
    }
