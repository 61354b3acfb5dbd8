"""Tiny pretrained models and rows, written by the tests themselves."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import torch

WORDS = [
    "the",
    "a",
    "my",
    "your",
    "parcel",
    "box",
    "order",
    "bill",
    "invoice",
    "card",
    "charge",
    "twice",
    "late",
    "lost",
    "broken",
    "screen",
    "login",
    "password",
    "where",
    "is",
    "was",
    "not",
    "here",
    "please",
    "help",
    "refund",
    "send",
    "back",
    "now",
    "today",
    "when",
    "how",
    "long",
    "will",
    "it",
    "take",
    "i",
    "you",
    "they",
    "we",
    "it",
    "paid",
    "money",
    "return",
    "account",
    "reset",
    "wait",
    "week",
    "day",
    "door",
    "street",
    "left",
    "open",
    "closed",
    "cannot",
    "find",
    "good",
    "bad",
    "yes",
    "no",
    "thanks",
    "hello",
    "what",
    "who",
    "red",
    "blue",
]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' "
    "+ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def redraw(net: torch.nn.Module, seed: int = 1) -> None:
    """Weights large enough that attention and positions matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15 + (parameter.ndim == 1) * 0.5)


def word_tokenizer(folder: Path) -> None:
    """A WordPiece tokenizer of whole words and letters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789?!.,'"
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *(f"##{c}" for c in letters)]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(names))}
    bare = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    bare.normalizer = normalizers.BertNormalizer()
    bare.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bare.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    reads = ["input_ids", "token_type_ids", "attention_mask"]
    made = PreTrainedTokenizerFast(tokenizer_object=bare, model_max_length=64, model_input_names=reads, **special)
    made.save_pretrained(folder)


def chat_tokenizer(folder: Path, longest: int = 256) -> Any:
    """A byte-level BPE tokenizer with a ChatML template, in which the end of a turn is the end of text and the pad."""
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(["<|im_start|>", "<|im_end|>"]),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        model_max_length=longest,
        chat_template=TEMPLATE,
    )
    made.save_pretrained(folder)
    return made


def byte_tokenizer(special: list[str]) -> Any:
    """A byte-level BPE of the library `tokenizers`, its special tokens first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bare.train_from_iterator([" ".join(WORDS), "user assistant system"] * 3, trainer)
    return bare


def small_config(kind: str, vocabulary: int, longest: int = 256) -> Any:
    """A config of two blocks, 32 wide, of any architecture of the table."""
    from transformers import AutoConfig

    common: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": longest,
    }
    grouped = {"num_key_value_heads": 2}
    special: dict[str, dict[str, Any]] = {
        "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": longest},
        "electra": {**common, "embedding_size": 32},
        "roberta": {**common, "max_position_embeddings": longest + 2, "pad_token_id": 1},
        "xlm-roberta": {**common, "max_position_embeddings": longest + 2, "pad_token_id": 1},
        "deberta-v2": {**common, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0},
        "qwen3": {**common, **grouped, "head_dim": 8},
        # Windows of 5 and 8 tokens, softcaps near the scores' own size: what an error would move.
        "modernbert": {
            **common,
            "pad_token_id": 0,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "local_attention": 8,
            "layer_types": ["full_attention", "sliding_attention"],
        },
        "gemma2": {
            **common,
            **grouped,
            "head_dim": 8,
            "sliding_window": 5,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
        "gemma3_text": {
            **common,
            **grouped,
            "head_dim": 8,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        **{name: {**common, **grouped} for name in ("llama", "mistral", "qwen2", "smollm3", "olmo2", "phi", "phi3")},
    }
    extra = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    values = special.get(kind, common)
    if kind in ("gpt2", "distilbert"):
        values = {"vocab_size": vocabulary, "max_position_embeddings": longest, **values}
    decoders = (
        "gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo2", "phi", "phi3", "gemma2",
        "gemma3_text",
    )  # fmt: skip
    if kind in decoders:
        values = {**values, **extra}
    return AutoConfig.for_model(kind, **values)


def make_encoder(folder: Path, kind: str = "bert", **changes: int) -> Path:
    """A tiny encoder in a folder; `changes` to its config."""
    from transformers import AutoModel, AutoTokenizer

    word_tokenizer(folder)
    size = len(AutoTokenizer.from_pretrained(folder))
    config = small_config(kind, size, 64)
    for key, value in changes.items():
        setattr(config, key, value)
    net = AutoModel.from_config(config)
    redraw(net)
    net.save_pretrained(folder)
    return folder


def make_decoder(folder: Path, kind: str = "llama", longest: int = 256, *, tied: bool = False, **changes: Any) -> Path:
    """A tiny decoder with a chat template in a folder; `changes` to its config."""
    from transformers import AutoModelForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = chat_tokenizer(folder, longest)
    config = small_config(kind, len(tokenizer), longest)
    config.tie_word_embeddings = tied
    for key, value in changes.items():
        setattr(config, key, value)
    net = AutoModelForCausalLM.from_config(config)
    redraw(net)
    bias = getattr(getattr(net, "lm_head", None), "bias", None)
    if bias is not None:  # Phi has one: drawn as large as the others, it alone would choose every token
        torch.nn.init.zeros_(bias)
    net.save_pretrained(folder)
    return folder


SEQ2SEQ: dict[str, dict[str, Any]] = {
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "pad_token_id": 0,
           "decoder_start_token_id": 0, "eos_token_id": 1, "n_positions": 64},
    **{
        kind: {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
               "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "pad_token_id": 0,
               "decoder_start_token_id": 1, "eos_token_id": 1, "bos_token_id": 2, "max_position_embeddings": 64,
               "forced_eos_token_id": None}
        for kind in ("bart", "mbart", "marian", "m2m_100")
    },
}  # fmt: skip
SEQ2SEQ["mt5"] = SEQ2SEQ["t5"]
"""Encoder-decoder -> its tiny config."""


