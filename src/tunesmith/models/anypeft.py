"""Any adapter of the PEFT library: put into a net by the library itself, run by it, saved by it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunesmith.errors import ModelError, RecipeError, did_you_mean
from tunesmith.models import adapted, anatomy
from tunesmith.models.heads import Pooled, inner
from tunesmith.models.model import Model
from tunesmith.models.peftfiles import FILE, pattern_of
from tunesmith.models.pretrained import seeded, still

_REFUSED = {
    "ADALORA": "moves rank from layer to layer while it learns, which the library does from a loop of its own",
    "XLORA": "mixes adapters that were tuned before",
    "POLY": "must be told the task of every row",
    "LILY": "chooses experts by the mean of all that it reads at once: a row's answer would depend on others",
    "SHADOW": "has a second net beside the first",
    **dict.fromkeys(
        ("ADAPTION_PROMPT", "CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING"),
        "is put before the rows by the library's own model class, not into the net",
    ),
    "PROMPT_TUNING": "is the method `prompt-tuning`",
}
"""Kinds that are more than modules in a net, and why."""


_HOOKED = {
    "alora_invocation_tokens": "is looked for by the library's own model class, so that nothing would learn here",
    "arrow_config": "routes between adapters that were tuned before",
}
"""Options that need more than modules, and why."""
_FAULTS = (ValueError, TypeError, RuntimeError, LookupError, AttributeError, AssertionError, ImportError, re.error)
"""What the library raises for a config that does not fit: it checks little before it builds."""


def kinds() -> list[str]:
    """Every kind of adapter that the library here has, as its configs call it."""
    with still():
        from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING as TUNERS

    return sorted(str(kind.value) for kind in TUNERS)


def put(model: Model, kind: str, options: dict[str, Any], seed: int) -> None:
    """Freeze all but what is fresh, and have the library put its adapters into the net. Raises RecipeError for a kind,
    an option or a value that it refuses, and for kinds that are more than modules."""
    with still():
        import peft

    config = _config(model, kind, options)
    net = inner(model.net)
    with seeded(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of merging, of kernels for other devices, of sizes that it mends itself
        try:
            model.peft = peft.get_peft_model(net, config)
        except _FAULTS as fault:
            raise RecipeError(
                f"the PEFT library refuses this {kind} adapter: {_first_line(fault)}", where="method.config"
            ) from None
    learns = {id(p) for p in net.parameters() if p.requires_grad}
    for name, parameter in model.net.named_parameters():
        parameter.requires_grad_(id(parameter) in learns or name in model.fresh)
    if not learns:
        raise RecipeError(f"nothing of a {kind} adapter learns with this config", where="method.config")


def _config(model: Model, kind: str, options: dict[str, Any]) -> Any:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as CONFIGS
    from peft.utils import PeftType

    if kind not in kinds():
        raise RecipeError(
            f"the PEFT library here has no adapter `{kind}`", where="method.type", hint=did_you_mean(kind, kinds())
        )
    if kind in _REFUSED:
        raise RecipeError(f"`{kind}` {_REFUSED[kind]}", where="method.type", hint="take another, such as LOHA or VERA")
    make = CONFIGS[PeftType(kind)]
    known = {field.name for field in fields(make)} - {"peft_type", "task_type", "modules_to_save", "inference_mode"}
    for name in options:
        if name not in known:
            raise RecipeError(
                f"a {kind} config has no `{name}`", where=f"method.config.{name}", hint=did_you_mean(name, known)
            )
    if "target_modules" in known and options.get("target_modules") is None and kind != "TRAINABLE_TOKENS":
        options = {**options, "target_modules": _targets(model, norms=kind == "LN_TUNING")}
    for name, why in _HOOKED.items():
        if options.get(name) is not None:
            raise RecipeError(f"`{name}` {why}", where=f"method.config.{name}", hint="leave it out")
    try:
        return make(**options)
    except _FAULTS as fault:
        raise RecipeError(f"the PEFT library refuses the config: {_first_line(fault)}", where="method.config") from None


def _first_line(fault: Exception) -> str:
    return next(iter(str(fault).strip().splitlines()), type(fault).__name__)


def _targets(model: Model, *, norms: bool) -> str:
    """All products of the blocks, or all their norms, as one pattern of paths."""
    start = f"{model.root}." if model.root and not isinstance(model.net, Pooled) else ""
    paths: Sequence[str] = adapted.products(model)
    if norms:
        inside = anatomy.stacks(model.anatomy)
        paths = [
            path
            for path, module in model.base.named_modules()
            if type(module).__name__.endswith("Norm") and path.startswith(tuple(f"{stack}." for stack in inside))
        ]
    if not paths:
        raise RecipeError(
            "the blocks of this model have no layers of that kind",
            where="method",
            hint="name some under `method.config.target_modules`",
        )
    return pattern_of([f"{start}{path}" for path in paths])


def save(model: Model, folder: Path, base_name: str, whole: list[str]) -> None:
    """Write the library's config and tensors, with what learned whole beside them."""
    import peft
    from safetensors.torch import save_file

    assert model.peft is not None
    config = model.peft.peft_config["default"]
    tensors: dict[str, Tensor] = dict(peft.get_peft_model_state_dict(model.peft))
    for path in whole:
        for name, parameter in model.net.get_submodule(path).named_parameters(remove_duplicate=False):
            tensors[f"base_model.model.{path}.{name}"] = parameter
    config.modules_to_save = [path.rpartition(".")[2] for path in whole] or None
    config.base_model_name_or_path = base_name
    used, config.inference_mode = config.inference_mode, True
    config.save_pretrained(str(folder))
    config.inference_mode, config.modules_to_save = used, None
    saved = {name: value.detach().clone().contiguous().cpu() for name, value in tensors.items()}
    save_file(saved, folder / FILE, metadata={"format": "pt"})


@torch.no_grad()
def merge(model: Model) -> None:
    """Fold the adapters of a net into its weights, and take them away: the library its own, we ours. Raises ModelError
    where they cannot be."""
    if model.peft is None:
        adapted.merge(model.net)
        return
    try:
        model.peft.merge_and_unload()
    except _FAULTS as fault:
        raise ModelError(f"the PEFT library cannot merge this adapter: {_first_line(fault)}", where="method") from None
    model.peft = None
