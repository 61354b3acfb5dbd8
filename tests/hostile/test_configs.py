"""Model folders whose config cannot be used, that bring code or pickles, or that are not whole."""

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from models_of import both, copied, drop, keys, put
from refusals import Bad, check

INDEX = "model.safetensors.index.json"


def config(**values: Any) -> Any:
    return keys("config.json", **values)


def shards(*names: str) -> Any:
    held = {f"tensor.{k}": name for k, name in enumerate(names)}
    return put(INDEX, json.dumps({"metadata": {}, "weight_map": held}))


CONFIGS: dict[str, Bad] = {
    "no config": Bad(
        drop("config.json"),
        "`<here>/model` is no model folder: it has no config.json",
        "<here>/model",
        "give the folder that `save_pretrained` wrote; an adapter alone is not a model",
    ),
    "an empty config": Bad(
        put("config.json", ""),
        "the file cannot be read as JSON: Expecting value: line 1 column 1 (char 0)",
        "<here>/model/config.json",
    ),
    "half a config": Bad(
        put("config.json", '{"model_type": "bert"'),
        "the file cannot be read as JSON: Expecting ',' delimiter: line 1 column 22 (char 21)",
        "<here>/model/config.json",
    ),
    "a config of noise": Bad(
        put("config.json", b"\xff\xfe\x00{"),
        "the file cannot be read as JSON: Expecting value: line 1 column 1 (char 0)",
        "<here>/model/config.json",
        twin="bytes, but of no text",
    ),
    "a config that is a list": Bad(
        put("config.json", "[]"), "the file is not a JSON object: config.json", "<here>/model/config.json"
    ),
    "a config nested deeply": Bad(
        put("config.json", '{"a":' * 100_000),
        "the file cannot be read as JSON: it is nested too deeply",
        "<here>/model/config.json",
    ),
    "a config of nothing": Bad(
        put("config.json", "{}"),
        (
            "the model's config cannot be used: Unrecognized model in <here>/model. Should have "
            "a `model_type` key in its config.json."
        ),
        "<here>/model",
    ),
    "a type that is unknown": Bad(
        config(model_type="no-such-net"),
        (
            "the model's config cannot be used: The checkpoint you are trying to load has model "
            "type `no-such-net` but Transformers does not recognize this architecture. This "
            "could be because of an issue with the checkpoint, or because your version of "
            "Transformers is out of date."
        ),
        "<here>/model",
    ),
    "a type that is a number": Bad(
        config(model_type=3),
        (
            "the model's config cannot be used: The checkpoint you are trying to load has model "
            "type `3` but Transformers does not recognize this architecture. This could be "
            "because of an issue with the checkpoint, or because your version of Transformers is "
            "out of date."
        ),
        "<here>/model",
    ),
    "a type that is a list": Bad(
        config(model_type=["bert"]),
        "the model's config cannot be used: TypeError: unhashable type: 'list'",
        "<here>/model",
    ),
    "a type that is known to others": Bad(
        config(model_type="whisper"),
        "Tunesmith does not know the architecture `whisper`",
        "model",
        (
            "it knows bert, electra, roberta, xlm-roberta, modernbert, distilbert, deberta-v2, "
            "gpt2, gpt_neox, llama, mistral, qwen2, qwen3, smollm3, olmo2, phi, phi3, gemma2, "
            "gemma3_text, t5, mt5, bart, mbart, marian, m2m_100, encoder-decoder, vit, deit, "
            "dinov2, resnet, convnext, efficientnet"
        ),
    ),
    "code of its own": Bad(
        config(auto_map={"AutoConfig": "evil.Config"}),
        "`<here>/model` brings its own code, and Tunesmith never runs a model's code",
        "<here>/model/config.json",
        "take a model whose class is in Transformers itself",
    ),
    "code of a part": Bad(
        config(text_config={"auto_map": {"AutoModel": "evil.Model"}}),
        "`<here>/model` brings its own code, and Tunesmith never runs a model's code",
        "<here>/model/config.json",
        "take a model whose class is in Transformers itself",
        twin="code, one level down",
    ),
    "code of its tokenizer": Bad(
        keys("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}),
        "`<here>/model` brings its own code, and Tunesmith never runs a model's code",
        "<here>/model/tokenizer_config.json",
        "take a model whose class is in Transformers itself",
    ),
    "code of another hub": Bad(
        config(attn_implementation="evil/kernel"),
        "`<here>/model` brings its own code, and Tunesmith never runs a model's code",
        "<here>/model/config.json",
        "take a model whose class is in Transformers itself",
        twin="a kernel is code too",
    ),
    "pickles only": Bad(
        both(drop("model.safetensors"), put("pytorch_model.bin", b"\x80\x04.")),
        "`<here>/model` has only pickled weights (pytorch_model.bin); a pickle can run code and is never opened",
        "<here>/model",
        "take a copy in safetensors, or make one with `save_pretrained` where you trust the file",
    ),
    "a pickle of another name": Bad(
        both(drop("model.safetensors"), put("model.ckpt", b"\x80\x04.")),
        "`<here>/model` has only pickled weights (model.ckpt); a pickle can run code and is never opened",
        "<here>/model",
        "take a copy in safetensors, or make one with `save_pretrained` where you trust the file",
    ),
    "no weights": Bad(
        drop("model.safetensors"),
        "`<here>/model` lacks weights: there is no .safetensors file",
        "<here>/model",
        "the folder was not copied or downloaded whole, or its weights have another form",
    ),
    "an adapter alone": Bad(
        both(drop("config.json"), put("adapter_config.json", "{}")),
        "`<here>/model` is no model folder: it has no config.json",
        "<here>/model",
        "give the folder that `save_pretrained` wrote; an adapter alone is not a model",
        twin="all that PEFT saves",
    ),
    "a shard that leads outside": Bad(
        shards("../other/model.safetensors"),
        "the index of the weights names a file outside of its folder: ../other/model.safetensors",
        "<here>/model/model.safetensors.index.json",
    ),
    "a shard at the root": Bad(
        shards("/etc/passwd"),
        "the index of the weights names a file outside of its folder: /etc/passwd",
        "<here>/model/model.safetensors.index.json",
    ),
    "a shard that is gone": Bad(
        shards("model-00001-of-00002.safetensors", "model.safetensors"),
        "`<here>/model` lacks model-00001-of-00002.safetensors",
        "<here>/model",
        "the folder was not copied or downloaded whole, or its weights have another form",
    ),
    "a shard that is a number": Bad(
        put(INDEX, '{"weight_map": {"a": 3}}'),
        "`<here>/model` lacks 3",
        "<here>/model",
        "the folder was not copied or downloaded whole, or its weights have another form",
    ),
    "an index without a map": Bad(
        put(INDEX, '{"metadata": {}}'),
        "the index of the weights has no `weight_map`",
        "<here>/model/model.safetensors.index.json",
    ),
    "an index that is torn": Bad(
        put(INDEX, '{"weight_map": '),
        "the file cannot be read as JSON: Expecting value: line 1 column 16 (char 15)",
        "<here>/model/model.safetensors.index.json",
    ),
    "a width that no head divides": Bad(
        config(hidden_size=33),
        (
            "the model's weights cannot be used: The hidden size (33) is not a multiple of the "
            "number of attention heads (4)"
        ),
        "<here>/model",
    ),
    "no heads": Bad(
        config(num_attention_heads=0), "the model's weights cannot be used: integer modulo by zero", "<here>/model"
    ),
    "a negative width": Bad(
        config(hidden_size=-32),
        "the model's weights cannot be used: Trying to create tensor with negative dimension -32: [150, -32]",
        "<here>/model",
    ),
    "a width that is a text": Bad(
        config(hidden_size="wide"),
        (
            "the model's config cannot be used: Validation error for field 'hidden_size': "
            "TypeError: Field 'hidden_size' expected int, got str (value: 'wide')"
        ),
        "<here>/model",
    ),
    "layers that are null": Bad(
        put("config.json", '{"model_type": "bert", "num_hidden_layers": null}'),
        (
            "the model's config cannot be used: Validation error for field 'num_hidden_layers': "
            "TypeError: Field 'num_hidden_layers' expected int, got NoneType (value: None)"
        ),
        "<here>/model",
    ),
    "more layers than the weights": Bad(
        config(num_hidden_layers=3),
        "the model's files lack 16 tensors, encoder.layer.2.attention.output.LayerNorm.bias among them",
        "<here>/model",
        "this folder holds another kind of model, or was not copied whole",
    ),
    "a million layers": Bad(
        config(num_hidden_layers=10**6),
        "the config says `num_hidden_layers: 1000000`, and the weights are too few for that",
        "<here>/model/config.json",
        "this folder's config and weights are of different models",
    ),
    "a vocabulary of a trillion": Bad(
        config(vocab_size=10**12),
        "the model's weights cannot be used: they have other shapes than its config says",
        "<here>/model",
    ),
    "an activation that is unknown": Bad(
        config(hidden_act="magic"), "the model's weights cannot be used: KeyError: 'magic'", "<here>/model"
    ),
    "a dropout above 1": Bad(
        config(hidden_dropout_prob=7.0),
        "the model's weights cannot be used: dropout probability has to be between 0 and 1, but got 7.0",
        "<here>/model",
    ),
    "labels that are numbered by words": Bad(
        config(id2label={"a": "x"}),
        "the model's config cannot be used: invalid literal for int() with base 10: 'a'",
        "<here>/model",
    ),
    "labels that are a list": Bad(
        config(id2label=["x", "y"]),
        "the model's config cannot be used: AttributeError: 'list' object has no attribute 'items'",
        "<here>/model",
    ),
    "positions that are none": Bad(
        config(max_position_embeddings=0),
        "the model's weights cannot be used: they have other shapes than its config says",
        "<here>/model",
        twin="another tensor, another key",
    ),
    "numbers of 8 bits": Bad(
        config(quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}),
        "the model's weights are quantized, and tuning needs them as they were",
        "<here>/model/config.json",
        "take the model that it was made from, before it was quantized",
    ),
}
"""What changes a folder that is good."""


@pytest.mark.parametrize("case", CONFIGS)
def test_a_model_folder_that_cannot_be_used_is_refused(
    case: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(encoder, tmp_path, CONFIGS[case].given)
    rows = tiny.write_csv(tmp_path / "rows.csv", tiny.label_rows(60))
    place = ("--set", f"run.dir={tmp_path / 'runs'}", "--set", "train.steps=1")
    check(CONFIGS[case], capsys, tmp_path, "train", str(folder), str(rows), "--task", "text-classification", *place)
