"""Tunesmith's side: does what a job says and writes what it saw.

    ours.py JOB.json OUT.json

Runs in Tunesmith's own environment. The job's `do` names what to do; the rest is its arguments.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tunesmith import recipefile, run
from tunesmith.cache import cache_root
from tunesmith.events import Updated
from tunesmith.models.matmul import BLAS, ONEDNN, Matmul, available
from tunesmith.prepare import Prepared
from tunesmith.train.loop import Batches


def train(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe, to its end.

    An update lasts from the event before it to its own: loop, event log and all. The first one, and those that were
    followed by a look at the validation rows, say themselves how long they took, without the look.
    """
    for kind in ("trunk", "tokens"):  # what an earlier run has kept would be a head start
        shutil.rmtree(cache_root() / kind, ignore_errors=True)
    made, prepared = run.begin(recipefile.build(recipe), None, sys.argv)
    before = {name: tensor.clone() for name, tensor in prepared.model.state().items()}
    updates: list[Updated] = []
    seconds = first = 0.0
    last = time.perf_counter()
    for event in run.go(made, prepared):
        now = time.perf_counter()
        if isinstance(event, Updated):
            first = first or since_start()
            alone = event.scores is not None or not updates
            seconds += event.seconds if alone else now - last
            updates.append(event)
        last = time.perf_counter()
    moved = [(tensor - before[name]).float().norm() for name, tensor in prepared.model.state().items()]
    result = json.loads((made.report / "report.json").read_text(encoding="utf-8"))
    # Running the frozen blocks once, before the first update, is part of training.
    seconds += result["seconds"].get("trunk", 0.0)
    return {
        **_read(prepared),
        "losses": [update.losses["loss"] for update in updates],
        "tokens": [update.tokens for update in updates],
        "padded": sum(update.padded for update in updates),
        "labels": [int(update.labels) for update in updates],
        "train_seconds": seconds,
        "first_update_seconds": first,
        "device_peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        "moved": float(torch.stack(moved).norm()),
        "trained_parameters": prepared.model.sizes()[0],
        "threads": torch.get_num_threads(),
        # The kernel's mark is set back once while Tunesmith measures, so its own peak is asked too.
        "peak_bytes": result["peak_memory_bytes"],
        "phases": result["seconds"],
        "accuracy": result["scores"].get("test", {}).get("accuracy", {}).get("value"),
        "gflop": 0.0 if prepared.model.family == "vision" else work(prepared, len(updates)) / 1e9,
        "sgemm": {library.name: sgemm(library) for library in (BLAS, ONEDNN) if library is BLAS or available()},
        "matmul": prepared.model.matmul.name,
    }


def _read(prepared: Prepared) -> dict[str, Any]:
    """What was read of each row of text."""
    if prepared.model.family == "vision":
        return {}
    rows = [example.parts["text"] for row in prepared.examples for example in row]
    return {"ids": [row.ids for row in rows], "trained": [row.trained for row in rows]}


def evaluate(recipe: dict[str, Any]) -> dict[str, Any]:
    """Only the answers to the rows of the recipe's validation file, as a look at them during training gives."""
    from tunesmith.prepare import prepare
    from tunesmith.train.evaluate import judge, value_of

    prepared = prepare(recipefile.build(recipe))
    rows = prepared.splits.rows["validation"]
    began = time.perf_counter()
    found = judge(prepared.model, prepared.task, rows, answers=None)
    seconds = time.perf_counter() - began
    return {
        "evaluate_seconds": seconds,
        "answers": [found.answers[row.id]["label"] for row in rows],
        "accuracy": value_of(prepared.task, found.measured)["accuracy"],
        "threads": torch.get_num_threads(),
    }


def search(recipe: dict[str, Any]) -> dict[str, Any]:
    """A search, to its end: what its trials came to, and when the last of them had ended."""
    from tunesmith.search import run as searching
    from tunesmith.search.events import Ended

    for kind in ("trunk", "tokens"):
        shutil.rmtree(cache_root() / kind, ignore_errors=True)
    opening = searching.begin(recipefile.build(recipe), None)
    made, ended = [], 0.0
    for event in searching.go(opening):
        if not isinstance(event, Ended):
            continue
        ended = since_start()
        line, place = event.line, opening.directory.trial(event.line.number)
        events = [json.loads(text) for text in (place / "events.jsonl").read_text(encoding="utf-8").splitlines()]
        updates = [each for each in events if each["event"] == "Updated"]
        made.append(
            {
                "number": line.number,
                "method": line.params["method"],
                "learning_rate": line.params["train.learning_rate"],
                "seconds": line.seconds,
                "losses": [each["losses"]["loss"] for each in updates],
                "accuracy": updates[-1]["scores"]["accuracy"],
            }
        )
    return {"trials": made, "trials_seconds": ended, "threads": torch.get_num_threads()}


def since_start() -> float:
    """Seconds since the process was started, by the clock of whoever started it."""
    return time.time() - float(os.environ["TUNESMITH_BENCH_BEGAN"])


def work(prepared: Prepared, updates: int) -> float:
    """Operations of the matrix products that the updates need, by the tokens that are really computed: two a weight
    and token in the forward, two more for the gradient of what a layer reads, two for that of a weight that learns.
    Attention is not counted, nor frozen blocks that ran once a row; the last block is counted whole."""
    model = prepared.model
    frozen = 0 if model.kept is None else model.kept.blocks
    batches = Batches(prepared.train_rows, prepared.examples, prepared.plan(), 2**30)
    model.train()
    tokens = labels = 0
    for step in range(updates):
        for piece in batches.at(step, model.layout):
            tokens += len(model.stream([example.parts["text"] for example in piece.examples]).ids)
            labels += int(sum(prepared.task.weights(piece.examples).values()))
    total = 0.0
    for name, parameter in model.net.named_parameters():
        depth = model.depth_of(name)
        if depth is not None and depth >= frozen and parameter.ndim == 2:
            total += (4 + 2 * parameter.requires_grad) * parameter.numel() * tokens
    if model.kind == "causal-lm":
        head = model.output_layer.get_parameter("weight")
        total += (4 + 2 * head.requires_grad) * head.numel() * labels
    return total


def sgemm(library: Matmul) -> float:
    """GFLOP/s of a product of the sizes that blocks have, best of ten."""
    x, weight = torch.randn(1024, 576), torch.randn(1536, 576)
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        library.linear(x, weight, None)
        best = min(best, time.perf_counter() - began)
    return 2 * 1024 * 576 * 1536 / best / 1e9


def main(job: Path, out: Path) -> None:
    """Do what the job says."""
    asked = json.loads(job.read_text(encoding="utf-8"))
    known: dict[str, Callable[..., Any]] = {"train": train, "evaluate": evaluate, "search": search}
    out.write_text(json.dumps(known[asked.pop("do")](**asked)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
