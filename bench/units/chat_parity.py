"""Chat tuning with LoRA beside TRL's SFTTrainer with PEFT: the same rows, adapter and updates, so the same losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.measure import Side, brief, data_folder, largest_difference, side, speed_up, work_folder

TOLERANCE = 1e-3
ROWS, HELD_OUT = 64, 20
RANK, ALPHA, RATE, BATCH = 16, 32, 2e-4, 8


def main() -> dict[str, Any]:
    """Each side once: the losses are what is compared, the times are told."""
    from tunesmith.models.catalog import find

    alpaca = data_folder("alpaca")
    work = work_folder("chat-parity")
    train = _messages(alpaca / "train.jsonl", ROWS, work / "train.jsonl")
    held_out = _messages(alpaca / "validation.jsonl", HELD_OUT, work / "validation.jsonl")
    folder = str(find("smollm2-135m", print).folder)
    start = str(work / "adapter")
    print(
        f"SmolLM2-135M, LoRA r={RANK} on all linear layers, {ROWS} rows of alpaca, batches of {BATCH}, fp32", flush=True
    )
    side(
        "theirs",
        "adapter",
        {"do": "adapter", "folder": folder, "out": start, "rank": RANK, "alpha": ALPHA, "seed": 0},
        work,
    )
    ours = side("ours", "tunesmith", _recipe(train, held_out, start, work), work)
    theirs = side("theirs", "trl", _sft(folder, start, train, work), work)
    return _judge(ours, theirs)


def _messages(source: Path, rows: int, target: Path) -> Path:
    """The first rows of an instruction file as conversations."""
    made = []
    for line in source.read_text(encoding="utf-8").splitlines()[:rows]:
        row = json.loads(line)
        asked = f"{row['instruction']}\n\n{row['input']}" if row["input"].strip() else row["instruction"]
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]
        made.append(json.dumps({"messages": turns}))
    target.write_text("\n".join(made) + "\n", encoding="utf-8")
    return target


def _recipe(train: Path, held_out: Path, start: str, work: Path) -> dict[str, Any]:
    return {
        "model": "smollm2-135m",
        "task": "chat",
        "data": {"train": str(train), "validation": str(held_out)},
        "method": {"name": "lora", "rank": RANK, "alpha": ALPHA, "start": start},
        "train": {
            "epochs": 1,
            "batch_size": BATCH,
            "learning_rate": RATE,
            "schedule": "linear",
            "warmup": 0,
            "weight_decay": 0,
            "shuffle": False,
        },
        "evaluate": {"compare": False, "answers": 0},
        "run": {"dir": str(work / "runs")},
    }


def _sft(folder: str, start: str, train: Path, work: Path) -> dict[str, Any]:
    arguments = {
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "learning_rate": RATE,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "train_sampling_strategy": "sequential",
        "max_length": None,
        "packing": False,
        "gradient_checkpointing": False,
        "bf16": False,
        "seed": 0,
        "logging_steps": 1,
        "save_strategy": "no",
    }
    return {
        "do": "sft",
        "folder": folder,
        "start": start,
        "train": str(train),
        "save": str(work / "trl"),
        "arguments": arguments,
    }


def _judge(ours: Side, theirs: Side) -> dict[str, Any]:
    difference = largest_difference(ours["losses"], theirs["losses"])
    same_tokens = all(ours[what] == theirs[what] for what in ("ids", "trained", "tokens", "labels"))
    moved = abs(ours["moved"] - theirs["moved"]) <= 0.01 * theirs["moved"] and ours["moved"] > 0
    ratio = speed_up([ours], [theirs])
    print(
        f"largest difference of a loss {difference:.1e} (allowed {TOLERANCE:g}); same tokens and labels: {same_tokens}"
    )
    print(f"Tunesmith is {ratio:.2f} times as fast in the updates")
    return {
        "passed": difference <= TOLERANCE and same_tokens and moved,
        "goal": f"every loss within {TOLERANCE:g}; the same token ids and labels; weights moved as far, to 1 %",
        "same_tokens_and_labels": same_tokens,
        "largest_difference": difference,
        "losses": {"tunesmith": ours["losses"], "trl": theirs["losses"]},
        "label_tokens": {"tunesmith": ours["labels"], "trl": theirs["labels"]},
        "real_tokens": {"tunesmith": ours["tokens"], "trl": theirs["tokens"]},
        "ratio_train": round(ratio, 3),
        "ratio_wall": round(speed_up([ours], [theirs], "wall_seconds"), 3),
        "tunesmith": brief([ours]),
        "trl": brief([theirs]),
    }
