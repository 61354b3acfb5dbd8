"""Folders that a model is opened from: what they are, and what is refused of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import ModelError
from tunesmith.models.catalog import find

BERT = {"model_type": "bert", "architectures": ["BertModel"]}


def write_model(folder: Path, config: Any = BERT, weights: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / weights).write_bytes(b"")
    return folder


def test_a_folder_is_found_with_its_kind_label_and_licence(tmp_path):
    folder = write_model(tmp_path / "My Model_v2", {"architectures": ["LlamaForCausalLM"]})
    (folder / "README.md").write_text("---\ntags: [a]\nlicense: mit\n---\n# A model\nlicense: none\n")
    source = find(str(folder))
    assert (source.label, source.kind, source.licence, source.hub_id) == (
        "my-model-v2",
        "decoder",
        "mit",
        None,
    )
    assert source.name == str(folder) and source.folder == folder


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"architectures": ["BertModel"], "model_type": "bert"}, "encoder"),
        ({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}, "decoder"),
        ({"model_type": "qwen2"}, "decoder"),
        ({"architectures": ["LlamaModel"], "model_type": "llama"}, "decoder"),
        ({"architectures": ["NewForImageClassification"], "model_type": "new"}, "vision"),
        ({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"}, "encoder-decoder"),
        ({"architectures": None}, "unknown"),
    ],
)
def test_the_kind_of_a_folder_is_read_from_its_config(tmp_path, config, kind):
    assert find(str(write_model(tmp_path / "m", config))).kind == kind


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "model.pth", "model.pt"])
def test_a_folder_with_only_pickled_weights_is_refused(tmp_path, weights):
    folder = write_model(tmp_path / "m", weights=weights)
    with pytest.raises(ModelError, match="pickle") as caught:
        find(str(folder))
    assert weights in str(caught.value) and caught.value.hint


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", {**BERT, "auto_map": {"AutoModel": "modeling_evil.Evil"}}),
        ("config.json", {**BERT, "parts": [{"text_config": {"auto_map": {"AutoModel": "evil.Evil"}}}]}),
        ("config.json", {**BERT, "_attn_implementation_internal": "evil/kernel"}),
        ("config.json", {**BERT, "attn_implementation": {"": "evil/kernel"}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}),
        ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "evil.Processor"}}),
    ],
)
def test_a_folder_that_brings_code_is_refused(tmp_path, file, content):
    folder = write_model(tmp_path / "m")
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(ModelError, match="never runs a model's code") as caught:
        find(str(folder))
    assert file in str(caught.value)


def test_an_attention_of_the_library_itself_is_not_taken_for_code(tmp_path):
    assert find(str(write_model(tmp_path / "m", {**BERT, "attn_implementation": "sdpa"}))).kind == "encoder"


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", "[" * 100_000])
def test_a_config_that_is_no_json_object_is_a_model_error_with_its_path(tmp_path, text):
    folder = write_model(tmp_path / "m")
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        find(str(folder))


def test_a_list_beside_the_config_is_none_of_ours_and_one_that_transformers_reads_is_refused(tmp_path):
    folder = write_model(tmp_path / "m")
    (folder / "data_config.json").write_text('[{"name": "pairs", "lines": 3}]')
    assert find(str(folder)).kind == "encoder"
    (folder / "generation_config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"not a JSON object: generation_config\.json"):
        find(str(folder))


def test_code_is_found_however_deep_it_hides_in_a_config(tmp_path):
    folder = write_model(tmp_path / "m")
    (folder / "config.json").write_text('{"a":' * 900 + '{"auto_map": {}}' + "}" * 900)
    with pytest.raises(ModelError, match="never runs a model's code"):
        find(str(folder))


def test_a_folder_without_config_or_weights_is_refused_by_what_it_lacks(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no config\.json"):
        find(str(tmp_path / "empty"))
    with pytest.raises(ModelError, match="lacks weights"):
        find(str(write_model(tmp_path / "m", weights="notes.txt")))
    with pytest.raises(ModelError, match="is a file"):
        find(str(tmp_path / "m" / "notes.txt"))


@pytest.mark.parametrize("shard", ["model-2.safetensors", "../m/model.safetensors"])
def test_a_folder_that_lacks_one_of_its_weight_files_is_refused(tmp_path, shard):
    folder = write_model(tmp_path / "m")
    held = {"weight_map": {"a": "model.safetensors", "b": shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(held))
    with pytest.raises(ModelError, match="lacks"):
        find(str(folder))
