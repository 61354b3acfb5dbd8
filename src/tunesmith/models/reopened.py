"""A saved folder as others open it: by Transformers and PEFT and by the folder's own small files, without the code that
wrote them. What it answers is held against the model in memory."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import gelu, linear, normalize

from tunesmith.contracts import Example, Tokens
from tunesmith.models import ownfiles
from tunesmith.models.catalog import Source
from tunesmith.models.heads import Pooled, inner
from tunesmith.models.model import Model
from tunesmith.models.precision import available_bytes
from tunesmith.models.pretrained import quiet, still
from tunesmith.models.seq2seq import answer_states

After = Callable[[Tensor], Tensor]
"""Last hidden states [tokens, width] of a row -> what the model makes of them, [outputs]."""
_BYTES = 5
"""Of a parameter, while a second net is in memory; a little more than its four."""


@dataclass(frozen=True)
class Opened:
    """A net from a saved folder."""

    net: Any
    after: After | None = None
    """What comes after a trunk, where that is no part of the net."""
    prompt: Tensor | None = None
    """Virtual tokens [1, count, width] that stand before every row."""
    hidden: int = 0
    """Outputs of every row that are of virtual tokens."""


def room_for(model: Model) -> bool:
    """Whether the memory that is left holds the net once more."""
    return _BYTES * sum(p.numel() for p in model.net.parameters()) < available_bytes()


def reopen(folder: Path, model: Model) -> Opened | None:
    """The net of a folder that `model` was saved in, in full precision; None where its README's own lines are needed to
    compute an answer: a prompt before a net whose head reads its first token."""
    import transformers

    kind = getattr(transformers, type(inner(model.net)).__name__)
    own, adapter = folder / ownfiles.ABOUT, folder / "adapter_config.json"
    about = json.loads(own.read_text(encoding="utf-8")) if own.exists() else None
    config = json.loads(adapter.read_text(encoding="utf-8")) if adapter.exists() else None
    named = about["base"] if about is not None else config["base_model_name_or_path"] if config is not None else None
    place = folder if named is None else _base(folder, named, model.source)
    heads = {} if named is None else ownfiles.arguments(model)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what libraries say of one another's newer versions
        net = kind.from_pretrained(
            place,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            **heads,
        )
        if about is not None:
            return _with_own_files(net.eval(), about, folder, model)
        after = _modules(folder) if isinstance(model.net, Pooled) else None
        if config is None:
            return Opened(net.eval(), after)
        with still():
            from peft import PeftModel
        tuned = PeftModel.from_pretrained(net, folder).eval()
    if config["peft_type"] == "PROMPT_TUNING":
        return Opened(tuned, after, hidden=int(config["num_virtual_tokens"]))
    return Opened(tuned.base_model, after)  # PEFT's own class of a task drops token types; the tuner inside does not


def merged(opened: Opened) -> Opened | None:
    """The same with its adapter merged into the weights, by PEFT; None where there is none, or it cannot be."""
    merge = getattr(opened.net, "merge_and_unload", None)
    if merge is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return replace(opened, net=merge().eval())
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return None


def _base(folder: Path, named: str, source: Source) -> Path:
    """The net that an adapter belongs to: beside it, where it was reshaped (and the run moved since); of the hub, as it
    lies here; else the folder that is named."""
    if (folder / "base").is_dir():
        return folder / "base"
    return source.folder if named == source.hub_id else Path(named)


def _with_own_files(net: Any, about: dict[str, Any], folder: Path, model: Model) -> Opened | None:
    """As the folder's README says it."""
    tensors = load_file(folder / ownfiles.FILE)
    for path in about["modules"]:
        net.get_submodule(path).register_forward_hook(_behind(tensors, path))
    names = dict(net.named_parameters(remove_duplicate=False))  # one tensor may stand under two
    for name in about["whole"]:
        names[name].data.copy_(tensors[name])
    prompt = tensors["prompt"].reshape(1, *tensors["prompt"].shape[-2:]) if "prompt" in tensors else None
    if not isinstance(model.net, Pooled):
        if prompt is None or model.kind != "classifier":
            return Opened(net, prompt=prompt, hidden=0 if prompt is None else prompt.shape[1])
        return Opened(net, prompt=prompt) if model.pooling == "last" else None

    def after(states: Tensor) -> Tensor:
        if about["pooling"] == "attention":
            scores = linear(states, tensors["attend.weight"], tensors["attend.bias"])
            x = (torch.softmax(scores, 0) * states).sum(0)
        else:
            x = _pool(states, about["pooling"])
        if about["unit"] or "head.weight" not in tensors:
            x = normalize(x, dim=-1)
        for k in range(about["layers"]):
            x = gelu(linear(x, tensors[f"layers.{k}.weight"], tensors[f"layers.{k}.bias"]))
        return linear(x, tensors["head.weight"], tensors["head.bias"]) if "head.weight" in tensors else x

    return Opened(net, after, prompt)


