"""Chat tuning with LoRA beside TRL with PEFT, and beside LLaMA-Factory, for units that differ in their rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.measure import alternate, brief, data_folder, equal, goals, ratios, side, work_folder

TOLERANCE = 1e-3
ROUNDS = 2
RANK, ALPHA, RATE, BATCH = 16, 32, 2e-4, 8
_UPDATES = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": BATCH,
    "gradient_accumulation_steps": 1,
    "learning_rate": RATE,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "bf16": False,
    "use_cpu": True,
    "seed": 0,
    "logging_steps": 1,
    "save_strategy": "no",
}
"""What both peers hand to Transformers' Trainer."""
Turns = Callable[[dict[str, Any]], tuple[str, str]]
"""A row of a file -> (what the user says, what is answered)."""


def compare(
    unit: str, data: str, turns: Turns, rows: int, held_out: int, speed: float, memory: float
) -> dict[str, Any]:
    """Tunesmith; TRL and LLaMA-Factory with the same order of rows; TRL with rows of like length together. In turn,
    twice."""
    from tunesmith.models.catalog import find

    work = work_folder(unit)
    train = messages(data_folder(data) / "train.jsonl", turns, rows, work / "train.jsonl")
    held = messages(data_folder(data) / "validation.jsonl", turns, held_out, work / "validation.jsonl")
    folder, start = str(find("smollm2-135m", print).folder), str(work / "adapter")
    print(
        f"SmolLM2-135M, LoRA r={RANK} on all linear layers, {rows} rows of {data}, batches of {BATCH}, fp32", flush=True
    )
    adapter = {"do": "adapter", "folder": folder, "out": start, "rank": RANK, "alpha": ALPHA, "seed": 0}
    side("theirs", "adapter", adapter, work)
    found = alternate(
        "run",
        {
            "tunesmith": ("ours", {"do": "train", "recipe": recipe(train, held, start, work)}),
            "trl": ("theirs", sft(folder, start, train, work, "sequential")),
            "trl-grouped": ("theirs", sft(folder, start, train, work, "group_by_length")),
            "llama-factory": ("factory", factory(folder, start, train, work)),
        },
        ROUNDS,
        work,
    )
    ours, theirs, grouped, other = found.values()
    same, same_as_other = (equal(ours[0], runs[0], TOLERANCE) for runs in (theirs, other))
    beside = ratios(ours, theirs)
    sgemm = max(max(run["sgemm"].values()) for run in ours)
    reached = max(run["gflop"] / run["train_seconds"] for run in ours)
    aims = goals(
        largest_difference=(same["largest_difference"], "<=", TOLERANCE),
        ratio_train=(beside["ratio_train"], ">=", speed),
        memory_share=(beside["memory_share"], "<=", memory),
        share_of_blas_sgemm=(reached / max(run["sgemm"]["blas"] for run in ours), ">=", 0.8),
        ratio_first_update=(beside["ratio_first_update"], ">=", 2.0),
        largest_difference_llama_factory=(same_as_other["largest_difference"], "<=", TOLERANCE),
    )
    return {
        "passed": same["equal"] and same_as_other["equal"] and all(aim["reached"] for aim in aims.values()),
        "goals": aims,
        **same,
        **beside,
        "share_of_fastest_sgemm": round(reached / sgemm, 3),
        "beside_grouped_by_length": ratios(ours, grouped),
        "beside_llama_factory": {**same_as_other, **ratios(ours, other)},
        "losses": {"tunesmith": ours[0]["losses"], "trl": theirs[0]["losses"], "llama_factory": other[0]["losses"]},
        "tunesmith": brief(ours),
        "trl": brief(theirs),
        "trl_grouped_by_length": brief(grouped),
        "llama_factory": brief(other),
    }


def messages(source: Path, turns: Turns, rows: int, target: Path) -> Path:
    """The first rows of a file as conversations of one question and one answer."""
    made = []
    for line in source.read_text(encoding="utf-8").splitlines()[:rows]:
        asked, answered = turns(json.loads(line))
        said = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        made.append(json.dumps({"messages": said}))
    target.write_text("\n".join(made) + "\n", encoding="utf-8")
    return target


def recipe(train: Path, held_out: Path, start: str, work: Path) -> dict[str, Any]:
    """Tunesmith's recipe: the order of the file, no look but the last."""
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


def sft(folder: str, start: str, train: Path, work: Path, order: str) -> dict[str, Any]:
    """SFTTrainer's job with the same settings."""
    arguments = {
        **_UPDATES,
        "train_sampling_strategy": order,
        "max_length": None,
        "packing": False,
        "gradient_checkpointing": False,
    }
    return {
        "do": "sft",
        "folder": folder,
        "start": start,
        "train": str(train),
        "save": str(work / "trl"),
        "arguments": arguments,
    }


def factory(folder: str, start: str, train: Path, work: Path) -> dict[str, Any]:
    """LLaMA-Factory's job with the same settings, its checkpointing (on by default) off and its attention the fastest
    that runs on a CPU. Its template's system message has a full stop that the model's own lacks."""
    arguments = {
        **_UPDATES,
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": folder,
        "adapter_name_or_path": start,
        "finetuning_type": "lora",
        "lora_rank": RANK,
        "lora_alpha": ALPHA,
        "lora_target": "all",
        "lora_dropout": 0.0,
        "template": "smollm2",
        "default_system": "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
        "cutoff_len": 8192,
        "disable_shuffling": True,
        "disable_gradient_checkpointing": True,
        "flash_attn": "sdpa",
        "report_to": "none",
        "output_dir": str(work / "factory"),
    }
    return {"train": str(train), "data": str(work / "factory-data"), "arguments": arguments}
