"""Adapters that no library has a file for, in a folder of their own: tensors, a small JSON, and the lines of code with
PyTorch and Transformers that put them in. The folder's README shows these, and a test runs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from tunesmith.models import adapted
from tunesmith.models.bottleneck import Bottleneck
from tunesmith.models.heads import Pooled, PooledClassifier
from tunesmith.models.model import Model
from tunesmith.models.prompt import prompt_of

FILE = "adapter.safetensors"
ABOUT = "adapter.json"
_BEGIN = """import json

import torch
import transformers
from safetensors.torch import load_file

folder = "."  # where this file is
about = json.load(open(f"{folder}/adapter.json"))
tensors = load_file(f"{folder}/adapter.safetensors")
net = getattr(transformers, about["class"]).from_pretrained(about["base"] or folder, **about["arguments"])
"""
_BOTTLENECK = """

class Behind(torch.nn.Module):
    def __init__(self, base, path):
        super().__init__()
        self.base, self.path = base, path

    def __getattr__(self, name):  # some blocks ask a layer for its weight
        return getattr(super().__getattr__("base"), name) if name in ("weight", "bias") else super().__getattr__(name)

    def forward(self, x):
        down, down_bias, up, up_bias = (
            tensors[f"{self.path}.{name}"] for name in ("down.weight", "down.bias", "up.weight", "up.bias")
        )
        y = self.base(x)
        low = torch.nn.functional.gelu(torch.nn.functional.linear(y, down, down_bias))
        return y + torch.nn.functional.linear(low, up, up_bias)


for path in about["modules"]:
    net.set_submodule(path, Behind(net.get_submodule(path), path))
"""
_PROMPT = """
table, prompt = net.get_input_embeddings(), tensors["prompt"]


def embedded(ids):  # [rows, tokens] -> what the net takes as inputs_embeds, with the prompt before each row
    return torch.cat([prompt.expand(len(ids), -1, -1), table(ids)], 1)
"""
_WHOLE = """
names = dict(net.named_parameters(remove_duplicate=False))
for name in about["whole"]:  # what learned beside the adapters
    names[name].data.copy_(tensors[name])
net.eval()
"""
_POOLED = """

def pooled(states):  # last hidden states [tokens, width] of a row, without the prompt's -> [width]
    if about["pooling"] == "attention":
        scores = states @ tensors["attend.weight"].T + tensors["attend.bias"]
        return (torch.softmax(scores, 0) * states).sum(0)
    return {"mean": states.mean(0), "last": states[-1], "cls": states[0]}[about["pooling"]]
"""
_LABELS = """

def logits(states):
    x = pooled(states)
    x = torch.nn.functional.normalize(x, dim=-1) if about["unit"] else x
    for k in range(about["layers"]):
        x = torch.nn.functional.gelu(x @ tensors[f"layers.{k}.weight"].T + tensors[f"layers.{k}.bias"])
    return x @ tensors["head.weight"].T + tensors["head.bias"]
"""
_EMBEDDING = """

def embedding(states):
    return torch.nn.functional.normalize(pooled(states), dim=-1)
"""


def needed(model: Model) -> bool:
    """Whether the net holds something that PEFT's files have no place for."""
    first = next((module for _, module in adapted.found(model.net)), None)
    prompted = prompt_of(model.net)
    alone = model.kind in ("causal-lm", "seq2seq-lm") and not model.fresh  # what PEFT's file holds is all that learned
    return isinstance(first, Bottleneck) or (prompted is not None and not alone)


def attends(net: nn.Module) -> bool:
    """Whether the weights of the mean that a head reads are learned, which sentence-transformers has no module for."""
    return isinstance(net, PooledClassifier) and net.attend is not None


def save(model: Model, folder: Path, base_name: str | None, whole: Sequence[str] = ()) -> None:
    """Write `adapter.safetensors` and `adapter.json`; `whole` are the modules that learned whole, by their paths. No
    `base_name` says that the net is in the folder itself, and these files hold its head alone."""
    inside = "encoder." if isinstance(model.net, Pooled) else ""
    tensors: dict[str, Tensor] = {}
    modules = {path.removeprefix(inside): module for path, module in adapted.found(model.net)} if base_name else {}
    for path, module in modules.items():
        tensors |= {f"{path}.{name}": value for name, value in module.tensors().items()}
    prompted = prompt_of(model.net)
    if prompted is not None:
        tensors["prompt"] = prompted.prompt
    names = [f"{path}.{name}" for path in whole for name, _ in model.net.get_submodule(path).named_parameters()]
    tensors |= {name: model.net.get_parameter(name) for name in names}
    if inside:
        tensors |= {name: p for name, p in model.net.named_parameters() if not name.startswith(inside)}
    about: dict[str, Any] = {
        "kind": "head" if base_name is None else "bottleneck" if modules else "prompt",
        "base": base_name,
        "class": "AutoModel" if inside else type(model.net).__name__,
        "arguments": arguments(model),
        "modules": {path: module.config() for path, module in modules.items()},
        "whole": names,
        "pooling": model.pooling,
        "unit": isinstance(model.net, PooledClassifier) and model.net.unit,
        "layers": len(model.net.layers) if isinstance(model.net, PooledClassifier) else 0,
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    saved = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    save_file(saved, folder / FILE, metadata={"format": "pt"})


def arguments(model: Model) -> dict[str, Any]:
    """Beside the folder, for Transformers' own class."""
    if isinstance(model.net, Pooled) or model.kind in ("causal-lm", "seq2seq-lm", "masked-lm", "span-classifier"):
        return {}
    return {"num_labels": len(model.config.id2label), "ignore_mismatched_sizes": True}


def how_to(model: Model) -> str:
    """The README's part on how to open the folder without Tunesmith."""
    parts = [_BEGIN]
    if prompt_of(model.net) is not None:
        parts.append(_PROMPT)
    if needed(model) and any(True for _ in adapted.found(model.net)):
        parts.append(_BOTTLENECK)
    if isinstance(model.net, Pooled):
        parts += [_POOLED, _LABELS if isinstance(model.net, PooledClassifier) else _EMBEDDING]
    else:
        parts.append(_WHOLE)
    return "\n## Without Tunesmith\n\n```python\n" + "".join(parts) + "```\n"
