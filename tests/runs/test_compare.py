"""`compare` and `report`: runs and models on the same rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from tunesmith import comparing, recipefile, run
from tunesmith.cli import main
from tunesmith.evidence import prompted
from tunesmith.metrics.measured import Measured
from tunesmith.models import catalog, load
from tunesmith.recipe import ModelChoice
from tunesmith.recipefile import make_plugin
from tunesmith.report import measures
from tunesmith.reportshape import SHAPES, Report
from tunesmith.rundir import RunDir
from tunesmith.tasks.text_classification import TextClassification


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--json"])
    assert isinstance(caught.value.code, int)
    return caught.value.code, json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def runs(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[RunDir]:
    """Two runs on the same test rows, one of which learned; and one on other rows in another order, some shared."""
    folder = tmp_path_factory.mktemp("compared")
    rows = tiny.label_rows(170)
    train = tiny.write_jsonl(folder / "train.jsonl", rows[:90])
    test = tiny.write_jsonl(folder / "test.jsonl", rows[90:150])
    part = tiny.write_jsonl(folder / "part.jsonl", rows[110:][::-1])
    made = []
    for name, rate, epochs, file in (("still", 1e-9, 4, test), ("learned", 3e-3, 15, test), ("part", 3e-3, 4, part)):
        values = tiny.recipe_values(encoder, train, folder, train__epochs=epochs, train__learning_rate=rate,
                                    train__head_learning_rate=rate, evaluate__compare=name != "part")  # fmt: skip
        values["data"]["test"] = str(file)
        values["run"]["name"] = name
        made.append(run.train_recipe(recipefile.build(values)))
    return made


def test_runs_are_compared_on_the_rows_that_all_were_scored_on_as_by_hand(
    runs: list[RunDir], capsys: pytest.CaptureFixture[str]
) -> None:
    still, learned, part = runs
    code, found = ended(capsys, "compare", str(still.path), str(learned.path))
    assert code == 0
    SHAPES["compare"].model_validate(found)
    assert found["rows"] == 60
    values = [directory.json("report/report")["scores"]["test"][found["headline"]]["value"] for directory in runs]
    assert [one["score"]["value"] for one in found["runs"]] == pytest.approx(values[:2])
    (against,) = found["against"]
    assert against["difference"] == pytest.approx(values[1] - values[0])
    assert against["outcome"] == "helped" and against["low"] > 0
    code, found = ended(capsys, "compare", str(learned.path), str(part.path))
    assert (code, found["rows"]) == (0, 40)  # rows 110 to 149 are in both, in other places
    said = [json.loads(line) for line in (part.path / "predictions/test.jsonl").read_text().splitlines()]
    shared = {
        line["text"] for line in map(json.loads, (learned.path / "predictions/test.jsonl").read_text().splitlines())
    }
    right = [line["prediction"]["label"] == line["label"] for line in said if line["text"] in shared]
    assert comparing.compare([learned, part]).runs[1].scores["accuracy"].value == pytest.approx(np.mean(right))


def test_runs_that_share_no_row_or_no_task_and_torn_measures_are_refused(
    runs: list[RunDir], encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still, learned, _ = runs
    assert ended(capsys, "compare", str(still.path))[0] == 2
    rows = tiny.write_jsonl(
        tmp_path / "others.jsonl", [{**row, "text": f"{row['text']} now"} for row in tiny.label_rows(90)]
    )
    values = tiny.recipe_values(encoder, rows, tmp_path, train__epochs=1, evaluate__compare=False)
    other = run.train_recipe(recipefile.build(values))
    code, said = ended(capsys, "compare", str(still.path), str(other.path))
    assert code == 2 and said["error"]["problem"] == "no row was scored in all of these runs"
    torn = tmp_path / "torn"
    shutil.copytree(learned.path, torn)
    (torn / "report" / "measures.safetensors").write_bytes(b"\x08" + b"\0" * 7 + b"nonsense")
    code, said = ended(capsys, "compare", str(still.path), str(torn))
    assert code == 2 and said["error"]["problem"].startswith("the measures of the run are torn")
    (torn / "report" / "measures.safetensors").unlink()
    code, said = ended(capsys, "report", str(still.path), "--with", str(torn))
    assert code == 2 and "no measures of single rows" in said["error"]["problem"]


def test_measures_come_back_as_they_were(runs: list[RunDir]) -> None:
    kept = measures.unpack(runs[1].report / "measures.safetensors")
    assert {"tuned", "base", "majority", "tfidf_linear"} <= kept.systems.keys()
    report = runs[1].json("report/report")
    task = TextClassification(labels=tuple(one["label"] for one in report["labels"]))
    for system, said in (
        ("tuned", report["scores"]),
        ("base", report["base"]),
        ("majority", report["baselines"]["majority"]),
    ):
        measured: Measured = kept.systems[system]
        values = task.reduce({name: found.sum(0) for name, found in measured.values.items()})
        assert float(values["macro_f1"]) == said["test"]["macro_f1"]["value"]


def test_a_report_is_made_anew_with_other_runs_in_it_and_twice_gives_the_same(
    runs: list[RunDir], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still, learned, _ = runs
    copied = tmp_path / "learned"
    shutil.copytree(learned.path, copied)
    code, found = ended(capsys, "report", str(copied), "--with", str(still.path))
    assert code == 0
    Report.model_validate(found)
    assert [one["kind"] for one in found["compared"]].count("run") == 1
    assert next(one for one in found["compared"] if one["kind"] == "run")["outcome"] == "helped"
    page = (copied / "report" / "index.html").read_bytes()
    assert still.path.name.encode() in page
    assert ended(capsys, "report", str(copied), "--with", str(still.path)) == (0, found)
    assert (copied / "report" / "index.html").read_bytes() == page


def test_a_report_is_the_same_page_when_it_is_made_again(runs: list[RunDir], tmp_path: Path) -> None:
    copied = tmp_path / "again"
    shutil.copytree(runs[1].path, copied)
    pages = {name: (copied / "report" / name).read_bytes() for name in ("index.html", "report.md", "report.json")}
    (copied / "report" / "index.html").unlink()
    with pytest.raises(SystemExit) as caught:
        main(["report", str(copied)])
    assert caught.value.code == 0
    assert {name: (copied / "report" / name).read_bytes() for name in pages} == pages


def test_what_another_model_says_of_a_row_does_not_depend_on_the_rows_asked_with_it(decoder: Path) -> None:
    model = load.load_causal_lm(catalog.find(str(decoder)), ModelChoice(name="x"), None)
    chat, labels = make_plugin("tasks", "chat", {}), ["parcel", "bill", "a lost card"]
    prompts = [prompted.in_words(labels, text) for text in ("where is my parcel", "my card is lost", "paid twice")]
    together = prompted._scores(model, chat, prompts, labels)
    alone = [prompted._scores(model, chat, [prompt], labels)[0] for prompt in prompts]
    assert together.shape == (3, 3) and together == pytest.approx(np.array(alone), abs=1e-4)
    assert abs(together[0] - together[1]).max() > 1e-2


def test_another_model_is_asked_the_same_rows_in_words_or_probed(
    runs: list[RunDir], encoder: Path, decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "learned"
    shutil.copytree(runs[1].path, copied)
    code, found = ended(capsys, "report", str(copied), "--model", str(decoder), "--model", str(encoder))
    assert code == 0
    Report.model_validate(found)
    asked, probed = found["models"]
    assert "asked in words" in asked["how"] and "linear probe" in probed["how"]
    assert asked["score"]["n"] == 60 and asked["seconds_per_1000"] > 0
    base = found["base"]["test"][found["headline"]]["value"]
    assert probed["score"]["value"] == pytest.approx(base)  # it is the run's own model
    kinds = {one["name"]: one["kind"] for one in found["compared"]}
    assert kinds[asked["name"]] == kinds[probed["name"]] == "model"
    code, said = ended(capsys, "report", str(copied), "--model", "no-such-model")
    assert code == 2 and said["error"]["kind"] == "ModelError"
