"""(kind, source) -> Model: the one place where pretrained weights are opened. Safetensors only, no remote code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models import anatomy
from tunesmith.models.catalog import Source
from tunesmith.models.heads import Embedder, HeadShape, PooledClassifier
from tunesmith.models.image import ImageReader
from tunesmith.models.model import Kind, Model, Pooling
from tunesmith.models.precision import pick_device
from tunesmith.models.pretrained import (
    POOL_OFF,
    config_of,
    incomplete,
    model_of,
    plain_head,
    pooling_for,
    pretrained,
    quiet,
    seeded,
)
from tunesmith.recipe import ModelChoice

_ANY_HEAD = {"ignore_mismatched_sizes": True}
"""A head of other labels is no fault of the folder."""


Problem = Literal["multi_label_classification", "regression"]
"""What outputs are, as Transformers calls it, where they are not one label of several."""


def load_classifier(
    source: Source,
    choice: ModelChoice,
    labels: tuple[str, ...],
    max_tokens: int | None,
    seed: int,
    problem: Problem | None = None,
    *,
    unit: bool = False,
) -> Model:
    """A text classifier with these labels. Its head is fresh unless the folder holds one of the same labels; `unit` has
    it read states of length 1.

    Raises ModelError when the pooling does not fit the family.
    """
    config = config_of(source, choice)
    parts = anatomy.of(config.model_type)
    pooling = pooling_for(choice, parts, source, config)
    with quiet(), seeded(seed):
        own = pooling in ("mean", "attention") or choice.head_layers > 1 or choice.head_dropout is not None
        if own or (unit and pooling == "last"):
            encoder, lost = pretrained("AutoModel", source, config, parts, POOL_OFF.get(config.model_type, {}))
            if lost:
                raise incomplete(source, lost)
            net: nn.Module = PooledClassifier(encoder, _shape_of(choice, config, len(labels), pooling, unit))
            fresh = {name for name, _ in net.named_parameters() if not name.startswith("encoder.")}
            _rename(encoder.config, labels)
            encoder.config.problem_type = problem
        else:
            same = _rename(config, labels)
            if getattr(config, "classifier_pooling", "cls") != "cls":  # ModernBERT's may be the mean
                config.classifier_pooling, same = "cls", False
            config.problem_type = problem
            if config.pad_token_id is None:
                config.pad_token_id = config.eos_token_id
            net, fresh = pretrained("AutoModelForSequenceClassification", source, config, parts, _ANY_HEAD)
            if not same:
                fresh |= _draw_head(net)
            base = str(net.base_model_prefix)
            lost = {name for name in fresh if name.startswith(f"{base}.") and ".pooler." not in name}
            if lost:
                raise incomplete(source, lost)
    return model_of(net, source, config, parts, "classifier", fresh, max_tokens, pooling, choice)


def _shape_of(choice: ModelChoice, config: Any, labels: int, pooling: Pooling, unit: bool) -> HeadShape:
    """The head that was chosen."""
    width = int(config.hidden_size)
    dropouts = (choice.head_dropout, choice.dropout, getattr(config, "hidden_dropout_prob", None), 0.1)
    dropout = next(rate for rate in dropouts if rate is not None)
    between = (choice.head_width or width,) * (choice.head_layers - 1)
    return HeadShape(width, labels, float(dropout), between, pooling == "attention", unit)


def load_embedder(
    source: Source, choice: ModelChoice, max_tokens: int | None, seed: int, prompts: Mapping[str, str]
) -> Model:
    """A net whose pooled states are embeddings, pooled as the folder says where it does.

    Raises ModelError when the pooling does not fit the family, and for `model.head`, as there is none.
    """
    config = config_of(source, choice)
    parts = anatomy.of(config.model_type)
    if choice.head != "fresh":
        raise ModelError("embeddings are made without a head", where="model.head", hint="leave it out")
    plain_head(choice)
    pooling = pooling_for(choice, parts, source, config)
    if pooling == "attention":
        raise ModelError("embeddings are pooled without learning", where="model.pooling", hint="take mean, cls or last")
    if choice.pooling == "auto":
        pooling = _pooling_of(source.folder) or pooling
    with quiet(), seeded(seed):
        encoder, lost = pretrained("AutoModel", source, config, parts, POOL_OFF.get(config.model_type, {}))
    if lost:
        raise incomplete(source, lost)
    return model_of(Embedder(encoder, prompts), source, config, parts, "embedder", set(), max_tokens, pooling, choice)


def _pooling_of(folder: Path) -> Pooling | None:
    """What a folder of sentence-transformers says of its pooling."""
    try:
        said = json.loads((folder / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    modes: dict[str, Pooling] = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}
    newer = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}
    mode = said.get("pooling_mode")
    asked = (
        {newer.get(mode, mode)} if mode else {k.removeprefix("pooling_mode_") for k, on in said.items() if on is True}
    )
    asked -= {"include_prompt"}
    if len(asked) == 1 and (known := modes.get(asked.pop())):
        return known
    raise ModelError(
        "the folder pools its states in a way that is not known here",
        where=str(folder / "1_Pooling" / "config.json"),
        hint="set `model.pooling` to mean, cls or last",
    )


def load_token_classifier(
    source: Source, choice: ModelChoice, labels: tuple[str, ...], max_tokens: int | None, seed: int
) -> Model:
    """A net with a label for every token. Its head is fresh unless the folder holds one of the same labels.

    Raises ModelError for `model.pooling`, which says how rows are read.
    """
    config = config_of(source, choice)
    same = _rename(config, labels)
    return _with_token_head(
        "AutoModelForTokenClassification", "token-classifier", source, choice, config, max_tokens, seed, same=same
    )


def load_span_classifier(source: Source, choice: ModelChoice, max_tokens: int | None, seed: int) -> Model:
    """A net with two logits for every token: that an answer starts there, and that it ends there."""
    config = config_of(source, choice)
    config.num_labels = 2
    return _with_token_head(
        "AutoModelForQuestionAnswering", "span-classifier", source, choice, config, max_tokens, seed
    )


def _with_token_head(
    auto: str,
    kind: Kind,
    source: Source,
    choice: ModelChoice,
    config: Any,
    max_tokens: int | None,
    seed: int,
    *,
    same: bool = True,
) -> Model:
    """`same` says whether a head that the folder holds is of the same labels."""
    parts = anatomy.of(config.model_type)
    plain_head(choice, pooling="is for tasks with one label a row")
    with quiet(), seeded(seed):
        net, fresh = pretrained(auto, source, config, parts, {} if same else _ANY_HEAD)
        if not same:
            fresh |= _draw_head(net)
    fresh &= {name for name, _ in net.named_parameters()}  # a tensor that two modules share has one name
    lost = {name for name in fresh if name.startswith(f"{net.base_model_prefix}.")}
    if lost:
        raise incomplete(source, lost)
    return model_of(net, source, config, parts, kind, fresh, max_tokens, None, choice)


def load_masked_lm(source: Source, choice: ModelChoice, max_tokens: int | None, seed: int) -> Model:
    """An encoder that fills in hidden tokens; its head is fresh where the folder has none. Raises ModelError for a
    tokenizer without a mask."""
    model = _with_token_head(
        "AutoModelForMaskedLM", "masked-lm", source, choice, config_of(source, choice), max_tokens, seed
    )
    if model.text.tokenizer.mask_token_id is None:
        raise ModelError(f"the tokenizer of `{source.name}` has no mask token", where="model", hint="take an encoder")
    return model


def load_image_classifier(source: Source, choice: ModelChoice, labels: tuple[str, ...], seed: int) -> Model:
    """A vision net with these labels; its head is fresh unless the folder holds one of the same labels.

    Raises ModelError for options of text models, and for an image size that the net cannot take.
    """
    from transformers import AutoImageProcessor

    from tunesmith.models.fused import quicken
    from tunesmith.models.gates import lift

    config = config_of(source, choice)
    parts = anatomy.of(config.model_type)
    if choice.pooling != "auto" or choice.head != "fresh":
        key = "pooling" if choice.pooling != "auto" else "head"
        raise ModelError(f"`model.{key}` is for models of texts", where=f"model.{key}", hint="leave it out")
    plain_head(choice)
    if choice.new_tokens:
        raise ModelError("this model reads images", where="model.new_tokens", hint="leave them out")
    same = _rename(config, labels)
    teacher = config.model_type == "deit" and "WithTeacher" in str(config.architectures)
    if config.model_type == "deit":  # of its two classes, the one without a teacher
        config.architectures = ["DeiTForImageClassification"]
    with quiet(), seeded(seed):
        net, fresh = pretrained("AutoModelForImageClassification", source, config, parts, _ANY_HEAD)
        if not same:
            fresh |= _draw_head(net)
        processor = AutoImageProcessor.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False)
    lost = {name for name in fresh if name.startswith(f"{net.base_model_prefix}.") and ".pooler." not in name}
    if lost:
        raise incomplete(source, lost)
    lift(net)
    quicken(anatomy.blocks(net.get_submodule(net.base_model_prefix), parts))
    if choice.image_size is not None:
        _resize(processor, config, choice.image_size)
    device = pick_device()
    reads = ImageReader(processor)
    return Model(
        net.to(device).eval(), reads, "image-classifier", parts, source, device, layout=parts.layout,
        fresh=frozenset(fresh), reshaped=teacher,
    )  # fmt: skip


def _rename(config: Any, labels: tuple[str, ...]) -> bool:
    """Give the labels to a config; whether a head that its folder holds is of them. One output has no other to be taken
    for, and labels without names (`LABEL_0`) are not known to be others."""
    named = getattr(config, "id2label", None) or {}
    held = tuple(str(name) for _, name in sorted(named.items(), key=lambda item: int(item[0])))
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: number for number, name in enumerate(labels)}
    unnamed = held == tuple(f"LABEL_{k}" for k in range(len(held)))
    return held == labels or (len(held) == len(labels) and (unnamed or len(held) == 1))


def _draw_head(net: Any) -> set[str]:
    """Draw the last linear layer anew, since one of as many labels is still another one; the names of its
    parameters."""
    inside = f"{net.base_model_prefix}."
    outside = [(name, module) for name, module in net.named_modules() if not name.startswith(inside)]
    path, head = [(name, module) for name, module in outside if isinstance(module, nn.Linear)][-1]
    nn.init.normal_(head.weight, std=0.02)
    if head.bias is not None:
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
    config = config_of(source, choice)
    parts = anatomy.of(config.model_type)
    if parts.family != "decoder":
        raise ModelError(
            f"`{source.name}` is an encoder and cannot write answers",
            where="model",
            hint="take a decoder such as `smollm2-135m`",
        )
    if anatomy.both_ways(config):
        raise ModelError(
            f"the blocks of `{source.name}` see what comes next, so it cannot write",
            where="model",
            hint="take it for classification or retrieval, or a decoder such as `smollm2-135m` for this",
        )
    plain_head(choice, pooling="is for classifiers")
    with quiet():
        net, lost = pretrained("AutoModelForCausalLM", source, config, parts, {})
    if lost:
        raise incomplete(source, lost)
    return model_of(net, source, config, parts, "causal-lm", set(), max_tokens, None, choice)


def load_seq2seq(source: Source, choice: ModelChoice, max_tokens: int | None, seed: int) -> Model:
    """An encoder-decoder that writes. What joins the halves of a pair is fresh. Raises ModelError for other kinds."""
    config = config_of(source, choice)
    parts = anatomy.of(config.model_type)
    plain_head(choice, pooling="is for classifiers")
    if config.model_type == "encoder-decoder" and config.decoder.model_type != "bert":
        raise ModelError(
            f"the decoder half is a `{config.decoder.model_type}`; only BERT-like ones are known",
            where="model",
            hint="take an encoder like `minilm` for both halves",
        )
    with quiet(), seeded(seed):
        net, fresh = pretrained("AutoModelForSeq2SeqLM", source, config, parts, {})
    if config.model_type == "encoder-decoder":
        net.encoder.pooler = None  # nothing reads it
    fresh &= {name for name, _ in net.named_parameters()}
    joins = (".crossattention.", "decoder.cls.", "enc_to_dec_proj.")
    lost = {name for name in fresh if not any(part in name for part in joins)}
    if lost or (fresh and config.model_type != "encoder-decoder"):
        raise incomplete(source, lost or fresh)
    return model_of(net, source, config, parts, "seq2seq-lm", fresh, max_tokens, None, choice)
