"""Greedy answers from a decoder: prompts in, texts out, in batches with a key-value cache.

Decoders of a known shape decode by themselves (decode.py); the others use Transformers' `generate` under its stock
attention, and the packed function is put back afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from tunesmith.contracts import Tokens
from tunesmith.models import attention
from tunesmith.models.decode import ROWS, decode
from tunesmith.models.model import Model
from tunesmith.models.prompt import with_prompt
from tunesmith.models.seq2seq import Told, forced_start
from tunesmith.models.staged import Staged


@dataclass(frozen=True)
class Generated:
    """An answer, and whether it ended by itself or was cut at the limit."""

    text: str
    ended: bool
    tokens: int


@torch.no_grad()
def answers(model: Model, prompts: Sequence[Tokens], max_new_tokens: int, stops: Sequence[int]) -> list[Generated]:
    """One greedy answer per prompt, in the order given."""
    body = model.body()
    room = [max(min(max_new_tokens, model.text.max_tokens - len(prompt.ids)), 1) for prompt in prompts]
    if isinstance(body, Staged):
        written = decode(body, model.output_layer, model.stream, prompts, room, frozenset(stops))
    else:
        written = []
        for at in range(0, len(prompts), ROWS):
            here, most = prompts[at : at + ROWS], room[at : at + ROWS]
            longest = max(len(prompt.ids) for prompt in here)
            if longest + max(most) <= model.text.max_tokens:
                written += _stock(model, here, max(most), stops)
            else:  # together, a long prompt would be continued beyond the model's context
                written += [_stock(model, [a], b, stops)[0] for a, b in zip(here, most, strict=True)]
    return [_cut(model, ids[:most], stops) for ids, most in zip(written, room, strict=True)]


@torch.no_grad()
def translations(model: Model, sources: Sequence[Tokens], most: int, told: Told) -> list[Generated]:
    """One greedy answer per source from an encoder-decoder, in the order given. Sources of near lengths go together;
    beams, forced lengths and the like in the model's generation config are left out; tokens that it must never write
    (Marian's padding, whose logit is nobody's) stay forbidden."""
    from transformers import GenerationConfig

    stops = stop_tokens(model)
    pad = model.text.tokenizer.pad_token_id
    net: Any = model.net
    config = GenerationConfig(
        max_new_tokens=min(most, model.text.max_tokens - 1),
        do_sample=False,
        num_beams=1,
        eos_token_id=stops,
        pad_token_id=pad if pad is not None else stops[0],
        decoder_start_token_id=model.text.start,
        forced_bos_token_id=forced_start(model.text, told),
        bad_words_ids=net.generation_config.bad_words_ids,
    )
    model.lend_matmul()
    order = sorted(range(len(sources)), key=lambda k: len(sources[k].ids))
    made: dict[int, Generated] = {}
    stock, net.generation_config = net.generation_config, config
    try:
        for at in range(0, len(order), ROWS):
            chosen = order[at : at + ROWS]
            ids, mask = model.padded([sources[k] for k in chosen])
            written = net.generate(input_ids=ids, attention_mask=mask)[:, 1:].tolist()
            made |= {k: _cut(model, row, stops) for k, row in zip(chosen, written, strict=True)}
    finally:
        net.generation_config = stock
    return [made[k] for k in range(len(sources))]


def _stock(model: Model, prompts: Sequence[Tokens], most: int, stops: Sequence[int]) -> list[list[int]]:
    """Transformers' own loop: prompts are padded on the left, and rows wait for the longest answer."""
    tokenizer = model.text.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    prompts = with_prompt(prompts, model.prefix)
    longest = max(len(prompt.ids) for prompt in prompts)
    ids = torch.tensor([[pad] * (longest - len(p.ids)) + list(p.ids) for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(p.ids)) + [1] * len(p.ids) for p in prompts], device=model.device)
    net: Any = model.net
    with _stock_attention(net):
        out = net.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=most,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=pad,
            eos_token_id=list(stops),
        )
    rows: list[list[int]] = out[:, longest:].tolist()
    return rows


def stop_tokens(model: Model) -> list[int]:
    """Ids that end an answer: the tokenizer's, and those the model's generation config names."""
    named = getattr(getattr(model.net, "generation_config", None), "eos_token_id", None)
    found = [named] if isinstance(named, int) else list(named or [])
    return sorted({*found, model.text.tokenizer.eos_token_id} - {None})


def _cut(model: Model, ids: list[int], stops: Sequence[int]) -> Generated:
    end = next((k for k, token in enumerate(ids) if token in stops), None)
    kept = ids if end is None else ids[:end]
    return Generated(model.text.decode(kept).strip(), end is not None, len(kept))


@contextmanager
def _stock_attention(net: Any) -> Iterator[None]:
    used = net.config._attn_implementation
    if used != attention.NAME:
        yield
        return
    net.set_attn_implementation("sdpa" if net._supports_sdpa else "eager")  # Gemma 2 caps its scores
    try:
        yield
    finally:
        net.set_attn_implementation(used)
