"""Tunesmith's side: trains the recipe of a job to its end and writes what each update did.

    ours.py JOB.json OUT.json

Runs in Tunesmith's own environment. The job is a recipe as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from tunesmith import recipefile, run
from tunesmith.events import Updated


def main(job: Path, out: Path) -> None:
    """An update lasts from the event before it to its own: loop, event log and all. The first one, and those that
    were followed by a look at the validation rows, say themselves how long they took, without the look."""
    recipe = recipefile.build(json.loads(job.read_text(encoding="utf-8")))
    made, prepared = run.begin(recipe, None, sys.argv)
    before = {name: tensor.clone() for name, tensor in prepared.model.state().items()}
    updates: list[Updated] = []
    seconds = 0.0
    last = time.perf_counter()
    for event in run.go(made, prepared):
        now = time.perf_counter()
        if isinstance(event, Updated):
            alone = event.scores is not None or not updates
            seconds += event.seconds if alone else now - last
            updates.append(event)
        last = time.perf_counter()
    moved = [(tensor - before[name]).norm() for name, tensor in prepared.model.state().items()]
    result = json.loads((made.report / "report.json").read_text(encoding="utf-8"))
    rows = [example.parts["text"] for row in prepared.examples for example in row]
    found = {
        "ids": [row.ids for row in rows],
        "trained": [row.trained for row in rows],
        "losses": [update.losses["loss"] for update in updates],
        "tokens": [update.tokens for update in updates],
        "padded": sum(update.padded for update in updates),
        "labels": [int(update.labels) for update in updates],
        "train_seconds": seconds,
        "moved": float(torch.stack(moved).norm()),
        "trained_parameters": prepared.model.sizes()[0],
        "threads": torch.get_num_threads(),
        # The kernel's mark is set back once while Tunesmith measures, so its own peak is asked too.
        "peak_bytes": result["peak_memory_bytes"],
        "phases": result["seconds"],
        "accuracy": result["scores"].get("test", {}).get("accuracy", {}).get("value"),
    }
    out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
