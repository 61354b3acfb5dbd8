"""The peers' own environment, and what a result was measured with."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "bench" / "peers.txt"
VENV = ROOT / ".venv-bench"
PYTHON = VENV / "bin" / "python"


def install() -> None:
    """Make `.venv-bench` when it is missing, or when the pins have changed since it was made."""
    mark = VENV / ".installed"
    wanted = hashlib.sha256(PINS.read_bytes()).hexdigest()
    if mark.is_file() and mark.read_text() == wanted:
        return
    print(f"making {VENV.name} from bench/{PINS.name}, once", flush=True)
    pip = [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    subprocess.run([*pip, pins()["torch"]], check=True)  # first and exact: a looser one may bring gigabytes of CUDA
    subprocess.run([*pip, "-r", str(PINS)], check=True)
    mark.write_text(wanted)


def pins() -> dict[str, str]:
    """Package -> its pin, as `name==version`."""
    lines = [line for line in PINS.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {line.partition("==")[0]: line for line in lines}


def setting() -> dict[str, Any]:
    """Date, machine in words and versions: what a number needs beside it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}), {memory:.0f} GB, no GPU used",
        "versions": {
            "tunesmith": version("tunesmith"),
            "python": platform.python_version(),
            **{name: pins()[name].partition("==")[2] for name in ("torch", "transformers", "peft", "trl")},
        },
    }
