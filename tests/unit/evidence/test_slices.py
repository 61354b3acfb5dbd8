"""Parts of the rows: one that was made weak is found, and chance alone is told of none."""

import math
import time
from typing import Any

import numpy as np
import pytest

import judged
from tunesmith import recipefile, stats
from tunesmith.contracts import Row
from tunesmith.data.content import GROUP, SLICE, SOURCE
from tunesmith.evidence import slices
from tunesmith.evidence.case import Case
from tunesmith.judgement import Judgement
from tunesmith.metrics.measured import Measured
from tunesmith.significance import corrected, share_difference, share_interval
from tunesmith.tasks.text_classification import TextClassification
from tunesmith.tasks.text_regression import TextRegression
from tunesmith.tasks.translation import Translation
from tunesmith.train.evaluate import Judged, judge_answers

LABELS = ["a", "b", "c"]


def parted(n: int, column: list[Any], right: Any, rng: np.random.Generator, **changes: Any) -> Case:
    gold = [str(label) for label in rng.choice(LABELS, n)]
    rows = judged.labelled_rows(gold, **{SLICE + "shop": column})
    return judged.of_labels(gold, judged.mostly(gold, right, rng), rows=rows, slices=["shop"], **changes)


def found(case: Case, by: str = "shop") -> dict[str, dict[str, Any]]:
    made = slices.look(case)
    assert made is not None
    return {one["value"]: one for one in made["slices"] if one["by"] == by}


def test_a_slice_that_was_made_weak_is_the_one_that_is_worse() -> None:
    shops = ["north", "south", "east", "west"] * 100
    right = [0.6 if shop == "east" else 0.9 for shop in shops]
    case = parted(400, shops, right, np.random.default_rng(0))
    made = slices.look(case)
    assert made is not None and made["metric"] == "accuracy"
    assert [(one["by"], one["value"]) for one in made["slices"] if one["worse"]] == [("shop", "east")]
    east = found(case)["east"]
    assert east["n"] == 100 and east["difference"] < -0.2
    assert east["low"] < east["difference"] < east["high"] < 0


def test_the_numbers_of_a_slice_are_those_of_its_rows_and_of_all_others() -> None:
    shops = ["x"] * 30 + ["y"] * 70
    gold = ["a"] * 100
    tuned = ["b"] * 12 + ["a"] * 18 + ["b"] * 7 + ["a"] * 63
    rows = judged.labelled_rows(gold, **{SLICE + "shop": shops})
    case = judged.of_labels(gold, tuned, base=["b"] * 15 + ["a"] * 85, rows=rows, slices=["shop"])
    x = found(case)["x"]
    low, high = share_interval(18, 30)
    assert x["score"] == {"value": 0.6, "low": float(low), "high": float(high), "n": 30}
    assert (x["base"], x["difference"]) == (0.5, pytest.approx(0.6 - 0.9))
    assert (x["low"], x["high"]) == pytest.approx(share_difference((18, 30), (63, 70))[:2])
    made = slices.look(case)
    assert made is not None
    ps = [share_difference((18, 30), (63, 70))[2], share_difference((63, 70), (18, 30))[2]]
    assert {one["corrected"] for one in made["slices"]} == set(corrected(ps))


def test_random_parts_of_the_rows_are_hardly_ever_told_to_be_worse() -> None:
    told = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        shops = [f"shop {k}" for k in rng.integers(0, 20, 1000)]
        case = parted(1000, shops, 0.85, rng)
        made = slices.look(case)
        assert made is not None and sum(one["by"] == "shop" for one in made["slices"]) >= 19
        told += any(one["worse"] for one in made["slices"])
    assert told <= 1


def test_parts_of_few_rows_and_parts_of_nearly_all_are_left_out() -> None:
    shops = ["few"] * 19 + ["enough"] * 20 + ["most"] * 81
    case = parted(120, shops, 0.8, np.random.default_rng(1))
    assert set(found(case)) == {"enough", "most"}
    nearly_all = parted(60, ["rest"] * 41 + ["few"] * 19, 0.8, np.random.default_rng(1))
    assert slices.look(nearly_all) is None or "rest" not in found(nearly_all)


def test_of_ten_thousand_values_those_with_most_rows_are_looked_at_and_long_ones_are_cut() -> None:
    rng = np.random.default_rng(2)
    shops = [f"value {k}" for k in range(4000)] + ["l" * 5000] * 60 + ["x"] * 40
    case = parted(4100, shops, 0.8, rng)
    made = found(case)
    assert set(made) == {"l" * 59 + "…", "x"}


def test_rows_without_a_value_are_in_no_part() -> None:
    shops = [None] * 30 + [""] * 30 + ["x"] * 30 + ["y"] * 30
    made = found(parted(120, shops, 0.8, np.random.default_rng(3)))
    assert {value: one["n"] for value, one in made.items()} == {"x": 30, "y": 30}


def test_sources_confidences_and_lengths_part_the_rows_too() -> None:
    gold = ["a", "b"] * 100
    rng = np.random.default_rng(4)
    rows = [
        Row(k, {"text": "w" * (10 + k), "label": label, "label_type": "str", SOURCE: k % 2}, "f", k)
        for k, label in enumerate(gold)
    ]
    sure = rng.uniform(0.3, 1.0, 200).tolist()
    case = judged.of_labels(gold, judged.mostly(gold, 0.8, rng), sure=sure, rows=rows)
    assert set(found(case, "source")) == {"0", "1"}
    by_length = found(case, "length")
    assert list(by_length) == [
        "up to 59 characters", "over 59, up to 109 characters", "over 109, up to 159 characters",
        "over 159 characters",
    ]  # fmt: skip
    assert sum(one["n"] for one in by_length.values()) == 200
    confidence = found(case, "confidence")
    assert {value: one["n"] for value, one in confidence.items()} == {
        f"{low:g} to {high:g}": n
        for low, high in ((0.0, 0.5), (0.5, 0.8), (0.8, 0.95), (0.95, 1.0))
        if (n := sum(low <= s < high for s in sure)) >= 20
    }


