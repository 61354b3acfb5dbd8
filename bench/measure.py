"""One side of a comparison: a process of its own, timed from its start to its end, with the most memory it took."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import peers

ROOT = peers.ROOT
THREADS = 2
QUIET = 0.1
"""Cores that other programs may keep busy: two threads that wait for each other suffer far more than their share."""
_SIDES = {"ours": sys.executable, "theirs": str(peers.PEERS.python), "factory": str(peers.FACTORY.python)}
_SIDES |= dict.fromkeys(("tokens", "images"), _SIDES["theirs"])

Side = dict[str, Any]
"""What a side wrote: losses, tokens, labels, train_seconds, moved ... with wall_seconds and peak_bytes."""


def work_folder(unit: str) -> Path:
    """A fresh folder for a unit's files."""
    folder = ROOT / "bench" / ".work" / unit
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def data_folder(name: str) -> Path:
    """A data set of $TUNESMITH_DATA, else of ../shared/data. Ends the program when it is not there."""
    place = os.environ.get("TUNESMITH_DATA")
    folder = (Path(place) if place else ROOT.parent / "shared" / "data") / name
    if not folder.is_dir():
        sys.exit(f"the data set `{name}` is not at hand: set TUNESMITH_DATA to the folder that holds `{name}/`")
    return folder


def printed(arguments: list[str]) -> dict[str, Any]:
    """What a command of ours prints with `--json`. Ends the program with the end of its errors when it fails."""
    command = [str(Path(sys.executable).with_name("tunesmith")), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"`tunesmith {' '.join(arguments)}` failed:\n{done.stderr[-3000:]}")
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def trained(recipe: dict[str, Any], work: Path) -> dict[str, Any]:
    """What `tunesmith train` prints of a recipe."""
    place = work / "recipe.yaml"
    place.write_text(json.dumps(recipe), encoding="utf-8")
    return printed(["train", str(place)])


