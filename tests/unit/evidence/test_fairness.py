"""False positives by group: a gap that was made is found, chance alone is not, and what is asked in vain is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import judged
import tiny
from tunesmith import cli, recipefile, run
from tunesmith.data.content import GROUP, SLICE
from tunesmith.errors import UserError
from tunesmith.evaluating import Fairness
from tunesmith.evidence import fairness
from tunesmith.evidence.case import Case
from tunesmith.significance import share_interval

GROUPS = ["north", "south", "east", "west"]
ASKED = {"by": "place", "positive": "bad"}


def case(groups: list[Any], rates: list[float], rng: np.random.Generator, gold: list[str] | None = None) -> Case:
    """Rows that are all good, of which each is called bad by its chance."""
    gold = ["good"] * len(groups) if gold is None else gold
    rows = judged.labelled_rows(gold, **{SLICE + "place": groups})
    tuned = ["bad" if rng.random() < rate else "good" for rate in rates]
    return judged.of_labels(gold, tuned, rows=rows, labels=["bad", "good"], fairness=ASKED)


def test_a_group_that_is_called_bad_more_often_is_the_one_that_is_odd() -> None:
    groups = GROUPS * 100
    rates = [0.3 if group == "east" else 0.05 for group in groups]
    (found,) = fairness.look(case(groups, rates, np.random.default_rng(0)))
    first = found["groups"][0]
    assert (first["value"], first["odd"]) == ("east", True)
    assert 0 < first["low"] < first["gap"] < first["high"]
    assert found["spread"]["low"] > 0.1
    assert found["overall"]["n"] == sum(one["n"] for one in found["groups"]) == 400


def test_an_even_model_has_hardly_ever_an_odd_group_and_a_spread_that_may_be_none() -> None:
    odd = spread = 0
    for seed in range(40):
        (found,) = fairness.look(case(GROUPS * 100, [0.1] * 400, np.random.default_rng(seed)))
        odd += any(one["odd"] for one in found["groups"])
        assert found["spread"]["low"] <= found["spread"]["value"] <= found["spread"]["high"]
        spread += found["spread"]["low"] > 0
    assert odd <= 5  # binomial(40, .05) is above that 14 times in a thousand
    assert spread <= 6


def test_rows_that_are_drawn_together_make_no_group_odd_by_chance_and_no_rate_surer() -> None:
    told = {"together": 0, "alone": 0}
    spread = held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        bad = np.repeat(rng.random(80) < 0.2, 5)  # a writer of five rows is called bad in all of them, or in none
        groups = np.repeat(np.array(GROUPS), 100).tolist()
        writers = [str(k) for k in np.repeat(np.arange(80), 5)]
        gold, tuned = ["good"] * 400, np.where(bad, "bad", "good").tolist()
        for name, beside in (("together", {GROUP: writers}), ("alone", {})):
            rows = judged.labelled_rows(gold, **{SLICE + "place": groups, **beside})
            made = judged.of_labels(gold, tuned, rows=rows, labels=["bad", "good"], fairness=ASKED)
            (found,) = fairness.look(made)
            told[name] += any(one["odd"] for one in found["groups"])
            if name == "together":
                spread += found["spread"]["low"] > 0
                held += found["overall"]["low"] <= 0.2 <= found["overall"]["high"]
    assert told["together"] <= 8 < 25 < told["alone"]
    assert spread <= 8  # binomial(60, .05) is above that once in a hundred thousand times
    assert held >= 52


def test_the_numbers_of_a_group_are_those_of_its_rows_that_should_not_be_positive() -> None:
    groups = ["x"] * 40 + ["y"] * 60
    gold = ["bad"] * 10 + ["good"] * 90
    rates = [1.0] * 10 + [1.0] * 6 + [0.0] * 24 + [1.0] * 3 + [0.0] * 57
    (found,) = fairness.look(case(groups, rates, np.random.default_rng(0), gold))
    x, y = found["groups"]
    assert (x["value"], x["n"], x["rate"]["value"]) == ("x", 30, 0.2)
    low, high = share_interval(6, 30)
    assert (x["rate"]["low"], x["rate"]["high"]) == (float(low), float(high))
    assert (y["n"], y["rate"]["value"], y["gap"]) == (60, 0.05, pytest.approx(0.05 - 0.2))
    assert (found["overall"]["value"], found["overall"]["n"]) == (0.1, 90)
    assert (found["spread"]["value"], found["positive"], found["by"]) == (pytest.approx(0.15), ["bad"], "place")


def test_groups_of_few_rows_and_rows_without_a_group_are_left_out() -> None:
    groups: list[Any] = ["x"] * 30 + ["y"] * 30 + ["few"] * 19 + [None] * 30 + [""] * 30
    (found,) = fairness.look(case(groups, [0.1] * 139, np.random.default_rng(1)))
    assert {one["value"] for one in found["groups"]} == {"x", "y"}
    assert (found["left_out"], found["least"], found["overall"]["n"]) == (1, 20, 60)


def test_where_no_row_is_called_bad_the_spread_is_none_and_not_sure_to_be() -> None:
    (found,) = fairness.look(case(["x"] * 25 + ["y"] * 25, [0.0] * 50, np.random.default_rng(1)))
    assert (found["spread"]["value"], found["spread"]["low"]) == (0.0, 0.0)
    assert 0.02 < found["spread"]["high"] < 0.2
    assert not any(one["odd"] for one in found["groups"])


def test_the_gap_of_groups_of_one_row_is_still_a_difference_of_shares() -> None:
    made = case(["x", "y"], [1.0, 0.0], np.random.default_rng(1))
    asked = [Fairness.model_validate(ASKED | {"least": 1})]
    evaluate = made.recipe.evaluate.model_copy(update={"fairness": asked})
    (found,) = fairness.look(replace(made, recipe=made.recipe.model_copy(update={"evaluate": evaluate})))
    for one in found["groups"]:
        assert -1 <= one["low"] <= one["gap"] <= one["high"] <= 1


SENTENCES = [
    {"sentence": f"the {place} {word}", "place": place, "toxic": toxic}
    for place in ("street", "door")
    for word, toxic in (("is bad", True), ("is red", False), ("is blue ", False), ("is", None), ("was", ""))
    for _ in range(6)
]


def of_file(tmp_path: Path, rows: list[dict[str, Any]], **asked: Any) -> tuple[Case, Fairness]:
    """The case, with rows of a file of its own: its labels are true and false, and some rows have none."""
    path = tiny.write_jsonl(tmp_path / "sentences.jsonl", rows)
    made = judged.of_labels(["false", "true"], ["false", "true"])
    values = {"by": "place", "positive": ["true"], "data": str(path), "least": 1, **asked}
    recipe = recipefile.build({
        "model": "m", "task": "text-classification", "evaluate": {"fairness": values},
        "data": {"train": "x.csv", "columns": {"text": "sentence", "label": "toxic"}},
    })  # fmt: skip
    return replace(made, recipe=recipe), recipe.evaluate.fairness[0]


def test_rows_of_a_file_that_say_nothing_are_not_taken_for_innocent_and_true_is_a_label(tmp_path: Path) -> None:
    made, asked = of_file(tmp_path, SENTENCES)
    rows, file = fairness._rows(made.recipe, made.task, asked, made.rows)
    assert Path(file).name == "sentences.jsonl"
    grouped = fairness._grouped(rows, asked)
    assert {name: len(part) for name, part in grouped.items()} == {"street": 12, "door": 12}
    assert all("red" in row["text"] or "blue" in row["text"] for part in grouped.values() for row in part)


def test_a_file_may_have_words_of_its_own_for_rows_that_should_not_be_positive(tmp_path: Path) -> None:
    rows = [{"sentence": f"is {k}", "place": "ab"[k % 2], "toxic": ["none ", "slur", "true"][k % 3]} for k in range(60)]
    made, asked = of_file(tmp_path, rows, innocent="none")
    found, _ = fairness._rows(made.recipe, made.task, asked, made.rows)
    assert {name: len(part) for name, part in fairness._grouped(found, asked).items()} == {"a": 10, "b": 10}


def test_a_file_is_found_from_the_recipe_that_names_it(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: m\ndata: x.csv\nevaluate: {fairness: {by: place, positive: bad, data: sub/rows.csv}}\n")
    (asked,) = recipefile.load(recipe).recipe.evaluate.fairness
    assert asked.data == str(tmp_path / "sub" / "rows.csv")
    recipe.write_text(
        "model: m\ndata: x.csv\nevaluate: {fairness: [{by: a, positive: b, data: r.csv}, {by: a, positive: b}]}\n"
    )
    assert [one.data for one in recipefile.load(recipe).recipe.evaluate.fairness] == [str(tmp_path / "r.csv"), None]


def rows_csv(folder: Path) -> Path:
    rows = [row | {"place": ("here", "there")[k % 2]} for k, row in enumerate(tiny.label_rows(300))]
    return tiny.write_csv(folder / "rows.csv", rows)


REFUSED: dict[str, tuple[dict[str, Any], str, str | None, str | None]] = {
    "label": (
        {"by": "place", "positive": ["bilking"]},
        "the task has no label `bilking`",
        "evaluate.fairness.positive",
        "did you mean `billing`?",
    ),
    "column": (
        {"by": "plaice", "positive": ["billing"]},
        "there is no column `plaice`",
        "<here>/rows.csv:2",
        "did you mean `place`?",
    ),
    "rows": (
        {"by": "place", "positive": ["billing"], "least": 4000},
        "fewer than two groups of `place` have 4000 rows that should not be positive",
        "<here>/rows.csv",
        "set `evaluate.fairness.least` lower, name another column, or leave it out",
    ),
    "file": (
        {"by": "place", "positive": ["billing"], "data": "<here>/none.csv"},
        "there is no such file",
        "<here>/none.csv",
        None,
    ),
    "words": (
        {"by": "place", "positive": ["billing"], "data": "<here>/rows.csv", "innocent": ["peace"]},
        "fewer than two groups of `place` have 20 rows that should not be positive",
        "<here>/rows.csv",
        "set `evaluate.fairness.least` lower, name another column, or leave it out",
    ),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_asked_in_vain_is_refused_before_anything_is_written(
    name: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, problem, where, hint = REFUSED[name]
    asked = json.loads(json.dumps(asked).replace("<here>", str(tmp_path)))
    values = tiny.recipe_values(encoder, rows_csv(tmp_path), tmp_path / "runs", evaluate__fairness=asked)
    with pytest.raises(UserError) as caught:
        run.begin(recipefile.build(values), None, [])
    said = caught.value
    assert (said.problem, said.where) == (problem, where and where.replace("<here>", str(tmp_path)))
    if hint is not None:
        assert said.hint == hint
    assert not (tmp_path / "runs").exists()


def test_a_refusal_ends_the_command_with_two(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(
        tiny.recipe_values(encoder, rows_csv(tmp_path), tmp_path / "runs", evaluate__fairness=REFUSED["label"][0])
    ))  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", str(recipe)])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "the task has no label `bilking`" in said and "Traceback" not in said
    assert not (tmp_path / "runs").exists()


def test_a_task_without_labels_has_no_false_positives(tmp_path: Path) -> None:
    from tunesmith.tasks.text_regression import TextRegression

    made = case(GROUPS * 30, [0.1] * 120, np.random.default_rng(0))
    with pytest.raises(UserError, match="false positives by group are of tasks that give each row one label"):
        fairness.refuse(made.recipe, TextRegression(), made.rows)
