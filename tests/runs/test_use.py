"""A run in use reads rows as its training did, whatever their columns are called, and writes whole tables."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import samples
import tiny
from tunesmith import DataError, recipefile, run
from tunesmith import load as load_run
from tunesmith.models.image import open_image


def trained(model: Path, rows: list[dict[str, Any]], tmp_path: Path, task: Any, **changes: Any) -> Any:
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    values = tiny.recipe_values(model, file, tmp_path / "runs", task=task, train__epochs=1, **changes)
    return load_run(run.train_recipe(recipefile.build(values)).path)


def test_columns_that_training_named_are_read_in_use_though_the_tasks_own_name_is_there_too(
    encoder: Path, tmp_path: Path
) -> None:
    rows = [
        {"clean": row["text"], "text": f"<b>{row['label']}</b>", "label": row["label"]} for row in tiny.label_rows()
    ]
    predictor = trained(
        encoder, rows, tmp_path, "text-classification", data__columns={"text": "clean", "label": "label"},
        evaluate__compare=False,
    )  # fmt: skip
    asked = {"clean": "my bill is late", "text": "something else"}
    assert predictor.predict([asked]) == predictor.predict(["my bill is late"])
    assert predictor.predict([{"text": "my bill is late"}]) == predictor.predict(["my bill is late"])


def test_a_task_without_required_columns_reads_the_columns_that_training_named(decoder: Path, tmp_path: Path) -> None:
    rows = [{"question": f"where is {n}", "answer": f"it is {n}"} for n in range(40)]
    named = {"prompt": "question", "completion": "answer"}
    task = {"name": "chat", "max_new_tokens": 3}
    predictor = trained(decoder, rows, tmp_path, task, data__columns=named, evaluate__compare=False)
    assert predictor.predict([{"question": "where is 7"}]) == predictor.predict([{"prompt": "where is 7"}])


def test_answers_of_different_shapes_keep_their_columns_in_a_table(encoder: Path, tmp_path: Path) -> None:
    predictor = trained(encoder, samples.question_rows(), tmp_path, "question-answering", evaluate__compare=False)
    asked = [
        {"question": "what is it?", "context": "a red box", "id": 1},
        {"id": 2, "context": "the door", "question": "what is it?"},
        {"question": "what is it?", "context": "it is blue", "note": "late, very"},
    ]
    source = tiny.write_jsonl(tmp_path / "asked.jsonl", asked)
    for threshold in (-1e9, 1e9):  # none is answered, then all are
        object.__setattr__(predictor.task, "threshold", threshold)
        assert predictor.predict_file(source, tmp_path / "answers.csv") == 3
        with open(tmp_path / "answers.csv", newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        assert [line["context"] for line in table] == [row["context"] for row in asked]
        assert [line["note"] for line in table] == ["", "", "late, very"]
        assert [line["id"] for line in table] == ["1", "2", ""]
        assert all((line["predicted_answer"] == "") == (threshold < 0) for line in table)
        assert all(0 <= float(line["predicted_probability"]) <= 1 for line in table)
    assert not list(tmp_path.glob(".answers*"))


def test_rows_that_training_left_out_are_left_out_when_the_run_is_scored_again(decoder: Path, tmp_path: Path) -> None:
    rows = tiny.chat_rows(60)
    for row in rows[::7]:
        row["messages"] = [{"role": "user", "content": "no " * 200}, {"role": "assistant", "content": "yes"}]
    task = {"name": "chat", "max_new_tokens": 3}
    predictor = trained(decoder, rows, tmp_path, task, data__max_tokens=120, data__bad_rows="skip")
    told = json.loads((predictor.run.path / "report" / "report.json").read_text())
    again = predictor.evaluate()
    assert again["scores"]["test"] == told["scores"]["test"] and again["base"] == told["base"]
    assert predictor.evaluate(tmp_path / "rows.jsonl")["scores"]["data"]["mean_token_loss"]["n"] < 60


def test_a_row_that_is_too_long_is_named_with_its_line(decoder: Path, tmp_path: Path) -> None:
    task = {"name": "chat", "max_new_tokens": 3}
    predictor = trained(decoder, tiny.chat_rows(40), tmp_path, task, data__max_tokens=120, evaluate__compare=False)
    asked = [{"prompt": "here"}, {"prompt": "no " * 200}]
    source = tiny.write_jsonl(tmp_path / "asked.jsonl", asked)
    with pytest.raises(DataError) as fault:
        predictor.predict_file(source, tmp_path / "answers.jsonl")
    assert fault.value.where == f"{source}:2"
    with pytest.raises(DataError) as fault:
        predictor.predict(asked)
    assert fault.value.where == "row 2"


def test_half_a_character_is_a_bad_row_in_a_file_and_refused_in_use(encoder: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = tiny.label_rows()
    rows[4]["text"] = "cut here \ud83d"
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = tiny.recipe_values(encoder, file, tmp_path / "runs", evaluate__compare=False)
    with pytest.raises(DataError, match="half of a character") as fault:
        run.train_recipe(recipefile.build(values))
    assert str(fault.value.where).startswith(f"{file}:5")
    values["data"]["bad_rows"] = "skip"
    predictor = load_run(run.train_recipe(recipefile.build(values)).path)
    for given in ("cut \ud83d", {"text": "cut \ud83d"}):
        with pytest.raises(DataError, match="half of a character"):
            predictor.predict([given])


def test_a_sample_of_one_label_is_refused(encoder: Path, tmp_path: Path) -> None:
    rows = [{"text": f"a box {n}", "label": "many"} for n in range(200)]
    rows += [{"text": f"one {n}", "label": "few"} for n in range(3)]
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match="every training row has the label"):
        run.train_recipe(recipefile.build(tiny.recipe_values(encoder, file, tmp_path, data__limit=8)))


def test_a_probe_of_one_class_says_that_class_of_everything(encoder: Path) -> None:
    import torch

    from tunesmith.models import catalog, load, probe
    from tunesmith.recipe import ModelChoice

    model = load.load_classifier(catalog.find(str(encoder)), ModelChoice(name="x"), ("a", "b", "c"), None, 0)
    rows = [model.text.text(row["text"]) for row in tiny.label_rows(12)]
    probe.fit_probe(model, rows, [1] * 12)
    with torch.no_grad():
        assert set(model.class_logits(rows).argmax(1).tolist()) == {1}


def test_types_of_entities_and_labels_of_several_have_scores_of_their_own(encoder: Path, tmp_path: Path) -> None:
    for task, rows, names in (
        ("token-classification", samples.entity_rows(), {"THING", "WHO"}),
        ("multi-label-classification", samples.labels_rows(), {"red", "blue", "late"}),
    ):
        folder = tmp_path / task
        folder.mkdir()
        predictor = trained(encoder, rows, folder, task, evaluate__compare=False)
        report = json.loads((predictor.run.path / "report" / "report.json").read_text())
        found = {one["label"]: one for one in report["labels"]}
        assert set(found) == names
        lines = (predictor.run.path / "predictions/test.jsonl").read_text().splitlines()
        answers = [json.loads(line) for line in lines]
        if task == "multi-label-classification":
            for name in names:
                said = [name in answer["prediction"]["labels"] for answer in answers]
                gold = [name in answer["label_set"] for answer in answers]
                hit = sum(a and b for a, b in zip(said, gold, strict=True))
                assert found[name]["n"] == sum(gold)
                assert found[name]["recall"] == pytest.approx(hit / sum(gold))
                assert found[name]["precision"] == pytest.approx(hit / sum(said) if any(said) else 0.0)
        assert "## Labels" in (predictor.run.path / "report" / "report.md").read_text()


def test_the_saved_model_says_how_its_outputs_become_answers_and_holds_no_row(
    encoder: Path, decoder: Path, tmp_path: Path
) -> None:
    places = {}
    for name, model, rows in (
        ("text-regression", encoder, samples.number_rows()),
        ("multi-label-classification", decoder, samples.labels_rows()),
        ("summarization", decoder, samples.summary_rows()),
    ):
        (tmp_path / name).mkdir()
        predictor = trained(model, rows, tmp_path / name, name, method="full", evaluate__compare=False)
        places[name] = (predictor, json.loads((predictor.run.model / "task.json").read_text()))
    predictor, told = places["text-regression"]
    assert (told["mean"], told["deviation"]) == (predictor.task.mean, predictor.task.deviation) != (0, 1)
    predictor, told = places["multi-label-classification"]
    assert tuple(told["cuts"]) == predictor.task.cuts
    assert json.loads((predictor.run.model / "config.json").read_text())["problem_type"] == "multi_label_classification"
    predictor, told = places["summarization"]
    assert told["long_answer"] == "" and told["max_new_tokens"] == predictor.task.room(predictor.model)


def test_scored_pairs_are_compared_in_use(encoder: Path, tmp_path: Path) -> None:
    rows = [{"query": f"my {w} {n}", "document": f"a {w} {n}", "score": n % 3} for n, w in enumerate(tiny.WORDS[:40])]
    predictor = trained(encoder, rows, tmp_path, "retrieval", evaluate__compare=False)
    made = predictor.predict([{"query": "my box", "document": "my box"}, {"query": "my box", "document": "door"}])
    assert made[0]["similarity"] == pytest.approx(1.0, abs=1e-5) and made[1]["similarity"] < 1 - 1e-6


def test_an_image_that_claims_to_be_vast_is_refused_and_fractions_are_not_black(tmp_path: Path) -> None:
    import struct
    import zlib

    import numpy as np
    from PIL import Image

    head = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    made = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        made += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    (tmp_path / "vast.png").write_bytes(made)
    with pytest.raises(DataError, match="too large"):
        open_image(tmp_path / "vast.png")
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "f.tiff")
    assert np.asarray(open_image(tmp_path / "f.tiff")).max() == 255
