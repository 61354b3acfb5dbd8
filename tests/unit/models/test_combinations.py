"""Where methods, families and reshaped nets meet: faults that a reader found, each shown to be gone."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, DeiTConfig
from transformers import DeiTForImageClassificationWithTeacher as WithTeacher

import samples
import tiny
from tunesmith import recipefile
from tunesmith.contracts import Tokens
from tunesmith.errors import ModelError, RecipeError
from tunesmith.models import catalog, load, ownfiles, probe, save
from tunesmith.prepare import Prepared, prepare
from tunesmith.recipe import ModelChoice
from tunesmith.train import fit

ALIKE = [Tokens((*range(5, 25), 30 + k)) for k in range(4)]


def ready(folder: Path, tmp_path: Path, task: str, method: Any, **changes: Any) -> Prepared:
    model = changes.pop("model", {})
    made = tiny.recipe_values(folder, samples.write(task, tmp_path), tmp_path, task=task, method=method, **changes)
    return prepare(recipefile.build({**made, "model": {"name": str(folder), **model}}))


def edited(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@torch.no_grad()
def test_beginnings_are_not_shared_where_blocks_look_ahead_and_such_a_model_does_not_write(tmp_path: Path) -> None:
    folder = edited(tiny.make_decoder(tmp_path / "gemma", "gemma3_text"), use_bidirectional_attention=True)
    model = load.load_classifier(catalog.find(str(folder)), ModelChoice(name="x"), ("a", "b"), None, 0)
    assert model.pooling == "mean" and model.stream(ALIKE).places is None
    alone = torch.cat([model.states([row])[0] for row in ALIKE])
    assert torch.allclose(model.states(ALIKE)[0], alone, atol=1e-5)
    with pytest.raises(ModelError, match="cannot write"):
        load.load_causal_lm(catalog.find(str(folder)), ModelChoice(name="x"), None)


@torch.no_grad()
def test_new_tokens_of_a_table_that_scales_are_scaled_too_and_saved_as_they_ran(tmp_path: Path) -> None:
    folder = tiny.make_decoder(tmp_path / "gemma", "gemma3_text")
    made = {
        name: ready(folder, tmp_path, "text-classification", name, model={"new_tokens": ["xyzzy"]})
        for name in ("full", "head")
    }
    states = [made[name].model.states(ALIKE)[0] for name in made]
    assert torch.allclose(states[0], states[1], atol=1e-5)
    row = made["head"].model.text.text("my xyzzy box")
    save.save(made["head"].model, tmp_path / "saved", (), "# card\n", {})
    net: Any = AutoModel.from_pretrained(tmp_path / "saved").eval()
    theirs = net(input_ids=torch.tensor([row.ids])).last_hidden_state[0]
    assert torch.allclose(made["head"].model.states([row])[0], theirs, atol=1e-5)


@torch.no_grad()
def test_the_first_token_of_modernbert_is_what_its_saved_classifier_reads(tmp_path: Path) -> None:
    folder = edited(tiny.make_encoder(tmp_path / "modern", "modernbert"), classifier_pooling="mean")
    model = ready(folder, tmp_path, "text-classification", "full", model={"pooling": "cls"}).model
    model.net.eval()
    save.save(model, tmp_path / "saved", (), "# card\n", {})
    net = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    for row, wanted in zip(ALIKE, model.class_logits(ALIKE), strict=True):
        assert torch.allclose(net(input_ids=torch.tensor([row.ids])).logits[0], wanted, atol=1e-5)


def test_what_joins_a_pair_is_saved_with_its_prompt(encoder: Path, tmp_path: Path) -> None:
    made = tiny.recipe_values(encoder, samples.write("translation", tmp_path), tmp_path, task="translation",
                              method="prompt-tuning")  # fmt: skip
    model = prepare(recipefile.build({**made, "model": {"encoder": str(encoder), "decoder": str(encoder)}})).model
    save.save(model, tmp_path / "saved", (), "# card\n", {})
    from safetensors.torch import load_file

    held = load_file(tmp_path / "saved" / ownfiles.FILE)
    assert {name for name, _ in model.trained() if "prompt" not in name} <= held.keys() and "prompt" in held


def test_an_adapter_at_a_soft_capped_output_layer_is_heard_and_learns(tmp_path: Path) -> None:
    folder = tiny.make_decoder(tmp_path / "gemma2", "gemma2")
    options = {"r": 2, "target_modules": ["lm_head", "q_proj"], "init_lora_weights": False}
    model = ready(folder, tmp_path, "chat", {"name": "peft", "type": "LORA", "config": options}).model
    model.net.eval()
    row = ALIKE[0]
    logits = model.label_logits([row], torch.arange(len(row.ids)))
    model.stock = True
    wanted = model.output_layer(model.states([row])[0])
    assert torch.allclose(logits, wanted, atol=1e-5)
    logits.sum().backward()
    grads = {name: p.grad for name, p in model.trained() if "lm_head" in name}
    assert len(grads) == 2 and all(grad is not None and bool(grad.any()) for grad in grads.values())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["VERA", "DELORA", "LOHA", "OSF", "PVERA", "TINYLORA", "UNILORA"])
def test_adapters_of_the_library_run_in_half_precision(kind: str, encoder: Path, tmp_path: Path) -> None:
    config = {"r": 4} if kind in ("VERA", "DELORA", "LOHA", "PVERA") else {}
    made = ready(encoder, tmp_path, "text-classification", {"name": "peft", "type": kind, "config": config},
                 train__precision="bf16")  # fmt: skip
    examples = [example for row in made.examples[:4] for example in row]
    made.model.train()
    loss = made.task.loss(made.model, examples)["loss"].total
    loss.backward()
    assert bool(loss.isfinite())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"alora_invocation_tokens": [1, 2]}, "nothing would learn"),
        ({"arrow_config": {"top_k": 1}}, "tuned before"),
        ({"target_modules": "("}, "refuses"),
        ({"rank_pattern": [1]}, "refuses"),
    ],
)
def test_configs_that_need_more_or_make_no_sense_are_refused(
    config: dict[str, Any], said: str, decoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=said):
        ready(decoder, tmp_path, "chat", {"name": "peft", "type": "LORA", "config": config})


def test_the_probe_of_modernberts_tags_reads_what_its_head_reads(tmp_path: Path) -> None:
    folder = tiny.make_encoder(tmp_path / "modern", "modernbert")
    made = ready(folder, tmp_path, "token-classification", "head")
    rows = [example.parts["text"] for row in made.examples for example in row]
    wanted = [example.target["labels"] for row in made.examples for example in row]
    probe.fit_token_probe(made.model, rows, wanted)
    with torch.no_grad():
        said = [
            made.model.token_logits([row], torch.tensor([k for k, on in enumerate(row.trained) if on])).argmax(-1)
            for row in rows
        ]
    right = sum(int((a == torch.tensor(b)).sum()) for a, b in zip(said, wanted, strict=True))
    assert right / sum(map(len, wanted)) > 0.85


@torch.no_grad()
@pytest.mark.parametrize("method", ["lora", "bottleneck"])
def test_an_adapter_of_a_deit_that_had_a_teacher_opens_with_the_class_it_was_tuned_in(
    method: str, tmp_path: Path
) -> None:
    folder = tiny.make_vision(tmp_path / "deit", "deit")
    config = DeiTConfig.from_pretrained(folder)
    WithTeacher(config).save_pretrained(folder)
    made = ready(folder, tmp_path, "image-classification", method)
    made.model.net.eval()
    save.save(made.model, tmp_path / "saved", (), "# card\n", {})
    pixels = torch.rand(2, 3, 32, 32)
    if method == "lora":
        from transformers import DeiTForImageClassification

        net: Any = DeiTForImageClassification.from_pretrained(tmp_path / "saved" / "base")
        net = peft.PeftModel.from_pretrained(net, str(tmp_path / "saved"))
    else:
        code = (tmp_path / "saved" / "README.md").read_text().split("```python\n")[1].split("```")[0]
        names: dict[str, Any] = {}
        exec(code.replace('folder = "."', f"folder = {str(tmp_path / 'saved')!r}"), names)
        net = names["net"]
    assert torch.allclose(net.eval()(pixel_values=pixels).logits, made.model.net(pixel_values=pixels).logits, atol=1e-5)


def test_soft_capped_attention_is_in_the_forecast_of_memory(tmp_path: Path) -> None:
    folder = tiny.make_decoder(tmp_path / "gemma2", "gemma2")
    made = ready(folder, tmp_path, "chat", "full", model={"dropout": 0.0})
    assert fit.attention_bytes(made.model, made.examples[0]) > 0


def test_nothing_is_kept_of_rows_that_begin_with_virtual_tokens(encoder: Path, tmp_path: Path) -> None:
    made = ready(encoder, tmp_path, "text-classification", "prompt-tuning", train__freeze=["*.prompt"])
    assert made.trunk_plan().blocks == 0


@pytest.mark.parametrize("model", [{"blocks": 1}, {"new_tokens": ["xyzzy"]}])
def test_a_pair_is_not_reshaped(model: dict[str, Any], encoder: Path, tmp_path: Path) -> None:
    made = tiny.recipe_values(encoder, samples.write("translation", tmp_path), tmp_path, task="translation")
    halves = {"encoder": str(encoder), "decoder": str(encoder), **model}
    with pytest.raises(ModelError, match=r"cannot be left out|take no new tokens"):
        prepare(recipefile.build({**made, "model": halves}))


def test_a_prompt_of_a_marian_that_scales_is_refused(tmp_path: Path) -> None:
    folder = edited(tiny.make_seq2seq(tmp_path / "marian", "marian"), scale_embedding=True)
    with pytest.raises(RecipeError, match="another scale"):
        ready(folder, tmp_path, "translation", "prompt-tuning")


def test_a_new_token_is_not_found_inside_other_words(encoder: Path, tmp_path: Path) -> None:
    model = ready(encoder, tmp_path, "text-classification", "head", model={"new_tokens": ["app", "<sku>"]}).model
    tokens = model.text.tokenizer.tokenize("happy app <sku>9")
    assert tokens.count("app") == 1 and "<sku>" in tokens


def test_an_adapter_that_keeps_numbers_in_full_precision_alone_is_refused_in_half(
    encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="full precision only"):
        ready(encoder, tmp_path, "text-classification", {"name": "peft", "type": "ADAMSS"}, train__precision="bf16")
