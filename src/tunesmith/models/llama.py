"""Blocks of norm, attention with rotary positions, norm and SwiGLU, and their near kin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from tunesmith.models.attention import Terms
from tunesmith.models.elementwise import SILU, TANH_GELU, gated, rms_norm
from tunesmith.models.fused import added, glu, known, products
from tunesmith.models.segments import Look
from tunesmith.models.staged import Staged

if TYPE_CHECKING:
    from tunesmith.models.crew import Crew


class Llama(Staged):
    """x + o(attention(norm(x))), then x + swiglu(norm(x)): LLaMA, Mistral, Qwen2, Qwen3, SmolLM3."""

    def usual(self, block: Any) -> bool:
        """Also that norms are plain: not one in another's adapter."""
        attn, mlp = block.self_attn, block.mlp
        layers = (attn.q_proj, attn.k_proj, attn.v_proj, attn.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        norms = [*self._norms(block), self.base.norm]
        norms += [attn.q_norm, attn.k_norm] if hasattr(attn, "q_norm") else []
        plain = all(hasattr(norm, "variance_epsilon") for norm in norms)
        return plain and all(map(known, layers)) and self.base.config.hidden_act == "silu"

    def _norms(self, block: Any) -> tuple[Any, ...]:
        return block.input_layernorm, block.post_attention_layernorm

    def placed(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """The embeddings as they are."""
        return embedded

    def project(
        self, number: int, x: Tensor, look: Look | None, crew: Crew | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (where looked at), keys and values [tokens, heads, dim] of a block, not yet turned."""
        attn = self.blocks[number].self_attn
        normed = _normed(self.blocks[number].input_layernorm, x)
        three = self._three(normed, (attn.q_proj, attn.k_proj, attn.v_proj), look, crew)
        q, k, v = (part.unflatten(1, (-1, attn.head_dim)) for part in three)
        if hasattr(attn, "q_norm"):
            q, k = _normed(attn.q_norm, q), _normed(attn.k_norm, k)
        return q, k, v

    def rest(self, number: int, made: Tensor, x: Tensor, crew: Crew | None = None) -> Tensor:
        """The block from what attention made [tokens, heads * dim] on."""
        layer = self.blocks[number]
        (x,) = products(made, (layer.self_attn.o_proj,), self.matmul, x, crew)
        mlp = layer.mlp
        normed = _normed(layer.post_attention_layernorm, x)
        return glu(normed, (mlp.gate_proj, mlp.up_proj, mlp.down_proj), SILU, self.matmul, x, crew)

    def end(self, x: Tensor) -> Tensor:
        """The final norm."""
        return _normed(self.base.norm, x)

    def terms(self, number: int) -> Terms:
        """How a block attends."""
        attn = self.blocks[number].self_attn
        held = attn if hasattr(attn, "sliding_window") else self.base.config
        window = getattr(held, "sliding_window", None) if self.base.config.model_type != "llama" else None
        return Terms(True, attn.scaling, window, attn.attention_dropout if attn.training else 0.0)

    def turning(self, number: int) -> str | None:
        """In one way, but for blocks of SmolLM3 that do not."""
        return "" if getattr(self.blocks[number].self_attn, "use_rope", True) else None


class Olmo2(Llama):
    """x + norm(o(attention(x))), then x + norm(swiglu(x)), with queries and keys normed over all heads: OLMo 2."""

    def _norms(self, block: Any) -> tuple[Any, ...]:
        return block.post_attention_layernorm, block.post_feedforward_layernorm

    def project(
        self, number: int, x: Tensor, look: Look | None, crew: Crew | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (where looked at), keys and values [tokens, heads, dim] of a block, not yet turned."""
        attn = self.blocks[number].self_attn
        q, k, v = self._three(x, (attn.q_proj, attn.k_proj, attn.v_proj), look, crew)
        q, k = _normed(attn.q_norm, q), _normed(attn.k_norm, k)
        q, k, v = (part.unflatten(1, (-1, attn.head_dim)) for part in (q, k, v))
        return q, k, v

    def rest(self, number: int, made: Tensor, x: Tensor, crew: Crew | None = None) -> Tensor:
        """The block from what attention made [tokens, heads * dim] on."""
        layer, mlp = self.blocks[number], self.blocks[number].mlp
        (made,) = products(made, (layer.self_attn.o_proj,), self.matmul, crew=crew)
        x = x + _normed(layer.post_attention_layernorm, made)
        made = glu(x, (mlp.gate_proj, mlp.up_proj, mlp.down_proj), SILU, self.matmul, None, crew)
        return x + _normed(layer.post_feedforward_layernorm, made)


class Gemma(Llama):
    """x + norm(o(attention(norm(x)))), then x + norm(geglu(norm(x))), with norms that count from 1: Gemma 2 and 3."""

    def usual(self, block: Any) -> bool:
        """Also that norms are plain, and the gate is the one they are published with."""
        attn, mlp = block.self_attn, block.mlp
        layers = (attn.q_proj, attn.k_proj, attn.v_proj, attn.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        plain = all(hasattr(norm, "eps") for norm in (*self._norms(block), self.base.norm))
        return plain and all(map(known, layers)) and self.base.config.hidden_activation == "gelu_pytorch_tanh"

    def _norms(self, block: Any) -> tuple[Any, ...]:
        feed = (block.pre_feedforward_layernorm, block.post_feedforward_layernorm)
        heads = [getattr(block.self_attn, name) for name in ("q_norm", "k_norm") if hasattr(block.self_attn, name)]
        return block.input_layernorm, block.post_attention_layernorm, *feed, *heads

    def project(
        self, number: int, x: Tensor, look: Look | None, crew: Crew | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (where looked at), keys and values [tokens, heads, dim] of a block, not yet turned."""
        attn, normed = self.blocks[number].self_attn, _from_one(self.blocks[number].input_layernorm, x)
        three = self._three(normed, (attn.q_proj, attn.k_proj, attn.v_proj), look, crew)
        q, k, v = (part.unflatten(1, (-1, attn.head_dim)) for part in three)
        return (_from_one(attn.q_norm, q), _from_one(attn.k_norm, k), v) if hasattr(attn, "q_norm") else (q, k, v)

    def rest(self, number: int, made: Tensor, x: Tensor, crew: Crew | None = None) -> Tensor:
        """The block from what attention made [tokens, heads * dim] on."""
        layer, mlp = self.blocks[number], self.blocks[number].mlp
        (made,) = products(made, (layer.self_attn.o_proj,), self.matmul, crew=crew)
        x = x + _from_one(layer.post_attention_layernorm, made)
        normed = _from_one(layer.pre_feedforward_layernorm, x)
        made = glu(normed, (mlp.gate_proj, mlp.up_proj, mlp.down_proj), TANH_GELU, self.matmul, None, crew)
        return x + _from_one(layer.post_feedforward_layernorm, made)

    def end(self, x: Tensor) -> Tensor:
        """The final norm."""
        return _from_one(self.base.norm, x)

    def terms(self, number: int) -> Terms:
        """How a block attends: Gemma 2 caps its scores."""
        attn = self.blocks[number].self_attn
        softcap = attn.attn_logit_softcapping if self.base.config.model_type == "gemma2" else None
        dropout = attn.attention_dropout if attn.training else 0.0
        return Terms(attn.is_causal, attn.scaling, attn.sliding_window, dropout, softcap)

    def turning(self, number: int) -> str | None:
        """Gemma 3 turns by other angles within a window."""
        return self.blocks[number].self_attn.layer_type if self.base.config.model_type == "gemma3_text" else ""


class Phi3(Llama):
    """As LLaMA's, with one product for queries, keys and values, one for both sides of SwiGLU, and dropout: Phi 3."""

    def usual(self, block: Any) -> bool:
        """Also that norms are plain."""
        attn, mlp = block.self_attn, block.mlp
        layers = (attn.qkv_proj, attn.o_proj, mlp.gate_up_proj, mlp.down_proj)
        plain = all(hasattr(norm, "variance_epsilon") for norm in (*self._norms(block), self.base.norm))
        return plain and all(map(known, layers)) and self.base.config.hidden_act == "silu"

    def project(
        self, number: int, x: Tensor, look: Look | None, crew: Crew | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (where looked at), keys and values [tokens, heads, dim] of a block, not yet turned."""
        attn, normed = self.blocks[number].self_attn, _normed(self.blocks[number].input_layernorm, x)
        (three,) = products(normed, (attn.qkv_proj,), self.matmul, crew=crew)
        heads, few = self.base.config.num_attention_heads, attn.num_key_value_heads
        q, k, v = three.unflatten(1, (-1, attn.head_dim)).split([heads, few, few], 1)
        return q if look is None else q[look.index], k, v

    def rest(self, number: int, made: Tensor, x: Tensor, crew: Crew | None = None) -> Tensor:
        """The block from what attention made [tokens, heads * dim] on."""
        layer, mlp = self.blocks[number], self.blocks[number].mlp
        x = added(made, layer.self_attn.o_proj, layer.resid_attn_dropout, x, self.matmul, crew)
        (both,) = products(_normed(layer.post_attention_layernorm, x), (mlp.gate_up_proj,), self.matmul, crew=crew)
        return added(gated(both, SILU), mlp.down_proj, layer.resid_mlp_dropout, x, self.matmul, crew)


def _normed(norm: Any, x: Tensor) -> Tensor:
    return rms_norm(x, norm.weight, norm.variance_epsilon)


def _from_one(norm: Any, x: Tensor) -> Tensor:
    """A norm that keeps what its weights differ from 1 by."""
    return rms_norm(x, 1.0 + norm.weight, norm.eps)
