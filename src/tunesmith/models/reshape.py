"""A pretrained net with fewer blocks, or with tokens that it did not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tunesmith.errors import ModelError, RecipeError
from tunesmith.models import vocabulary
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.model import Model
from tunesmith.models.pieces import SlowBackend, backend_of


def shorten(config: Any, parts: Anatomy, blocks: int) -> None:
    """Have a net of this config made of its first blocks alone; what the config says of each block is cut with it.
    Raises ModelError for more than there are, and for nets with more than one stack of them."""
    held = getattr(config, parts.depth, None)
    if parts.reading or not isinstance(held, int) or parts.family == "vision":
        raise ModelError(
            f"blocks of a `{config.model_type}` cannot be left out here",
            where="model.blocks",
            hint="it works for encoders and decoders of texts; leave it out",
        )
    if blocks > held:
        raise ModelError(
            f"the model has {held} blocks, {blocks} were to be kept",
            where="model.blocks",
            hint=f"set it to {held} or less",
        )
    for key, value in list(vars(config).items()):
        if "layer" in key and isinstance(value, list | tuple) and len(value) == held:
            setattr(config, key, value[:blocks])
    setattr(config, parts.depth, blocks)


@torch.no_grad()
def add_tokens(net: Any, tokenizer: Any, words: Sequence[str]) -> tuple[int, ...]:
    """Give words ids of their own and embeddings that are the mean of all others (Hewitt 2021, "Initializing new word
    embeddings"). Returns the ids. Raises ModelError for a word that is a token already."""
    from tokenizers import AddedToken

    known = tokenizer.get_vocab()
    for word in words:
        if word in known:
            raise ModelError(f"`{word}` is a token already", where="model.new_tokens", hint="leave it out")
    if isinstance(backend_of(tokenizer), SlowBackend):
        raise ModelError(
            "this model's tokenizer takes no new tokens here", where="model.new_tokens", hint="leave them out"
        )
    if getattr(net.config, "model_type", "") == "encoder-decoder":
        raise ModelError("the halves of a pair take no new tokens", where="model.new_tokens", hint="leave them out")
    old = len(tokenizer)
    plain = [word[:1].isalnum() and word[-1:].isalnum() for word in words]  # not inside another word
    tokenizer.add_tokens([AddedToken(word, single_word=whole) for word, whole in zip(words, plain, strict=True)])
    tables = [net.get_input_embeddings(), net.get_output_embeddings()]
    means = [None if table is None else table.weight[:old].mean(0) for table in tables]
    if len(tokenizer) > len(tables[0].weight):
        net.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ids = tuple(tokenizer.convert_tokens_to_ids(list(words)))
    for word, number in zip(words, ids, strict=True):
        if number not in tokenizer(f"a {word} b")["input_ids"]:
            raise ModelError(
                f"the tokenizer never makes a token of `{word}`: another one comes first",
                where="model.new_tokens",
                hint="write it as the tokenizer reads texts (in small letters, perhaps), or leave it out",
            )
    for table, mean in zip((net.get_input_embeddings(), net.get_output_embeddings()), means, strict=True):
        if table is not None and mean is not None:
            table.weight[list(ids)] = mean
    return ids


def learn_new_tokens(model: Model) -> None:
    """Have the embeddings of new tokens learn where the method leaves the table as it is. Raises RecipeError where a
    net would have to write them too, or where the library's adapters stand in a net that was reshaped."""
    if (model.peft is not None or model.prefix) and model.reshaped:
        raise RecipeError(
            "what this method saves belongs to a model as published, and this one was reshaped",
            where="method",
            hint="take `lora`, or leave `model.blocks` and `model.new_tokens` out",
        )
    if not model.new_ids:
        return
    net: Any = model.base
    table = net.get_input_embeddings()
    if table.weight.requires_grad:
        return
    if model.kind in ("causal-lm", "seq2seq-lm", "masked-lm"):
        raise RecipeError(
            "new tokens of a model that writes are learned by `full` alone",
            where="model.new_tokens",
            hint="take `method: full`, perhaps with `train.freeze`",
        )
    path = next(name for name, module in model.net.named_modules() if module is table)
    vocabulary.put(model.net, path, torch.tensor(model.new_ids, device=model.device))
