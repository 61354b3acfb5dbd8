"""Adapters in the files of the PEFT library, to the letter: it loads them, and LoRA starts from them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models import adapted
from tunesmith.models.adapted import Adapted
from tunesmith.models.ia3 import Ia3Linear
from tunesmith.models.lora import LoraLinear
from tunesmith.models.model import Model
from tunesmith.models.pretrained import still
from tunesmith.models.prompt import prompt_of

FILE = "adapter_model.safetensors"


def save_peft(
    net: nn.Module, root: str, folder: Path, *, base_name: str, task_type: str | None, in_full: list[str]
) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` as the PEFT library does.

    `root` is the path of the module that others will load (its prefix is left out of the names);
    `in_full` holds the paths in it of what was trained whole (a classifier's head, a fresh pooler).
    """
    from safetensors.torch import save_file

    start = f"{root}." if root else ""
    modules = {name.removeprefix(start): module for name, module in adapted.found(net)}
    tensors = {
        f"base_model.model.{path}.{name}": value.detach().contiguous().cpu()
        for path, module in modules.items()
        for name, value in module.tensors().items()
    }
    for child in in_full:
        # A tensor that two modules share stands under both names, as the library looks for both.
        for name, parameter in net.get_submodule(start + child).named_parameters(remove_duplicate=False):
            tensors[f"base_model.model.{child}.{name}"] = parameter.detach().clone().contiguous().cpu()
    config = _config(modules)
    config.modules_to_save = [path.rpartition(".")[2] for path in in_full] or None
    config.base_model_name_or_path = base_name
    config.task_type = task_type
    config.inference_mode = True
    config.save_pretrained(str(folder))
    save_file(tensors, folder / FILE, metadata={"format": "pt"})


def save_prompt(model: Model, folder: Path, *, base_name: str, task_type: str) -> None:
    """Write the virtual tokens of a net that writes as the PEFT library's prompt tuning."""
    with still():
        import peft
    from safetensors.torch import save_file

    prompted = prompt_of(model.net)
    assert prompted is not None
    count, width = prompted.prompt.shape
    config: Any = peft.PromptTuningConfig(
        task_type=task_type,
        num_virtual_tokens=count,
        token_dim=width,
        num_transformer_submodules=1,
        num_layers=model.depth,
        num_attention_heads=int(getattr(model.config, "num_attention_heads", 1)),
        base_model_name_or_path=base_name,
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    tensors = {"prompt_embeddings": prompted.prompt.detach().contiguous().cpu()}
    save_file(tensors, folder / FILE, metadata={"format": "pt"})


def _config(modules: dict[str, Adapted]) -> Any:
    """The library's config of these modules, all of a kind."""
    with still():
        import peft

    first = next(iter(modules.values()))
    target = pattern_of(list(modules))
    if isinstance(first, Ia3Linear):
        fed = [path for path, module in modules.items() if isinstance(module, Ia3Linear) and module.reads]
        return peft.IA3Config(
            target_modules=target, feedforward_modules=pattern_of(fed) if fed else [], **first.config()
        )
    usual = first.config()
    ranks, alphas = {}, {}
    for path, module in modules.items():
        own = module.config()
        if (own["r"], own["lora_alpha"]) != (usual["r"], usual["lora_alpha"]):
            ranks[path], alphas[path] = own["r"], own["lora_alpha"]
    return peft.LoraConfig(target_modules=target, rank_pattern=ranks, alpha_pattern=alphas, **usual)


def load_peft(net: nn.Module, folder: Path) -> None:
    """Start the low-rank adapters of a net from a folder in PEFT's format. Raises ModelError where the two do not
    fit."""
    from safetensors.torch import load_file

    try:
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / FILE)
    except (OSError, ValueError) as fault:
        raise ModelError(f"there is no adapter in PEFT's format: {fault}", where=f"method.start: {folder}") from None
    modules = {name: module for name, module in adapted.found(net) if isinstance(module, LoraLinear)}
    wanted = {f"{name}.{part}": value for name, module in modules.items() for part, value in module.tensors().items()}
    given = {name.removeprefix("base_model.model."): value for name, value in tensors.items()}
    held = {name: value for name, value in given.items() if ".lora_" in name}
    key = _tail if len({_tail(name) for name in wanted}) == len(wanted) else str  # two stacks have like tails
    by_key = {key(name): value for name, value in held.items()}
    shapes = {key(name): tuple(parameter.shape) for name, parameter in wanted.items()}
    same = shapes == {name: tuple(value.shape) for name, value in by_key.items()}
    scales = all(math.isclose(_scale(config, name), module.scale, rel_tol=1e-9) for name, module in modules.items())
    if not same or not scales:
        raise ModelError(
            "the adapter to start from does not fit: other layers, rank, alpha or kind",
            where=f"method.start: {folder}",
            hint=f"it has r={config.get('r')}, lora_alpha={config.get('lora_alpha')}; set the method to the same",
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(by_key[key(name)])


def _scale(config: dict[str, Any], path: str) -> float:
    """What a config scales the adapter at a path by."""
    rank, alpha = (
        next((value for name, value in config.get(patterns, {}).items() if _names(name, path)), config.get(usual, 1))
        for patterns, usual in (("rank_pattern", "r"), ("alpha_pattern", "lora_alpha"))
    )
    return float(alpha) / (float(rank) ** 0.5 if config.get("use_rslora") else float(rank))


def _names(pattern: str, path: str) -> bool:
    """Whether a pattern of a config means a path, in a net that may stand inside another."""
    return re.fullmatch(rf"(.*\.)?({pattern})", path) is not None or _tail(pattern) == _tail(path)


def _tail(name: str) -> str:
    """A name from its block number on: the same in a bare encoder and in a net that wraps it."""
    match = re.search(r"[^.]+\.\d+\..*$", name)
    return match.group(0) if match else name


def pattern_of(paths: list[str]) -> str:
    """One regular expression that matches these paths and, of a net of this kind, no others."""
    split = [re.fullmatch(r"(.*)\.(\d+)\.(.*)", path) for path in paths]
    assert all(split), "adapters stand in numbered blocks"
    stacks = sorted({m.group(1) for m in split if m})
    inner = sorted({m.group(3) for m in split if m})
    numbers = sorted({int(m.group(2)) for m in split if m})
    either = "|".join(re.escape(name) for name in inner)
    where = "|".join(re.escape(name) for name in stacks)
    return rf"(.*\.)?({where})\.({'|'.join(map(str, numbers))})\.({either})"
