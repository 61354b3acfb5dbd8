"""The trunk of a net, block by block: for the shapes of block that most pretrained models have.

A body runs a stream through embeddings, blocks and final norm with the pieces of `fused.py`; it can stop before any
block and go on from kept states, and in its last block it computes only the tokens that are looked at. Where a shape
is not known, the stock forward runs (model.py). Weights stay in the stock modules: nothing is moved or copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tunesmith.models import anatomy
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.attention import Rope, Terms, attend
from tunesmith.models.draws import dropout
from tunesmith.models.fused import known, products, rms_norm, swiglu
from tunesmith.models.matmul import Matmul
from tunesmith.models.segments import Look
from tunesmith.models.stream import Stream

if TYPE_CHECKING:
    from tunesmith.models.crew import Crew


class Body(Protocol):
    """A trunk that can be run in parts."""

    def begin(self, stream: Stream, embedded: Tensor | None = None) -> Tensor:
        """Embeddings [tokens, width], from those of the tokens alone where they are given."""

    def block(self, number: int, x: Tensor, stream: Stream, look: Look | None) -> Tensor:
        """One block: [tokens, width] -> [tokens, width], or [looked at, width]."""

    def end(self, x: Tensor) -> Tensor:
        """What stands after the last block."""


def body_of(base: nn.Module, parts: Anatomy, matmul: Matmul) -> Body | None:
    """The body of a base model, or None when its blocks are of no known shape, or hold something unusual."""
    if not parts.shape:
        return None
    body = Llama(base, parts, matmul) if parts.shape == "llama" else Bert(base, parts, matmul)
    return body if all(body.usual(block) for block in anatomy.blocks(base, parts)) else None


def run(
    body: Body,
    stream: Stream,
    depth: int,
    look: Look | None,
    start: tuple[int, Tensor],
    *,
    checkpointing: bool = False,
) -> Tensor:
    """The trunk from a block on, and from what that reads: last hidden states [tokens, width], or of the tokens looked
    at. With `checkpointing`, only the inputs of blocks are kept, and blocks are computed again, with the same random
    numbers, in the backward.
    """
    first, x = start
    if first == depth and look is not None:
        x = x[look.index]
    for number in range(first, depth):
        at = look if number == depth - 1 else None
        if checkpointing and torch.is_grad_enabled():
            block = body.block if stream.crew is None else stream.crew.repeated(body.block)
            x = checkpoint(block, number, x, stream, at, use_reentrant=False)
        else:
            x = body.block(number, x, stream, at)
    return body.end(x)


class Llama:
    """Norm, attention with rotary positions, norm, SwiGLU: LLaMA, Mistral, Qwen2, Qwen3, SmolLM3."""

    def __init__(self, base: Any, parts: Anatomy, matmul: Matmul) -> None:
        self.base = base
        self.matmul = matmul
        self.blocks: Any = anatomy.blocks(base, parts)
        self._turns: tuple[Stream, Rope] | None = None

    def usual(self, block: Any) -> bool:
        """Whether every piece is one that `fused.py` knows."""
        attn, mlp = block.self_attn, block.mlp
        layers = (attn.q_proj, attn.k_proj, attn.v_proj, attn.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        norms = [block.input_layernorm, block.post_attention_layernorm, self.base.norm]
        norms += [attn.q_norm, attn.k_norm] if hasattr(attn, "q_norm") else []
        plain = all(hasattr(norm, "variance_epsilon") for norm in norms)  # not one in another's adapter
        return plain and all(map(known, layers)) and self.base.config.hidden_act == "silu"

    def begin(self, stream: Stream, embedded: Tensor | None = None) -> Tensor:
        """Token embeddings."""
        return self.embed(stream.ids) if embedded is None else embedded

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [tokens] -> [tokens, width]."""
        return torch.as_tensor(self.base.embed_tokens(ids))

    def block(self, number: int, x: Tensor, stream: Stream, look: Look | None) -> Tensor:
        """x + o(attention(norm(x))), then x + swiglu(norm(x))."""
        q, k, v = self.project(number, x, look, stream.crew)
        return self.attended(number, q, k, v, x, stream, look)

    def project(
        self, number: int, x: Tensor, look: Look | None, crew: Crew | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (where looked at), keys and values [tokens, heads, dim] of a block, not yet turned."""
        attn = self.blocks[number].self_attn
        normed = _normed(self.blocks[number].input_layernorm, x)
        if look is None:
            q, k, v = products(normed, (attn.q_proj, attn.k_proj, attn.v_proj), self.matmul, crew=crew)
        else:
            (q,) = products(normed[look.index], (attn.q_proj,), self.matmul, crew=look.crew)
            k, v = products(normed, (attn.k_proj, attn.v_proj), self.matmul, crew=crew)
        q, k, v = (part.unflatten(1, (-1, attn.head_dim)) for part in (q, k, v))
        if hasattr(attn, "q_norm"):
            q, k = _normed(attn.q_norm, q), _normed(attn.k_norm, k)
        return q, k, v

    def attended(
        self, number: int, q: Tensor, k: Tensor, v: Tensor, x: Tensor, stream: Stream, look: Look | None
    ) -> Tensor:
        """The block from its queries, keys and values on."""
        rope = self.rope(number, x, stream)
        made = attend(q, k, v, stream, self.terms(number), rope=rope, kept=look)
        crew = stream.crew if look is None else look.crew
        return self.rest(number, made.flatten(1), x if look is None else x[look.index], crew)

    def rest(self, number: int, made: Tensor, x: Tensor, crew: Crew | None = None) -> Tensor:
        """The block from what attention made [tokens, heads * dim] on."""
        layer = self.blocks[number]
        (x,) = products(made, (layer.self_attn.o_proj,), self.matmul, x, crew)
        mlp = layer.mlp
        normed = _normed(layer.post_attention_layernorm, x)
        return swiglu(normed, mlp.gate_proj, mlp.up_proj, mlp.down_proj, self.matmul, x, crew)

    def end(self, x: Tensor) -> Tensor:
        """The final norm."""
        return _normed(self.base.norm, x)

    def terms(self, number: int) -> Terms:
        """How a block attends."""
        attn = self.blocks[number].self_attn
        held = attn if hasattr(attn, "sliding_window") else self.base.config
        window = getattr(held, "sliding_window", None) if self.base.config.model_type != "llama" else None
        return Terms(True, attn.scaling, window, attn.attention_dropout if attn.training else 0.0)

    def rope(self, number: int, x: Tensor, stream: Stream) -> Rope | None:
        """Turns of a stream's positions, worked out once; None for a block without positions."""
        if self._turns is None or self._turns[0] is not stream:
            self._turns = stream, self._rope(x, stream.positions)
        return self._turns[1] if self._has_rope(number) else None

    def rope_at(self, number: int, x: Tensor, positions: Tensor) -> Rope | None:
        """Turns of any positions [tokens]."""
        return self._rope(x, positions) if self._has_rope(number) else None

    def _has_rope(self, number: int) -> bool:
        return bool(getattr(self.blocks[number].self_attn, "use_rope", True))

    def _rope(self, x: Tensor, positions: Tensor) -> Rope:
        """Half of what the stock module gives, whose two halves are the same."""
        cos, sin = self.base.rotary_emb(x, positions[None])
        half = cos.shape[-1] // 2
        return cos[0, :, None, :half].contiguous(), sin[0, :, None, :half].contiguous()


class Bert:
    """Attention, add and norm, GELU layers, add and norm: BERT, RoBERTa, XLM-R, ELECTRA."""

    def __init__(self, base: Any, parts: Anatomy, matmul: Matmul) -> None:
        self.base = base
        self.matmul = matmul
        self.blocks: Any = anatomy.blocks(base, parts)

    def usual(self, block: Any) -> bool:
        """Whether every piece is one that `fused.py` knows, and the block no decoder's."""
        own, out = block.attention.self, block.attention.output
        layers = (own.query, own.key, own.value, out.dense, block.intermediate.dense, block.output.dense)
        return all(map(known, layers)) and not own.is_causal and not hasattr(block, "crossattention")

    def begin(self, stream: Stream, embedded: Tensor | None = None) -> Tensor:
        """The sum of the embeddings, normed."""
        types = None if stream.types is None else stream.types[None]
        read = {"input_ids": stream.ids[None]} if embedded is None else {"inputs_embeds": embedded[None]}
        made = self.base.embeddings(token_type_ids=types, position_ids=stream.positions[None], **read)[0]
        project = getattr(self.base, "embeddings_project", None)
        return torch.as_tensor(made if project is None else project(made))

    def block(self, number: int, x: Tensor, stream: Stream, look: Look | None) -> Tensor:
        """norm(x + o(attention(x))), then norm(x + w2(gelu(w1(x))))."""
        layer = self.blocks[number]
        own, out = layer.attention.self, layer.attention.output
        crew = stream.crew
        if look is None:
            q, k, v = products(x, (own.query, own.key, own.value), self.matmul, crew=crew)
        else:
            k, v = products(x, (own.key, own.value), self.matmul, crew=crew)
            x, crew = x[look.index], look.crew
            (q,) = products(x, (own.query,), self.matmul, crew=crew)
        q, k, v = (part.unflatten(1, (-1, own.attention_head_size)) for part in (q, k, v))
        terms = Terms(False, own.scaling, None, own.dropout.p if own.training else 0.0)
        made = attend(q, k, v, stream, terms, kept=look).flatten(1)
        x = out.LayerNorm(self._added(made, out, x, crew))
        (wide,) = products(x, (layer.intermediate.dense,), self.matmul, crew=crew)
        hidden = layer.intermediate.intermediate_act_fn(wide)
        return torch.as_tensor(layer.output.LayerNorm(self._added(hidden, layer.output, x, crew)))

    def end(self, x: Tensor) -> Tensor:
        """Nothing: the last block norms."""
        return x

    def _added(self, x: Tensor, out: Any, residual: Tensor, crew: Crew | None) -> Tensor:
        """dropout(dense(x)) + residual"""
        if out.dropout.p and out.training:
            (made,) = products(x, (out.dense,), self.matmul, crew=crew)
            rate = out.dropout.p
            return (dropout(made, rate) if crew is None else crew.dropout(made, rate)).add_(residual)
        return products(x, (out.dense,), self.matmul, residual, crew)[0]


def _normed(norm: Any, x: Tensor) -> Tensor:
    return rms_norm(x, norm.weight, norm.variance_epsilon)
