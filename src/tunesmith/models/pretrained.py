"""Pretrained files -> a net with its tokenizer: what every loader of load.py does. Safetensors only, no remote code."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models import anatomy, attention, reshape
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.catalog import Source
from tunesmith.models.fused import quicken
from tunesmith.models.heads import Pooled, inner
from tunesmith.models.matmul import fastest
from tunesmith.models.model import Kind, Model, Pooling
from tunesmith.models.precision import pick_device
from tunesmith.models.text import TextEncoder
from tunesmith.models.weights import UNQUANTIZED, refuse_files, refuse_infinite, said_by
from tunesmith.recipe import ModelChoice

_DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "dropout",
    "attention_dropout",
    "seq_classif_dropout",
    "hidden_dropout",
    "attn_pdrop",
    "embd_pdrop",
    "resid_pdrop",
    "pooler_dropout",
    "summary_first_dropout",
    "dropout_rate",
    "activation_dropout",
)
_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.spm", "*.tiktoken", "tekken.json", "sentencepiece*")
"""Files of which any one makes a tokenizer."""
_LAYERDROPS = ("encoder_layerdrop", "decoder_layerdrop", "layerdrop")
POOL_OFF: dict[str, dict[str, Any]] = {
    "bert": {"add_pooling_layer": False},
    "roberta": {"add_pooling_layer": False},
    "xlm-roberta": {"add_pooling_layer": False},
}
"""Arguments that leave out a pooler which nothing reads."""


def model_of(
    net: nn.Module,
    source: Source,
    config: Any,
    parts: Anatomy,
    kind: Kind,
    fresh: set[str],
    max_tokens: int | None,
    pooling: Pooling | None,
    choice: ModelChoice,
) -> Model:
    """The net with its tokenizer, on its device. Raises ModelError where more tokens are asked for than it reads."""
    device = pick_device()
    if parts.family == "encoder-decoder":
        base = net.encoder if isinstance(net, Pooled) else getattr(net, str(net.base_model_prefix), net)
        quicken(anatomy.blocks(base, parts))
    tokenizer = _tokenizer(source)
    _refuse_beyond(net, tokenizer, source)
    new_ids = reshape.add_tokens(inner(net), tokenizer, choice.new_tokens) if choice.new_tokens else ()
    limit = _context(config, tokenizer, parts)
    if max_tokens is not None and max_tokens > limit:
        raise ModelError(
            f"`{source.name}` reads at most {limit} tokens",
            where="data.max_tokens",
            hint=f"set it to {limit} or less",
        )
    if kind == "seq2seq-lm":
        text = TextEncoder(tokenizer, max_tokens or limit, _start_of(net, source), str(config.model_type), limit)
    else:
        text = TextEncoder(tokenizer, max_tokens or limit, context=limit)
    if pooling == "last" and tokenizer.pad_token_id is not None:
        config.pad_token_id = tokenizer.pad_token_id
    return Model(
        net.to(device).eval(),
        text,
        kind,
        parts,
        source,
        device,
        pooling,
        parts.layout,
        fastest(device),
        fresh=frozenset(fresh),
        new_ids=new_ids,
        reshaped=bool(choice.blocks or new_ids),
    )


def _start_of(net: Any, source: Source) -> int:
    """The token that a decoder begins with."""
    for config in (net.config, net.generation_config):
        start = getattr(config, "decoder_start_token_id", None)
        if isinstance(start, int):
            return start
    raise ModelError(
        "the model does not say which token its decoder begins with",
        where=str(source.folder / "config.json"),
        hint="set `decoder_start_token_id` there",
    )


def config_of(source: Source, choice: ModelChoice) -> Any:
    """The config of a source, with the dropout that was chosen. Raises ModelError."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True)
    except Exception as fault:  # a hostile file brings the library to any
        raise ModelError(f"the model's config cannot be used: {said_by(fault)}", where=str(source.folder)) from None
    if getattr(config, "quantization_config", None):
        raise ModelError(
            "the model's weights are quantized, and tuning needs them as they were",
            where=str(source.folder / "config.json"),
            hint=UNQUANTIZED,
        )
    halves = [half for half in (getattr(config, "encoder", None), getattr(config, "decoder", None)) if half]
    for part in (config, *halves):
        # LayerDrop leaves out a block for a whole micro-batch: how a batch is cut would change the update.
        values = dict.fromkeys(_LAYERDROPS, 0.0)
        if choice.dropout is not None:
            values |= dict.fromkeys(_DROPOUTS, choice.dropout)
        for key, value in values.items():
            if isinstance(getattr(part, key, None), float | int):
                setattr(part, key, value)
    if choice.blocks is not None:
        reshape.shorten(config, anatomy.of(config.model_type), choice.blocks)
    return config


def pretrained(auto: str, source: Source, config: Any, parts: Anatomy, more: dict[str, Any]) -> tuple[Any, set[str]]:
    """The net of an Auto class in fp32, and the names of its parameters that the files do not hold."""
    import transformers

    refuse_files(source, config)
    attention.register()
    try:
        net, report = getattr(transformers, auto).from_pretrained(
            source.folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            attn_implementation=_attention(parts),
            **more,
        )
    except Exception as fault:  # a hostile file brings the library to any
        reason = said_by(fault)
        if reason.startswith("You set `ignore_mismatched_sizes`"):
            reason = "they have other shapes than its config says"
        if reason.startswith("Unrecognized configuration class"):
            raise ModelError(
                f"Transformers has no class `{auto.replace('AutoModel', '...')}` for the architecture "
                f"`{config.model_type}`",
                where="model",
                hint="take a model of another architecture for this task",
            ) from None
        raise ModelError(f"the model's weights cannot be used: {reason}", where=str(source.folder)) from None
    refuse_infinite(net, source)
    odd = [entry[0] if isinstance(entry, tuple) else entry for entry in report.get("mismatched_keys") or ()]
    return net, {*report["missing_keys"], *odd}


