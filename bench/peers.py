"""The peers' own environments, and what a result was measured with."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Environment:
    """A virtual environment and the file that pins every package of it."""

    folder: Path
    file: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def pins(self) -> dict[str, str]:
        """Package -> its pin, as `name==version`."""
        lines = [line for line in self.file.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
        return {line.partition("==")[0]: line for line in lines}

    def install(self) -> None:
        """Make it when it is missing, or when the pins have changed since it was made."""
        mark = self.folder / ".installed"
        wanted = hashlib.sha256(self.file.read_bytes()).hexdigest()
        if mark.is_file() and mark.read_text() == wanted:
            return
        print(f"making {self.folder.name} from bench/{self.file.name}, once", flush=True)
        pip = [str(self.python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([sys.executable, "-m", "venv", str(self.folder)], check=True)
        # First and exact: a looser torch may bring gigabytes of CUDA.
        if "torch" in self.pins():
            subprocess.run([*pip, self.pins()["torch"]], check=True)
        # All that is needed is in the file: a package may ask for one that is not to be had for this torch.
        subprocess.run([*pip, "--no-deps", "-r", str(self.file)], check=True)
        mark.write_text(wanted)


PEERS = Environment(ROOT / ".venv-bench", ROOT / "bench" / "peers.txt")
"""Transformers' Trainer, TRL and PEFT."""
FACTORY = Environment(ROOT / ".venv-bench-factory", ROOT / "bench" / "factory.txt")
"""LLaMA-Factory, which allows older versions of those only."""


CLEANLAB = Environment(ROOT / ".venv-bench-cleanlab", ROOT / "bench" / "cleanlab.txt")
"""cleanlab."""

SETFIT = Environment(ROOT / ".venv-bench-setfit", ROOT / "bench" / "setfit.txt")
"""SetFit."""


def install() -> None:
    """Those of the units."""
    PEERS.install()
    FACTORY.install()


def setting() -> dict[str, Any]:
    """Date, machine in words and versions: what a number needs beside it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}), {memory:.0f} GB, no GPU used",
        "versions": {
            "tunesmith": version("tunesmith"),
            "python": platform.python_version(),
            **{name: PEERS.pins()[name].partition("==")[2] for name in ("torch", "transformers", "peft", "trl")},
            "llamafactory": FACTORY.pins()["llamafactory"].partition("==")[2],
        },
    }
