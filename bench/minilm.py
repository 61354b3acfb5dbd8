"""MiniLM on banking77 beside Transformers' Trainer: what the units on it share."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure import data_folder, side, trainer_arguments, work_folder

ROWS, TEST_ROWS, BATCH, RATE = 2000, 1000, 16, 1e-4


@dataclass(frozen=True)
class Setting:
    """One start and one set of files, which both sides load."""

    work: Path
    minilm: str
    start: str
    """A folder with a stock classifier whose head was drawn once, without dropout."""
    files: dict[str, str]
    labels: list[str]


def setting(unit: str) -> Setting:
    """Write the rows and draw the head."""
    from tunesmith.models.catalog import find

    work = work_folder(unit)
    files, labels = _write_rows(data_folder("banking77"), work)
    minilm, start = str(find("minilm", print).folder), str(work / "start")
    side("theirs", "start", {"do": "head", "folder": minilm, "out": start, "labels": labels, "seed": 0}, work)
    return Setting(work, minilm, start, files, labels)


def _write_rows(source: Path, work: Path) -> tuple[dict[str, str], list[str]]:
    """Fixed samples in a fixed mixed order (the file is sorted by label), and the sorted labels."""
    files, labels = {}, []
    for name, limit in (("train", ROWS), ("validation", None), ("test", TEST_ROWS), ("every-test", None)):
        with open(source / f"{name.removeprefix('every-')}.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        random.Random(0).shuffle(rows)
        rows = rows[:limit]
        files[name] = str(work / f"{name}.jsonl")
        Path(files[name]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        if name == "train":
            labels = sorted({row["label"] for row in rows})
    assert len(labels) == 77, f"the sample has {len(labels)} of 77 labels"
    return files, labels


def equal_recipe(given: Setting, method: Any, epochs: int) -> dict[str, Any]:
    """No look at validation rows but the one that ends a run."""
    return {
        "model": {"name": given.start, "pooling": "cls", "dropout": 0},
        "task": "text-classification",
        "data": {"train": given.files["train"], "validation": given.files["validation"]},
        "method": method,
        "train": {
            "epochs": epochs,
            "batch_size": BATCH,
            "learning_rate": RATE,
            "head_learning_rate": RATE,
            "schedule": "linear",
            "warmup": 0,
            "weight_decay": 0,
            "clip": 1.0,
            "shuffle": False,
        },
        "evaluate": {"compare": False, "limit": 77, "every": epochs * ROWS},
        "run": {"dir": str(given.work / "runs")},
    }


def equal_trainer(given: Setting, epochs: int, order: str = "sequential", **more: Any) -> dict[str, Any]:
    """Trainer with the same rows, order, rate and number of updates; it pads each batch to its longest row."""
    arguments = trainer_arguments(order, epochs=epochs, batch=BATCH, rate=RATE)
    return {**trainer(given, given.start), "test": None, "arguments": arguments, **more}


def trainer(given: Setting, folder: str) -> dict[str, Any]:
    """What every job of Trainer has."""
    save = str(given.work / "trainer")
    return {"do": "trainer", "folder": folder, "train": given.files["train"], "labels": given.labels, "save": save}
