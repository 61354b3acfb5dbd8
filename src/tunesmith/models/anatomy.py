"""Where a pretrained net keeps its parts: the only place with names of layers.

A table, not a heuristic: "the longest ModuleList holds the blocks" once picked three sub-layers of one T5 block.
A test counts the blocks of every row against the config. What is not in the table is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from torch import Tensor, nn

Layout = Literal["packed", "padded"]
Shape = Literal["", "bert", "distilbert", "gemma", "gpt2", "gpt_neox", "llama", "modernbert", "olmo2", "phi", "phi3"]
Role = Literal["keys-values", "attention-end", "feed-forward-end"]
_ROLES: dict[Role, tuple[str, ...]] = {
    "attention-end": (
        "attention.output.dense", "attention.dense", "self_attn.dense", "attn.c_proj", "attn.Wo", "Attention.o",
        ".o_proj", ".out_proj", ".out_lin",
    ),
    "feed-forward-end": (
        ".output.dense", ".down_proj", ".wo", ".lin2", ".fc2", "mlp.c_proj", ".dense_4h_to_h", "mlp.Wo", ".pwconv2",
    ),
    "keys-values": (
        ".key", ".value", ".k_proj", ".v_proj", ".k", ".v", ".k_lin", ".v_lin", ".c_attn", ".query_key_value",
        ".qkv_proj", ".Wqkv", ".key_proj", ".value_proj",
    ),
}  # fmt: skip
"""How the paths of products end that have a role in their block; the first that fits counts. A product that makes
queries with its keys and values has the role of these."""


@dataclass(frozen=True)
class Anatomy:
    """What the code must know about one architecture. Paths are relative to the base model."""

    family: Literal["encoder", "decoder", "encoder-decoder", "vision"]
    blocks: str
    """Where its blocks are: of an encoder-decoder, the decoder's."""
    reading: str = ""
    """Where the blocks of the encoder are that come before those."""
    head: str = ""
    """The output layer, where the base model is the whole net."""
    depth: str = "num_hidden_layers"
    """The config's name for the number of blocks."""
    after: tuple[str, ...] = ()
    """What the base model runs after its blocks, where it has it: they learn with the top layers."""
    after_reading: tuple[str, ...] = ()
    """What an encoder-decoder runs after the blocks of its encoder."""
    unread: tuple[str, ...] = ()
    """Parameters that only pretraining read."""
    layout: Layout = "packed"
    """`packed` where the attention calls a registered function; FAMILIES A lists who only seems to."""
    first_position: int = 0
    shape: Shape = ""
    """The shape of its blocks where `bodies.py` can run them; else the stock forward runs."""
    cls_head: str = ""
    """How the stock sequence classifier reads the first token: see `first_token_logits`."""


