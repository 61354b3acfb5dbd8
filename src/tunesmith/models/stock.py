"""The stock forward of a trunk over a stream, for blocks that `bodies.py` does not know."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tunesmith.models.stream import Stream


def set_checkpointing(base: Any, on: bool) -> None:
    """Have the blocks keep only their inputs, or all again."""
    newer = hasattr(base, "activation_checkpointing_enable")  # what the older names warn of
    if on:
        enable = base.activation_checkpointing_enable if newer else base.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    else:
        (base.activation_checkpointing_disable if newer else base.gradient_checkpointing_disable)()


def run(base: Any, stream: Stream, depth: int, embedded: Tensor | None, *, decoder: bool, typed: bool) -> Tensor:
    """Last hidden states [tokens, width]; `typed` says that the net is told which of two texts a token is of."""
    more: dict[str, Any] = {"use_cache": False} if decoder else {}
    if stream.types is not None and typed:
        more["token_type_ids"] = stream.types[None]
    more |= {"input_ids": stream.ids[None]} if embedded is None else {"inputs_embeds": embedded[None]}
    out = base(position_ids=stream.positions[None], attention_mask=None, stream=stream, **more)
    # A net that never calls the registered function would let rows see each other.
    assert stream.calls == depth, f"attention ran in {stream.calls} of {depth} blocks"
    return torch.as_tensor(out.last_hidden_state[0])