def _attention(parts: Anatomy) -> str:
    if parts.family == "encoder-decoder":
        return "sdpa"
    if parts.family == "vision":
        return "sdpa" if parts.blocks == "layers" else "eager"
    return attention.NAME if parts.layout == "packed" else "eager"


def incomplete(source: Source, lost: set[str]) -> ModelError:
    """What to raise where the files lack tensors of the trunk."""
    return ModelError(
        f"the model's files lack {len(lost)} tensors, {sorted(lost)[0]} among them",
        where=str(source.folder),
        hint="this folder holds another kind of model, or was not copied whole",
    )


def plain_head(choice: ModelChoice, pooling: str | None = None) -> None:
    """Raise ModelError for options of a classifier's new head where there is none; `pooling` says why it is one."""
    if pooling is not None and choice.pooling != "auto":
        raise ModelError(f"`model.pooling` {pooling}", where="model.pooling", hint="leave it out")
    for key in ("head_layers", "head_width", "head_dropout"):
        if getattr(choice, key) != ModelChoice.model_fields[key].default:
            raise ModelError(
                f"`model.{key}` is for tasks with one label a text, or a number",
                where=f"model.{key}",
                hint="leave it out",
            )


def pooling_for(choice: ModelChoice, parts: Anatomy, source: Source, config: Any) -> Pooling:
    """How the tokens of a text become one vector. Raises ModelError for a way that does not fit the family."""
    fits: dict[str, tuple[Pooling, ...]] = {"encoder": ("mean", "cls", "attention"), "decoder": ("last", "attention")}
    if anatomy.both_ways(config):
        fits["decoder"] = ("mean", "last", "attention")
    if choice.pooling == "auto":
        return fits[parts.family][0]
    if choice.pooling not in fits[parts.family]:
        raise ModelError(
            f"`model.pooling: {choice.pooling}` does not fit `{source.name}`, whose family is {parts.family}",
            where="model.pooling",
            hint="it takes " + " or ".join(f"`{p}`" for p in fits[parts.family]),
        )
    return choice.pooling


def _tokenizer(source: Source) -> Any:
    import warnings

    from transformers import AutoTokenizer

    if not any(True for pattern in _VOCABULARIES for _ in source.folder.glob(pattern)):
        raise ModelError(  # the library would make one without words, in silence
            "the model has no tokenizer", where=str(source.folder), hint="the folder needs a `tokenizer.json`"
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")  # it changes no token
            made = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True)
        _try_out(made)
    except BaseException as fault:  # a hostile file brings the library to any; its panics are no Exception
        if not isinstance(fault, Exception) and type(fault).__name__ != "PanicException":
            raise
        raise ModelError(
            f"the model's tokenizer cannot be used: {said_by(fault)}",
            where=str(source.folder),
            hint="the folder needs a `tokenizer.json`",
        ) from None
    if getattr(made, "separate_vocabs", False):
        raise ModelError(
            "the model reads with one vocabulary and writes with another, which is not supported",
            where=str(source.folder),
            hint="take one whose config says `share_encoder_decoder_embeddings: true`, as most do",
        )
    return made


def _try_out(tokenizer: Any) -> None:
    """Make tokens of a word that no vocabulary has: what is wrong inside is told by doing."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.encode("a \u2603\u0ad0 b")
        backend.encode("a", "b")


def _refuse_beyond(net: nn.Module, tokenizer: Any, source: Source) -> None:
    """Raise ModelError for a token that the net has no embedding for."""
    body: Any = inner(net)
    table = body.get_input_embeddings()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not isinstance(table, nn.Embedding):
        return
    token, number = max(backend.get_vocab(with_added_tokens=False).items(), key=lambda item: item[1], default=("", -1))
    if number >= table.num_embeddings:
        raise ModelError(
            f"the tokenizer gives `{token}` the number {number}, and the net has {table.num_embeddings} embeddings",
            where=str(source.folder),
            hint="this folder's tokenizer and weights are of different models",
        )


def _context(config: Any, tokenizer: Any, parts: Anatomy) -> int:
    """Tokens of the longest row the model was made for."""
    longest = tokenizer.model_max_length
    if not isinstance(longest, int | float) or longest < 1:
        raise ModelError(
            f"the tokenizer's `model_max_length` is {longest!r}",
            where="tokenizer_config.json",
            hint="write there how many tokens the model reads, or leave it out",
        )
    limits = [int(longest)]
    halves = [config, getattr(config, "encoder", None), getattr(config, "decoder", None)]
    for key in ("max_position_embeddings", "n_positions"):
        for value in (getattr(half, key, None) for half in halves):
            if isinstance(value, int):
                limits.append(value - parts.first_position)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":  # beyond, its longest row would stretch the positions of all rows of a call
        limits.append(int(rope["original_max_position_embeddings"]))
    return min(limits)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Transformers' notes and bars about a fresh head off the screen: `Model.fresh` says it."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def still() -> Iterator[None]:
    """Keep bitsandbytes' notes about kernels that are not there off the screen, while it or PEFT is imported."""
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Fresh parameters come from the run's seed; the caller's generator is left as it was."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