def _behind(tensors: dict[str, Tensor], path: str) -> Callable[[Any, Any, Tensor], Tensor]:
    def hook(_: Any, __: Any, y: Tensor) -> Tensor:
        low = gelu(linear(y, tensors[f"{path}.down.weight"], tensors[f"{path}.down.bias"]))
        return y + linear(low, tensors[f"{path}.up.weight"], tensors[f"{path}.up.bias"])

    return hook


def _pool(states: Tensor, mode: str) -> Tensor:
    return {"mean": lambda: states.mean(0), "cls": lambda: states[0], "last": lambda: states[-1]}[mode]()


def _modules(folder: Path) -> After:
    """What sentence-transformers does after the net, from its files."""
    steps: list[After] = []
    modes = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}
    for module in json.loads((folder / "modules.json").read_text(encoding="utf-8"))[1:]:
        kind, place = module["type"].rpartition(".")[2], folder / module["path"]
        if kind == "Normalize":
            steps.append(lambda x: normalize(x, dim=-1))
            continue
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
        if kind == "Pooling":
            (mode,) = (modes[name] for name in modes if config.get(f"pooling_mode_{name}"))
            steps.append(lambda x, mode=mode: _pool(x, mode))  # type: ignore[misc]
            continue
        held = load_file(place / "model.safetensors")
        bend = gelu if config["activation_function"].endswith("GELU") else lambda x: x
        steps.append(
            lambda x, held=held, bend=bend: bend(linear(x, held["linear.weight"], held["linear.bias"]))  # type: ignore[misc]
        )

    def after(states: Tensor) -> Tensor:
        for step in steps:
            states = step(states)
        return states

    return after


@torch.no_grad()
def theirs(opened: Opened, model: Model, example: Example) -> list[Tensor]:
    """What the opened net makes of an example, a row at a time: of each text, of a text and its answer, of an image."""
    parts = list(example.parts.values())
    if model.kind == "image-classifier":
        pixels = [model.reads.pixels(part)[None] for part in parts]  # type: ignore[union-attr]
        return [opened.net(pixel_values=values).logits[0] for values in pixels]
    if model.kind == "seq2seq-lm":
        source, target = parts
        made = opened.net(input_ids=_ids(source), decoder_input_ids=_ids(target)).logits[0]
        return [made[-len(target.ids) :]]
    return [_of_text(opened, model, part) for part in parts]


def _ids(part: Tokens) -> Tensor:
    return torch.tensor([part.ids])


def _of_text(opened: Opened, model: Model, part: Tokens) -> Tensor:
    given: dict[str, Any] = {"input_ids": _ids(part)}
    count = 0
    if opened.prompt is not None:
        count = opened.prompt.shape[1]
        table = opened.net.get_input_embeddings()
        given = {"inputs_embeds": torch.cat([opened.prompt, table(given["input_ids"])], 1)}
    if part.types:
        given["token_type_ids"] = torch.tensor([(0,) * count + part.types])
    found = opened.net(**given)
    if opened.after is not None:
        return opened.after(found.last_hidden_state[0][count:])
    if model.kind == "span-classifier":
        return torch.stack([found.start_logits, found.end_logits], -1)[0][opened.hidden :]
    return torch.as_tensor(found.logits[0][opened.hidden :])


@torch.no_grad()
def ours(model: Model, example: Example) -> list[Tensor]:
    """The same of the model in memory."""
    parts: list[Any] = list(example.parts.values())
    if model.kind == "image-classifier":
        return list(model.image_logits(parts))
    if model.kind == "seq2seq-lm":
        source, target = parts
        states = answer_states(model, [source], [target], torch.arange(len(target.ids)))
        return [torch.as_tensor(model.output_layer(states))]
    return [_of_tokens(model, part) for part in parts]


def _of_tokens(model: Model, part: Tokens) -> Tensor:
    match model.kind:
        case "classifier":
            return model.class_logits([part])[0]
        case "embedder":
            return normalize(model.embeddings([part])[0], dim=-1)
        case "causal-lm":
            return model.label_logits([part], torch.arange(len(part.ids)))
        case "masked-lm":
            return model.masked_logits([replace(part, trained=(True,) * len(part.ids))])
        case _:
            return model.token_logits([part])
