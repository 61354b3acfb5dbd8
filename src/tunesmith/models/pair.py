"""Two encoders as the halves of an encoder-decoder: both start pretrained; what the decoder asks the encoder with, and
its output layer, are new (Rothe et al. 2020, arXiv:1907.12461).

The pair is made once, as a folder in the user's cache that Transformers opens; it lacks what is new, which every run
draws from its own seed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from tunesmith.cache import cache_folder
from tunesmith.errors import ModelError
from tunesmith.models.catalog import Source
from tunesmith.rundir import beside, guarded, sync_folder, sync_tree

_KNOWN = ("bert",)


def join(encoder: Source, decoder: Source) -> Source:
    """The pair as a model of its own. Raises ModelError for halves that do not fit."""
    from transformers import AutoTokenizer

    tokenizers = [AutoTokenizer.from_pretrained(half.folder, local_files_only=True) for half in (encoder, decoder)]
    if tokenizers[0].get_vocab() != tokenizers[1].get_vocab():
        raise ModelError(
            f"`{encoder.name}` and `{decoder.name}` have different tokenizers",
            where="model",
            hint="take the same model for both halves, or two with one vocabulary",
        )
    folder = cache_folder("pairs") / _key(encoder.folder, decoder.folder)
    if not folder.is_dir():
        _make(encoder, decoder, tokenizers[1], folder)
    name = f"{encoder.name}+{decoder.name}"
    label = f"{encoder.label}-{decoder.label}"[:40].strip("-")
    licences = {half.licence for half in (encoder, decoder)}
    return Source(name, folder, label, "encoder-decoder", None, licences.pop() if len(licences) == 1 else None)


def _make(encoder: Source, decoder: Source, tokenizer: Any, folder: Path) -> None:
    from safetensors.torch import save_file
    from transformers import AutoConfig, EncoderDecoderConfig

    configs = [AutoConfig.from_pretrained(half.folder, local_files_only=True) for half in (encoder, decoder)]
    for half, config in zip((encoder, decoder), configs, strict=True):
        if config.model_type not in _KNOWN:
            raise ModelError(
                f"`{half.name}` is a `{config.model_type}` and cannot be half of a pair",
                where="model",
                hint="take BERT-like encoders, such as `minilm`",
            )
    both = EncoderDecoderConfig.from_encoder_decoder_configs(*configs)  # makes the second a decoder
    both.decoder_start_token_id = tokenizer.cls_token_id
    both.eos_token_id = tokenizer.sep_token_id
    both.pad_token_id = tokenizer.pad_token_id
    both.architectures = ["EncoderDecoderModel"]
    temporary = beside(folder)
    with guarded(folder):
        temporary.mkdir()
        try:
            both.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            tensors = {f"encoder.{name}": value for name, value in _weights(encoder.folder).items()}
            tensors |= {f"decoder.bert.{name}": value for name, value in _weights(decoder.folder).items()}
            save_file(tensors, temporary / "model.safetensors", metadata={"format": "pt"})
            sync_tree(temporary)
            os.rename(temporary, folder)
            sync_folder(folder.parent)
        except OSError:
            if not folder.is_dir():  # else another process was first
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _weights(folder: Path) -> dict[str, Any]:
    """The tensors of a bare encoder, by their names in it, without the pooler, which nothing here reads."""
    from transformers import AutoModel

    net = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False, local_files_only=True)
    held = net.state_dict()
    return {k: v.contiguous() for k, v in held.items() if not k.startswith("pooler.")}


def _key(*folders: Path) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
            with open(path, "rb") as file:
                digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:24]