def make_seq2seq(folder: Path, kind: str = "t5") -> Path:
    """A tiny encoder-decoder in a folder; `encoder-decoder` is a pair of tiny BERTs that were trained as one."""
    from tokenizers import processors
    from transformers import AutoConfig, AutoModelForSeq2SeqLM, EncoderDecoderModel, PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    if kind == "encoder-decoder":
        half = make_encoder(folder.with_name(f"{folder.name}-half"))
        net = EncoderDecoderModel.from_encoder_decoder_pretrained(half, half)
        word_tokenizer(folder)
        net.config.decoder_start_token_id, net.config.eos_token_id, net.config.pad_token_id = 2, 3, 0
        redraw(net)
        net.save_pretrained(folder)
        return folder
    bare = byte_tokenizer(["<pad>", "</s>", ">>de<<"])
    bare.post_processor = processors.TemplateProcessing("$A </s>", "$A $B </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare, eos_token="</s>", pad_token="<pad>", model_max_length=64,
        additional_special_tokens=[">>de<<"],
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    config = AutoConfig.for_model(kind, **SEQ2SEQ[kind], vocab_size=bare.get_vocab_size())
    net = AutoModelForSeq2SeqLM.from_config(config)
    redraw(net)
    if kind == "marian":
        net.final_logits_bias.normal_()
    net.save_pretrained(folder)
    return folder


@torch.no_grad()
def settle(net: Any) -> None:
    """Draw convolutions as large as keeps states alive, and give batch norms the statistics of some pixels: in a fresh
    net states fade from layer to layer."""
    generator = torch.Generator().manual_seed(6)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, generator=generator)
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None
    net.train()(pixel_values=torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(5)) * 2 - 1)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    net.eval()


def make_vision(folder: Path, kind: str = "vit") -> Path:
    """A tiny vision net with an image processor in a folder."""
    from transformers import AutoConfig, AutoModelForImageClassification, BitImageProcessorPil

    values: dict[str, dict[str, Any]] = {
        "vit": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
                "image_size": 32, "patch_size": 8},
        "deit": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
                 "image_size": 32, "patch_size": 8},
        "dinov2": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_ratio": 2,
                   "image_size": 32, "patch_size": 8},
        "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "layer_type": "basic"},
        "convnext": {"hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2},
        "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320, "image_size": 32},
    }  # fmt: skip
    config = AutoConfig.for_model(kind, num_labels=5, **values[kind])
    config.architectures = ["DeiTForImageClassification"] if kind == "deit" else None
    net = AutoModelForImageClassification.from_config(config)
    redraw(net) if hasattr(config, "num_attention_heads") else None
    settle(net)
    net.save_pretrained(folder)
    size, half = {"height": 32, "width": 32}, [0.5] * 3
    BitImageProcessorPil(size={"shortest_edge": 36}, crop_size=size, image_mean=half, image_std=half).save_pretrained(
        folder
    )
    return folder


def label_rows(count: int = 90) -> list[dict[str, str]]:
    """Texts of three kinds that differ in some of their words."""
    generator = torch.Generator().manual_seed(3)
    topics = {"billing": ["bill", "invoice", "card", "charge"], "shipping": ["parcel", "box", "late", "door"]}
    topics["login"] = ["login", "password", "account", "reset"]
    rows = []
    for number in range(count):
        label = list(topics)[number % 3]
        pick = torch.randint(0, len(WORDS), (2 + number % 7,), generator=generator).tolist()
        words = [WORDS[k] for k in pick] + [topics[label][number % 4], topics[label][(number + 1) % 4], str(number)]
        rows.append({"text": " ".join(words), "label": label})
    return rows


def chat_rows(count: int = 30) -> list[dict[str, Any]]:
    """Conversations of one and two turns."""
    rows = []
    for number in range(count):
        said = [
            {"role": "user", "content": f"where is my parcel {number}"},
            {"role": "assistant", "content": "it is here now" if number % 2 else "please wait a week or two"},
        ]
        if number % 3 == 0:
            said += [{"role": "user", "content": "thanks"}, {"role": "assistant", "content": f"yes {number} good"}]
        if number % 5 == 0:
            said.insert(0, {"role": "system", "content": "you help"})
        rows.append({"messages": said})
    return rows


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def recipe_values(model: Path, rows: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of a few small updates; `changes` maps dotted keys, dots written as `__`, to values."""
    values: dict[str, Any] = {
        "model": str(model),
        "data": {"train": str(rows)},
        "train": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2},
        "run": {"dir": str(out)},
    }
    for key, value in changes.items():
        here = values
        *path, last = key.split("__")
        for part in path:
            here = here.setdefault(part, {})
        here[last] = value
    return values


def train_to_end(values: dict[str, Any]) -> Any:
    """The run directory of a finished run."""
    from tunesmith import recipefile, run

    return run.train_recipe(recipefile.build(values))


def last_bits(values: dict[str, Any], stop_at: int | None = None) -> bytes:
    """The trained tensors that a run ends with; with `stop_at` it is left after that update and resumed."""
    from tunesmith import recipefile, run
    from tunesmith.events import Updated

    directory, prepared = run.begin(recipefile.build(values), None, [])
    for event in run.go(directory, prepared):
        if isinstance(event, Updated) and event.step == stop_at:
            break
    if stop_at is not None:
        again, resumed = run.resume(directory.path)
        assert resumed is not None
        list(run.go(again, resumed))
    return bytes((directory.checkpoints / "last" / "trained.safetensors").read_bytes())
