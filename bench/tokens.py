"""MiniLM on tasks over tokens beside Transformers' Trainer: what the two units share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.measure import alternate, brief, equal, goals, ratios, trainer_arguments

BATCH, RATE, ROUNDS, TOLERANCE = 16, 1e-4, 2, 1e-3
Job = tuple[str, dict[str, Any]]


def recipe(start: str, task: str, train: Path, validation: Path, work: Path, rows: int) -> dict[str, Any]:
    """One pass in the order of the file; no look at validation rows but the one that ends a run."""
    return {
        "model": start,
        "task": task,
        "data": {"train": str(train), "validation": str(validation)},
        "method": "full",
        "train": {
            "epochs": 1,
            "batch_size": BATCH,
            "learning_rate": RATE,
            "head_learning_rate": RATE,
            "schedule": "linear",
            "warmup": 0,
            "weight_decay": 0,
            "shuffle": False,
        },
        "evaluate": {"compare": False, "limit": 50, "every": rows},
        "run": {"dir": str(work / "runs")},
    }


def arguments(order: str) -> dict[str, Any]:
    """The same for Trainer."""
    return trainer_arguments(order, epochs=1, batch=BATCH, rate=RATE)


def compare(name: str, ours: Job, theirs: Job, grouped: Job, work: Path) -> dict[str, Any]:
    """Tunesmith; Trainer with the same order of rows, and with rows of like length together. In turn, twice."""
    found = alternate(name, {"tunesmith": ours, "trainer": theirs, "trainer-grouped": grouped}, ROUNDS, work)
    a, b, c = found.values()
    same, beside = equal(a[0], b[0], TOLERANCE), ratios(a, b)
    aims = goals(
        largest_difference=(same["largest_difference"], "<=", TOLERANCE),
        ratio_train=(beside["ratio_train"], ">=", 2.5),
    )
    return {
        "passed": same["equal"] and all(aim["reached"] for aim in aims.values()),
        "goals": aims,
        **same,
        **beside,
        "beside_grouped_by_length": ratios(a, c),
        "tunesmith": brief(a),
        "trainer": brief(b),
        "trainer_grouped_by_length": brief(c),
        "losses": {"tunesmith": a[0]["losses"], "trainer": b[0]["losses"]},
    }
