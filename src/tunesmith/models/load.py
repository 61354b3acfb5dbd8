"""(kind, source) -> Model: the one place where pretrained weights are opened. Safetensors only, no remote code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models import anatomy, attention
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.catalog import Source
from tunesmith.models.fused import quicken
from tunesmith.models.heads import PooledClassifier
from tunesmith.models.image import ImageReader
from tunesmith.models.matmul import fastest
from tunesmith.models.model import Kind, Model, Pooling
from tunesmith.models.precision import pick_device
from tunesmith.models.text import TextEncoder
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
)


def load_classifier(
    source: Source, choice: ModelChoice, labels: tuple[str, ...], max_tokens: int | None, seed: int
) -> Model:
    """A text classifier with these labels. Its head is fresh unless the folder holds one of the same labels.

    Raises ModelError when the pooling does not fit the family.
    """
    config = _config(source, choice)
    parts = anatomy.of(config.model_type)
    pooling = _pooling(choice, parts, source)
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    with quiet(), _seeded(seed):
        if pooling == "mean":
            encoder, lost = _pretrained("AutoModel", source, config, parts, _PoolOff.get(config.model_type, {}))
            if lost:
                raise _incomplete(source, lost)
            dropout = choice.dropout if choice.dropout is not None else getattr(config, "hidden_dropout_prob", 0.1)
            net: nn.Module = PooledClassifier(encoder, int(config.hidden_size), len(labels), float(dropout))
            fresh = {"head.weight", "head.bias"}
            for key, value in names.items():
                setattr(encoder.config, key, value)
        else:
            for key, value in names.items():
                setattr(config, key, value)
            if config.pad_token_id is None:
                config.pad_token_id = config.eos_token_id
            net, fresh = _pretrained("AutoModelForSequenceClassification", source, config, parts, {})
            base = str(net.base_model_prefix)
            lost = {name for name in fresh if name.startswith(f"{base}.") and ".pooler." not in name}
            if lost:
                raise _incomplete(source, lost)
    return _model(net, source, config, parts, "classifier", fresh, max_tokens, pooling)


def load_token_classifier(
    source: Source, choice: ModelChoice, labels: tuple[str, ...], max_tokens: int | None, seed: int
) -> Model:
    """A net with a label for every token. Its head is fresh unless the folder holds one of the same labels.

    Raises ModelError for `model.pooling`, which says how rows are read.
    """
    config = _config(source, choice)
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: number for number, name in enumerate(labels)}
    return _with_token_head(
        "AutoModelForTokenClassification", "token-classifier", source, choice, config, max_tokens, seed
    )


def load_span_classifier(source: Source, choice: ModelChoice, max_tokens: int | None, seed: int) -> Model:
    """A net with two logits for every token: that an answer starts there, and that it ends there."""
    config = _config(source, choice)
    config.num_labels = 2
    return _with_token_head(
        "AutoModelForQuestionAnswering", "span-classifier", source, choice, config, max_tokens, seed
    )


def _with_token_head(
    auto: str, kind: Kind, source: Source, choice: ModelChoice, config: Any, max_tokens: int | None, seed: int
) -> Model:
    parts = anatomy.of(config.model_type)
    if choice.pooling != "auto":
        raise ModelError(
            "`model.pooling` is for tasks with one label a row", where="model.pooling", hint="leave it out"
        )
    with quiet(), _seeded(seed):
        net, fresh = _pretrained(auto, source, config, parts, {})
    fresh &= {name for name, _ in net.named_parameters()}  # a tensor that two modules share has one name
    lost = {name for name in fresh if name.startswith(f"{net.base_model_prefix}.")}
    if lost:
        raise _incomplete(source, lost)
    return _model(net, source, config, parts, kind, fresh, max_tokens, None)


def load_masked_lm(source: Source, choice: ModelChoice, max_tokens: int | None, seed: int) -> Model:
    """An encoder that fills in hidden tokens; its head is fresh where the folder has none. Raises ModelError for a
    tokenizer without a mask."""
    model = _with_token_head(
        "AutoModelForMaskedLM", "masked-lm", source, choice, _config(source, choice), max_tokens, seed
    )
    if model.text.tokenizer.mask_token_id is None:
        raise ModelError(f"the tokenizer of `{source.name}` has no mask token", where="model", hint="take an encoder")
    return model


def load_image_classifier(source: Source, choice: ModelChoice, labels: tuple[str, ...], seed: int) -> Model:
    """A vision net with these labels; its head is fresh unless the folder holds one of the same labels.

    Raises ModelError for options of text models, and for an image size that the net cannot take.
    """
    from transformers import AutoImageProcessor

    from tunesmith.models.gates import lift

    config = _config(source, choice)
    parts = anatomy.of(config.model_type)
    if choice.pooling != "auto" or choice.head != "fresh":
        key = "pooling" if choice.pooling != "auto" else "head"
        raise ModelError(f"`model.{key}` is for models of texts", where=f"model.{key}", hint="leave it out")
    same = [str(name) for _, name in sorted((getattr(config, "id2label", None) or {}).items())] == list(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: number for number, name in enumerate(labels)}
    with quiet(), _seeded(seed):
        net, fresh = _pretrained(
            "AutoModelForImageClassification", source, config, parts, {"ignore_mismatched_sizes": True}
        )
        if not same:  # a head of as many labels is still another one
            fresh |= _draw_head(net)
        processor = AutoImageProcessor.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False)
    lost = {name for name in fresh if name.startswith(f"{net.base_model_prefix}.") and ".pooler." not in name}
    if lost:
        raise _incomplete(source, lost)
    lift(net)
    if choice.image_size is not None:
        _resize(processor, config, choice.image_size)
    device = pick_device()
    reads = ImageReader(processor)
    return Model(
        net.to(device).eval(), reads, "image-classifier", parts, source, frozenset(fresh), device, layout=parts.layout
    )


def _draw_head(net: Any) -> set[str]:
    """Draw the last linear layer anew; the names of its parameters."""
    path, head = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear)][-1]
    assert not path.startswith(f"{net.base_model_prefix}."), path
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return {f"{path}.{name}" for name, _ in head.named_parameters()}


def _resize(processor: Any, config: Any, size: int) -> None:
    """Have the processor make pixels of another size."""
    if getattr(config, "patch_size", None):
        raise ModelError("this net reads images of one size only", where="model.image_size", hint="leave it out")
    both = {"height": size, "width": size}
    if getattr(processor, "do_center_crop", False):
        processor.crop_size = both
        processor.size = {"shortest_edge": round(size * 8 / 7)}
    else:
        processor.size = {"shortest_edge": size} if "shortest_edge" in (processor.size or {}) else both


def load_causal_lm(source: Source, choice: ModelChoice, max_tokens: int | None) -> Model:
    """A decoder that predicts the next token. Raises ModelError for an encoder."""
    config = _config(source, choice)
    parts = anatomy.of(config.model_type)
    if parts.family != "decoder":
        raise ModelError(
            f"`{source.name}` is an encoder and cannot write answers",
            where="model",
            hint="take a decoder such as `smollm2-135m`",
        )
    if choice.pooling != "auto":
        raise ModelError("`model.pooling` is for classifiers", where="model.pooling", hint="leave it out")
    with quiet():
        net, lost = _pretrained("AutoModelForCausalLM", source, config, parts, {})
    if lost:
        raise _incomplete(source, lost)
    return _model(net, source, config, parts, "causal-lm", set(), max_tokens, None)


_PoolOff: dict[str, dict[str, Any]] = {
    "bert": {"add_pooling_layer": False},
    "roberta": {"add_pooling_layer": False},
    "xlm-roberta": {"add_pooling_layer": False},
}


def _model(
    net: nn.Module,
    source: Source,
    config: Any,
    parts: Anatomy,
    kind: Kind,
    fresh: set[str],
    max_tokens: int | None,
    pooling: Pooling | None,
) -> Model:
    device = pick_device()
    if parts.layout == "packed" and not parts.shape:
        base = net.encoder if isinstance(net, PooledClassifier) else getattr(net, str(net.base_model_prefix))
        quicken(anatomy.blocks(base, parts))
    tokenizer = _tokenizer(source)
    limit = _context(config, tokenizer, parts)
    if max_tokens is not None and max_tokens > limit:
        raise ModelError(
            f"`{source.name}` reads at most {limit} tokens",
            where="data.max_tokens",
            hint=f"set it to {limit} or less",
        )
    text = TextEncoder(tokenizer, max_tokens or limit)
    if pooling == "last" and tokenizer.pad_token_id is not None:
        config.pad_token_id = tokenizer.pad_token_id
    return Model(
        net.to(device).eval(),
        text,
        kind,
        parts,
        source,
        frozenset(fresh),
        device,
        pooling,
        parts.layout,
        fastest(device),
    )


def _config(source: Source, choice: ModelChoice) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as fault:
        reason = str(fault).splitlines()[0]
        raise ModelError(f"the model's config cannot be used: {reason}", where=str(source.folder)) from None
    if choice.dropout is not None:
        for key in _DROPOUTS:
            if isinstance(getattr(config, key, None), float | int):
                setattr(config, key, choice.dropout)
    return config


def _pretrained(auto: str, source: Source, config: Any, parts: Anatomy, more: dict[str, Any]) -> tuple[Any, set[str]]:
    """The net of an Auto class in fp32, and the names of its parameters that the files do not hold."""
    import transformers
    from safetensors import SafetensorError

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
    except (OSError, ValueError, RuntimeError, SafetensorError) as fault:
        reason = str(fault).splitlines()[0]
        raise ModelError(f"the model's weights cannot be used: {reason}", where=str(source.folder)) from None
    odd = [entry[0] if isinstance(entry, tuple) else entry for entry in report.get("mismatched_keys") or ()]
    return net, {*report["missing_keys"], *odd}


def _attention(parts: Anatomy) -> str:
    if parts.family == "vision":
        return "sdpa" if parts.blocks == "layers" else "eager"
    return attention.NAME if parts.layout == "packed" else "eager"


def _incomplete(source: Source, lost: set[str]) -> ModelError:
    return ModelError(
        f"the model's files lack {len(lost)} tensors, {sorted(lost)[0]} among them",
        where=str(source.folder),
        hint="this folder holds another kind of model, or was not copied whole",
    )


def _pooling(choice: ModelChoice, parts: Anatomy, source: Source) -> Pooling:
    fits: dict[str, tuple[Pooling, ...]] = {"encoder": ("mean", "cls"), "decoder": ("last",)}
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
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, ImportError) as fault:
        reason = str(fault).splitlines()[0]
        raise ModelError(
            f"the model's tokenizer cannot be used: {reason}",
            where=str(source.folder),
            hint="the folder needs a `tokenizer.json`",
        ) from None


def _context(config: Any, tokenizer: Any, parts: Anatomy) -> int:
    """Tokens of the longest row the model was made for."""
    limits = [int(tokenizer.model_max_length)]
    for key in ("max_position_embeddings", "n_positions"):
        value = getattr(config, key, None)
        if isinstance(value, int):
            limits.append(value - parts.first_position)
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
def _seeded(seed: int) -> Iterator[None]:
    """Fresh parameters come from the run's seed; the caller's generator is left as it was."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
