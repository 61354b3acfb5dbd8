"""The saved folder is loaded by others, in a process that cannot import Tunesmith, and gives the same logits."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from tunesmith import ModelError, load

SERVER = """
import json, sys, traceback, warnings
sys.modules["tunesmith"] = None
import torch
warnings.simplefilter("ignore")
for line in sys.stdin:
    asked = json.loads(line)
    names = {"json": json, "torch": torch, **{key: asked[key] for key in ("folder", "base", "texts")}}
    try:
        with torch.no_grad():
            exec(asked["program"], names)
        told = torch.as_tensor(names["out"]).tolist()
    except Exception:
        told = traceback.format_exc()
    print("LOGITS", json.dumps(told), flush=True)
"""
"""What runs programs without Tunesmith, one a line; it tells logits, or in words what failed."""
SENTENCES = (
    "from sentence_transformers import SentenceTransformer\n"
    "net = SentenceTransformer(folder, device='cpu')\n"
    "out = net.encode(texts, convert_to_tensor=True)\n"
)
STOCK = (
    "from transformers import AutoModelForSequenceClassification as Net, AutoTokenizer\n"
    "net, tok = Net.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)\n"
    "out = net(**tok(texts, return_tensors='pt', padding=True)).logits\n"
)
PEFT_STOCK = (
    "from transformers import AutoModelForSequenceClassification as Net, AutoTokenizer\n"
    "from peft import PeftModel\n"
    "labels = json.load(open(folder + '/labels.json'))\n"
    "net = Net.from_pretrained(base, num_labels=len(labels))\n"
    "tok = AutoTokenizer.from_pretrained(folder)\n"
    "net.config.pad_token_id = tok.pad_token_id\n"
    "net = PeftModel.from_pretrained(net, folder).eval()\n"
    "out = net(**tok(texts, return_tensors='pt', padding=True)).logits\n"
)
PEFT_MEAN = (
    "from transformers import AutoModel, AutoTokenizer\n"
    "from peft import PeftModel\n"
    "from safetensors.torch import load_file\n"
    "net = PeftModel.from_pretrained(AutoModel.from_pretrained(base), folder).eval()\n"
    "batch = AutoTokenizer.from_pretrained(folder)(texts, return_tensors='pt', padding=True)\n"
    "states, mask = net(**batch).last_hidden_state, batch['attention_mask'][..., None]\n"
    "head = load_file(folder + '/2_Dense/model.safetensors')\n"
    "out = (states * mask).sum(1) / mask.sum(1) @ head['linear.weight'].T + head['linear.bias']\n"
)
TEXTS = ["where is my parcel", "i paid the bill twice and the card was charged", "reset my password please"]


Elsewhere = Callable[[str, Path, Path], torch.Tensor]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    """Logits that a process without Tunesmith computes from a saved folder: (program, folder, base) -> logits. One
    process for all, since most of its time is importing; each program has its own names."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None

        def logits(program: str, folder: Path, base: Path) -> torch.Tensor:
            assert process.stdin is not None and process.stdout is not None
            asked = {"program": program, "folder": str(folder), "base": str(base), "texts": TEXTS}
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            found = next((line for line in process.stdout if line.startswith("LOGITS ")), None)
            assert found is not None, "the other process is gone"
            told = json.loads(found.removeprefix("LOGITS "))
            assert isinstance(told, list), told
            return torch.tensor(told)

        yield logits
        process.stdin.close()


CASES = [
    ("encoder", "full", "auto", SENTENCES),
    ("encoder", "lora", "auto", SENTENCES),
    ("encoder", "lora", "auto", PEFT_MEAN),
    ("encoder", "top-layers", "cls", STOCK),
    ("encoder", "lora", "cls", PEFT_STOCK),
    ("decoder", "full", "auto", STOCK),
    ("decoder", "lora", "auto", PEFT_STOCK),
]


