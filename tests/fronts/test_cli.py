"""The command line as a user and as a program see it."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import tiny
import tunesmith
from tunesmith import cli
from tunesmith.reportshape import SHAPES


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main(list(arguments))
    out = capsys.readouterr()
    assert caught.value.code == code, out.err
    return out.out


def as_json(capsys: pytest.CaptureFixture[str], shape: str, *arguments: str) -> Any:
    """Run with --json: standard output is one JSON object of the documented shape and nothing else."""
    value = json.loads(run(capsys, *arguments, "--json"))
    jsonschema.validate(value, SHAPES[shape].model_json_schema())
    return value


def test_help_comes_in_under_a_third_of_a_second_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tunesmith import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pydantic', 'sklearn', 'rich', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.3, times  # processor time: it is the wall time of a quiet machine, and does not see others


def test_bare_training_then_all_that_one_does_with_a_run(
    encoder: Path, labels_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--set", "train.epochs=2", "--set", "train.learning_rate=3e-3"]
    said = run(capsys, "train", str(encoder), labels_csv.name, *small)
    assert "taken as text-classification: text is `text`, label is `label`" in said
    (directory,) = (tmp_path / "runs").iterdir()
    assert f"predict runs/{directory.name}" in said
    for name in ("recipe.yaml", "resolved.json", "receipt.json", "data.json", "task.json", "plan.json", "status.json",
                 "events.jsonl", "logs/attempt_1/rank0.log", "checkpoints/best", "checkpoints/last", "model/README.md",
                 "report/report.md", "report/report.json", "report/curves.png", "report/confusion.png",
                 "predictions/test.jsonl"):  # fmt: skip
        assert (directory / name).exists(), name
    from tunesmith import recipefile

    assert recipefile.load(directory / "recipe.yaml").recipe.data.columns == {"text": "text", "label": "label"}

    result = as_json(capsys, "result", "resume", str(directory))
    assert result["headline"] in result["scores"]["test"]
    assert set(result["baselines"]) == {"majority", "tfidf_linear"}
    assert result["verdict"]["metric"] == result["headline"]
    assert result["tokens"]["real"] > result["tokens"]["label"] > 0
    assert {"read", "load", "train", "evaluate"} <= set(result["seconds"])

    scored = as_json(capsys, "result", "evaluate", str(directory))
    assert scored["scores"]["test"] == result["scores"]["test"]
    assert scored["base"]["test"] == result["base"]["test"]
    on_file = as_json(capsys, "result", "evaluate", str(directory), "--data", str(labels_csv))
    assert on_file["scores"]["data"]["accuracy"]["n"] == 90

    labels = run(capsys, "predict", str(directory), "--text", "the parcel box", "--text", "bill").splitlines()
    assert [line.split("\t")[0] in {"billing", "shipping", "login"} for line in labels] == [True, True]
    for target in ("out.csv", "out.jsonl"):
        assert "90 rows" in run(capsys, "predict", str(directory), "--input", str(labels_csv), "--output", target)
        assert len((tmp_path / target).read_text().splitlines()) == (91 if target.endswith("csv") else 90)

    listed = as_json(capsys, "runs", "runs", "runs")["runs"]
    assert [line["state"] for line in listed] == ["finished"]
    assert listed[0]["value"] == result["scores"]["test"][result["headline"]]["value"]


def test_check_trains_nothing_and_writes_nothing(
    decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [*tiny.chat_rows(30), tiny.chat_rows(1)[0], {"messages": [{"role": "user", "content": "no answer"}]}]
    file = tiny.write_jsonl(tmp_path / "chats.jsonl", rows)
    value = as_json(capsys, "check", "check", str(decoder), str(file))
    kinds = {(finding["kind"], finding["split"]): finding for finding in value["findings"]}
    assert [(spot["file"], spot["line"]) for spot in kinds["bad-row", "train"]["examples"]] == [(str(file), 32)]
    assert sum(finding["count"] for (kind, _), finding in kinds.items() if kind == "duplicate") == 1
    assert 0 < value["plan"]["trainable_share"] < 1
    assert value["plan"]["worst_micro_batch_seconds"] > 0
    said = run(capsys, "check", str(decoder), str(file), "--rows", "2")
    assert "[[" in said
    assert "<|im_end|>\n]]" in said
    assert list(tmp_path.iterdir()) == [file]


def test_check_writes_the_rows_that_are_left_and_says_whether_more_would_help(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{**row, "text": f"{row['text']} {k}"} for k, row in enumerate(tiny.label_rows(150))]
    file = tiny.write_csv(tmp_path / "rows.csv", [*rows, rows[3], rows[4]])
    value = as_json(capsys, "check", "check", str(encoder), str(file), "--fix", "left.csv", "--scaling")
    assert value["fixed"] == {"file": "left.csv", "rows": 150, "left_out": 2}
    assert len((tmp_path / "left.csv").read_text().splitlines()) == 151
    sizes = [point["rows"] for point in value["scaling"]["points"]]
    assert sizes == sorted(sizes) and value["scaling"]["verdict"]
    with pytest.raises(SystemExit) as caught:
        cli.main(["check", str(encoder), str(file), "--fix", "left.csv"])
    assert caught.value.code == 2
    assert "exists already" in capsys.readouterr().err


def test_init_writes_a_recipe_that_trains(
    encoder: Path, labels_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.yaml"
    run(capsys, "init", str(labels_csv), "--model", str(encoder), "--output", str(recipe))
    value = as_json(capsys, "result", "train", str(recipe), "--set", "train.steps=2",
                    "--set", f"run.dir={tmp_path / 'runs'}")  # fmt: skip
    assert value["state"] == "finished"


def test_models_are_listed_and_recommended_with_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    names = [line["name"] for line in as_json(capsys, "models", "models")["models"]]
    assert names == ["minilm", "smollm2-135m", "efficientnet-lite0"]
    (chat,) = as_json(capsys, "models", "models", "--for", "chat")["models"]
    assert chat["name"] == "smollm2-135m"
    assert chat["reason"]
    run(capsys, "models", "--for", "chatt", code=2)


@pytest.mark.parametrize("what", ["recipe", *SHAPES])
def test_the_schemas_in_the_docs_are_the_programs_own(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = json.loads(run(capsys, "schema", what))
    jsonschema.Draft202012Validator.check_schema(printed)
    docs = Path(__file__).parents[2] / "docs" / "reference"
    assert json.loads((docs / f"{what}.schema.json").read_text()) == printed


def test_an_error_under_json_is_one_object_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "train", str(tmp_path / "none.yaml"), "--json", code=2)
    assert json.loads(out)["error"]["problem"] == "there is no such recipe"


def test_the_python_front_tunes_and_loads(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    values = tiny.recipe_values(encoder, labels_csv, tmp_path, evaluate__compare=False)
    tuned = tunesmith.tune(values, {"train.epochs": 1})
    answers = tuned.predict(["the parcel", {"text": "the bill"}])
    assert tunesmith.load(tuned.run.path).predict(["the parcel", "the bill"]) == answers
    with pytest.raises(tunesmith.DataError, match="`text` is empty"):
        tuned.predict(["fine", " "])


def test_a_recipes_paths_are_relative_to_it_and_set_paths_to_the_working_directory(
    encoder: Path, labels_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "r.yaml").write_text(f"model: {encoder}\ndata: rows.csv\nrun: {{dir: out}}\ntrain: {{steps: 1}}\n")
    monkeypatch.chdir(tmp_path / "inner")
    run(capsys, "train", "../r.yaml")
    assert len(list((tmp_path / "out").iterdir())) == 1
    run(capsys, "train", "../r.yaml", "--set", "run.dir=here", "--set", "data.train=../rows.csv")
    assert len(list((tmp_path / "inner" / "here").iterdir())) == 1


def test_a_folder_with_splits_is_read_by_their_names(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = tiny.label_rows(60)
    (tmp_path / "d" / "test").mkdir(parents=True)
    tiny.write_csv(tmp_path / "d" / "train.csv", rows[:40])
    tiny.write_csv(tmp_path / "d" / "dev.csv", rows[40:50])
    tiny.write_csv(tmp_path / "d" / "test" / "part.csv", rows[50:])
    value = as_json(capsys, "check", "check", str(encoder), "d")
    assert value["rows"] == {"train": 40, "validation": 10, "test": 10}


def test_limits_cap_what_they_name(encoder: Path, labels_csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = as_json(capsys, "check", "check", str(encoder), str(labels_csv),
                    "--set", "data.limit=12", "--set", "evaluate.limit=3")  # fmt: skip
    assert value["rows"] == {"train": 12, "validation": 3, "test": 3}
    assert set(value["labels"]["train"].values()) <= {3, 4, 5}  # of nearly equal shares
