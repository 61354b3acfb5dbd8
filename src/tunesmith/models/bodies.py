"""The trunk of a net, block by block: for the shapes of block that most pretrained models have.

A body runs a stream through embeddings, blocks and final norm with the pieces of `fused.py`; it can stop before any
block and go on from kept states, and in its last block it computes only the tokens that are looked at. Where a shape
is not known, the stock forward runs (model.py). Weights stay in the stock modules: nothing is moved or copied.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.utils.checkpoint import checkpoint

from tunesmith.models import anatomy
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.attention import Rope, Terms, attend
from tunesmith.models.fused import plain, products, rms_norm, swiglu
from tunesmith.models.segments import Look
from tunesmith.models.stream import Stream


class Body(Protocol):
    """A trunk that can be run in parts."""

    def begin(self, stream: Stream) -> Tensor:
        """Embeddings [tokens, width]."""

    def block(self, number: int, x: Tensor, stream: Stream, look: Look | None) -> Tensor:
        """One block: [tokens, width] -> [tokens, width], or [looked at, width]."""

    def end(self, x: Tensor) -> Tensor:
        """What stands after the last block."""


def body_of(base: nn.Module, parts: Anatomy) -> Body | None:
    """The body of a base model, or None when its blocks are of no known shape, or hold something unusual."""
    if not parts.shape:
        return None
    body = _Llama(base, parts) if parts.shape == "llama" else _Bert(base, parts)
    return body if all(body.usual(block) for block in anatomy.blocks(base, parts)) else None


def run(body: Body, stream: Stream, depth: int, look: Look | None = None, *, checkpointing: bool = False) -> Tensor:
    """The whole trunk: last hidden states [tokens, width], or of the tokens looked at. With `checkpointing`, only
    the inputs of blocks are kept, and blocks are computed again, with the same random numbers, in the backward."""
    x = body.begin(stream)
    for number in range(depth):
        at = look if number == depth - 1 else None
        if checkpointing and torch.is_grad_enabled():
            x = checkpoint(body.block, number, x, stream, at, use_reentrant=False)
        else:
            x = body.block(number, x, stream, at)
    return body.end(x)


class _Llama:
    """Norm, attention with rotary positions, norm, SwiGLU: LLaMA, Mistral, Qwen2, Qwen3, SmolLM3."""

    def __init__(self, base: Any, parts: Anatomy) -> None:
        self.base = base
        self.blocks: Any = anatomy.blocks(base, parts)
        self.ropes: tuple[Stream, Rope] | None = None

    def usual(self, block: Any) -> bool:
        """Whether every piece is one that `fused.py` knows."""
        attn, mlp = block.self_attn, block.mlp
        layers = (attn.q_proj, attn.k_proj, attn.v_proj, attn.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        return all(map(plain, layers)) and self.base.config.hidden_act == "silu"

    def begin(self, stream: Stream) -> Tensor:
        """Token embeddings."""
        return torch.as_tensor(self.base.embed_tokens(stream.ids))

    def block(self, number: int, x: Tensor, stream: Stream, look: Look | None) -> Tensor:
        """x + o(attention(norm(x))), then x + swiglu(norm(x))."""
        layer = self.blocks[number]
        attn, mlp = layer.self_attn, layer.mlp
        normed = _normed(layer.input_layernorm, x)
        if look is None:
            q, k, v = products(normed, (attn.q_proj, attn.k_proj, attn.v_proj))
        else:
            x = x[look.index]
            (q,) = products(normed[look.index], (attn.q_proj,))
            k, v = products(normed, (attn.k_proj, attn.v_proj))
        q, k, v = (part.unflatten(1, (-1, attn.head_dim)) for part in (q, k, v))
        if hasattr(attn, "q_norm"):
            q, k = _normed(attn.q_norm, q), _normed(attn.k_norm, k)
        rope = self._rope(x, stream) if getattr(attn, "use_rope", True) else None
        terms = Terms(True, attn.scaling, self._window(attn), attn.attention_dropout if attn.training else 0.0)
        made = attend(q, k, v, stream, terms, rope=rope, kept=look)
        (x,) = products(made.flatten(1), (attn.o_proj,), x)
        return swiglu(_normed(layer.post_attention_layernorm, x), mlp.gate_proj, mlp.up_proj, mlp.down_proj, x)

    def end(self, x: Tensor) -> Tensor:
        """The final norm."""
        return _normed(self.base.norm, x)

    def _rope(self, x: Tensor, stream: Stream) -> Rope:
        """Once a stream: half of what the stock module gives, whose two halves are the same."""
        if self.ropes is None or self.ropes[0] is not stream:
            cos, sin = self.base.rotary_emb(x, stream.positions[None])
            half = cos.shape[-1] // 2
            self.ropes = stream, (cos[0, :, None, :half].contiguous(), sin[0, :, None, :half].contiguous())
        return self.ropes[1]

    def _window(self, attn: Any) -> int | None:
        held = attn if hasattr(attn, "sliding_window") else self.base.config
        window = getattr(held, "sliding_window", None)
        return int(window) if window is not None and self.base.config.model_type != "llama" else None


class _Bert:
    """Attention, add and norm, GELU layers, add and norm: BERT, RoBERTa, XLM-R, ELECTRA."""

    def __init__(self, base: Any, parts: Anatomy) -> None:
        self.base = base
        self.blocks: Any = anatomy.blocks(base, parts)

    def usual(self, block: Any) -> bool:
        """Whether every piece is one that `fused.py` knows, and the block no decoder's."""
        own, out = block.attention.self, block.attention.output
        layers = (own.query, own.key, own.value, out.dense, block.intermediate.dense, block.output.dense)
        return all(map(plain, layers)) and not own.is_causal and not hasattr(block, "crossattention")

    def begin(self, stream: Stream) -> Tensor:
        """The sum of the embeddings, normed."""
        made = self.base.embeddings(input_ids=stream.ids[None], position_ids=stream.positions[None])[0]
        project = getattr(self.base, "embeddings_project", None)
        return torch.as_tensor(made if project is None else project(made))

    def block(self, number: int, x: Tensor, stream: Stream, look: Look | None) -> Tensor:
        """norm(x + o(attention(x))), then norm(x + w2(gelu(w1(x))))."""
        layer = self.blocks[number]
        own, out = layer.attention.self, layer.attention.output
        if look is None:
            q, k, v = products(x, (own.query, own.key, own.value))
        else:
            k, v = products(x, (own.key, own.value))
            x = x[look.index]
            (q,) = products(x, (own.query,))
        q, k, v = (part.unflatten(1, (-1, own.attention_head_size)) for part in (q, k, v))
        terms = Terms(False, own.scaling, None, own.dropout.p if own.training else 0.0)
        made = attend(q, k, v, stream, terms, kept=look).flatten(1)
        x = out.LayerNorm(_added(made, out, x))
        hidden = layer.intermediate.intermediate_act_fn(products(x, (layer.intermediate.dense,))[0])
        return torch.as_tensor(layer.output.LayerNorm(_added(hidden, layer.output, x)))

    def end(self, x: Tensor) -> Tensor:
        """Nothing: the last block norms."""
        return x


def _added(x: Tensor, out: Any, residual: Tensor) -> Tensor:
    """dropout(dense(x)) + residual"""
    if out.dropout.p and out.training:
        return dropout(products(x, (out.dense,))[0], out.dropout.p).add_(residual)
    return products(x, (out.dense,), residual)[0]


def _normed(norm: Any, x: Tensor) -> Tensor:
    return rms_norm(x, norm.weight, norm.variance_epsilon)
