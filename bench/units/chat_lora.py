"""Chat tuning with LoRA on alpaca, beside TRL's SFTTrainer with PEFT."""

from __future__ import annotations

from typing import Any

from bench.chat import compare


def turns(row: dict[str, Any]) -> tuple[str, str]:
    """An instruction with its input, and the output."""
    asked = f"{row['instruction']}\n\n{row['input']}" if row["input"].strip() else row["instruction"]
    return asked, row["output"]


def main() -> dict[str, Any]:
    """64 rows, 8 updates."""
    return compare("chat-lora", "alpaca", turns, rows=64, held_out=20, speed=5.5, memory=0.35)
