"""Where a pretrained net keeps its parts: the only place with names of layers.

A table, not a heuristic: "the longest ModuleList holds the blocks" once picked three sub-layers of one T5 block.
A test counts the blocks of every row against the config. What is not in the table is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from torch import Tensor, nn

Layout = Literal["packed", "padded"]


@dataclass(frozen=True)
class Anatomy:
    """What the code must know about one architecture. Paths are relative to the base model."""

    family: Literal["encoder", "decoder", "vision"]
    blocks: str
    depth: str = "num_hidden_layers"
    """The config's name for the number of blocks."""
    after: tuple[str, ...] = ()
    """What the base model runs after its blocks: they learn with the top layers."""
    layout: Layout = "packed"
    """`packed` where the attention calls a registered function; FAMILIES A lists who only seems to."""
    first_position: int = 0
    shape: Literal["", "bert", "llama"] = ""
    """The shape of its blocks where `bodies.py` can run them; else the stock forward runs."""
    cls_head: str = ""
    """How the stock sequence classifier reads the first token: see `first_token_logits`."""


_BERT = Anatomy("encoder", "encoder.layer", after=("pooler",), shape="bert", cls_head="pooler")
_ROBERTA = Anatomy("encoder", "encoder.layer", first_position=2, shape="bert", cls_head="classifier")
_LLAMA = Anatomy("decoder", "layers", after=("norm",), shape="llama")
_LLAMA_LIKE = Anatomy("decoder", "layers", after=("norm",))
TABLE: dict[str, Anatomy] = {
    "bert": _BERT,
    "electra": Anatomy("encoder", "encoder.layer", shape="bert", cls_head="classifier"),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "distilbert": Anatomy("encoder", "transformer.layer", depth="n_layers", cls_head="pre_classifier"),
    "deberta-v2": Anatomy("encoder", "encoder.layer", layout="padded", cls_head="pooler"),
    "gpt2": Anatomy("decoder", "h", depth="n_layer", after=("ln_f",)),
    "gpt_neox": Anatomy("decoder", "layers", after=("final_layer_norm",)),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "smollm3": _LLAMA,
    "olmo2": _LLAMA_LIKE,
    "phi3": _LLAMA_LIKE,
    "vit": Anatomy("vision", "layers", after=("layernorm",)),
    "resnet": Anatomy("vision", "encoder.stages", depth="depths"),
    "convnext": Anatomy("vision", "encoder.stages", depth="depths", after=("layernorm",)),
    "efficientnet": Anatomy(
        "vision", "encoder.blocks", depth="num_block_repeats", after=("encoder.top_conv", "encoder.top_bn")
    ),
}


def of(model_type: str) -> Anatomy:
    """The anatomy of a `config.model_type`. Raises ModelError for an architecture that is not in the table."""
    if model_type not in TABLE:
        raise ModelError(
            f"Tunesmith does not know the architecture `{model_type}`",
            where="model",
            hint="it knows " + ", ".join(TABLE),
        )
    return TABLE[model_type]


def blocks(base: nn.Module, anatomy: Anatomy) -> nn.ModuleList:
    """The stack of blocks of a base model, first to last."""
    from torch import nn

    found = base.get_submodule(anatomy.blocks)
    assert isinstance(found, nn.ModuleList), anatomy.blocks
    return found


def last_blocks(base: nn.Module, anatomy: Anatomy, count: int) -> range:
    """Numbers of the last blocks. Raises RecipeError for more than there are."""
    depth = len(blocks(base, anatomy))
    if count > depth:
        raise RecipeError(
            f"the model has {depth} blocks, {count} were asked for",
            where="method.layers",
            hint=f"set it to {depth} or less",
        )
    return range(depth - count, depth)


def linear_layers(base: nn.Module, anatomy: Anatomy) -> Iterator[tuple[str, nn.Module]]:
    """(path in the base model, module) of every matrix product inside the blocks: Linear, or GPT-2's Conv1D."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    for name, module in base.get_submodule(anatomy.blocks).named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            yield f"{anatomy.blocks}.{name}", module


def token_logits(net: nn.Module, states: Tensor) -> Tensor:
    """Logits [tokens, labels] of a stock token classifier or question answerer from states [tokens, hidden]."""
    import torch

    parts = dict(net.named_children())
    if "dropout" in parts:
        states = parts["dropout"](states)
    return torch.as_tensor(token_head(net)(states))


def masked_logits(net: nn.Module, states: Tensor) -> Tensor:
    """Logits [tokens, vocabulary] of a stock masked language model from states [tokens, hidden]."""
    import torch

    parts: dict[str, Any] = dict(net.named_children())
    if "vocab_transform" in parts:  # DistilBERT
        states = parts["vocab_layer_norm"](parts["activation"](parts["vocab_transform"](states)))
        return torch.as_tensor(parts["vocab_projector"](states))
    if "generator_predictions" in parts:  # ELECTRA
        return torch.as_tensor(parts["generator_lm_head"](parts["generator_predictions"](states)))
    head = next(parts[name] for name in ("cls", "lm_head") if name in parts)
    return torch.as_tensor(head(states))


def token_head(net: nn.Module) -> nn.Module:
    """The linear layer of a stock token classifier or question answerer."""
    parts = dict(net.named_children())
    return next(parts[name] for name in ("qa_outputs", "classifier", "score") if name in parts)


def first_token_logits(net: nn.Module, base: nn.Module, anatomy: Anatomy, first: Tensor) -> Tensor:
    """Logits [rows, labels] of a stock sequence classifier from the states [rows, hidden] of each first token.

    The stock forward gives one row of logits for a packed stream, so its head is called here by hand; dropout
    stands where the stock class has it.
    """
    import torch

    parts = dict(net.named_children())
    inner = dict(base.named_children())
    if anatomy.cls_head == "classifier":
        return torch.as_tensor(parts["classifier"](first[:, None]))
    if anatomy.cls_head == "pre_classifier":
        hidden = parts["dropout"](torch.relu(parts["pre_classifier"](first)))
    else:
        pooler = inner.get("pooler") or parts["pooler"]
        hidden = parts["dropout"](pooler(first[:, None]))
    return torch.as_tensor(parts["classifier"](hidden))