def test_a_label_that_training_never_saw_is_a_slice_that_is_always_wrong() -> None:
    gold = ["a"] * 60 + ["b"] * 60 + ["new"] * 30
    case = judged.of_labels(gold, ["a"] * 60 + ["b"] * 60 + ["a"] * 30, labels=["a", "b"])
    new = found(case, "label")["new"]
    assert (new["score"]["value"], new["score"]["low"], new["worse"]) == (0.0, 0.0, True)


def numbers(n: int) -> Case:
    """Numbers, of which the rows of one shop are all alike and told alike: no correlation there."""
    rng = np.random.default_rng(5)
    task = TextRegression(mean=0.0, deviation=1.0)
    gold = np.where(np.arange(n) % 2, 3.0, rng.normal(size=n))
    said = np.where(np.arange(n) % 2, 1.0, gold + rng.normal(size=n))
    rows = [
        Row(k, {"text": f"t {k}", "label_number": float(g), SLICE + "shop": str(k % 2)}, "f", k)
        for k, g in enumerate(gold)
    ]
    answers = [{"value": float(value)} for value in said]
    return judged.case_of(task, rows, {"tuned": answers, "base": answers}, slices=["shop"])


def test_a_correlation_has_slices_and_all_their_numbers_are_numbers() -> None:
    made = slices.look(numbers(200))
    assert made is not None and made["metric"] == "pearson"
    for one in made["slices"]:
        told = [one["difference"], one["low"], one["high"], one["corrected"], *one["score"].values()]
        assert all(math.isfinite(value) for value in told)
        assert one["low"] <= one["difference"] <= one["high"]
        assert one["score"]["low"] <= one["score"]["value"] <= one["score"]["high"]


def test_where_only_some_rows_are_answered_slices_are_of_what_rests_on_all() -> None:
    rng = np.random.default_rng(6)
    task = Translation()
    said = [task.normalize({"source": f"t {k:03}", "target": "w"}) for k in range(100)]
    rows = [Row(k, values | {SLICE + "shop": str(k % 2)}, "f", k) for k, values in enumerate(said)]
    few = [{"answer": "w", "ended": True} for _ in range(5)]
    answered = judge_answers(task, rows[:5], few).measured
    values = {"loss": rng.normal(2, 0.3, (100, 1)) * 4, "tokens": np.full((100, 1), 4.0)}
    values["loss"][::2] *= 2
    measured = Measured(
        dict.fromkeys(values, np.arange(100)) | {n: r for n, r in answered.rows.items() if n not in values},
        values | {n: v for n, v in answered.values.items() if n not in values},
    )
    result = Judgement("test", Judged(measured, dict(enumerate(few))), {"test": stats.scores(task, measured)})
    recipe = recipefile.build({"model": "m", "data": "x", "evaluate": {"slices": ["shop"]}})
    made = slices.look(Case(recipe, task, judged.NO_NET, rows, (), result))
    assert made is not None and made["metric"] == "mean_token_loss"
    shops = {one["value"]: one for one in made["slices"] if one["by"] == "shop"}
    assert shops["0"]["worse"] and not shops["1"]["worse"]  # a loss is worse where it is higher
    assert shops["0"]["n"] == 50


def test_copies_of_rows_make_no_slice_surer() -> None:
    rng = np.random.default_rng(7)
    gold = [str(label) for label in rng.choice(LABELS, 60)]
    tuned = judged.mostly(gold, [0.7 if k % 2 else 0.9 for k in range(60)], rng)

    def of(times: int) -> dict[str, Any]:
        rows = [
            Row(k, {"text": "t", "label": g, "label_type": "str", GROUP: k % 60, SLICE + "shop": str(k % 2)}, "f", k)
            for k, g in enumerate(gold * times)
        ]  # fmt: skip
        return found(judged.of_labels(gold * times, tuned * times, rows=rows, slices=["shop"]))["0"]

    once, often = of(1), of(8)
    assert often["difference"] == pytest.approx(once["difference"])
    assert often["high"] - often["low"] > 0.8 * (once["high"] - once["low"])


def test_slices_of_many_rows_and_labels_take_a_time_that_grows_with_the_rows() -> None:
    labels = [f"label {k:02}" for k in range(77)]

    def seconds(n: int) -> float:
        rng = np.random.default_rng(8)
        gold = [labels[k] for k in rng.integers(0, 77, n)]
        task = TextClassification(labels=tuple(labels))
        rows = judged.labelled_rows(gold, **{SLICE + "shop": [str(k) for k in rng.integers(0, 9, n)]})
        case = judged.case_of(task, rows, {"tuned": [judged.answer(labels, label) for label in gold]}, slices=["shop"])
        began = time.process_time()
        made = slices.look(case)
        assert made is not None and len(made["slices"]) > 9
        return time.process_time() - began

    assert seconds(6000) < 3.0  # 0.1 s; with a table of labels for each slice 25
