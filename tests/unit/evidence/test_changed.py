"""Rows that tuning fixed and broke."""

import numpy as np
import pytest
from scipy.stats import binom

import judged
from tunesmith.contracts import Row
from tunesmith.data.content import GROUP
from tunesmith.evidence import changed
from tunesmith.tasks.text_regression import TextRegression


def test_fixed_and_broken_rows_are_counted_and_tested_as_mcnemar_did() -> None:
    gold = ["a"] * 20
    tuned = ["a"] * 9 + ["b"] * 2 + ["a"] * 5 + ["b"] * 4
    base = ["b"] * 9 + ["a"] * 2 + ["a"] * 5 + ["b"] * 4
    made = changed.look(judged.of_labels(gold, tuned, base))
    assert made is not None
    counts = [made[name] for name in ("fixed", "broken", "both_right", "both_wrong")]
    assert counts == [9, 2, 5, 4]
    assert made["p"] == pytest.approx(2 * binom.cdf(2, 11, 0.5) - binom.pmf(2, 11, 0.5))
    kinds = [row["change"] for row in made["rows"]]
    assert kinds == ["broken"] * 2 + ["both wrong"] * 4 + ["fixed"] * 9 + ["both right"] * 5


def test_of_each_kind_the_surest_rows_are_shown_with_both_answers_and_their_place() -> None:
    gold, sure = ["a"] * 100, np.linspace(0.5, 0.9, 100).tolist()
    made = changed.look(judged.of_labels(gold, ["b"] * 100, ["a"] * 100, sure))
    assert made is not None and (made["broken"], len(made["rows"])) == (100, changed.EACH)
    first = made["rows"][0]
    assert first == {
        "file": "rows.csv", "line": 101, "text": "text 000099", "reference": "a", "base": "a", "tuned": "b",
        "change": "broken", "sure": pytest.approx(0.9),
    }  # fmt: skip
    assert [row["sure"] for row in made["rows"]] == sorted(sure, reverse=True)[: changed.EACH]


def test_without_a_base_rows_are_right_or_wrong_and_nothing_is_tested() -> None:
    made = changed.look(judged.of_labels(["a", "b"], ["a", "a"]))
    assert made is not None
    assert (made["fixed"], made["broken"], made["both_right"], made["both_wrong"], made["p"]) == (0, 0, 1, 1, None)
    assert {row["base"] for row in made["rows"]} == {None}


def test_answers_that_are_better_or_worse_are_no_change_of_right_and_wrong() -> None:
    rows = [Row(k, {"text": "t", "label_number": 1.0}, "f", k) for k in range(3)]
    answers = [{"value": 0.5}] * 3
    case = judged.case_of(TextRegression(), rows, {"tuned": answers, "base": answers})
    made = changed.look(case)
    assert made is not None and made["p"] is None
    assert [row["change"] for row in made["rows"]] == ["other"] * 3
    assert {row["sure"] for row in made["rows"]} == {None}


def test_where_nothing_was_answered_nothing_is_said() -> None:
    case = judged.of_labels(["a", "b"], ["a", "a"])
    case.result.tuned.answers.clear()
    assert changed.look(case) is None


def test_copies_of_rows_make_the_test_no_surer() -> None:
    gold, tuned, base = ["a"] * 8, ["a"] * 3 + ["b"] + ["a"] * 4, ["b"] * 3 + ["a"] * 5

    def p(times: int) -> float:
        rows = [
            Row(k, {"text": "t", "label": "a", "label_type": "str", GROUP: k % 8}, "f", k) for k in range(8 * times)
        ]
        made = changed.look(judged.of_labels(gold * times, tuned * times, base * times, rows=rows, labels=["a", "b"]))
        assert made is not None and made["p"] is not None
        return float(made["p"])

    assert p(1) == pytest.approx(0.375)  # 2 * (1 + 4) / 16 - 4 / 16
    assert p(50) > 0.2
