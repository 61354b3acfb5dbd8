"""LoRA trials that train together over one frozen base, beside the same trials alone: `python bench/together.py`.

Both sides are of one process and take turns, an update of every trial a turn, so that a slow spell of the machine meets
both: the same rows, rates, seeds and numbers of updates. All eight nets share one set of frozen tensors. Printed and,
with `--save`, kept in results/together.json: the seconds of each side, the losses of every update of both, how far the
weights moved and how far the two sides' are apart, the most memory that a turn of each took beyond what lay there
before it, and the load of the machine. On a busy machine the seconds of all cores are what to read.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import peers  # noqa: E402
from bench.measure import THREADS, data_folder, work_folder  # noqa: E402

if TYPE_CHECKING:
    from tunesmith.train.loop import Member

RESULT = ROOT / "bench" / "results" / "together.json"
RATES = (1.0, 0.5, 2.0, 4.0)
"""Of the four trials, as multiples of the method's own."""
BUSY = 3.0
"""Load of the machine above which a measurement is made again."""


@dataclass(frozen=True)
class Work:
    """What four trials learn."""

    model: str
    data: str
    rows: int
    batch: int
    updates: int
    rank: int


WORKS = {
    "minilm": Work("minilm", "banking77/train.csv", 2000, 16, 40, 8),
    "minilm-small": Work("minilm", "banking77/train.csv", 2000, 4, 40, 8),
    "smollm2": Work("smollm2-135m", "alpaca/train.jsonl", 64, 4, 5, 8),
    "smollm2-small": Work("smollm2-135m", "alpaca/train.jsonl", 64, 1, 6, 8),
}


