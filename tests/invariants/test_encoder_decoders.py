"""Encoder-decoders of every family: what we compute is what the stock class computes of each row alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import samples
import tiny
from tunesmith import DataError, ModelError, RecipeError, recipefile, run
from tunesmith import load as load_run
from tunesmith.models import anatomy, catalog, generate, load, pair, seq2seq, writing
from tunesmith.models.seq2seq import Told
from tunesmith.prepare import find_model, prepare
from tunesmith.recipe import ModelChoice
from tunesmith.train.accumulate import Piece, accumulate

KINDS = [name for name, parts in anatomy.TABLE.items() if parts.family == "encoder-decoder"]
TEXTS = ["where is my parcel", "the box was lost twice and they cannot find it", "no", "please help me now"]
ANSWERS = ["it is here", "yes", "we will send it back today", "wait"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("seq2seq")
    return {kind: tiny.make_seq2seq(root / kind, kind) for kind in KINDS}


def opened(folder: Path) -> Any:
    return load.load_seq2seq(catalog.find(str(folder)), ModelChoice(name="x"), None, 0)


def parts_of(model: Any) -> tuple[list[Any], list[Any]]:
    sources = [seq2seq.source_tokens(model.text, text, Told()) for text in TEXTS]
    return sources, [seq2seq.target_tokens(model.text, text, Told()) for text in ANSWERS]


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_finds_the_blocks_of_both_halves(kind: str, folders: dict[str, Path]) -> None:
    model = opened(folders[kind])
    assert model.depth == 4
    depths = {model.depth_of(name) for name, _ in model.net.named_parameters()}
    assert depths == {None, 0, 1, 2, 3}
    assert len(list(anatomy.linear_layers(model.base, model.anatomy))) >= 4 * 6
    assert [path for path, _ in model.head_modules()]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_logits_equal_the_stock_class_one_row_at_a_time(kind: str, folders: dict[str, Path]) -> None:
    from transformers import AutoModelForSeq2SeqLM

    model = opened(folders[kind])
    stock = AutoModelForSeq2SeqLM.from_pretrained(folders[kind], attn_implementation="eager").eval()
    sources, targets = parts_of(model)
    total = sum(len(target.ids) for target in targets)
    logits = model.output_layer(seq2seq.answer_states(model, sources, targets, torch.arange(total)))
    alone = [
        stock(input_ids=torch.tensor([a.ids]), decoder_input_ids=torch.tensor([b.ids])).logits[0]
        for a, b in zip(sources, targets, strict=True)
    ]
    assert float(torch.cat(alone).std()) > 0.05
    assert torch.allclose(logits, torch.cat(alone), atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_loss_is_that_of_the_stock_class_with_labels(kind: str, folders: dict[str, Path]) -> None:
    from transformers import AutoModelForSeq2SeqLM

    from tunesmith.contracts import Example

    model = opened(folders[kind])
    stock = AutoModelForSeq2SeqLM.from_pretrained(folders[kind]).eval()
    sources, targets = parts_of(model)
    examples = [Example(k, {"text": a, "answer": b}) for k, (a, b) in enumerate(zip(sources, targets, strict=True))]
    ours = writing.loss(model, examples)["loss"]
    theirs = 0.0
    for a, b in zip(sources, targets, strict=True):
        logits = stock(input_ids=torch.tensor([a.ids]), decoder_input_ids=torch.tensor([b.ids[:-1]])).logits[0]
        theirs += float(torch.nn.functional.cross_entropy(logits, torch.tensor(b.ids[1:]), reduction="sum"))
    assert float(ours.total) == pytest.approx(theirs, rel=1e-5)
    assert ours.weight == sum(len(b.ids) - 1 for b in targets)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_answers_are_those_of_the_stock_class_one_row_at_a_time(kind: str, folders: dict[str, Path]) -> None:
    model = opened(folders[kind])
    sources, _ = parts_of(model)
    ours = generate.translations(model, sources, 12, Told())
    stops = generate.stop_tokens(model)
    for source, made in zip(sources, ours, strict=True):
        out = model.net.generate(
            input_ids=torch.tensor([source.ids]), max_new_tokens=12, do_sample=False, num_beams=1,
            eos_token_id=stops, decoder_start_token_id=model.text.start,
        )[0, 1:].tolist()  # fmt: skip
        end = next((k for k, token in enumerate(out) if token in stops), len(out))
        assert made.text == model.text.decode(out[:end]).strip()
        assert made.ended == (end < len(out))


@pytest.mark.parametrize("kind", ["mt5", "bart"])
def test_an_update_does_not_depend_on_how_its_batch_was_cut(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    rows = samples.write("translation", tmp_path)
    prepared = prepare(recipefile.build(tiny.recipe_values(folders[kind], rows, tmp_path, task="translation")))
    model, known = prepared.model, prepared.task
    model.net.eval()
    examples = [one for row in prepared.examples for one in row][:12]
    found = []
    for size in (12, 5, 1):
        pieces = [Piece(0, examples[at : at + size]) for at in range(0, 12, size)]
        losses = accumulate(model, known, pieces, known.weights(examples))
        grads = torch.cat([p.grad.flatten() for _, p in model.trained() if p.grad is not None])
        model.forget_gradients()
        found.append((float(losses["loss"]), grads))
    for loss, grads in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=5e-6)
        assert float((grads - found[0][1]).norm() / found[0][1].norm()) < 5e-6


def test_a_target_begins_with_the_decoders_start_and_learns_its_end(folders: dict[str, Path]) -> None:
    for kind in KINDS:
        text = opened(folders[kind]).text
        made = seq2seq.target_tokens(text, "it is here", Told())
        assert made.ids[0] == text.start and made.trained == (False, *(True,) * (len(made.ids) - 1))
        assert made.ids.count(text.start) == (2 if made.ids[-1] == text.start else 1)
        end = text.tokenizer.sep_token_id if kind == "encoder-decoder" else text.tokenizer.eos_token_id
        assert made.ids[-1] == end
        assert text.decode(made.ids) == "it is here"


def test_a_long_source_loses_its_end_and_a_long_answer_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    text = opened(folders["mt5"]).text
    made = seq2seq.source_tokens(text, " ".join(["box"] * 300), Told())
    assert len(made.ids) == text.max_tokens == 64 and made.cut > 0 and made.ids[-1] == text.tokenizer.eos_token_id
    rows = [{"source": f"box {n}", "target": f"a box {n}"} for n in range(40)] + [
        {"source": "a", "target": "box " * 99}
    ]
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match="64 can be written"):
        prepare(recipefile.build(tiny.recipe_values(folders["mt5"], file, tmp_path, task="translation")))


def test_every_family_is_told_the_task_in_its_own_words(folders: dict[str, Path]) -> None:
    told = Told("translate", "en", "de")
    assert seq2seq.prefix(opened(folders["t5"]).text, told) == "translate English to German: "
    assert seq2seq.prefix(opened(folders["t5"]).text, Told("summarize")) == "summarize: "
    assert seq2seq.prefix(opened(folders["marian"]).text, told) == ">>de<< "
    assert seq2seq.prefix(opened(folders["marian"]).text, Told("translate", "en", "fr")) == ""
    assert seq2seq.prefix(opened(folders["encoder-decoder"]).text, told) == ""


def test_languages_stand_around_the_texts_of_a_model_that_has_tokens_for_them(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForSeq2SeqLM, NllbTokenizer

    pieces = ["<s>", "<pad>", "</s>", "<unk>", *[f"▁{word}" for word in dict.fromkeys(tiny.WORDS)]]
    tokenizer = NllbTokenizer(vocab={word: k for k, word in enumerate(pieces)}, merges=[], src_lang="eng_Latn")
    tokenizer.save_pretrained(tmp_path / "m")
    values = {**tiny.SEQ2SEQ["m2m_100"], "pad_token_id": 1, "decoder_start_token_id": 2, "eos_token_id": 2}
    net = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model("m2m_100", **values, vocab_size=len(tokenizer)))
    tiny.redraw(net)
    net.save_pretrained(tmp_path / "m")
    model = opened(tmp_path / "m")
    told = Told("translate", "eng_Latn", "deu_Latn")
    codes = [tokenizer.convert_tokens_to_ids(code) for code in ("eng_Latn", "deu_Latn")]
    source = seq2seq.source_tokens(model.text, "my box", told)
    target = seq2seq.target_tokens(model.text, "your box", told)
    assert source.ids[0] == codes[0] and source.ids[-1] == 2
    assert target.ids[:2] == (2, codes[1]) and target.ids[-1] == 2
    assert seq2seq.forced_start(model.text, told) == codes[1]
    tokenizer.src_lang, tokenizer.tgt_lang = "eng_Latn", "deu_Latn"
    assert tokenizer("my box").input_ids == list(source.ids)
    assert tokenizer(text_target="your box").input_ids == list(target.ids[1:])
    seq2seq.speak(model, Told("translate", "deu_Latn", "fra_Latn"))
    model.text.tokenizer.save_pretrained(tmp_path / "saved")
    model.net.generation_config.save_pretrained(tmp_path / "saved")
    from transformers import AutoTokenizer, GenerationConfig

    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    other = Told("translate", "deu_Latn", "fra_Latn")
    assert again("my box").input_ids == list(seq2seq.source_tokens(model.text, "my box", other).ids)
    forced = GenerationConfig.from_pretrained(tmp_path / "saved").forced_bos_token_id
    assert forced == again.convert_tokens_to_ids("fra_Latn")
    with pytest.raises(DataError, match="no language `xx`"):
        seq2seq.source_tokens(model.text, "my box", Told("translate", "xx", "deu_Latn"))


def test_a_pair_of_encoders_starts_from_both_and_only_what_joins_them_is_new(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    made = recipefile.build({"model": {"encoder": str(encoder), "decoder": str(encoder)}, "data": "x"})
    assert made.model.name == made.model.decoder == str(encoder)
    source = find_model(made)
    model = load.load_seq2seq(source, ModelChoice(name="x"), None, 0)
    held = load_file(encoder / "model.safetensors")
    state = model.net.state_dict()
    for half in ("encoder.", "decoder.bert."):
        same = [name for name in held if torch.equal(held[name], state.get(half + name, torch.empty(0)))]
        assert len(same) >= len(held) - 2  # the decoder has no pooler
    assert all("crossattention" in name or name.startswith("decoder.cls") for name in model.fresh)
    assert sum("crossattention" in name for name in model.fresh) == 2 * 10
    again = load.load_seq2seq(find_model(made), ModelChoice(name="x"), None, 0)
    other = load.load_seq2seq(find_model(made), ModelChoice(name="x"), None, 1)
    name = sorted(name for name in model.fresh if name.endswith("crossattention.self.query.weight"))[0]
    assert torch.equal(again.net.get_parameter(name), model.net.get_parameter(name))
    assert not torch.equal(other.net.get_parameter(name), model.net.get_parameter(name))


def test_an_adapter_to_start_from_goes_to_the_half_it_came_from(folders: dict[str, Path], tmp_path: Path) -> None:
    from tunesmith.models import adapted

    rows = samples.write("translation", tmp_path)
    values = tiny.recipe_values(folders["bart"], rows, tmp_path / "runs", task="translation", method="lora")
    directory = run.train_recipe(recipefile.build(values))
    start = {"name": "lora", "start": str(directory.path / "model")}
    again = prepare(recipefile.build({**values, "method": start})).model
    learned = load_run(directory.path).model
    for (name, a), (_, b) in zip(adapted.found(again.net), adapted.found(learned.net), strict=True):
        assert torch.equal(a.lora_A, b.lora_A) and torch.equal(a.lora_B, b.lora_B), name


@pytest.mark.parametrize("kind", ["t5", "bart", "m2m_100", "encoder-decoder"])
def test_dropout_of_the_recipe_reaches_every_layer_and_none_is_left_out(kind: str, folders: dict[str, Path]) -> None:
    if kind == "m2m_100":  # its config leaves out every twentieth block unless told otherwise; here every second one
        config = json.loads((folders[kind] / "config.json").read_text())
        config |= {"encoder_layerdrop": 0.5, "decoder_layerdrop": 0.5}
        (folders[kind] / "config.json").write_text(json.dumps(config))
    source = catalog.find(str(folders[kind]))
    model = load.load_seq2seq(source, ModelChoice(name="x", dropout=0.0), None, 0)
    model.train()
    sources, targets = parts_of(model)
    where = torch.arange(sum(len(target.ids) for target in targets))
    with torch.no_grad():
        states = [seq2seq.answer_states(model, sources, targets, where) for _ in range(2)]
    assert torch.equal(*states)


def test_halves_of_different_widths_are_joined_by_a_layer_that_is_new(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    narrow = tiny.make_encoder(tmp_path / "narrow", hidden_size=16)
    joined = pair.join(catalog.find(str(encoder)), catalog.find(str(narrow)))
    model = load.load_seq2seq(joined, ModelChoice(name="x"), None, 0)
    assert {"enc_to_dec_proj.weight", "enc_to_dec_proj.bias"} <= model.fresh
    rows = samples.write("translation", tmp_path)
    values = tiny.recipe_values(encoder, rows, tmp_path / "runs", task="translation", train__epochs=1)
    values["model"] = {"encoder": str(encoder), "decoder": str(narrow)}
    directory = run.train_recipe(recipefile.build(values))
    assert load_run(directory.path).predict(["my parcel"])[0]["answer"] is not None


def test_halves_with_different_tokenizers_are_refused(encoder: Path, decoder: Path, tmp_path: Path) -> None:
    halves = [catalog.find(str(folder)) for folder in (encoder, decoder)]
    with pytest.raises(ModelError, match="different tokenizers"):
        pair.join(*halves)


@pytest.mark.parametrize("values", [{"encoder": "a"}, {"encoder": "a", "name": "b", "decoder": "c"}])
def test_half_a_pair_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match=r"decoder|keep one"):
        recipefile.build({"model": values, "data": "x"})


@pytest.mark.parametrize("method", ["full", "lora", "top-layers"])
@pytest.mark.parametrize("kind", ["t5", "marian"])
def test_tied_families_learn_and_answer_the_same_from_the_saved_run(
    folders: dict[str, Path], tmp_path: Path, method: str, kind: str
) -> None:
    rows = samples.write("summarization", tmp_path)
    rate = 1e-2 if method == "lora" else 3e-3
    values = tiny.recipe_values(
        folders[kind], rows, tmp_path / "runs", task="summarization", method=method, train__epochs=8,
        train__learning_rate=rate,
    )  # fmt: skip
    directory = run.train_recipe(recipefile.build(values))
    report = directory.json("report/report")
    assert report["scores"]["test"]["mean_token_loss"]["value"] < report["base"]["test"]["mean_token_loss"]["value"]
    again = load_run(directory.path)
    assert again.evaluate()["scores"]["test"] == report["scores"]["test"]


@pytest.mark.parametrize("method", ["full", "lora", "top-layers"])
def test_a_pair_learns_is_saved_and_is_opened_by_transformers(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    from transformers import AutoTokenizer, EncoderDecoderModel

    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    rows = samples.write("translation", tmp_path)
    values = tiny.recipe_values(encoder, rows, tmp_path / "runs", task="translation", method=method, train__epochs=6)
    values["model"] = {"encoder": str(encoder), "decoder": str(encoder)}
    directory = run.train_recipe(recipefile.build(values))
    report = directory.json("report/report")["scores"]["test"]
    base = directory.json("report/report")["base"]["test"]
    assert report["mean_token_loss"]["value"] < base["mean_token_loss"]["value"] - 0.5
    text = "my parcel 7"
    predictor = load_run(directory.path)
    ours = predictor.predict([text])[0]["answer"]
    folder = directory.path / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if method == "lora":
        from peft import PeftModel

        net = PeftModel.from_pretrained(EncoderDecoderModel.from_pretrained(predictor.source.folder), folder)
    else:
        net = EncoderDecoderModel.from_pretrained(folder)
    most = predictor.task.room(predictor.model)  # type: ignore[attr-defined]
    out = net.eval().generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=most, do_sample=False)
    assert tokenizer.decode(out[0], skip_special_tokens=True) == ours
