"""A recipe over folds and seeds: every row is tested once, and what all trainings tell together is true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

import tiny
from tunesmith import recipefile, repeated
from tunesmith.cli import main
from tunesmith.events import Updated
from tunesmith.reportshape import SHAPES
from tunesmith.rundir import RunDir, list_runs


def written(place: Path, encoder: Path, **changes: Any) -> Path:
    rows = tiny.write_csv(place / "rows.csv", tiny.label_rows(90))
    values = tiny.recipe_values(encoder, rows, place / "runs", train__epochs=3, train__learning_rate=3e-3, **changes)
    values["run"]["name"] = "many"
    (place / "recipe.yaml").write_text(recipefile.yaml.safe_dump(values))
    return place / "recipe.yaml"


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--json"])
    assert isinstance(caught.value.code, int)
    return caught.value.code, json.loads(capsys.readouterr().out)


def scored_rows(run: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.path / "predictions" / "test.jsonl").read_text().splitlines()]


def test_over_folds_and_seeds_every_row_is_tested_once_a_seed_and_scores_are_those_of_all_rows(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = ended(capsys, "train", str(written(tmp_path, encoder, evaluate__folds=3, evaluate__seeds=2)))
    assert code == 0
    SHAPES["repeated"].model_validate(found)
    folder = tmp_path / "runs" / "many"
    assert [part["run"] for part in found["parts"]] == [
        str(folder / f"fold_{fold}_seed_{seed}") for fold in range(3) for seed in (0, 1)
    ]
    scores = []
    for seed in (0, 1):
        rows = [row for fold in range(3) for row in scored_rows(RunDir(folder / f"fold_{fold}_seed_{seed}"))]
        assert sorted(row["line"] for row in rows) == list(range(2, 92))
        gold, said = [row["label"] for row in rows], [row["prediction"]["label"] for row in rows]
        scores.append(f1_score(gold, said, average="macro"))
    assert found["scores"]["macro_f1"]["value"] == pytest.approx(np.mean(scores))
    assert found["scores"]["macro_f1"]["n"] == 90
    assert found["scores"]["macro_f1"]["low"] < np.mean(scores) < found["scores"]["macro_f1"]["high"]
    assert found["between_seeds"] == pytest.approx(np.std(scores, ddof=1))
    folds = [part["score"]["value"] for part in found["parts"] if part["seed"] == 0]
    assert found["between_folds"] == pytest.approx(np.std(folds, ddof=1))
    assert len(found["verdicts"]) == 2
    base = found["base"]["macro_f1"]["value"]
    assert np.mean([one["difference"] for one in found["verdicts"]]) == pytest.approx(np.mean(scores) - base)


def test_a_stopped_part_is_gone_on_with_and_none_is_trained_again(encoder: Path, tmp_path: Path) -> None:
    recipe = recipefile.load(written(tmp_path, encoder, evaluate__seeds=3), ()).recipe
    folder, recipe = repeated.begin(recipe, None, lambda _: None)
    seen = 0

    def stop() -> bool:
        return seen >= 35  # in the second part, of 27 updates each

    for event in repeated.go(folder, recipe, [], lambda _: None, stop):
        seen += isinstance(event, Updated)
    assert not (folder / repeated.FILE).exists()
    states = {run.path.name: run.status()["state"] for run in list_runs(folder)}
    assert states == {"seed_0": "finished", "seed_1": "stopped"}
    with pytest.raises(SystemExit) as caught:
        main(["resume", str(folder)])
    assert caught.value.code == 0
    made = [len(run.updates()) for run in list_runs(folder)]
    attempts = [len(list((run.path / "logs").iterdir())) for run in list_runs(folder)]
    assert len(set(made)) == 1 and attempts == [1, 2, 1]
    assert json.loads((folder / repeated.FILE).read_text())["between_folds"] is None
    with pytest.raises(SystemExit) as caught:
        main(["resume", str(folder)])
    assert caught.value.code == 0


def test_folds_asked_for_twice_or_of_rows_that_have_a_test_are_refused_and_nothing_is_left(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, encoder, evaluate__folds=3)
    code, said = ended(capsys, "train", str(path), "--set", "data.split={folds: 5, fold: 1}")
    assert code == 2 and "`evaluate.folds` trains on every fold" in said["error"]["problem"]
    assert not (tmp_path / "runs").exists()
    code, said = ended(capsys, "train", str(path), "--set", f"data.test={tmp_path / 'rows.csv'}")
    assert code == 2 and "folds choose the test rows" in said["error"]["problem"]
    assert not (tmp_path / "runs" / "many").exists()
    assert ended(capsys, "resume", str(tmp_path))[0] == 2
