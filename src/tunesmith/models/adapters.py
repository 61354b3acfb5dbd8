"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685) beside frozen matrix products, and PEFT's files of them.

Our own module, so that what runs is what is saved; the files are PEFT's to the letter, and its library loads them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError

FILE = "adapter_model.safetensors"


class LoraLinear(nn.Module):
    """y = base(x) + (alpha / rank) * (dropout(x) A^T) B^T. Wraps anything with a weight and a product."""

    def __init__(self, base: nn.Module, rank: int, alpha: float, dropout: float, seed: int) -> None:
        super().__init__()
        wide, out = shape_of(base)
        self.base = base
        self.rank = rank
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        weight = base.get_parameter("weight")
        generator = torch.Generator().manual_seed(seed)
        start = torch.empty(rank, wide).uniform_(-1 / math.sqrt(wide), 1 / math.sqrt(wide), generator=generator)
        self.lora_A = nn.Parameter(start.to(weight.device))
        self.lora_B = nn.Parameter(torch.zeros(out, rank, device=weight.device))

    @property
    def weight(self) -> Tensor:
        """The frozen matrix: some stock blocks ask for its dtype."""
        return self.base.get_parameter("weight")

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]"""
        low = nn.functional.linear(self.dropout(x), self.lora_A)
        y: Tensor = self.base(x)
        return y + nn.functional.linear(low, self.lora_B) * self.scale


def shape_of(module: nn.Module) -> tuple[int, int]:
    """(in, out) features of a Linear, or of GPT-2's Conv1D, which keeps its weight the other way round."""
    weight = module.get_parameter("weight")
    return (
        (int(weight.shape[1]), int(weight.shape[0]))
        if isinstance(module, nn.Linear)
        else (
            int(weight.shape[0]),
            int(weight.shape[1]),
        )
    )


def wrap(parent: nn.Module, path: str, rank: int, alpha: float, dropout: float, seed: int) -> None:
    """Put an adapter beside the matrix product at a path."""
    base = parent.get_submodule(path)
    parent.set_submodule(path, LoraLinear(base, rank, alpha, dropout, seed))


def found(net: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """(path, adapter) of every adapter in a net."""
    for name, module in net.named_modules():
        if isinstance(module, LoraLinear):
            yield name, module


def merge(net: nn.Module) -> None:
    """Add every adapter into the matrix beside it and take it away. The outputs stay, up to rounding."""
    for name, adapter in list(found(net)):
        weight = adapter.base.get_parameter("weight")
        with torch.no_grad():
            delta = (adapter.lora_B.double() @ adapter.lora_A.double()) * adapter.scale
            delta = delta if isinstance(adapter.base, nn.Linear) else delta.T
            weight.copy_((weight.double() + delta).to(weight.dtype))
        net.set_submodule(name, adapter.base)


def save_peft(
    net: nn.Module, root: str, folder: Path, *, base_name: str, task_type: str | None, in_full: list[str]
) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` as the PEFT library does.

    `root` is the path of the module that others will load (its prefix is left out of the names);
    `in_full` holds the paths in it of what was trained whole (a classifier's head, a fresh pooler).
    """
    import peft
    from safetensors.torch import save_file

    start = f"{root}." if root else ""
    tensors: dict[str, Tensor] = {}
    paths: list[str] = []
    last: LoraLinear | None = None
    for name, adapter in found(net):
        path = name.removeprefix(start)
        paths.append(path)
        tensors[f"base_model.model.{path}.lora_A.weight"] = adapter.lora_A.detach().contiguous().cpu()
        tensors[f"base_model.model.{path}.lora_B.weight"] = adapter.lora_B.detach().contiguous().cpu()
        last = adapter
    assert last is not None, "no adapter to save"
    for child in in_full:
        # A tensor that two modules share stands under both names, as the library looks for both.
        for name, parameter in net.get_submodule(start + child).named_parameters(remove_duplicate=False):
            tensors[f"base_model.model.{child}.{name}"] = parameter.detach().clone().contiguous().cpu()
    config = peft.LoraConfig(
        r=last.rank,
        lora_alpha=int(last.scale * last.rank) if (last.scale * last.rank).is_integer() else last.scale * last.rank,
        lora_dropout=last.dropout.p if isinstance(last.dropout, nn.Dropout) else 0.0,
        target_modules=_pattern(paths),
        fan_in_fan_out=not isinstance(last.base, nn.Linear),
        modules_to_save=[path.rpartition(".")[2] for path in in_full] or None,
        base_model_name_or_path=base_name,
        task_type=task_type,
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    save_file(tensors, folder / FILE, metadata={"format": "pt"})


def load_peft(net: nn.Module, folder: Path) -> None:
    """Start the adapters of a net from a folder in PEFT's format. Raises ModelError when the two do not fit."""
    from safetensors.torch import load_file

    try:
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / FILE)
    except (OSError, ValueError) as fault:
        raise ModelError(f"there is no adapter in PEFT's format: {fault}", where=f"method.start: {folder}") from None
    wanted = {
        f"{name}.{part}.weight": parameter
        for name, adapter in found(net)
        for part, parameter in (("lora_A", adapter.lora_A), ("lora_B", adapter.lora_B))
    }
    given = {name.removeprefix("base_model.model."): value for name, value in tensors.items()}
    held = {name: value for name, value in given.items() if ".lora_" in name}
    first = next(adapter for _, adapter in found(net))
    scale = float(config.get("lora_alpha", 0)) / max(int(config.get("r", 1)), 1)
    key = _tail if len({_tail(name) for name in wanted}) == len(wanted) else str  # two stacks have like tails
    by_key = {key(name): value for name, value in held.items()}
    shapes = {key(name): tuple(parameter.shape) for name, parameter in wanted.items()}
    same = shapes == {name: tuple(value.shape) for name, value in by_key.items()}
    if not same or scale != first.scale or config.get("use_rslora") or config.get("use_dora"):
        raise ModelError(
            "the adapter to start from does not fit: other layers, rank, alpha or kind",
            where=f"method.start: {folder}",
            hint=f"it has r={config.get('r')}, lora_alpha={config.get('lora_alpha')}; set the method to the same",
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(by_key[key(name)])


def _tail(name: str) -> str:
    """A name from its block number on: the same in a bare encoder and in a net that wraps it."""
    match = re.search(r"[^.]+\.\d+\..*$", name)
    return match.group(0) if match else name


def _pattern(paths: list[str]) -> str:
    """One regular expression that matches these paths and, of a net of this kind, no others."""
    split = [re.fullmatch(r"(.*)\.(\d+)\.(.*)", path) for path in paths]
    assert all(split), "adapters stand in numbered blocks"
    stacks = sorted({m.group(1) for m in split if m})
    inner = sorted({m.group(3) for m in split if m})
    numbers = sorted({int(m.group(2)) for m in split if m})
    either = "|".join(re.escape(name) for name in inner)
    where = "|".join(re.escape(name) for name in stacks)
    return rf"(.*\.)?({where})\.({'|'.join(map(str, numbers))})\.({either})"
