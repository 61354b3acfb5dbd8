"""Device and dtype. Training runs in fp32: bf16 is a hundred times slower on a CPU, and a GPU's turn comes with
the engine that measures it."""

from __future__ import annotations

import torch


def pick_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def available_bytes() -> int:
    """Memory that can still be taken on the device that `pick_device` names."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 8 * 2**30
