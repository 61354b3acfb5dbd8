"""Images of cifar10 with EfficientNet-Lite0, full tuning, beside Transformers' Trainer."""

from __future__ import annotations

import json
from typing import Any

from bench.measure import alternate, brief, data_folder, equal, goals, ratios, side, trainer_arguments, work_folder

ROWS, BATCH, SIZE, RATE, ROUNDS, TOLERANCE = 640, 32, 128, 2e-5, 2, 1e-3


def main() -> dict[str, Any]:
    """20 updates of 32 images, seen whole and as they are: what differs between two runs is the engine alone."""
    from tunesmith.models.catalog import find

    work = work_folder("images")
    folder = data_folder("cifar10")
    labels = sorted(path.name for path in (folder / "train").iterdir())
    files = {}
    for name, most in (("train", ROWS // len(labels)), ("validation", 5)):
        listed = [sorted((folder / name / label).iterdir())[:most] for label in labels]
        rows = [{"image": str(p), "label": p.parent.name} for group in zip(*listed, strict=True) for p in group]
        files[name] = work / f"{name}.json"
        files[name].write_text(json.dumps(rows), encoding="utf-8")
    start = str(work / "start")
    source = str(find("efficientnet-lite0", print).folder)
    side(
        "images",
        "start",
        {"do": "head", "folder": source, "out": start, "labels": labels, "size": SIZE, "seed": 0},
        work,
    )
    print(f"EfficientNet-Lite0, full tuning, {ROWS} images of cifar10 at {SIZE} pixels, batches of {BATCH}", flush=True)
    named = {split: str(file) for split, file in files.items()}
    theirs = {"do": "images", "folder": start, "rows": named["train"], "labels": labels, "save": str(work / "trainer")}
    jobs: dict[str, tuple[str, dict[str, Any]]] = {
        "tunesmith": ("ours", {"do": "train", "recipe": _recipe(start, named, str(work))}),
        "trainer": (
            "images",
            {**theirs, "arguments": trainer_arguments("sequential", epochs=1, batch=BATCH, rate=RATE)},
        ),
    }
    a, b = alternate("images", jobs, ROUNDS, work).values()
    same, beside = equal(a[0], b[0], TOLERANCE), ratios(a, b)
    aims = goals(
        largest_difference=(same["largest_difference"], "<=", TOLERANCE), ratio_train=(beside["ratio_train"], ">=", 1.0)
    )
    return {
        "passed": same["equal"] and all(aim["reached"] for aim in aims.values()),
        "goals": aims,
        **same,
        **beside,
        "tunesmith": brief(a),
        "trainer": brief(b),
        "losses": {"tunesmith": a[0]["losses"], "trainer": b[0]["losses"]},
    }


def _recipe(start: str, files: dict[str, str], work: str) -> dict[str, Any]:
    return {
        "model": {"name": start, "dropout": 0.0},
        "task": {"name": "image-classification", "crop": 1.0, "colour": 0.0},
        "data": files,
        "method": "full",
        "train": {
            "epochs": 1, "batch_size": BATCH, "learning_rate": RATE, "head_learning_rate": RATE, "schedule": "linear",
            "warmup": 0, "weight_decay": 0, "shuffle": False,
        },
        "evaluate": {"compare": False, "every": ROWS},
        "run": {"dir": f"{work}/runs"},
    }  # fmt: skip
