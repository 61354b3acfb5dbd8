"""What a run took: time, memory, disk, and by stated assumptions energy and money."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_WATTS_A_THREAD = 8.0
"""Of a server's processor with memory, under load: 150 to 300 W for 16 to 40 cores."""
_WATTS_A_GPU = 350.0
"""What boards of data centres are made for: 300 to 700 W; training seldom draws all of it."""


def look(
    seconds: Mapping[str, float],
    tokens: Mapping[str, int],
    unit: str,
    peak: int,
    folders: Mapping[str, Path],
    machine: tuple[int, int],
    rate: float | None,
    answered: tuple[int, float],
) -> dict[str, Any]:
    """See reportshape.Cost. `machine` is threads and GPUs, `rate` money an hour, `answered` rows and seconds: no rows
    where most were not answered."""
    threads, gpus = machine
    total = sum(seconds.values())
    watts = gpus * _WATTS_A_GPU + threads * _WATTS_A_THREAD
    said = f"{threads} threads at {_WATTS_A_THREAD:g} W" + (f" and {gpus} GPUs at {_WATTS_A_GPU:g} W" if gpus else "")
    rows, spent = answered
    return {
        "seconds": dict(seconds),
        "tokens": dict(tokens),
        "tokens_per_second": tokens["real"] / seconds["train"] if seconds.get("train") else 0.0,
        "unit": unit,
        "peak_memory_bytes": peak,
        "bytes": {name: size(path) for name, path in folders.items()},
        "watt_hours": watts * total / 3600,
        "energy": f"assumed, not measured: {said} for {total:,.0f} s",
        "money": None if rate is None else rate * total / 3600,
        "rate": rate,
        "rows_per_second": rows / spent if rows and spent > 0 else None,
        "per_1000_rows": 1000 * spent / rows if rows else None,
    }


def size(folder: Path) -> int:
    """Bytes of all files of a folder; links count nothing."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
