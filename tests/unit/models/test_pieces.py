"""Models whose tokenizers are SentencePiece's alone: Marian and M2M100, as they are published."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunesmith import ModelError, recipefile, run
from tunesmith import load as load_run
from tunesmith.errors import UserError
from tunesmith.models import catalog, generate, load, seq2seq
from tunesmith.models.pieces import SlowBackend
from tunesmith.models.seq2seq import Told
from tunesmith.prepare import prepare
from tunesmith.recipe import ModelChoice

TOLD = Told("translate", "en", "de")
TEXTS = ["where is my parcel", "the  box was lost twice", "no", "zzz unknown QQ, 2 x", "a </s> in it"]

pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")


def make_sentencepiece(folder: Path, kind: str = "marian") -> Path:
    """A tiny Marian or M2M100 with its own tokenizer over SentencePiece files; Marian's halves have pieces of their
    own, and it is told the language it writes by `>>de<<` or `>>fr<<`."""
    import io

    import sentencepiece
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    folder.mkdir(parents=True, exist_ok=True)

    def pieces(lines: list[str], name: str, size: int) -> list[str]:
        proto = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=proto, vocab_size=size, minloglevel=2, hard_vocab_limit=False
        )
        (folder / name).write_bytes(proto.getvalue())
        model = sentencepiece.SentencePieceProcessor(model_proto=proto.getvalue())
        return [model.id_to_piece(k) for k in range(3, model.get_piece_size())]

    english = [" ".join(tiny.WORDS[k % len(tiny.WORDS)] for k in range(n, n + 7)) for n in range(200)]
    german = [line.replace("e", "ä").replace("th", "d") for line in english]
    marks = [">>de<<", ">>fr<<"]
    if kind == "marian":
        known = [*pieces(english, "source.spm", 60), *pieces(german, "target.spm", 60)]
        words = ["</s>", "<unk>", *marks, *dict.fromkeys(known), "<pad>"]
        extra = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "de"}
    else:
        known = pieces(english + german, "sentencepiece.bpe.model", 90)
        words = ["<s>", "<pad>", "</s>", "<unk>", *known]
        extra = {"tokenizer_class": "M2M100Tokenizer", "src_lang": "en", "tgt_lang": "de"}
    ids = {word: k for k, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({**extra, "model_max_length": 64}), encoding="utf-8")
    end, pad = ids["</s>"], ids["<pad>"]
    values = {**tiny.SEQ2SEQ[kind], "pad_token_id": pad, "eos_token_id": end, "bos_token_id": 0}
    values["decoder_start_token_id"] = pad if kind == "marian" else end
    size = len(words) + (0 if kind == "marian" else 108)  # M2M100's languages come behind its words
    net = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(kind, **values, vocab_size=size))
    tiny.redraw(net)
    if kind == "marian":
        net.generation_config.bad_words_ids = [[pad]]
    net.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pieces")
    return {kind: make_sentencepiece(root / kind, kind) for kind in ("marian", "m2m_100")}


def opened(folder: Path) -> Any:
    return load.load_seq2seq(catalog.find(str(folder)), ModelChoice(name="x"), None, 0)


@pytest.mark.parametrize("kind", ["marian", "m2m_100"])
def test_sources_and_targets_are_the_tokenizers_own(kind: str, folders: dict[str, Path]) -> None:
    from transformers import AutoTokenizer

    text = opened(folders[kind]).text
    stock = AutoTokenizer.from_pretrained(folders[kind])
    if kind == "m2m_100":
        stock.src_lang, stock.tgt_lang = "en", "de"
    for words in TEXTS:
        before = ">>de<< " if kind == "marian" else ""
        assert list(seq2seq.source_tokens(text, words, TOLD).ids) == stock(before + words).input_ids
        assert list(seq2seq.target_tokens(text, words, TOLD).ids[1:]) == stock(text_target=words).input_ids
    source = seq2seq.source_tokens(text, "parcel lost", TOLD).ids
    target = seq2seq.target_tokens(text, "parcel lost", TOLD).ids
    if kind == "marian":
        assert source[0] == stock.convert_tokens_to_ids(">>de<<")
        assert source[1:] != target[1:]  # each half has pieces of its own
    else:
        assert source[0] == stock.get_lang_id("en") and target[1] == stock.get_lang_id("de")


@pytest.mark.parametrize("kind", ["marian", "m2m_100"])
def test_every_token_knows_its_characters(kind: str, folders: dict[str, Path]) -> None:
    text = opened(folders[kind]).text
    for backend in (text.backend, text.writer):
        assert isinstance(backend, SlowBackend)
        for words in ["the  box was lost", "wäs äm box", "QQ box", ">>de<< my box", "a </s> b"]:
            made = backend.encode(words)
            assert len(made.ids) == len(made.offsets) == len(made.special_tokens_mask)
            inside = [span for span, special in zip(made.offsets, made.special_tokens_mask, strict=True) if not special]
            assert all(0 <= start <= end <= len(words) for start, end in inside)
            assert [start for start, _ in inside] == sorted(start for start, _ in inside)
            assert inside[-1][1] == len(words)
    spans = text.backend.encode("my box", add_special_tokens=False).offsets
    assert "".join("my box"[start:end] for start, end in spans) == "my box"


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kind", ["marian", "m2m_100"])
def test_a_translator_learns_and_transformers_opens_what_was_saved(
    kind: str, method: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    rows = [
        {"source": f"my {a} was {b}", "target": f"{a} {b}".replace("e", "ä")}
        for a in tiny.WORDS[:12]
        for b in tiny.WORDS[12:18]
    ]
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    values = tiny.recipe_values(
        folders[kind], file, tmp_path / "runs", method=method, train__epochs=12,
        train__learning_rate=1e-2 if method == "lora" else 3e-3,
        task={"name": "translation", "source_language": "en", "target_language": "de", "max_new_tokens": 8},
    )  # fmt: skip
    directory = run.train_recipe(recipefile.build(values))
    report = directory.json("report/report")
    assert (
        report["scores"]["test"]["mean_token_loss"]["value"] < report["base"]["test"]["mean_token_loss"]["value"] - 0.3
    )
    predictor = load_run(directory.path)
    assert predictor.evaluate()["scores"]["test"] == report["scores"]["test"]
    ours = predictor.predict(["my box was lost"])[0]["answer"]
    folder = directory.path / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if method == "lora":
        from peft import PeftModel

        net: Any = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(folders[kind]), folder)
    else:
        net = AutoModelForSeq2SeqLM.from_pretrained(folder)
    asked = (">>de<< " if kind == "marian" else "") + "my box was lost"
    forced = {"forced_bos_token_id": tokenizer.get_lang_id("de")} if kind == "m2m_100" else {}
    out = net.eval().generate(**tokenizer(asked, return_tensors="pt"), max_new_tokens=8, num_beams=1, **forced)
    assert tokenizer.decode(out[0], skip_special_tokens=True).strip() == ours


@torch.no_grad()
def test_tokens_that_a_model_must_never_write_are_not_written(folders: dict[str, Path]) -> None:
    model = opened(folders["marian"])
    pad = model.text.tokenizer.pad_token_id
    model.net.final_logits_bias[0, pad] = 1e4  # greedy search would write nothing else
    free = model.net.generate(
        input_ids=torch.tensor([[5, 6, 0]]), max_new_tokens=4, num_beams=1, bad_words_ids=None, do_sample=False
    )
    made = generate.translations(model, [seq2seq.source_tokens(model.text, "my box", TOLD)], 4, TOLD)
    assert set(free[0, 1:].tolist()) == {pad}
    assert made[0].text and made[0].tokens


@pytest.mark.parametrize(("language", "said"), [("xx", "`xx` is none of them"), (None, "is not told which")])
def test_a_translator_of_several_languages_must_be_told_one_of_them(
    language: str | None, said: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", [{"source": f"a {n}", "target": f"b {n}"} for n in range(40)])
    task = {"name": "translation", "source_language": "en", "target_language": language}
    values = tiny.recipe_values(folders["marian"], file, tmp_path, task=task)
    if language is None:
        values["task"] = "translation"
    with pytest.raises(UserError, match=said):
        run.train_recipe(recipefile.build(values))


def test_two_vocabularies_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(folders["marian"], tmp_path / "m")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "separate_vocabs": True}))
    shutil.copy(folder / "vocab.json", folder / "target_vocab.json")
    with pytest.raises(ModelError, match="one vocabulary"):
        opened(folder)


@pytest.mark.parametrize("kind", ["marian", "m2m_100"])
def test_each_row_may_have_languages_of_its_own(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    rows = [
        {"source": f"my {word} {n}", "target": f"{lang} {word}", "source_lang": "en", "target_lang": lang}
        for n, word in enumerate(tiny.WORDS[:30])
        for lang in ("de", "fr")
    ]
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    task = {"name": "translation", "max_new_tokens": 4}
    values = tiny.recipe_values(folders[kind], file, tmp_path / kind, task=task, train__epochs=1)
    predictor = load_run(run.train_recipe(recipefile.build(values)).path)
    text = predictor.model.text
    asked = [{"source": "my box", "source_lang": "en", "target_lang": lang} for lang in ("de", "fr", "de")]
    spoken = []

    def spy(model: Any, sources: Any, most: int, told: Told) -> Any:
        spoken.append((told.target, len(sources)))
        return stock(model, sources, most, told)

    stock = generate.translations
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "translations", spy)
        made = predictor.predict(asked)
    assert spoken == [("de", 2), ("fr", 1)]
    assert made == [predictor.predict([row])[0] for row in asked]
    for lang in ("de", "fr"):
        row = predictor.row(0, {"source": "my box", "source_lang": "en", "target_lang": lang})
        told = predictor.task.told_of(row)  # type: ignore[attr-defined]
        example = predictor.task.encode(row, predictor.model, "answer")[0]
        assert example.parts["text"].ids == seq2seq.source_tokens(text, "my box", told).ids
        if kind == "m2m_100":
            assert seq2seq.forced_start(text, told) == text.tokenizer.get_lang_id(lang)
    assert "Translate from English to French" in predictor.task.question(row).before  # type: ignore[attr-defined]


def test_a_row_with_a_language_that_the_model_lacks_is_a_bad_row(folders: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"source": f"a {n}", "target": f"b {n}", "target_lang": "fr" if n % 2 else "de"} for n in range(40)]
    for kind, wrong in (("marian", "xx"), ("marian", ""), ("m2m_100", "xx")):
        file = tiny.write_jsonl(tmp_path / "rows.jsonl", [*rows, {"source": "a", "target": "b", "target_lang": wrong}])
        values = tiny.recipe_values(folders[kind], file, tmp_path, task="translation")
        with pytest.raises(UserError) as fault:
            prepare(recipefile.build(values))
        assert str(fault.value.where).startswith(f"{file}:41")
        values["data"]["bad_rows"] = "skip"
        assert sum(map(len, prepare(recipefile.build(values)).splits.bad.values())) == 1


def test_what_an_untold_row_is_framed_with_does_not_depend_on_the_rows_before(folders: dict[str, Path]) -> None:
    text = opened(folders["m2m_100"]).text
    untold = Told("translate")
    first = seq2seq.source_tokens(text, "my box", untold).ids
    seq2seq.target_tokens(text, "my box", Told("translate", "en", "fr"))
    seq2seq.source_tokens(text, "my box", Told("translate", "zh", "fr"))
    assert seq2seq.source_tokens(text, "my box", untold).ids == first
