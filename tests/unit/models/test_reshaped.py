"""Fewer blocks, new tokens and other heads: what runs is what was asked for, is saved, and is opened by others."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

import samples
import tiny
from tunesmith import load as load_run
from tunesmith import recipefile
from tunesmith.contracts import Tokens
from tunesmith.errors import ModelError, RecipeError
from tunesmith.models import catalog, load
from tunesmith.prepare import Prepared, prepare
from tunesmith.recipe import ModelChoice

ROWS = [Tokens(tuple(range(5, 5 + length))) for length in (4, 9, 17)]


def values(folder: Path, tmp_path: Path, task: str, method: Any = "full", **model: Any) -> dict[str, Any]:
    made = tiny.recipe_values(folder, samples.write(task, tmp_path), tmp_path / "runs", task=task, method=method,
                              train__steps=4)  # fmt: skip
    made["train"].pop("epochs")
    return {**made, "model": {"name": str(folder), **model}}


def ready(*given: Any, **model: Any) -> Prepared:
    return prepare(recipefile.build(values(*given, **model)))


@pytest.mark.parametrize("kind", ["bert", "modernbert", "llama", "gpt2", "gemma3_text", "smollm3", "distilbert"])
@torch.no_grad()
def test_the_first_blocks_are_kept(kind: str, tmp_path: Path) -> None:
    encoder = kind in ("bert", "modernbert", "distilbert")
    folder = (tiny.make_encoder if encoder else tiny.make_decoder)(tmp_path / kind, kind)
    model = load.load_classifier(catalog.find(str(folder)), ModelChoice(name="x", blocks=1), ("a", "b"), None, 0)
    assert model.depth == 1
    stock: Any = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    blocks = {"distilbert": "transformer.layer", "bert": "encoder.layer", "gpt2": "h"}.get(kind, "layers")
    last = stock.get_submodule(blocks)
    read = []
    last[1].register_forward_pre_hook(lambda module, given: read.append(given[0]))
    for row in ROWS:
        stock(input_ids=torch.tensor([row.ids]))
    ends = {"modernbert": "final_norm", "llama": "norm", "smollm3": "norm", "gemma3_text": "norm", "gpt2": "ln_f"}
    end: Any = stock.get_submodule(ends[kind]) if kind in ends else torch.nn.Identity()
    assert torch.allclose(model.states(ROWS)[0], end(torch.cat([states[0] for states in read])), atol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora", "bottleneck"])
def test_a_shortened_model_is_saved_as_one_and_an_adapter_with_what_it_belongs_to(
    method: str, decoder: Path, tmp_path: Path
) -> None:
    directory = tiny.train_to_end(values(decoder, tmp_path, "chat", method, blocks=1))
    model = load_run(directory.path).model
    row = ROWS[2]
    wanted = model.label_logits([row], torch.arange(len(row.ids)))
    if method == "bottleneck":
        code = (directory.path / "model" / "README.md").read_text().split("```python\n")[1].split("```")[0]
        names: dict[str, Any] = {}
        exec(code.replace('folder = "."', f"folder = {str(directory.path / 'model')!r}"), names)
        net = names["net"]
    else:
        net = AutoModelForCausalLM.from_pretrained(directory.path / "model").eval()
    with torch.no_grad():
        assert torch.allclose(net(input_ids=torch.tensor([row.ids])).logits[0], wanted, atol=2e-5)
    assert AutoTokenizer.from_pretrained(directory.path / "model")


def test_blocks_that_cannot_be_left_out_are_refused(
    encoder: Path, encoder_decoder: Path, vision: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="the model has 2 blocks, 3 were to be kept"):
        ready(encoder, tmp_path, "text-classification", blocks=3)
    for folder, task in ((encoder_decoder, "translation"), (vision, "image-classification")):
        with pytest.raises(ModelError, match="cannot be left out"):
            ready(folder, tmp_path, task, blocks=1)
    with pytest.raises(RecipeError, match="as published"):
        ready(encoder, tmp_path, "text-classification", {"name": "peft", "type": "LOHA", "config": {"r": 2}}, blocks=1)


@pytest.mark.parametrize(("family", "pooling"), [("encoder", "auto"), ("encoder", "cls"), ("decoder", "auto")])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_deeper_head_learns_and_opens_in_sentence_transformers(
    family: str, pooling: str, method: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    shape = {"head_layers": 3, "head_width": 7, "head_dropout": 0.2, "pooling": pooling}
    made = values(request.getfixturevalue(family), tmp_path, "text-classification", method, **shape)
    prepared = prepare(recipefile.build(made))
    net: Any = prepared.model.net
    assert [layer.out_features for layer in net.layers] == [7, 7] and net.dropout.p == 0.2
    assert {name.split(".")[0] for name in prepared.model.fresh} == {"layers", "head"}
    run = load_run(tiny.train_to_end(made).path)
    text = "where is my parcel"
    found = SentenceTransformer(str(run.run.path / "model"), device="cpu").encode([text], convert_to_tensor=True)
    wanted = run.model.class_logits([run.model.text.text(text)])
    assert torch.allclose(torch.as_tensor(found), wanted, atol=1e-4)


@pytest.mark.parametrize("method", ["full", "lora", "bottleneck"])
def test_pooling_by_attention_begins_as_the_mean_learns_and_opens_by_the_readme(
    method: str, encoder: Path, tmp_path: Path
) -> None:
    made = values(encoder, tmp_path, "text-classification", method, pooling="attention", head_layers=2)
    begun = prepare(recipefile.build(made)).model
    begun.net.eval()
    states, lengths = begun.states(ROWS)
    means = torch.stack([part.mean(0) for part in states.split(lengths.tolist())])
    assert torch.allclose(begun.embeddings(ROWS), means, atol=1e-6)
    run = load_run(tiny.train_to_end(made).path)
    net: Any = run.model.net
    assert float(net.attend.weight.detach().abs().max()) > 1e-4
    states, lengths = run.model.states(ROWS)
    pooled = [
        (torch.softmax(part @ net.attend.weight.T + net.attend.bias, 0) * part).sum(0)
        for part in states.split(lengths.tolist())
    ]
    assert torch.allclose(run.model.embeddings(ROWS), torch.stack(pooled), atol=1e-6)

    folder = run.run.path / "model"
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code.replace('folder = "."', f"folder = {str(folder)!r}"), names)
    with torch.no_grad():
        for row, wanted in zip(ROWS, run.model.class_logits(ROWS), strict=True):
            found = names["logits"](names["net"].eval()(input_ids=torch.tensor([row.ids])).last_hidden_state[0])
            assert torch.allclose(found, wanted, atol=1e-5)


WORDS = ["xyzzy", "plugh"]


@pytest.mark.parametrize("method", ["full", "head", "top-layers", "lora", "bitfit"])
def test_new_tokens_begin_as_the_mean_learn_under_every_method_and_are_saved(
    method: str, encoder: Path, tmp_path: Path
) -> None:
    rows = [{**row, "text": f"{row['text']} {WORDS[k % 2]}"} for k, row in enumerate(tiny.label_rows())]
    made = values(encoder, tmp_path, "text-classification", method, new_tokens=WORDS)
    made["data"] = {"train": str(tiny.write_csv(tmp_path / "new.csv", rows))}
    prepared = prepare(recipefile.build(made))
    model = prepared.model
    bare: Any = AutoModel.from_pretrained(encoder)
    old = bare.get_input_embeddings().weight.detach()
    first = len(AutoTokenizer.from_pretrained(encoder))
    assert model.text.text(f"my {WORDS[0]} box").ids[2] == first
    base: Any = model.base
    table = base.get_input_embeddings().weight
    assert len(table) == first + 2 and torch.allclose(table[first:], old.mean(0).expand(2, -1), atol=1e-6)

    run = load_run(tiny.train_to_end(made).path)
    base = run.model.base
    learned = base.get_input_embeddings().weight.detach()
    assert float((learned[first:] - table[first:]).abs().max()) > 1e-4
    if method != "full":
        assert torch.equal(learned[:first], old)
    folder = run.run.path / "model"
    saved = folder / "base" if method == "lora" else folder
    assert AutoTokenizer.from_pretrained(folder).tokenize(f"my {WORDS[1]}") == ["my", WORDS[1]]
    assert torch.equal(AutoModel.from_pretrained(saved).get_input_embeddings().weight[first:], learned[first:])
    answer = run.predict([{"text": f"the parcel {WORDS[0]}"}])[0]
    assert answer["label"] in prepared.task.labels  # type: ignore[attr-defined]


def test_new_tokens_that_cannot_be_learned_are_refused(
    decoder: Path, encoder: Path, vision: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="`parcel` is a token already"):
        ready(encoder, tmp_path, "text-classification", new_tokens=["parcel"])
    with pytest.raises(RecipeError, match="learned by `full` alone"):
        ready(decoder, tmp_path, "chat", "lora", new_tokens=WORDS)
    with pytest.raises(ModelError, match="reads images"):
        ready(vision, tmp_path, "image-classification", new_tokens=WORDS)
    model = ready(decoder, tmp_path, "chat", "full", new_tokens=WORDS).model
    net: Any = model.net
    assert len(net.get_output_embeddings().weight) == len(model.text.tokenizer)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"head_width": 5}, "needs `head_layers: 2`"),
        ({"head_layers": 2, "head": "probe"}, "has one layer"),
        ({"new_tokens": ["ab", "ab"]}, "named twice"),
        ({"new_tokens": ["a b"]}, "without white space"),
        ({"new_tokens": ["  "]}, "without white space"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    model: dict[str, Any], said: str, encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=said):
        ready(encoder, tmp_path, "text-classification", **model)


def test_a_head_is_shaped_only_where_there_is_one(encoder: Path, vision: Path, tmp_path: Path) -> None:
    for folder, task in ((encoder, "token-classification"), (encoder, "retrieval"), (vision, "image-classification")):
        with pytest.raises(ModelError, match=r"`model\.head_layers` is for tasks with one label"):
            ready(folder, tmp_path, task, head_layers=2)
    with pytest.raises(ModelError, match="pooled without learning"):
        ready(encoder, tmp_path, "retrieval", pooling="attention")
