"""On a machine with a CUDA device: `python bench/gpu.py [--save]`. Chat LoRA in bf16 beside TRL and PEFT, in one run.

Prints tokens/s and peak memory of the device for both, the share of the measured rate of bf16 products that training
reaches (MFU), and one JSON line last; exit status 1 when a goal was missed, 2 where there is no such device.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import chat, peers  # noqa: E402
from bench.measure import alternate, brief, data_folder, goals, largest_difference, ratios, side, work_folder  # noqa: E402
from bench.units.chat_lora import turns  # noqa: E402

ROWS, HELD_OUT, TOLERANCE, ROUNDS = 512, 20, 0.05, 2
"""Losses of two programs in bf16 agree to two or three digits: 0.05 of a loss near 2."""


def main() -> int:
    """Measure the device, run both sides in turn, print."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help="keep the result in bench/results/gpu.json")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("error: no CUDA device is here; this benchmark measures one", file=sys.stderr)
        return 2
    peers.install()
    result = measure(torch.cuda.get_device_name())
    line = json.dumps({"unit": "gpu", **peers.setting(), **result})
    print(line, flush=True)
    if asked.save:
        (ROOT / "bench" / "results" / "gpu.json").write_text(line + "\n", encoding="utf-8")
    return 0 if result["passed"] else 1


def measure(device: str) -> dict[str, Any]:
    """Both sides on the same rows, adapter and updates."""
    from tunesmith.models.catalog import find

    work = work_folder("gpu")
    train = chat.messages(data_folder("alpaca") / "train.jsonl", turns, ROWS, work / "train.jsonl")
    held = chat.messages(data_folder("alpaca") / "validation.jsonl", turns, HELD_OUT, work / "validation.jsonl")
    folder, start = str(find("smollm2-135m", print).folder), str(work / "adapter")
    adapter = {"do": "adapter", "folder": folder, "out": start, "rank": chat.RANK, "alpha": chat.ALPHA, "seed": 0}
    side("theirs", "adapter", adapter, work)
    recipe = chat.recipe(train, held, start, work)
    recipe["train"]["precision"] = "bf16"
    jobs: dict[str, tuple[str, dict[str, Any]]] = {"tunesmith": ("ours", {"do": "train", "recipe": recipe})}
    for order in ("sequential", "group_by_length"):
        job = chat.sft(folder, start, train, work, order)
        job["arguments"] |= {"bf16": True, "use_cpu": False}
        jobs[f"trl-{order}"] = ("theirs", job)
    ours, theirs, grouped = alternate("gpu", jobs, ROUNDS, work).values()
    difference = largest_difference(ours[0]["losses"], theirs[0]["losses"])
    peak = matmul_rate()
    reached = max(run["gflop"] / run["train_seconds"] for run in ours)
    beside = ratios(ours, theirs)
    aims = goals(
        largest_difference=(difference, "<=", TOLERANCE),
        ratio_train=(beside["ratio_train"], ">=", 1.0),
    )
    return {
        "passed": all(aim["reached"] for aim in aims.values()),
        "device": device,
        "goals": aims,
        **beside,
        "beside_grouped_by_length": ratios(ours, grouped),
        "bf16_matmul_tflops": round(peak / 1e3, 1),
        "mfu": round(reached / peak, 4),
        "tunesmith": brief(ours),
        "trl": brief(theirs),
        "trl_grouped_by_length": brief(grouped),
    }


def matmul_rate() -> float:
    """GFLOP/s of a large bf16 product."""
    import torch

    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(10):
        torch.cuda.synchronize()
        began = time.perf_counter()
        a @ a
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * 8192**3 / best / 1e9


if __name__ == "__main__":
    sys.exit(main())