def main() -> int:
    """Measure each work, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="*", default=list(WORKS), help=f"of {', '.join(WORKS)}; all by default")
    parser.add_argument("--threads", type=int, default=THREADS, help="one is least disturbed on a busy machine")
    parser.add_argument("--save", action="store_true", help="keep the result")
    asked = parser.parse_args()
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    good = True
    for name in asked.works:
        found = measured(name, WORKS[name], asked.threads)
        if found["load"] > BUSY and asked.threads > 1:
            print(f"the load is {found['load']:.1f}: once more", flush=True)
            found = measured(name, WORKS[name], asked.threads)
        said = {key: value for key, value in found.items() if key not in ("losses_alone", "losses_together")}
        print(name, json.dumps(said, indent=1), flush=True)
        result[f"{name}, {asked.threads} threads"] = {**peers.setting(), "threads": asked.threads, **found}
        good = good and found["largest_loss_difference"] < 1e-3 and min(found["moved"]) > 0
        if asked.save:
            RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if good else 1


def measured(name: str, work: Work, threads: int) -> dict[str, Any]:
    """Both sides of a work."""
    import torch

    from tunesmith.models import crew
    from tunesmith.train.loop import train
    from tunesmith.train.team import train_team

    torch.set_num_threads(threads)
    folder = work_folder(f"together-{name}")
    members = [member(work, folder, number) for number in (*range(4), *range(4))]
    for one in members[1:]:
        one.model.matmul = members[0].model.matmul
        crew.unite([members[0].model, one.model])
    alone, together = members[:4], members[4:]
    starts = [weights(one) for one in alone]
    runs = [
        train(m.model, m.task, m.batches, m.optimizer, m.schedule, start=0, every=m.every, evaluate=m.evaluate)
        for m in alone
    ]
    team = train_team(together)
    losses: dict[str, list[list[float]]] = {"alone": [], "together": []}
    turns: dict[str, Callable[[], list[float]]] = {
        "alone": lambda: [next(run).losses["loss"] for run in runs],
        "together": lambda: [loss_of(team) for _ in together],
    }
    seconds: dict[str, list[float]] = {"alone": [], "together": []}
    cpu: dict[str, list[float]] = {"alone": [], "together": []}
    memory: dict[str, list[int]] = {"alone": [], "together": []}
    load = []
    for number in range(work.updates):
        for side in ("alone", "together") if number % 2 else ("together", "alone"):
            made, took, worked, grown = timed(turns[side])
            losses[side].append(made)
            seconds[side].append(took)
            cpu[side].append(worked)
            memory[side].append(grown)
        load.append(os.getloadavg()[0])
    moved = [float((weights(one) - start).norm()) for one, start in zip(alone, starts, strict=True)]
    apart = [float((weights(a) - weights(b)).norm()) for a, b in zip(alone, together, strict=True)]
    pairs = zip(losses["alone"], losses["together"], strict=True)
    first = members[0].model
    base = sum(p.numel() * p.element_size() for p in first.net.parameters() if not p.requires_grad)
    return {
        "model": work.model, "rows": work.rows, "batch_size": work.batch, "rank": work.rank, "trials": 4,
        "updates": work.updates, "matmul": first.matmul.name, "dropout": first.draws(),
        "seconds_alone": round(sum(seconds["alone"]), 3), "seconds_together": round(sum(seconds["together"]), 3),
        "ratio": round(sum(seconds["alone"]) / sum(seconds["together"]), 3),
        "ratio_of_medians": round(statistics.median(seconds["alone"]) / statistics.median(seconds["together"]), 3),
        "cpu_seconds_alone": round(sum(cpu["alone"]), 3), "cpu_seconds_together": round(sum(cpu["together"]), 3),
        "ratio_of_cpu": round(sum(cpu["alone"]) / sum(cpu["together"]), 3),
        "memory_of_a_turn_mb": {side: round(max(grown) / 2**20) for side, grown in memory.items()},
        "frozen_mb": round(base / 2**20), "frozen_mb_of_four_nets": round(4 * base / 2**20),
        "largest_loss_difference": max(abs(x - y) for a, b in pairs for x, y in zip(a, b, strict=True)),
        "moved": [round(value, 4) for value in moved], "apart": apart,
        "load": round(max(load), 2),
        "losses_alone": losses["alone"], "losses_together": losses["together"],
    }  # fmt: skip


def member(work: Work, folder: Path, number: int) -> Member:
    """A trial: its seed is its number, its rate one of four."""
    from tunesmith import recipefile
    from tunesmith.prepare import prepare
    from tunesmith.train.loop import Member
    from tunesmith.train.optimizer import make_optimizer

    base = 1e-3 if work.model == "minilm" else 2e-4
    made = prepare(
        recipefile.build({
            "model": work.model,
            "data": {"train": str(rows_of(work, folder)), "bad_rows": "skip"},
            "method": {"name": "lora", "rank": work.rank},
            "train": {
                "steps": work.updates, "batch_size": work.batch, "seed": number, "learning_rate": base * RATES[number]
            },
        })
    )  # fmt: skip
    rates, keys = made.rates(), made.recipe.train
    optimizer = make_optimizer(made.model.learned(), made.model.fresh, *rates, keys.weight_decay, share=made.share_of)
    return Member(made.model, made.task, made.batches(2048), optimizer, made.schedule(), 10**9, dict)


def rows_of(work: Work, folder: Path) -> Path:
    """A fixed sample of the rows, in a file of their own."""
    import random

    source = data_folder(work.data.split("/")[0]) / work.data.split("/")[1]
    place = folder / source.name
    if not place.exists():
        head, lines = [], source.read_text(encoding="utf-8").splitlines(keepends=True)
        if source.suffix == ".csv":
            head, lines = lines[:1], lines[1:]
        random.Random(0).shuffle(lines)
        share = round(work.rows / 0.8)  # a tenth each is set aside for validation and test
        place.write_text("".join(head + lines[:share]), encoding="utf-8")
    return place


def loss_of(team: Iterator[tuple[int, Any]]) -> float:
    """Of the next update of a team."""
    _, updated = next(team)
    return float(updated.losses["loss"])


def weights(one: Member) -> Any:
    """All that learns, in one row."""
    import torch

    return torch.cat([parameter.detach().flatten().double() for _, parameter in one.model.learned()])


def timed(turn: Callable[[], list[float]]) -> tuple[list[float], float, float, int]:
    """What a turn made, its seconds, those of all cores in it, and the most memory beyond what lay there before."""
    from tunesmith.models.precision import release_freed_memory
    from tunesmith.train.fit import peak_bytes, resident_bytes

    release_freed_memory()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before, began, worked = resident_bytes(), time.perf_counter(), time.process_time()
    made = turn()
    return made, time.perf_counter() - began, time.process_time() - worked, peak_bytes() - before


if __name__ == "__main__":
    sys.exit(main())
