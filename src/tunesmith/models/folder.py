"""May a model's folder be opened, and what is in it? Reads JSON and names of files; opens no weights.

Refused, whoever they come from: pickled weights, code in the model, and folders that are not whole.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from tunesmith.errors import ModelError

Kind = Literal["encoder", "decoder", "encoder-decoder", "vision", "unknown"]

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_KINDS: dict[str, Kind] = {
    "albert": "encoder",
    "bert": "encoder",
    "camembert": "encoder",
    "deberta": "encoder",
    "deberta-v2": "encoder",
    "distilbert": "encoder",
    "electra": "encoder",
    "modernbert": "encoder",
    "mpnet": "encoder",
    "roberta": "encoder",
    "xlm-roberta": "encoder",
    "bart": "encoder-decoder",
    "encoder-decoder": "encoder-decoder",
    "m2m_100": "encoder-decoder",
    "marian": "encoder-decoder",
    "mbart": "encoder-decoder",
    "mt5": "encoder-decoder",
    "t5": "encoder-decoder",
    "gemma2": "decoder",
    "gemma3_text": "decoder",
    "gpt2": "decoder",
    "gpt_neox": "decoder",
    "llama": "decoder",
    "mistral": "decoder",
    "olmo2": "decoder",
    "phi3": "decoder",
    "qwen2": "decoder",
    "qwen3": "decoder",
    "smollm3": "decoder",
    "convnext": "vision",
    "deit": "vision",
    "dinov2": "vision",
    "efficientnet": "vision",
    "mobilenet_v2": "vision",
    "resnet": "vision",
    "swin": "vision",
    "vit": "vision",
}
"""Model type -> kind, for a config whose class does not tell."""

_READ = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
)
"""Configs that Transformers reads; others beside them may be lists (sentence-transformers' of its data is)."""


def check(folder: Path, name: str) -> dict[str, Any]:
    """The config of a folder that may be opened. Raises ModelError for pickles, code and missing files."""
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"`{name}` is no model folder: it has no config.json",
            where=str(folder),
            hint="give the folder that `save_pretrained` wrote; an adapter alone is not a model",
        )
    config: dict[str, Any] = _json(folder / "config.json")
    for path in sorted(folder.glob("*config.json")):
        said = _json(path)
        if path.name in _READ and not isinstance(said, dict):
            raise ModelError(f"the file is not a JSON object: {path.name}", where=str(path))
        if _brings_code(said):
            raise ModelError(
                f"`{name}` brings its own code, and Tunesmith never runs a model's code",
                where=str(path),
                hint="take a model whose class is in Transformers itself",
            )
    _check_weights(folder, name)
    return config


def kind(config: dict[str, Any]) -> Kind:
    """What a model of this config is."""
    named = config.get("architectures")
    classes = [str(name) for name in named] if isinstance(named, list) else []
    if _KINDS.get(str(config.get("model_type"))) == "encoder-decoder":
        return "encoder-decoder"
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in classes):
        return "decoder"
    if any(name.endswith("ForImageClassification") for name in classes):
        return "vision"
    return _KINDS.get(str(config.get("model_type")), "unknown")


def licence(folder: Path) -> str | None:
    """The licence that the model's card declares at its top."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    top = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    line = re.search(r"^licen[sc]e:[ \t]*['\"]?([\w.+-]+)", top[1], re.MULTILINE) if top else None
    return line[1] if line else None


def _check_weights(folder: Path, name: str) -> None:
    held = [path for path in folder.glob("*.safetensors") if path.is_file()]
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLED)
    if not held and pickled:
        raise ModelError(
            f"`{name}` has only pickled weights ({pickled[0]}); a pickle can run code and is never opened",
            where=str(folder),
            hint="take a copy in safetensors, or make one with `save_pretrained` where you trust the file",
        )
    lost = _lost_shards(folder)
    if lost or not held:
        raise ModelError(
            f"`{name}` lacks {lost[0] if lost else 'weights: there is no .safetensors file'}",
            where=str(folder),
            hint="the folder was not copied or downloaded whole, or its weights have another form",
        )


def _lost_shards(folder: Path) -> list[str]:
    """Weight files that the folder's index names and that are not there: a download that was cut off."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    held = _json(index)
    shards = held.get("weight_map") if isinstance(held, dict) else None
    if not isinstance(shards, dict):
        raise ModelError("the index of the weights has no `weight_map`", where=str(index))
    names = sorted(set(map(str, shards.values())))
    outside = next((name for name in names if Path(name).name != name), None)
    if outside is not None:
        raise ModelError(f"the index of the weights names a file outside of its folder: {outside}", where=str(index))
    return [name for name in names if not (folder / name).is_file()]


def _brings_code(config: Any) -> bool:
    """True when a config, or one inside it, names a class of its own or an attention kernel of a hub.

    Walks without recursion: a hostile file may be nested as deep as the parser allows.
    """
    rest = [config]
    while rest:
        value = rest.pop()
        if isinstance(value, list):
            rest.extend(value)
        elif isinstance(value, dict):
            kernels = [value[key] for key in value if key.strip("_").startswith("attn_implementation")]
            if "auto_map" in value or any("/" in str(kernel) for kernel in kernels):
                return True
            rest.extend(value.values())
    return False


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise ModelError("the file cannot be read as JSON: it is nested too deeply", where=str(path)) from None
    except (OSError, ValueError) as fault:
        raise ModelError(f"the file cannot be read as JSON: {fault}", where=str(path)) from None