@pytest.mark.parametrize(("family", "method", "pooling", "program"), CASES)
def test_a_saved_classifier_gives_the_same_logits_elsewhere(
    family: str,
    method: str,
    pooling: str,
    program: str,
    request: pytest.FixtureRequest,
    labels_csv: Path,
    tmp_path: Path,
    elsewhere: Elsewhere,
) -> None:
    base = request.getfixturevalue(family)
    values = tiny.recipe_values(base, labels_csv, tmp_path, method=method, evaluate__compare=False)
    values["model"] = {"name": str(base), "pooling": pooling}
    made = tiny.train_to_end(values)
    predictor = load(made.path)
    rows = [predictor.task.encode(predictor.row(k, text), predictor.model, "answer")[0] for k, text in enumerate(TEXTS)]
    with torch.no_grad():
        mine = predictor.model.class_logits([example.parts["text"] for example in rows])
    theirs = elsewhere(program, made.model, base)
    assert float(mine.std()) > 0.01
    assert torch.allclose(mine, theirs, atol=1e-5), (mine - theirs).abs().max()


def test_a_fresh_pooler_inside_the_trunk_is_saved_with_its_adapter(
    labels_csv: Path, tmp_path: Path, elsewhere: Elsewhere
) -> None:
    from transformers import BertModel

    base = tiny.make_encoder(tmp_path / "base")
    BertModel.from_pretrained(base, add_pooling_layer=False).save_pretrained(base)
    values = tiny.recipe_values(base, labels_csv, tmp_path, method="lora", evaluate__compare=False)
    values["model"] = {"name": str(base), "pooling": "cls"}
    predictor = load(tiny.train_to_end(values).path)
    assert {"bert.pooler.dense.weight", "bert.pooler.dense.bias"} <= predictor.model.fresh
    rows = [predictor.task.encode(predictor.row(k, text), predictor.model, "answer")[0] for k, text in enumerate(TEXTS)]
    with torch.no_grad():
        mine = predictor.model.class_logits([example.parts["text"] for example in rows])
    assert torch.allclose(mine, elsewhere(PEFT_STOCK, predictor.run.model, base), atol=1e-5)


@pytest.mark.parametrize(("method", "tied"), [("lora", False), ("lora", True), ("full", True)])
def test_a_saved_chat_model_gives_the_same_logits_elsewhere(
    method: str, tied: bool, chats_jsonl: Path, tmp_path: Path, elsewhere: Elsewhere
) -> None:
    base = tiny.make_decoder(tmp_path / "base", tied=tied)
    values = tiny.recipe_values(base, chats_jsonl, tmp_path / "runs", method=method, evaluate__compare=False)
    made = tiny.train_to_end({**values, "evaluate": {"compare": False, "answers": 0}})
    predictor = load(made.path)
    tokens = predictor.model.text.chat(tiny.chat_rows(1)[0]["messages"])
    with torch.no_grad():
        mine = predictor.model.label_logits([tokens], torch.arange(len(tokens.ids)))
    program = (
        "from transformers import AutoModelForCausalLM as Net\n"
        "from peft import PeftModel\n"
        + (
            "net = PeftModel.from_pretrained(Net.from_pretrained(base), folder)\n"
            if method == "lora"
            else "net = Net.from_pretrained(folder)\n"
        )
        + f"out = net.eval()(input_ids=torch.tensor([{list(tokens.ids)}])).logits[0]\n"
    )
    assert torch.allclose(mine, elsewhere(program, made.model, base), atol=1e-5)


def test_an_adapter_merged_into_its_base_gives_the_same_logits(
    decoder: Path, chats_jsonl: Path, tmp_path: Path
) -> None:
    from tunesmith.models import adapted

    values = tiny.recipe_values(decoder, chats_jsonl, tmp_path, method="lora")
    predictor = load(tiny.train_to_end({**values, "evaluate": {"compare": False, "answers": 0}}).path)
    rows = [predictor.model.text.chat(row["messages"]) for row in tiny.chat_rows(5)]
    every = torch.arange(sum(len(row.ids) for row in rows))
    with torch.no_grad():
        beside = predictor.model.label_logits(rows, every)
        adapted.merge(predictor.model.net)
        merged = predictor.model.label_logits(rows, every)
    assert not list(adapted.found(predictor.model.net))
    assert torch.allclose(beside, merged, atol=1e-4)


