"""Rows too large for memory: a run over a table is the run over rows in memory, and the second start reads it."""

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith import run
from tunesmith.contracts import Row
from tunesmith.data import read, splits
from tunesmith.data.rows import RowWriter, StoredRows
from tunesmith.errors import DataError
from tunesmith.recipefile import build
from tunesmith.tasks.text_classification import TextClassification


@pytest.fixture
def on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(read, "_STORED_BYTES", 0)
    return tmp_path / "cache"


def mixed_values(model: Path, folder: Path) -> dict[str, Any]:
    rows = tiny.label_rows(120)
    halves = [
        tiny.write_jsonl(folder / "a.jsonl", rows[:70]),
        tiny.write_csv(folder / "b.csv", [{"message": r["text"], "label": r["label"]} for r in rows[70:]]),
    ]
    parts = [
        {"path": str(halves[0]), "weight": 1.5, "limit": 50},
        {"path": str(halves[1]), "columns": {"text": "message"}},
    ]
    values = tiny.recipe_values(model, halves[0], folder, train__epochs=2)
    return {**values, "data": {**values["data"], "train": parts, "limit": 80}}


def test_rows_on_disk_train_to_the_same_bits_and_scores(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = mixed_values(encoder, tmp_path)
    in_memory = run.train_recipe(build(values))
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(read, "_STORED_BYTES", 0)
    values["run"]["name"] = "again"
    stored = run.train_recipe(build(values))
    weights = [made.checkpoints / "best" / "trained.safetensors" for made in (in_memory, stored)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert in_memory.json("data") == stored.json("data")
    first, second = in_memory.json("report/report"), stored.json("report/report")
    assert first["scores"] == second["scores"] and first["baselines"] == second["baselines"]
    assert first["base"] == second["base"] and first["changed"] == second["changed"]


def test_the_second_start_reads_no_row_again_and_a_changed_file_does(
    encoder: Path, tmp_path: Path, on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", tiny.label_rows(90))
    recipe = build(tiny.recipe_values(encoder, file, tmp_path))
    first = splits.load(recipe, TextClassification())
    assert isinstance(first.rows["train"], StoredRows)
    with monkeypatch.context() as patched:
        patched.setattr(read, "raw_rows", lambda *_: pytest.fail("the file was read again"))
        patched.setattr(RowWriter, "append", lambda *_: pytest.fail("rows were written again"))
        patched.setattr(TextClassification, "learn", lambda *_: pytest.fail("it learned again"))
        again = splits.load(recipe, TextClassification())
    assert {name: list(rows) for name, rows in again.rows.items()} == {n: list(r) for n, r in first.rows.items()}
    assert (again.task, again.made, again.read) == (first.task, first.made, dict(first.read))
    file.write_text(file.read_text() + json.dumps({"text": "one more bill", "label": "billing"}) + "\n")
    assert sum(map(len, splits.load(recipe, TextClassification()).rows.values())) == 91


@pytest.mark.parametrize("harm", ["values", "label", "table.json"])
def test_a_torn_table_of_rows_is_made_anew(encoder: Path, tmp_path: Path, on_disk: Path, harm: str) -> None:
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", tiny.label_rows(90))
    recipe = build(tiny.recipe_values(encoder, file, tmp_path))
    first = {name: list(rows) for name, rows in splits.load(recipe, TextClassification()).rows.items()}
    (place,) = (on_disk / "rows").iterdir()
    content = (place / harm).read_bytes()
    (place / harm).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert {name: list(rows) for name, rows in splits.load(recipe, TextClassification()).rows.items()} == first


def test_a_column_that_only_a_late_row_has_is_read(
    tmp_path: Path, on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "_LOOK", 3)
    rows: list[dict[str, Any]] = [{"prompt": f"ask {k}", "completion": "so it is"} for k in range(9)]
    rows[7]["system"] = "answer like a pirate"
    from tunesmith.tasks.chat import Chat

    found = read.read_rows([tiny.write_jsonl(tmp_path / "rows.jsonl", rows)], Chat(), {})
    assert [len(row["messages"]) for row in found.rows] == [2] * 7 + [3, 2]


def test_a_reading_that_fails_leaves_nothing_behind(tmp_path: Path, on_disk: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text('[{"text": "a bill", "label": "x"}, {"text": "cut')
    with pytest.raises(DataError):
        read.read_rows([file], TextClassification(), {})
    assert list((on_disk / "rows").iterdir()) == []


def test_rows_from_disk_are_made_when_asked_for_and_negative_positions_count_from_the_end(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "t")
    rows = [Row(k, {"text": f"t {k}"}, "f", k + 1) for k in range(5000)]
    for row in rows:
        writer.append(row)
    writer.close([])
    from tunesmith.data.rows import open_rows

    opened = open_rows(tmp_path / "t")
    assert opened is not None
    found, _ = opened
    assert found[-1] == rows[-1] and list(found[10:20]) == [
        Row(k, r.values, "f", r.line) for k, r in enumerate(rows[10:20])
    ]
    with pytest.raises(IndexError):
        found[5000]
