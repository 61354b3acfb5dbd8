"""The files of pretrained weights, before and after a library has opened them: what is no such file, what could never
fill the net, and what nothing can be learned from."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models.catalog import Source

_PLACE = re.compile(r" at line \d+ column \d+$")
"""In a file that no one wrote by hand."""
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers")
_WIDTHS = ("hidden_size", "d_model", "dim", "n_embd")
UNQUANTIZED = "take the model that it was made from, before it was quantized"
_OTHERS = {
    b"version https": "it is a pointer to the file, as git has without LFS",
    b"<": "it is a page of the web, which a download left that failed",
    b"\x80\x04": "it is a pickle, which can run code and is never opened",
    b"PK": "it is an archive or a pickle in one, which is never opened",
}


def said_by(fault: BaseException) -> str:
    """What a library says of a file, in one line; beside what Python's own errors say, their kind, which tells more."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()] or [type(fault).__name__]
    said = _PLACE.sub("", " ".join(lines[: 2 if lines[0].endswith(":") else 1]))
    return f"{type(fault).__name__}: {said}" if isinstance(fault, KeyError | TypeError | AttributeError) else said


def refuse_files(source: Source, config: Any) -> None:
    """Raise ModelError for files that hold no weights, and for a net that they could never fill: building it would take
    all time or memory."""
    from safetensors import SafetensorError, safe_open

    tensors = numbers = 0
    for path in source.folder.glob("*.safetensors"):
        try:
            with safe_open(path, "pt") as file:
                held = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
                shapes = [tensor.get_shape() for tensor in held.values()]
                whole = next((n for n, t in held.items() if n.endswith("weight") and t.get_dtype()[0] in "IU"), None)
        except (SafetensorError, OSError) as fault:
            raise ModelError(f"the model's weights cannot be used: {_mistaken(path, fault)}", where=str(path)) from None
        if whole is not None:
            raise ModelError(f"the tensor `{whole}` is of whole numbers", where=str(path), hint=UNQUANTIZED)
        tensors, numbers = tensors + len(shapes), numbers + sum(map(math.prod, shapes))
    for half in (config, getattr(config, "encoder", None), getattr(config, "decoder", None)):
        for key, most in [*((key, tensors) for key in _DEPTHS), *((key, math.isqrt(numbers)) for key in _WIDTHS)]:
            value = getattr(half, key, None)
            if isinstance(value, int) and value > most:
                raise ModelError(
                    f"the config says `{key}: {value}`, and the weights are too few for that",
                    where=str(source.folder / "config.json"),
                    hint="this folder's config and weights are of different models",
                )


def _mistaken(path: Path, fault: Exception) -> str:
    """What a file is that only has the name of safetensors, else what the library says of it."""
    with open(path, "rb") as file:
        head = file.read(16)
    return next((words for mark, words in _OTHERS.items() if head.lstrip().startswith(mark)), said_by(fault))


def refuse_infinite(net: nn.Module, source: Source) -> None:
    """Raise ModelError for weights that are NaN or infinite, from which nothing can be learned."""
    for name, parameter in net.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ModelError(
                f"the model's weights cannot be used: `{name}` holds numbers that are NaN or infinite",
                where=str(source.folder),
                hint="fetch it again; if it was trained, its training had failed",
            )