def write_table(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """A CSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def put_between(page: Path, mark: str, lines: Sequence[str]) -> None:
    """Lines into a page, in place of what stands between two marks."""
    before, _, after = page.read_text(encoding="utf-8").split(mark)
    page.write_text(mark.join([before, "\n" + "\n".join(lines) + "\n", after]), encoding="utf-8")


def side(which: str, name: str, job: dict[str, Any], work: Path) -> Side:
    """Run a job of sides/`which`.py by itself. Ends the program with the end of its log when it fails."""
    given, out, log = (work / f"{name}.{kind}" for kind in ("job.json", "out.json", "log"))
    given.write_text(json.dumps(job, indent=2), encoding="utf-8")
    command = [_SIDES[which], str(ROOT / "bench" / "sides" / f"{which}.py"), str(given), str(out)]
    threads = {"OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)}
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_CACHE": str(work / "cache")}
    with open(log, "wb") as sink:
        began, busy = time.perf_counter(), busy_seconds()
        clock = {"TUNESMITH_BENCH_BEGAN": repr(time.time())}
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env={**os.environ, **threads, **offline, **clock})
        _, status, used = os.wait4(process.pid, 0)
        wall, busy = time.perf_counter() - began, busy_seconds() - busy
    if os.waitstatus_to_exitcode(status) != 0:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        sys.exit(f"{name} failed; the end of {log.relative_to(ROOT)}:\n{end}")
    found: Side = json.loads(out.read_text(encoding="utf-8"))
    found["wall_seconds"] = wall
    found["peak_bytes"] = max(found.get("peak_bytes", 0), used.ru_maxrss * 1024)
    found["others_cpu"] = max(busy - used.ru_utime - used.ru_stime, 0.0) / wall
    if "losses" in found:
        print(f"{name}: {said(found)}", flush=True)
    return found


def trainer_arguments(order: str, *, epochs: int, batch: int, rate: float) -> dict[str, Any]:
    """Trainer's arguments for the plain run that Tunesmith is compared in: a falling rate, and nothing besides."""
    return {
        "num_train_epochs": epochs,
        "per_device_train_batch_size": batch,
        "learning_rate": rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "train_sampling_strategy": order,
        "save_strategy": "no",
    }


def busy_seconds() -> float:
    """Seconds that the cores of this machine have worked, for whomever, or were taken by another machine."""
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def said(found: Side) -> str:
    """A side in a line."""
    noise = f"; OTHERS USED {found['others_cpu']:.2f} CORES" if found["others_cpu"] > QUIET else ""
    return (
        f"{len(found['losses'])} updates in {found['train_seconds']:.1f} s, {tokens_per_second(found):,.0f} real "
        f"tokens/s, wall {found['wall_seconds']:.1f} s, peak {found['peak_bytes'] / 2**30:.2f} GB, "
        f"loss {found['losses'][0]:.4f} to {found['losses'][-1]:.4f}{noise}"
    )


def tokens_per_second(found: Side) -> float:
    """Real tokens, padding not counted."""
    return float(sum(found["tokens"]) / found["train_seconds"])


def largest_difference(a: Sequence[float], b: Sequence[float]) -> float:
    """Between two lists of losses. Ends the program when one is longer, or holds what is no number."""
    found = [abs(x - y) for x, y in zip(a, b, strict=False)]
    if len(a) != len(b) or not all(map(math.isfinite, found)):
        sys.exit(f"the losses cannot be compared: {len(a)} and {len(b)} updates, or a loss that is no number")
    return max(found)


def brief(runs: Sequence[Side]) -> dict[str, Any]:
    """The runs of one side for the result: what was the same in all once, what was measured run by run."""
    first = runs[0]
    made: dict[str, Any] = {
        "first_update_seconds": [round(run["first_update_seconds"], 2) for run in runs],
        "train_seconds": [round(run["train_seconds"], 2) for run in runs],
        "wall_seconds": [round(run["wall_seconds"], 2) for run in runs],
        "real_tokens_per_second": [round(tokens_per_second(run), 1) for run in runs],
        "peak_rss_gb": [round(run["peak_bytes"] / 2**30, 3) for run in runs],
        "others_cpu_cores": [round(run["others_cpu"], 3) for run in runs],
        "updates": len(first["losses"]),
        "real_tokens": sum(first["tokens"]),
        "padding_tokens": first["padded"],
        "labels": sum(first["labels"]),
        "trained_parameters": first["trained_parameters"],
        "first_loss": first["losses"][0],
        "last_loss": first["losses"][-1],
        "moved": first["moved"],
        "threads": first["threads"],
    }
    if first.get("phases"):
        made["phase_seconds"] = [{name: round(value, 2) for name, value in run["phases"].items()} for run in runs]
    if first.get("sgemm"):
        made["sgemm_gflops"] = [{name: round(value) for name, value in run["sgemm"].items()} for run in runs]
        made["gflops"] = [round(run["gflop"] / run["train_seconds"]) for run in runs]
        made["matmul"] = first["matmul"]
    if first.get("device_peak_bytes"):
        made["device_peak_gb"] = [round(run["device_peak_bytes"] / 2**30, 3) for run in runs]
    if first.get("accuracy") is not None:
        made["test_accuracy"] = first["accuracy"]
    return made


def speed_up(ours: Sequence[Side], theirs: Sequence[Side], what: str = "train_seconds") -> float:
    """Their time over ours, of the fastest run of each, which was disturbed least: above 1 Tunesmith is faster."""
    return float(min(run[what] for run in theirs) / min(run[what] for run in ours))


def alternate(name: str, jobs: dict[str, tuple[str, dict[str, Any]]], rounds: int, work: Path) -> dict[str, list[Side]]:
    """Each job once a round, in turn, so that a slow spell of the machine meets all: {label: (which side, job)}."""
    found: dict[str, list[Side]] = {label: [] for label in jobs}
    for number in range(1, rounds + 1):
        for label, (which, job) in jobs.items():
            found[label].append(side(which, f"{name}-{label}-{number}", job, work))
    return found


def ratios(ours: Sequence[Side], theirs: Sequence[Side]) -> dict[str, Any]:
    """Their time, time to the first update, and memory, over ours."""
    return {
        "ratio_train": round(speed_up(ours, theirs), 3),
        "ratio_train_by_round": [round(speed_up([a], [b]), 3) for a, b in zip(ours, theirs, strict=False)],
        "ratio_wall": round(speed_up(ours, theirs, "wall_seconds"), 3),
        "ratio_first_update": round(speed_up(ours, theirs, "first_update_seconds"), 3),
        "memory_share": round(max(r["peak_bytes"] for r in ours) / max(r["peak_bytes"] for r in theirs), 3),
        "quiet": all(run["others_cpu"] <= QUIET for run in (*ours, *theirs)),
    }


def equal(ours: Side, theirs: Side, tolerance: float) -> dict[str, Any]:
    """Whether two sides did the same: rows, labels, losses, and how far the weights moved."""
    difference = largest_difference(ours["losses"], theirs["losses"])
    same = all(ours[what] == theirs[what] for what in ("ids", "tokens") if what in theirs)
    if "trained" in theirs:
        same = same and ours["trained"] == theirs["trained"] and ours["labels"] == theirs["labels"]
    moved = ours["moved"] > 0 and abs(ours["moved"] - theirs["moved"]) <= 0.01 * theirs["moved"]
    return {
        "equal": difference <= tolerance and same and moved,
        "largest_difference": difference,
        "allowed_difference": tolerance,
        "same_tokens_and_labels": same,
        "moved": [ours["moved"], theirs["moved"]],
    }


def goals(**reached: tuple[float, str, float]) -> dict[str, Any]:
    """{name: (value, ">=" or "<=", bound)} -> the same with whether each was reached, for the result and the exit."""
    made: dict[str, Any] = {}
    for name, (value, sign, bound) in reached.items():
        made[name] = {
            "value": value,
            "goal": f"{sign} {bound:g}",
            "reached": value >= bound if sign == ">=" else value <= bound,
        }
        print(f"{name}: {value:.3g} (goal {sign} {bound:g}{'' if made[name]['reached'] else ', MISSED'})", flush=True)
    return made