_BERT = Anatomy("encoder", "encoder.layer", after=("pooler",), shape="bert", cls_head="pooler")
_ROBERTA = Anatomy("encoder", "encoder.layer", first_position=2, shape="bert", cls_head="classifier")
_LLAMA = Anatomy("decoder", "layers", after=("norm",), shape="llama")
_GEMMA = Anatomy("decoder", "layers", after=("norm",), shape="gemma")
_VIT = Anatomy("vision", "layers", after=("layernorm",))
_T5 = Anatomy(
    "encoder-decoder",
    "decoder.block",
    reading="encoder.block",
    head="lm_head",
    depth="num_layers",
    after=("decoder.final_layer_norm",),
    after_reading=("encoder.final_layer_norm",),
    layout="padded",
)
_BART = Anatomy(
    "encoder-decoder",
    "decoder.layers",
    reading="encoder.layers",
    depth="decoder_layers",
    after=("decoder.layer_norm",),  # mBART, NLLB and M2M100 have it
    after_reading=("encoder.layer_norm",),
    layout="padded",
)
TABLE: dict[str, Anatomy] = {
    "bert": _BERT,
    "electra": Anatomy("encoder", "encoder.layer", shape="bert", cls_head="classifier"),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "modernbert": Anatomy("encoder", "layers", after=("final_norm",), shape="modernbert", cls_head="head"),
    "distilbert": Anatomy(
        "encoder", "transformer.layer", depth="n_layers", shape="distilbert", cls_head="pre_classifier"
    ),
    "deberta-v2": Anatomy("encoder", "encoder.layer", layout="padded", cls_head="pooler"),
    "gpt2": Anatomy("decoder", "h", depth="n_layer", after=("ln_f",), shape="gpt2"),
    "gpt_neox": Anatomy("decoder", "layers", after=("final_layer_norm",), shape="gpt_neox"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "smollm3": _LLAMA,
    "olmo2": Anatomy("decoder", "layers", after=("norm",), shape="olmo2"),
    "phi": Anatomy("decoder", "layers", after=("final_layernorm",), shape="phi"),
    "phi3": Anatomy("decoder", "layers", after=("norm",), shape="phi3"),
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "t5": _T5,
    "mt5": _T5,
    "bart": _BART,
    "mbart": _BART,
    "marian": _BART,
    "m2m_100": _BART,
    "encoder-decoder": Anatomy(
        "encoder-decoder",
        "decoder.bert.encoder.layer",
        reading="encoder.encoder.layer",
        head="decoder.cls",
        layout="padded",
    ),
    "vit": _VIT,
    "deit": _VIT,
    "dinov2": Anatomy("vision", "encoder.layer", after=("layernorm",), unread=("embeddings.mask_token",)),
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


def both_ways(config: Any) -> bool:
    """Whether a decoder's blocks see what comes after a token, as those of an embedder made of one do."""
    return bool(getattr(config, "use_bidirectional_attention", False))


def blocks(base: nn.Module, anatomy: Anatomy) -> nn.ModuleList:
    """The blocks of a base model, first to last: those that read before those that write."""
    from torch import nn

    found = nn.ModuleList()
    for path in stacks(anatomy):
        stack = base.get_submodule(path)
        assert isinstance(stack, nn.ModuleList), path
        found.extend(stack)
    return found


def stacks(anatomy: Anatomy) -> tuple[str, ...]:
    """Paths of the lists of blocks, in the order that they run."""
    return (anatomy.reading, anatomy.blocks) if anatomy.reading else (anatomy.blocks,)


def depth_of(base: nn.Module, anatomy: Anatomy, name: str) -> int | None:
    """Which block a parameter of the base model is in, or None outside the blocks."""
    before = 0
    for path in stacks(anatomy):
        match = re.match(rf"{re.escape(path)}\.(\d+)\.", name)
        if match:
            return before + int(match.group(1))
        before += len(list(base.get_submodule(path).children()))
    return None


def after_blocks(base: nn.Module, anatomy: Anatomy) -> list[nn.Module]:
    """What a base model runs after its blocks; an optional part may be missing."""
    there = dict(base.named_modules())
    return [there[path] for path in anatomy.after if there.get(path) is not None]


def height(base: nn.Module, anatomy: Anatomy, inside: str) -> int:
    """How far a parameter of the base model is from the answer: 0 behind the last block, 1 in the last block, and so
    on; one more than there are blocks before them."""
    depth, all_of_them = depth_of(base, anatomy, inside), len(blocks(base, anatomy))
    if depth is not None:
        return all_of_them - depth
    if any(inside.startswith(f"{path}.") for path in anatomy.after):
        return 0
    if any(inside.startswith(f"{path}.") for path in anatomy.after_reading):
        return all_of_them - len(list(base.get_submodule(anatomy.reading).children())) + 1
    return all_of_them + 1


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

    for path in stacks(anatomy):
        for name, module in base.get_submodule(path).named_modules():
            if isinstance(module, nn.Linear | Conv1D):
                yield f"{path}.{name}", module


def in_head(anatomy: Anatomy, inside: str) -> bool:
    """Whether a parameter of the base model is none of what its trunk runs: the pooler is read by the head alone."""
    return anatomy.cls_head == "pooler" and inside.startswith("pooler.")


def role(path: str) -> Role | None:
    """What a matrix product is for in its block, where that is one of the roles that methods ask for."""
    return next((name for name, ends in _ROLES.items() if path.endswith(ends)), None)


def token_logits(net: nn.Module, states: Tensor) -> Tensor:
    """Logits [tokens, labels] of a stock token classifier or question answerer from states [tokens, hidden]."""
    import torch

    return torch.as_tensor(token_head(net)(token_features(net, states)))


def token_features(net: nn.Module, states: Tensor) -> Tensor:
    """What that head's last layer reads [tokens, hidden]."""
    parts = dict(net.named_children())
    for name in ("head", "drop", "dropout"):  # the first two are ModernBERT's
        states = parts[name](states) if name in parts else states
    return states


def masked_logits(net: nn.Module, states: Tensor) -> Tensor:
    """Logits [tokens, vocabulary] of a stock masked language model from states [tokens, hidden]."""
    import torch

    parts: dict[str, Any] = dict(net.named_children())
    if "vocab_transform" in parts:  # DistilBERT
        states = parts["vocab_layer_norm"](parts["activation"](parts["vocab_transform"](states)))
        return torch.as_tensor(parts["vocab_projector"](states))
    if "decoder" in parts:  # ModernBERT
        return torch.as_tensor(parts["decoder"](parts["head"](states)))
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
    if anatomy.cls_head == "head":
        return torch.as_tensor(parts["classifier"](parts["drop"](parts["head"](first))))
    if anatomy.cls_head == "pre_classifier":
        hidden = parts["dropout"](torch.relu(parts["pre_classifier"](first)))
    else:
        pooler = inner.get("pooler") or parts["pooler"]
        hidden = parts["dropout"](pooler(first[:, None]))
    return torch.as_tensor(parts["classifier"](hidden))
