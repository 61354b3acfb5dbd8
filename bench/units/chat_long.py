"""Chat tuning with LoRA on long rows (dialogues to be summarized), beside TRL's SFTTrainer with PEFT."""

from __future__ import annotations

from typing import Any

from bench.chat import compare


def turns(row: dict[str, Any]) -> tuple[str, str]:
    """A dialogue with the wish for a summary, and the summary."""
    summary = row["summary"] if isinstance(row["summary"], str) else row["summary"][0]
    return f"Summarize this dialogue.\n\n{row['document']}", summary


def main() -> dict[str, Any]:
    """32 rows, 4 updates."""
    return compare("chat-long", "dialogsum", turns, rows=32, held_out=8, speed=5.5, memory=0.35)
