"""The report of every task: valid JSON of its shape, with slices, without a base to compare with, without test rows."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

import samples
import tiny
from tunesmith import plugins
from tunesmith.report import text
from tunesmith.reportshape import Report

FAMILIES = [(task, plugins.load("tasks", task).families[0]) for task in plugins.names("tasks")]


def report_of(task: str, model: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    """Of a short run on rows that a column parts in two."""
    path = samples.write(task, folder)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    tiny.write_jsonl(path, [row | {"side": ("left", "right")[k % 2]} for k, row in enumerate(rows * 3)])
    values = tiny.recipe_values(
        model, path, folder / "runs", task=task, method="full", train__epochs=1, train__learning_rate=1e-3,
        evaluate__slices=["side"], evaluate__answers=3, evaluate__verify=False, data__allow=["leak"], **changes,
    )  # fmt: skip
    written = (tiny.train_to_end(values).report / "report.json").read_text()

    def odd(word: str) -> None:
        raise AssertionError(f"JSON has no {word}")

    made: dict[str, Any] = json.loads(written, parse_constant=odd)
    Report.model_validate(made)
    assert "nan" not in text.markdown(made).split()
    return made


@pytest.mark.parametrize(("task", "family"), FAMILIES)
def test_a_report_without_a_base_and_without_test_rows_is_whole(
    task: str, family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = request.getfixturevalue(family.replace("-", "_"))
    held = samples.write(task, tmp_path).rename(tmp_path / "held.jsonl")
    rows = [json.loads(line) for line in held.read_text().splitlines()]
    tiny.write_jsonl(held, [row | {"side": ("left", "right")[k % 2]} for k, row in enumerate(rows * 2)])
    made = report_of(task, model, tmp_path, evaluate__compare=False, data__validation=str(held))
    assert set(made["scores"]) == {"validation"} and made["verdict"] is None
    assert made["compared"] == made["kept"] == [] and (made["overfitting"] or {}).get("memorised") is None
    assert made["slices"] is not None
    sides = [one for one in made["slices"]["slices"] if one["by"] == "side"]
    assert {one["value"] for one in sides} <= {"left", "right"} and all(one["base"] is None for one in sides)
    for one in made["slices"]["slices"]:
        assert one["score"]["low"] <= one["score"]["value"] <= one["score"]["high"]
        assert one["low"] <= one["difference"] <= one["high"] and math.isfinite(one["corrected"])
    if made["overfitting"] is not None:  # each of them is a training row too
        assert made["overfitting"]["duplicates"]["without"] is None