def test_training_can_start_from_an_adapter_in_pefts_format(decoder: Path, chats_jsonl: Path, tmp_path: Path) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    from tunesmith import recipefile
    from tunesmith.prepare import prepare

    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    theirs: Any = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(decoder), config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    theirs.save_pretrained(tmp_path / "adapter")
    method = {"name": "lora", "rank": 4, "alpha": 8, "start": str(tmp_path / "adapter")}
    prepared = prepare(recipefile.build(tiny.recipe_values(decoder, chats_jsonl, tmp_path, method=method)))
    tokens = prepared.examples[0][0].parts["text"]
    with torch.no_grad():
        mine = prepared.model.label_logits([tokens], torch.arange(len(tokens.ids)))
        other = theirs.eval()(input_ids=torch.tensor([tokens.ids])).logits[0]
    assert torch.allclose(mine, other, atol=1e-5)
    with pytest.raises(ModelError, match="does not fit"):
        prepare(recipefile.build(tiny.recipe_values(decoder, chats_jsonl, tmp_path, method={**method, "alpha": 16})))


def test_batched_answers_equal_answers_one_by_one(decoder: Path, chats_jsonl: Path, tmp_path: Path) -> None:
    values = tiny.recipe_values(decoder, chats_jsonl, tmp_path, train__epochs=8, method="full")
    predictor = load(tiny.train_to_end({**values, "evaluate": {"compare": False, "answers": 0}}).path)
    asked = [{"messages": row["messages"][:-1]} for row in tiny.chat_rows(8)]
    together = predictor.predict(asked)
    assert together == [predictor.predict([question])[0] for question in asked]
    assert any(answer["ended"] for answer in together)


def test_the_base_of_a_classifier_is_a_linear_probe_on_frozen_features(encoder: Path, labels_csv: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    from tunesmith import recipefile
    from tunesmith.models.probe import pooled
    from tunesmith.prepare import prepare

    prepared = prepare(recipefile.build({"model": str(encoder), "data": str(labels_csv), "method": "full"}))
    task, model, rows = prepared.task, prepared.model, prepared.train_rows
    texts = [row[0].parts["text"] for row in prepared.examples]
    features = pooled(model, texts)
    scaled = (features - features.mean(0)) / (features.std(0) + 1e-6)
    plain = LogisticRegression(C=0.1, max_iter=500, tol=1e-3).fit(scaled, [row["label"] for row in rows])
    task.base(model, rows)
    with torch.no_grad():
        mine = model.class_logits(texts).softmax(-1).numpy()
    assert np.allclose(mine, plain.predict_proba(scaled), atol=5e-3)


def test_a_head_that_starts_as_the_probe_scores_as_the_base_before_the_first_update(
    encoder: Path, labels_csv: Path, chats_jsonl: Path, decoder: Path
) -> None:
    from tunesmith import RecipeError, recipefile
    from tunesmith.prepare import prepare

    model = {"name": str(encoder), "head": "probe"}
    prepared = prepare(recipefile.build({"model": model, "data": str(labels_csv), "method": "lora"}))
    plain = prepare(recipefile.build({"model": str(encoder), "data": str(labels_csv), "method": "full"}))
    plain.task.base(plain.model, plain.train_rows)
    texts = [row[0].parts["text"] for row in prepared.examples]
    with torch.no_grad():
        started, base = prepared.model.class_logits(texts), plain.model.class_logits(texts)
    assert torch.allclose(started, base, atol=1e-5)
    for wrong in (
        {"model": {**model, "pooling": "cls"}, "data": str(labels_csv)},
        {"model": {"name": str(decoder), "head": "probe"}, "data": str(chats_jsonl)},
    ):
        with pytest.raises(RecipeError, match="needs a classifier"):
            prepare(recipefile.build(wrong))
