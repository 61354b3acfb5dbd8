"""A search of 16 trials beside a grid of 16 points run in full: `python bench/search_grid.py [--save]`.

MiniLM on 2,000 rows of banking77: its last two blocks, or LoRA in them, and learning rates over two and a half decades.
The grid is Tunesmith's own, without pruning, and shares tokens, weights and frozen blocks between its points as any
search does. The search is killed twice on the way (SIGKILL while a trial is at work); its time holds what was lost by
that. Exit status 1 where the search is worse than the best of the grid, or takes more than a third of its time.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import peers  # noqa: E402
from bench.measure import busy_seconds, data_folder, goals, work_folder, write_table  # noqa: E402

from tunesmith.searchspace import Range  # noqa: E402

RESULT = ROOT / "bench" / "results" / "search-grid.json"
ROWS, LOOKED, EPOCHS, BATCH, TRIALS = 2000, 500, 4, 16, 16
KILLED_AT = (3, 9)
"""Trials that have finished when the search is killed."""
RATE: dict[str, Any] = {"from": 5e-5, "to": 2e-2, "log": True}
METHODS: list[Any] = [{"name": "top-layers", "layers": 2}, {"name": "lora", "layers": 2}]
SHARE = 1 / 3


def main() -> int:
    """The grid, the search, what each came to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help="keep the result")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of searches: one each")
    asked = parser.parse_args()
    work = work_folder("search-grid")
    grid = ran(recipe_of(work, "grid", {"sampler": "grid", "pruner": "none"}, points=TRIALS // len(METHODS)), work, ())
    print(json.dumps({"grid": brief(grid)}), flush=True)
    searches = []
    for seed in asked.seeds:
        search = ran(recipe_of(work, f"search-{seed}", {"trials": TRIALS, "seed": seed}), work, KILLED_AT)
        print(json.dumps({"search": brief(search)}), flush=True)
        searches.append(search)
    aims: dict[str, Any] = {}
    for seed, search in zip(asked.seeds, searches, strict=True):
        aims |= goals(
            **{
                f"gain_{seed}": (search["best"] - grid["best"], ">=", 0.0),
                f"share_of_time_{seed}": (search["seconds"] / grid["seconds"], "<=", SHARE),
                f"finished_trials_run_again_{seed}": (search["run_again"], "<=", 0),
            }
        )
    result = {"passed": all(aim["reached"] for aim in aims.values()), "goals": aims, **peers.setting()}
    result |= {"grid": grid, "searches": searches}
    if asked.save:
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if result["passed"] else 1


def recipe_of(work: Path, name: str, more: dict[str, Any], points: int | None = None) -> Path:
    """The recipe of the grid, or of a search, written down."""
    source = data_folder("banking77")
    for part, limit in (("train", ROWS), ("validation", LOOKED), ("test", None)):
        with open(source / f"{part}.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        step = len(rows) / (limit or len(rows))  # the file is sorted by label
        write_table(work / f"{part}.csv", [rows[int(k * step)] for k in range(limit or len(rows))])
    recipe: dict[str, Any] = {
        "model": "minilm",
        "task": "text-classification",
        "data": {part: str(work / f"{part}.csv") for part in ("train", "validation", "test")},
        "method": METHODS[0],
        "train": {"epochs": EPOCHS, "batch_size": BATCH},
        "evaluate": {"compare": False, "evidence": False, "every": ROWS * EPOCHS // BATCH // 10},
        "search": {
            "space": {"method": METHODS, "train.learning_rate": RATE if points is None else {**RATE, "points": points}},
            "seeds": 0,
            "dir": str(work / name),
            **more,
        },
    }
    if points is not None:  # its own point is one of the grid's, or there would be 17
        on_grid = Range(RATE["from"], RATE["to"], log=True, points=points).grid()
        recipe["train"]["learning_rate"] = on_grid[points // 2]
    place = work / f"{name}.yaml"
    place.write_text(json.dumps(recipe), encoding="utf-8")
    return place


def ran(recipe: Path, work: Path, killed_at: tuple[int, ...]) -> dict[str, Any]:
    """A search until its last trial has ended, in as many processes as it takes, and then to its end."""
    place = work / recipe.stem
    seconds, busy, again, kills = 0.0, 0.0, 0, 0
    command = [str(Path(sys.executable).with_name("tunesmith")), "search", str(recipe)]
    with open(work / f"{recipe.stem}.log", "ab") as log:
        for until in (*killed_at, None):
            before = finished(place)
            began, worked = time.perf_counter(), busy_seconds()
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            while process.poll() is None and len(finished(place)) < (TRIALS if until is None else until):
                time.sleep(0.05)
            if until is not None:
                time.sleep(3.0)  # into the next trial
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
            seconds += time.perf_counter() - began
            busy += busy_seconds() - worked
            after = finished(place)
            again += sum(after.get(name) != inode for name, inode in before.items())
        if process.wait():
            sys.exit(f"the search failed: see {work / f'{recipe.stem}.log'}")
    folder = next(place.iterdir())
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    best = next(trial for trial in report["trials"] if trial["number"] == report["best"])
    states = [trial["state"] for trial in report["trials"]]
    return {
        "seconds": round(seconds, 1),
        "cores_busy": round(busy / seconds, 2),
        "kills": kills,
        "run_again": again,
        "metric": report["metric"],
        "best": best["value"],
        "params": best["params"],
        "states": {state: states.count(state) for state in sorted(set(states))},
        "share_of_updates": round(sum(trial["share"] or 0 for trial in report["trials"]) / len(states), 3),
        "optimism": report["optimism"],
        "trials": [
            {key: trial[key] for key in ("number", "state", "params", "value", "share", "seconds")}
            for trial in report["trials"]
        ],
    }


def finished(place: Path) -> dict[str, int]:
    """Trials that have ended: name -> the file that says so."""
    return {path.parent.name: path.stat().st_ino for path in place.glob("*/trials/*/result.json")}


def brief(one: dict[str, Any]) -> dict[str, Any]:
    """All but the trials."""
    return {key: value for key, value in one.items() if key != "trials"}


if __name__ == "__main__":
    sys.exit(main())
