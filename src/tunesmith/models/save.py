"""The saved model: a folder that others load without Tunesmith.

An adapter is saved as PEFT's, a net that a Transformers class expresses as its folder, a mean-pooled classifier as
sentence-transformers modules. Written under another name and renamed, so a folder that exists is complete.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from tunesmith.models import adapted, anypeft, ownfiles, peftfiles
from tunesmith.models.gates import put_back
from tunesmith.models.heads import Embedder, Pooled, PooledClassifier, inner
from tunesmith.models.image import ImageReader
from tunesmith.models.model import Model
from tunesmith.models.pretrained import quiet
from tunesmith.models.prompt import prompt_of
from tunesmith.models.vocabulary import whole
from tunesmith.rundir import beside, guarded, sync_folder, sync_tree


def save(
    model: Model, folder: Path, labels: tuple[str, ...], card: str, task: Mapping[str, Any], final: Path | None = None
) -> None:
    """Write the model with its tokenizer, its card, and the task with what turns outputs into answers (thresholds, the
    mean of numbers); `final` is where the folder will be, if not here. Raises StorageError."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    with guarded(folder), quiet(), whole(model.net):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            _write(model, temporary, final or folder, labels, card, task)
            sync_tree(temporary)
        except BaseException:  # a full disk gets its room back
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        old = beside(folder)
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        sync_folder(folder.parent)


def _write(
    model: Model, temporary: Path, final: Path, labels: tuple[str, ...], card: str, task: Mapping[str, Any]
) -> None:
    _net(model, temporary, final)
    if isinstance(model.net, Pooled) and not ownfiles.needed(model):
        if ownfiles.attends(model.net):
            ownfiles.save(model, temporary, None)
        else:
            _sentence_modules(model, model.net, temporary)
    _tokenizer(model, temporary)
    more = ownfiles.how_to(model) if ownfiles.needed(model) or ownfiles.attends(model.net) else ""
    (temporary / "README.md").write_text(card + more, encoding="utf-8")
    as_text = json.dumps(task, indent=2, ensure_ascii=False)
    (temporary / "task.json").write_text(as_text + "\n", encoding="utf-8")
    if labels:
        (temporary / "labels.json").write_text(json.dumps(list(labels), ensure_ascii=False), encoding="utf-8")


def _net(model: Model, folder: Path, final: Path) -> None:
    """Write the net, or its adapter, into a folder that will be called `final`."""
    pooled = isinstance(model.net, Pooled)
    if model.reshaped and any(True for _ in adapted.found(model.net)):
        _own_base(model, folder / _BASE)
    if ownfiles.needed(model):
        ownfiles.save(model, folder, _base_name(model, final), [] if pooled else _learned_whole(model))
        return
    if model.peft is not None:
        anypeft.save(model, folder, _base_name(model, final), [] if pooled else _learned_whole(model))
        return
    if prompt_of(model.net) is not None:
        peftfiles.save_prompt(model, folder, base_name=_base_name(model, final), task_type=str(_task_type(model)))
        return
    if any(True for _ in adapted.found(model.net)):
        peftfiles.save_peft(
            model.net,
            "encoder" if pooled else "",
            folder,
            base_name=_base_name(model, final),
            task_type=_task_type(model),
            in_full=[] if pooled else _learned_whole(model),
        )
        return
    net: Any = inner(model.net)
    with put_back(net):
        net.save_pretrained(folder)


def _task_type(model: Model) -> str | None:
    named = {
        "causal-lm": "CAUSAL_LM",
        "seq2seq-lm": "SEQ_2_SEQ_LM",
        "token-classifier": "TOKEN_CLS",
        "span-classifier": "QUESTION_ANS",
    }
    if model.kind in named:
        return named[model.kind]
    return "FEATURE_EXTRACTION" if isinstance(model.net, Pooled) else "SEQ_CLS"


def _learned_whole(model: Model) -> list[str]:
    """Paths of the head's modules that learned, and of fresh ones inside the trunk, such as BERT's pooler."""
    heads = [name for name, head in model.head_modules() if any(p.requires_grad for p in head.parameters())]
    inside = {_whole_of(model, name) for name in model.fresh if not any(name.startswith(f"{h}.") for h in heads)}
    return [*heads, *sorted(inside)]


def _whole_of(model: Model, name: str) -> str:
    """The outermost module around a fresh parameter in which all are fresh."""
    path = name.rpartition(".")[0]
    while "." in path:
        outer = path.rpartition(".")[0]
        if not all(f"{outer}.{inner}" in model.fresh for inner, _ in model.net.get_submodule(outer).named_parameters()):
            break
        path = outer
    return path


def _own_base(model: Model, place: Path) -> None:
    """The net that an adapter belongs to, where no published one is like it: with its new tokens, in fewer blocks."""
    net: Any = inner(model.net)
    with adapted.bare(net):
        net.save_pretrained(place)
    _tokenizer(model, place)


def _base_name(model: Model, folder: Path) -> str:
    """What the adapter belongs to: a folder beside it where the net was reshaped; a hub id where the weights came from
    the hub under it, else their folder. (The catalog's SmolLM2 is dequantized: its hub namesake is another model.)"""
    source = model.source
    if model.reshaped:
        return str(folder / _BASE)
    return source.name if source.name == source.hub_id else str(source.folder)


_BASE = "base"
_MODES = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}


def _sentence_modules(model: Model, net: Pooled, folder: Path) -> None:
    """The files that make a folder one of sentence-transformers' modules: its embedding of a text is ours, or the
    logits of a classifier."""
    width = int(getattr(net.config, "hidden_size", 0))
    layers = [*net.layers, net.head] if isinstance(net, PooledClassifier) else []
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if isinstance(net, Embedder) or (isinstance(net, PooledClassifier) and net.unit):
        kinds.append(("2_Normalize", "Normalize"))
    first = len(kinds)
    kinds += [(f"{k}_Dense", "Dense") for k in range(first, first + len(layers))]
    modules = [
        {"idx": k, "name": str(k), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for k, (path, kind) in enumerate(kinds)
    ]
    files: dict[str, Any] = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": model.text.max_tokens, "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": width,
            f"pooling_mode_{_MODES[model.pooling or 'mean']}": True,
            **({} if model.pooling == "mean" else {"pooling_mode_mean_tokens": False}),
        },
    }
    if first > 2:
        (folder / "2_Normalize").mkdir()
    if isinstance(net, Embedder):
        prompts = {"prompts": net.prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
        files["config_sentence_transformers.json"] = prompts
    for (path, _), layer in zip(kinds[first:], layers, strict=True):
        last = layer is layers[-1]
        files[f"{path}/config.json"] = {
            "in_features": layer.in_features,
            "out_features": layer.out_features,
            "bias": True,
            "activation_function": f"torch.nn.modules.{'linear.Identity' if last else 'activation.GELU'}",
        }
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value, indent=2), encoding="utf-8")
    for (path, _), layer in zip(kinds[first:], layers, strict=True):
        saved = {f"linear.{name}": value.detach().cpu() for name, value in layer.named_parameters()}
        save_file(saved, folder / path / "model.safetensors", metadata={"format": "pt"})


def _tokenizer(model: Model, folder: Path) -> None:
    if isinstance(model.reads, ImageReader):
        model.reads.processor.save_pretrained(folder)
        return
    tokenizer = model.text.tokenizer
    if model.kind == "embedder" and tokenizer.pad_token is None:  # others pad what they embed
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
