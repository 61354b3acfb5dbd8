"""What makes training meaningless stops it, and says which option goes on; `--fix` leaves out what findings name."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith import checkup, run
from tunesmith.contracts import Task
from tunesmith.data import splits
from tunesmith.diagnosis import diagnose, refuse_unknown
from tunesmith.doctor.case import Case
from tunesmith.doctor.examine import examine
from tunesmith.errors import DataError, RecipeError
from tunesmith.mend import mend
from tunesmith.prepare import prepare
from tunesmith.recipefile import build
from tunesmith.tasks.text_classification import TextClassification


def with_leaks(folder: Path, leaked: int) -> dict[str, Any]:
    """60 training rows and 40 test rows, of which some stand in train too."""
    rows = tiny.label_rows(120)
    for k, row in enumerate(rows):
        row["text"] += f" {k}"
    tiny.write_jsonl(folder / "train.jsonl", [*rows[:60], *rows[60 : 60 + leaked]])
    parts = {"train": folder / "train.jsonl"}
    parts["test"] = tiny.write_jsonl(folder / "test.jsonl", rows[60:100])
    parts["validation"] = tiny.write_jsonl(folder / "validation.jsonl", rows[100:])
    return {name: str(path) for name, path in parts.items()}


def values_for(model: Path, folder: Path, leaked: int, **data: Any) -> dict[str, Any]:
    files = with_leaks(folder, leaked)
    values = tiny.recipe_values(model, folder / "train.jsonl", folder, train__epochs=1)
    return {**values, "data": {**values["data"], **files, **data}}


def test_test_rows_in_train_stop_training_from_five_percent_on_and_nothing_is_written(
    encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="leak in train/test, 3 of 40 rows") as caught:
        run.begin(build(values_for(encoder, tmp_path, 3)), None, [])
    assert "data.allow: [leak]" in (caught.value.hint or "")
    assert caught.value.where and caught.value.where.startswith(f"{tmp_path / 'test.jsonl'}:1")
    assert not (tmp_path / "runs").exists()
    run.begin(build(values_for(encoder, tmp_path, 3, allow=["leak"])), None, [])
    run.begin(build(values_for(encoder, tmp_path, 2)), None, [])  # five percent are not more than five percent


@pytest.mark.parametrize(("allowed", "hint"), [("leek", "did you mean `leak`?"), ("imbalance", "`answer-cut`, `leak`")])
def test_a_finding_that_stops_nothing_cannot_be_allowed(encoder: Path, tmp_path: Path, allowed: str, hint: str) -> None:
    recipe = build(values_for(encoder, tmp_path, 3, allow=["leak", allowed]))
    with pytest.raises(RecipeError, match=f"is called `{allowed}`") as begun:
        run.begin(recipe, None, [])
    with pytest.raises(RecipeError, match=f"is called `{allowed}`"):
        checkup.check(recipe, lambda _: None)
    assert hint in (begun.value.hint or "") and begun.value.where == "data.allow"


def test_checks_name_every_kind_of_finding_that_stops_training(tmp_path: Path, encoder: Path) -> None:
    found = diagnose(prepare(build(values_for(encoder, tmp_path, 3))))
    refuse_unknown([finding.kind for finding in found if finding.stops])
    assert any(finding.stops for finding in found)


def chats(folder: Path, long: int) -> Path:
    """20 chats, of which some have answers of which the end does not fit."""
    rows = [
        {"prompt": f"say {k}", "completion": " ".join(["the parcel is late"] * (60 if k < long else 1))}
        for k in range(20)
    ]
    return tiny.write_jsonl(folder / "chats.jsonl", rows)


def test_cut_answers_are_all_found_and_stop_training_where_most_are_cut(decoder: Path, tmp_path: Path) -> None:
    for long, stops in ((5, False), (15, True)):
        file = chats(tmp_path, long)
        values = tiny.recipe_values(decoder, file, tmp_path, task="chat", method="lora", data__max_tokens=64)
        prepared = prepare(build(values))
        found = [finding for finding in diagnose(prepared, quick=True) if finding.kind == "answer-cut"]
        lines = [prepared.splits.rows[split][k].line for finding in found for split, k in finding.rows]
        assert sorted(lines) == list(range(1, long + 1))
        assert any(finding.stops for finding in found) is stops
        if stops:
            with pytest.raises(DataError, match="answer-cut in train"):
                run.begin(build(values), None, [])


def mended(values: dict[str, Any], target: Path) -> tuple[int, int]:
    recipe = build({**values, "data": {**values["data"], "bad_rows": "skip"}})
    task: Task = TextClassification()
    found = splits.load(recipe, task)
    return mend(recipe, task, found, examine(Case(found.rows, found.bad)), target)


def test_fix_writes_train_less_copies_leaks_and_bad_rows_and_touches_nothing_else(
    encoder: Path, tmp_path: Path
) -> None:
    values = values_for(encoder, tmp_path, 4)
    train = tmp_path / "train.jsonl"
    lines = train.read_text().splitlines()
    train.write_text("\n".join([*lines, lines[5], '{"text": "no label here"}', "{", lines[5]]) + "\n")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    kept, left = mended(values, tmp_path / "mended.jsonl")
    assert (kept, left) == (60, 8)
    assert (tmp_path / "mended.jsonl").read_text().splitlines() == lines[:60]
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert mended(values, tmp_path / "mended.csv") == (60, 8)
    rows = list(csv.DictReader((tmp_path / "mended.csv").open(newline="")))
    assert [row["text"] for row in rows] == [json.loads(line)["text"] for line in lines[:60]]
    with pytest.raises(DataError, match="exists already"):
        mended(values, tmp_path / "mended.csv")


def test_fix_keeps_the_right_rows_where_all_stand_in_one_line(encoder: Path, tmp_path: Path) -> None:
    rows = tiny.label_rows(30)
    for k, row in enumerate(rows):
        row["text"] += f" {k}"
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([*rows, rows[7], rows[20]]))
    values = tiny.recipe_values(encoder, file, tmp_path)
    assert mended(values, tmp_path / "mended.jsonl") == (30, 2)
    written = [json.loads(line) for line in (tmp_path / "mended.jsonl").read_text().splitlines()]
    assert sorted(row["text"] for row in written) == sorted(row["text"] for row in rows)


def test_what_is_mended_has_the_same_split_and_nothing_left_to_mend(encoder: Path, tmp_path: Path) -> None:
    rows = tiny.label_rows(60)
    for k, row in enumerate(rows):
        row["text"] += f" {k}"
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", [*rows, *rows[10:30]])
    values = tiny.recipe_values(encoder, file, tmp_path)
    mended(values, tmp_path / "mended.jsonl")
    before = splits.load(build(values), TextClassification())
    values["data"] = {**values["data"], "train": str(tmp_path / "mended.jsonl")}
    after = splits.load(build(values), TextClassification())
    texts = [
        {name: {row["text"] for row in part} for name, part in found.rows.items()} for found in (before, after)
    ]  # fmt: skip
    assert texts[0] == texts[1]
    left = [f for f in examine(Case(after.rows, after.bad), quick=True) if f.remove]
    assert left == []
