"""Weights as their packages hold them -> a folder that Transformers opens: safetensors, config, processor.

Run once a model, by catalog.py. The only place where a pickle is read: one file, whose sha256 is pinned, by
torch's reader of plain tensors. Knows nothing of wheels, caches or locks.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch

from tunesmith.errors import ModelError, StorageError
from tunesmith.rundir import guarded

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_LITE0_NAMES = (
    (r"_conv_stem\.", "efficientnet.embeddings.convolution."),
    (r"_bn0\.", "efficientnet.embeddings.batchnorm."),
    (r"_blocks\.(\d+)\._expand_conv\.", r"efficientnet.encoder.blocks.\1.expansion.expand_conv."),
    (r"_blocks\.(\d+)\._bn0\.", r"efficientnet.encoder.blocks.\1.expansion.expand_bn."),
    (r"_blocks\.(\d+)\._depthwise_conv\.", r"efficientnet.encoder.blocks.\1.depthwise_conv.depthwise_conv."),
    (r"_blocks\.(\d+)\._bn1\.", r"efficientnet.encoder.blocks.\1.depthwise_conv.depthwise_norm."),
    (r"_blocks\.(\d+)\._project_conv\.", r"efficientnet.encoder.blocks.\1.projection.project_conv."),
    (r"_blocks\.(\d+)\._bn2\.", r"efficientnet.encoder.blocks.\1.projection.project_bn."),
    (r"_conv_head\.", "efficientnet.encoder.top_conv."),
    (r"_bn1\.", "efficientnet.encoder.top_bn."),
    (r"_fc\.", "classifier."),
)
"""Start of a name in the checkpoint -> start of the same tensor's name in Transformers' class."""


def gguf_to_folder(gguf: Path, folder: Path) -> None:
    """A quantized decoder in GGUF as fp32 safetensors, with its tokenizer and chat template. Takes 30 s.

    Tokens that the GGUF does not mark as special stay unmarked: SmolLM2's marks 3 of 17, and its chat needs
    no other. Raises ModelError when the chat template is lost, StorageError when the disk does not take it.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with _aside():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        net = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
            # Asked for, it also takes the mark "quantized" off the net, with which `save_pretrained` refuses.
            quantization_config=GgufConfig(dequantize=True),
        )
        _save(folder, net, tokenizer)
        saved = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not saved.chat_template or saved.chat_template != tokenizer.chat_template:
        raise ModelError(
            "the converted tokenizer has lost its chat template",
            where=str(folder),
            hint="this version of `transformers` reads the file differently; take the one in constraints.txt",
        )


def lite0_to_folder(pth: Path, folder: Path) -> None:
    """EfficientNet-Lite0's checkpoint as Transformers' EfficientNet, with an image processor.

    Lite0 has no squeeze-excite; the stock class has. Its gates are saturated: zero weights and a bias of 30,
    whose sigmoid is exactly 1 in fp32. So it loads as the stock class, and no gradient reaches a gate.

    Raises ModelError when the file is not the pinned one, StorageError when the disk does not take it.
    """
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    content = pth.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != LITE0_SHA256:
        raise ModelError(
            f"the checkpoint is not the one that is trusted: its sha256 is {found}, not {LITE0_SHA256}",
            where=str(pth),
        )
    tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    config = EfficientNetConfig(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_dim=1280,
        hidden_act="relu6",
        image_size=224,
        batch_norm_eps=1e-3,
        # The class hands this to torch as it is, so the default 0.99 would forget the old statistics at once.
        batch_norm_momentum=0.01,
        id2label={number: f"class_{number}" for number in range(1000)},
        label2id={f"class_{number}": number for number in range(1000)},
    )
    with _aside():
        net = EfficientNetForImageClassification(config)
        mapped = {_lite0_name(name): tensor for name, tensor in tensors.items()}
        for name, tensor in net.state_dict().items():
            if ".squeeze_excite." in name:
                mapped[name] = torch.full_like(tensor, 30.0 if name.endswith("expand.bias") else 0.0)
        net.load_state_dict(mapped)
        _save(folder, net, _lite0_processor())


def _lite0_name(name: str) -> str:
    for start, replacement in _LITE0_NAMES:
        if re.match(start, name):
            return re.sub(f"^{start}", replacement, name)
    raise AssertionError(f"no place for {name}")


def _lite0_processor() -> Any:
    """Pixels as Lite0 learned them: (x/255 - 0.5)/0.5; with ImageNet's mean and deviation it sees less.

    Bit's processor, for it resizes and crops exactly as PIL does; EfficientNet's own normalises twice.
    """
    from transformers import BitImageProcessorPil

    half = [0.5, 0.5, 0.5]
    return BitImageProcessorPil(
        size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, image_mean=half, image_std=half
    )


def _save(folder: Path, net: Any, processor: Any) -> None:
    from safetensors import SafetensorError

    with guarded(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            net.save_pretrained(folder)
        except SafetensorError as fault:  # a full disk comes as this, not as an OSError
            raise StorageError(f"cannot write the weights: {fault}", where=str(folder)) from fault
        processor.save_pretrained(folder)


@contextmanager
def _aside() -> Iterator[None]:
    """Build a net without a word and without moving the caller's random numbers."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # Transformers' GGUF reader shows a bar of its own on stderr, which no setting turns off.
        with torch.random.fork_rng(devices=[]), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
