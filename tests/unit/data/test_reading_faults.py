"""Faults that a reading of the code found, each shown before it was mended."""

import datetime
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith.contracts import Row
from tunesmith.data import read, sources, sql
from tunesmith.data.content import place
from tunesmith.data.read import Batch, read_batches
from tunesmith.data.split import split_by_time
from tunesmith.data.splits import load
from tunesmith.errors import DataError, RecipeError
from tunesmith.recipefile import build
from tunesmith.tasks.text_classification import TextClassification


def test_a_folder_of_splits_named_for_test_gives_its_test_rows(tmp_path: Path) -> None:
    train = tiny.write_jsonl(tmp_path / "mine.jsonl", tiny.label_rows(60))
    (tmp_path / "set").mkdir()
    tiny.write_jsonl(tmp_path / "set" / "train.jsonl", tiny.label_rows(50))
    tiny.write_jsonl(tmp_path / "set" / "test.jsonl", tiny.label_rows(20))
    data = {"train": str(train), "test": str(tmp_path / "set")}
    assert len(load(build({"model": "minilm", "data": data}), TextClassification()).rows["test"]) == 20
    data = {"train": str(train), "validation": str(tmp_path / "set")}
    with pytest.raises(DataError, match="no rows for `validation`"):
        load(build({"model": "minilm", "data": data}), TextClassification())


def test_a_group_is_the_same_as_a_number_and_as_a_text() -> None:
    number, text = (Row(0, {"text": f"t {group!r}", "beside_group": group}, "f", 1) for group in (17, "17"))
    assert place(number) == place(text)


def test_good_rows_behind_very_many_bad_ones_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "_LOOK", 3)
    file = tmp_path / "rows.jsonl"
    file.write_text("{\n" * 7 + "".join(json.dumps(row) + "\n" for row in tiny.label_rows(9)))
    found = read.read_rows([file], TextClassification(), {})
    assert (len(found.rows), len(found.bad)) == (9, 7)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (["nan"] * 3 + [str(k) for k in range(40)], "cannot be read"),
        (["2024-05-31", "20240531"] * 20, "some times are numbers"),
        ([float("inf"), *range(40)], "cannot be read"),
    ],
)
def test_times_that_cannot_be_ordered_are_refused(values: list[Any], problem: str) -> None:
    rows = [Row(k, {"text": f"t {k}", "beside_time": value}, "f", k + 1) for k, value in enumerate(values)]
    with pytest.raises(DataError, match=problem):
        split_by_time(rows, {"validation": 0.1, "test": 0.1}, {})


def test_a_start_that_is_no_time_is_said() -> None:
    rows = [Row(k, {"text": f"t {k}", "beside_time": k}, "f", k + 1) for k in range(30)]
    with pytest.raises(RecipeError, match="cannot be read"):
        split_by_time(rows, {"validation": 0.1, "test": 0.1}, {"validation": "soon"})


def test_dates_of_parquet_go_with_rows_in_memory_and_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    rows = [{**row, "day": datetime.date(2024, 1, 1 + k % 28)} for k, row in enumerate(tiny.label_rows(30))]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    batch = [Batch((path,), beside={"beside_time": "day"})]
    first = list(read_batches(batch, TextClassification()).rows)
    monkeypatch.setattr(read, "_STORED_BYTES", 0)
    assert list(read_batches(batch, TextClassification()).rows) == first
    assert first[0]["beside_time"] == "2024-01-01"


def test_values_that_json_has_not_become_texts_and_passwords_are_masked_wherever_they_stand() -> None:
    key = uuid.uuid4()
    assert sql._plain(key, "a", 1, "") == str(key)
    assert (
        sql.safe("postgresql://me:p@ss@host/db?password=secret&x=1") == "postgresql://me:***@host/db?password=***&x=1"
    )


def test_a_query_beside_a_list_of_sources_is_refused() -> None:
    recipe = build({"model": "minilm", "data": {"train": ["a.csv", "b.csv"], "query": "SELECT 1"}})
    with pytest.raises(RecipeError, match="a list"):
        sources.local(recipe, lambda _: None)


@pytest.mark.parametrize("named", ["validation", "test"])
def test_a_time_that_nothing_begins_at_is_refused(tmp_path: Path, named: str) -> None:
    rows = [{**row, "day": k} for k, row in enumerate(tiny.label_rows(60))]
    values: dict[str, Any] = {"train": str(tiny.write_jsonl(tmp_path / "a.jsonl", rows)),
                              named: str(tiny.write_jsonl(tmp_path / "b.jsonl", rows[:9])),
                              "split": {"time": "day", f"{named}_from": 50}}  # fmt: skip
    with pytest.raises(RecipeError, match=f"{named}_from") as caught:
        load(build({"model": "minilm", "data": values}), TextClassification())
    assert caught.value.where == f"data.split.{named}_from"
