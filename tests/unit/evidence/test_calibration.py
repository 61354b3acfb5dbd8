"""Whether a confidence is the chance to be right: by hand, and where the truth is known because it was drawn."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import judged
import tiny
from tunesmith import recipefile, run
from tunesmith.contracts import Row
from tunesmith.data.content import GROUP
from tunesmith.evidence import calibration
from tunesmith.metrics.calibrating import tempered
from tunesmith.tasks.text_classification import TextClassification
from tunesmith.train.evaluate import judge_answers, settle

Numbers = np.ndarray[Any, Any]
LOGITS = np.array([[2.0, 0.5, -1.0], [0.2, 0.1, 0.0], [-3.0, 4.0, 1.0], [1.0, 1.2, 5.0]])


def test_the_error_is_the_mean_over_rows_of_what_a_bin_claims_too_much() -> None:
    sure = np.array([0.95, 0.93, 0.55, 0.52, 0.51, 1.0])
    right = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    last, middle = abs(0.95 + 0.93 + 1.0 - 2), abs(0.55 + 0.52 + 0.51 - 2)
    found = calibration.error(sure, right)
    assert found.value == pytest.approx((last + middle) / 6)
    assert found.n == 6


def test_a_bin_says_its_rows_their_mean_confidence_and_how_many_are_right() -> None:
    made = calibration.bins(np.array([0.2, 0.29, 0.999, 1.0, 0.3]), np.array([0.0, 1.0, 1.0, 1.0, 0.0]))
    assert [(one["low"], one["high"], one["n"]) for one in made] == [(0.2, 0.3, 2), (0.3, 0.4, 1), (0.9, 1.0, 2)]
    assert made[0]["confidence"] == pytest.approx(0.245)
    assert [one["accuracy"] for one in made] == [0.5, 0.0, 1.0]
    for one in made:
        assert 0 <= one["accuracy_low"] <= one["accuracy"] <= one["accuracy_high"] <= 1
        assert one["accuracy_high"] - one["accuracy_low"] > 0.3  # of so few rows nothing is sure


def test_coverage_is_the_share_of_answers_that_are_as_sure_and_how_many_of_these_are_right() -> None:
    made = calibration.coverage(np.array([0.3, 0.6, 0.8, 0.9]), np.array([0.0, 0.0, 1.0, 1.0]))
    at = {one["threshold"]: one for one in made}
    assert at[0.0] == {"threshold": 0.0, "coverage": 1.0, "accuracy": 0.5}
    assert (at[0.6]["coverage"], at[0.6]["accuracy"]) == (0.75, pytest.approx(2 / 3))
    assert (at[0.7]["coverage"], at[0.7]["accuracy"]) == (0.5, 1.0)
    assert max(at) == 0.9  # nothing is left beyond


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_confidences_before_the_temperature_are_the_nets_own(temperature: float) -> None:
    task = TextClassification(labels=("a", "b", "c"), temperature=temperature)
    rows = judged.labelled_rows(["a", "b", "b", "c"])
    logs = tempered(LOGITS, 1.0 + 1e-15)
    answers = [task.decode(row, [line]) for row, line in zip(rows, logs, strict=True)]
    found = calibration.look(judged.case_of(task, rows, {"tuned": answers}))
    assert found is not None and found["temperature"] == temperature
    own = calibration.error(np.exp(logs.max(1)), np.array([1.0, 0.0, 1.0, 1.0]))
    assert found["raw_error"]["value"] == pytest.approx(own.value)
    if temperature == 1.0:
        assert found["error"]["value"] == pytest.approx(own.value)
    else:
        assert abs(found["error"]["value"] - own.value) > 0.01


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0.01, 1.0), st.booleans()), min_size=1, max_size=40))
def test_the_interval_of_the_error_holds_the_error(pairs: list[tuple[float, bool]]) -> None:
    sure, right = np.array([p for p, _ in pairs]), np.array([float(hit) for _, hit in pairs])
    found = calibration.error(sure, right)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_the_interval_holds_the_error_of_many_bins_of_few_rows() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        sure = rng.uniform(0.3, 1.0, 60)
        found = calibration.error(sure, (rng.random(60) < sure).astype(float))
        assert found.low <= found.value <= found.high


@pytest.mark.parametrize("claimed", [0.0, 0.05, 0.15])
def test_the_interval_holds_the_true_error_whether_there_is_one_or_none(claimed: float) -> None:
    rng = np.random.default_rng(2)

    def drawn(n: int) -> tuple[Numbers, Numbers]:
        sure = 0.4 + 0.599 * rng.beta(5, 1.5, n)
        return sure, (rng.random(n) < sure - claimed).astype(float)

    true = calibration.bins(*drawn(400_000))
    error = sum(one["n"] * abs(one["confidence"] - one["accuracy"]) for one in true) / 400_000
    found = [calibration.error(*drawn(300)) for _ in range(150)]
    held = sum(one.low <= (0.0 if claimed == 0 else error) <= one.high for one in found)
    assert held >= 133  # binomial(150, .95) is below that once in a thousand times


def test_copies_of_rows_make_the_error_no_surer() -> None:
    rng = np.random.default_rng(3)
    gold = [str(label) for label in rng.choice(["a", "b"], 100)]
    sure = rng.uniform(0.5, 1.0, 100).tolist()
    tuned = judged.mostly(gold, 0.6, rng)
    alone = judged.of_labels(gold, tuned, sure=sure)
    rows = [
        Row(k, {"text": "t", "label": label, "label_type": "str", GROUP: str(k % 100)}, "f", k)
        for k, label in enumerate(gold * 4)
    ]
    copied = judged.of_labels(gold * 4, tuned * 4, sure=sure * 4, rows=rows)
    one, four = (calibration.look(case) for case in (alone, copied))
    assert one is not None and four is not None
    assert four["error"]["value"] == pytest.approx(one["error"]["value"])
    widths = [found["error"]["high"] - found["error"]["low"] for found in (one, four)]
    assert widths[1] > 0.8 * widths[0]
    for mine, theirs in zip(one["bins"], four["bins"], strict=True):
        assert theirs["accuracy_high"] - theirs["accuracy_low"] > 0.9 * (mine["accuracy_high"] - mine["accuracy_low"])


def test_the_interval_of_a_bin_holds_its_share_where_rows_of_a_group_are_right_together() -> None:
    rng = np.random.default_rng(4)
    held = alone = 0
    for _ in range(200):
        number = np.repeat(np.arange(30), 5)
        right = np.repeat((rng.random(30) < 0.85).astype(float), 5)
        sure = np.full(150, 0.85)
        for groups in (dict(enumerate(number.tolist())), None):
            (one,) = calibration.bins(sure, right, groups)
            assert one["accuracy"] == pytest.approx(right.mean()) and one["n"] == 150
            inside = one["accuracy_low"] <= 0.85 <= one["accuracy_high"]
            held, alone = (held + inside, alone) if groups else (held, alone + inside)
    assert held >= 180  # binomial(200, .95) is below that three times in a thousand
    assert alone < 150


def test_answers_without_a_confidence_have_no_calibration() -> None:
    case = judged.of_labels(["a", "b"], ["a", "a"])
    bare = [{key: value for key, value in made.items() if key != "probability"} for made in case.tuned.values()]
    assert calibration.look(judged.case_of(case.task, case.rows, {"tuned": bare})) is None


def test_a_row_of_a_label_that_training_never_saw_is_answered_wrong() -> None:
    case = judged.of_labels(["a", "b", "new"], ["a", "b", "a"], labels=["a", "b"], sure=[0.9, 0.9, 0.9])
    found = calibration.look(case)
    assert found is not None
    assert found["bins"][0]["accuracy"] == pytest.approx(2 / 3)
    assert found["coverage"][0]["accuracy"] == pytest.approx(2 / 3)


def test_the_base_is_scored_by_its_own_confidences() -> None:
    case = judged.of_labels(["a", "b"] * 10, ["a", "b"] * 10, base=["a"] * 20, sure=[0.99] * 20)
    found = calibration.look(case)
    assert found is not None
    assert found["error"]["value"] == pytest.approx(0.01)
    assert found["base_error"]["value"] == pytest.approx(0.3)
    without = replace(case.result, base_judged=None)
    assert calibration.look(replace(case, result=without))["base_error"] is None  # type: ignore[index]
    assert judge_answers(case.task, case.rows, list(case.tuned.values())).answers == case.tuned


def test_the_temperature_is_that_of_the_validation_rows_and_of_no_others(encoder: Path, tmp_path: Path) -> None:
    rows = tiny.write_csv(tmp_path / "rows.csv", tiny.label_rows(150))
    values = tiny.recipe_values(
        encoder, rows, tmp_path / "runs", method="full", evaluate__compare=False, evaluate__verify=False,
        evaluate__evidence=False,
    )  # fmt: skip
    directory, prepared = run.begin(recipefile.build(values), None, [])
    for _ in run.go(directory, prepared):
        pass
    said = directory.json("report/report")["calibration"]["temperature"]
    raw: Any = replace(prepared.task, temperature=1.0)  # type: ignore[type-var]
    fitted = {name: settle(prepared.model, raw, part).temperature for name, part in prepared.splits.rows.items()}
    assert said == pytest.approx(fitted["validation"], abs=1e-6)
    assert all(abs(said - fitted[name]) > 1e-3 for name in ("train", "test"))
