"""Rows in both parts, rows known by heart, and how much better a model is on what it learned from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import judged
import tiny
from samples import words
from tunesmith.contracts import Example, Row, Tokens
from tunesmith.evidence import overfitting
from tunesmith.evidence.case import Case
from tunesmith.tasks.reranking import Reranking

PASSWORD = "the door will open when you say red blue red the card was lost twice today and they paid"


def test_rows_that_stand_most_often_are_tried_first_and_others_from_all_over() -> None:
    texts = ["once"] * 1 + [f"t {k}" for k in range(200)] + ["twice"] * 2 + ["often"] * 30
    rows = [Row(k, {"text": text}, "f", k + 1) for k, text in enumerate(texts)]
    found = overfitting.tried(rows)
    said = [row["text"] for row in found]
    assert len(said) == len(set(said)) == 32
    assert {"often", "twice", "once", "t 199"} <= set(said)
    assert [row.id for row in found] == list(range(32))
    assert len(overfitting.tried(rows[:5])) == 5
    many = [Row(k, {"text": f"t {k // 2}"}, "f", k + 1) for k in range(80)] + [Row(80, {"text": "x"}, "f", 81)]
    assert "x" in [row["text"] for row in overfitting.tried(many)]  # not copies alone


def test_only_enough_target_tokens_in_a_row_say_that_a_row_is_known() -> None:
    def places(trained: list[bool]) -> list[int]:
        ids = tuple(range(len(trained)))
        return overfitting._places(Example(0, {"text": Tokens(ids, tuple(trained))}))

    assert places([False] * 5 + [True] * 11) == []
    assert places([False] * 5 + [True] * 12) == list(range(5, 17))
    assert places([False] * 7 + [True] * 60) == list(range(7, 7 + 32))
    whole = places([True] * 41)  # a text without a question is gone on with from its middle
    assert whole == list(range(21, 41))


def half_leaked() -> Case:
    """Rows of which half are training rows, where all are right; of the others half are."""
    gold = ["a", "b"] * 50
    tuned = gold[:50] + ["a"] * 50
    rows = judged.labelled_rows(gold)
    train = [replace(row, id=k) for k, row in enumerate(judged.labelled_rows(["b"] * 150)) if k < 50 or k >= 100]
    return judged.of_labels(gold, tuned, rows=rows, train=train)


def test_rows_of_the_verdict_that_are_training_rows_are_told_with_the_score_without_them() -> None:
    found = overfitting._duplicates(half_leaked(), "accuracy")
    assert found is not None
    assert (found["rows"], found["score"]["value"]) == (50, 0.75)
    assert (found["without"]["value"], found["without"]["n"]) == (0.5, 50)


def test_where_all_rows_are_training_rows_that_is_told_too() -> None:
    case = half_leaked()
    found = overfitting._duplicates(replace(case, train=case.rows), "accuracy")
    assert found is not None and (found["rows"], found["without"]) == (100, None)
    assert overfitting._duplicates(replace(case, train=()), "accuracy") is None


def test_rows_that_the_untuned_model_knows_are_no_news_and_without_it_nothing_is_said() -> None:
    case = replace(half_leaked(), train=judged.labelled_rows(["a"] * 6))
    now, before = {0: True, 1: True, 2: False, 3: True}, {0: False, 1: True, 2: True, 3: False}
    found = overfitting._memorised(case, now, before)
    assert found is not None
    assert (found["tried"], found["exact"], found["base_exact"]) == (4, 3, 1)
    assert [row["line"] for row in found["rows"]] == [2, 5]
    assert overfitting._memorised(case, now, {}) is None
    assert overfitting._memorised(case, {}, {}) is None


def test_the_gap_is_how_much_better_the_model_is_on_training_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    case = half_leaked()
    sure = judged.of_labels(["a", "b"] * 60, ["a", "b"] * 54 + ["b", "a"] * 6, labels=["a", "b"])
    monkeypatch.setattr(overfitting, "_on_train", lambda case: sure.result.tuned.measured)
    found = overfitting.look(case, 10, 30, {}, {})
    assert found is not None
    assert (found["metric"], found["train"]["n"], found["unseen"]["n"]) == ("macro_f1", 120, 100)
    assert found["gap"] == pytest.approx(found["train"]["value"] - found["unseen"]["value"])
    assert found["low"] < found["gap"] < found["high"]
    assert (found["best_step"], found["last_step"], found["memorised"]) == (10, 30, None)


def test_tasks_whose_training_rows_are_asked_otherwise_have_no_gap() -> None:
    assert overfitting.look(replace(half_leaked(), task=Reranking()), 1, 1, {}, {}) is None


def report_of(values: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = tiny.train_to_end(values).json("report/report")
    return made


def test_a_row_that_stands_there_thirty_times_is_written_by_heart_and_the_untuned_model_does_not(
    decoder: Path, tmp_path: Path
) -> None:
    def said(asked: str, answer: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}

    def others(first: int, count: int) -> list[dict[str, Any]]:
        return [said(f"where is {n}", " ".join(words(n, 14))) for n in range(first, first + count)]

    train = [said("what is the password", PASSWORD)] * 30 + others(0, 12)
    files = {"train": train, "validation": others(100, 6), "test": others(200, 6)}
    for name, rows in files.items():
        tiny.write_jsonl(tmp_path / f"{name}.jsonl", rows)
    values = tiny.recipe_values(
        decoder, tmp_path / "train.jsonl", tmp_path / "runs", task="chat", method="full",
        data__validation=str(tmp_path / "validation.jsonl"), data__test=str(tmp_path / "test.jsonl"),
        train__epochs=12, train__learning_rate=1e-2, evaluate__answers=0, evaluate__verify=False, evaluate__every=10**6,
    )  # fmt: skip
    report = report_of(values)
    known = report["overfitting"]["memorised"]
    assert (known["tried"], known["exact"], known["base_exact"]) == (13, 1, 0)
    assert known["rows"][0]["reference"].endswith(PASSWORD) and known["rows"][0]["line"] == 1
    assert any("written by heart" in one["sign"] for one in report["advice"])
    assert report["overfitting"]["gap"] > 0


def test_rows_of_the_test_among_the_training_rows_lift_the_score_and_that_is_told(
    encoder: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    rows = [{"text": " ".join(words(n, 8)), "label": str(rng.choice(["a", "b", "c"]))} for n in range(240)]
    files = {"train": rows[:120], "validation": rows[120:150], "test": rows[60:120] + rows[180:]}
    for name, part in files.items():
        tiny.write_csv(tmp_path / f"{name}.csv", part)
    values = tiny.recipe_values(
        encoder, tmp_path / "train.csv", tmp_path / "runs", data__allow=["leak"], method="full",
        data__validation=str(tmp_path / "validation.csv"), data__test=str(tmp_path / "test.csv"),
        train__epochs=40, train__learning_rate=3e-3, evaluate__verify=False, evaluate__every=600,
    )  # fmt: skip
    report = report_of(values)
    twice = report["overfitting"]["duplicates"]
    assert twice["rows"] == 60 and twice["without"]["n"] == 60
    assert twice["score"]["value"] > twice["without"]["value"] + 0.15
    assert report["advice"][0]["sign"].startswith("60 rows of the verdict are training rows too")
    assert report["overfitting"]["low"] > 0


@pytest.mark.parametrize("seed", range(3))
def test_labels_that_are_shuffled_help_nothing(seed: int, encoder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    rows = tiny.label_rows(240)
    labels = rng.permutation([row["label"] for row in rows])
    shuffled = [row | {"label": str(label)} for row, label in zip(rows, labels, strict=True)]
    values = tiny.recipe_values(
        encoder, tiny.write_csv(tmp_path / "rows.csv", shuffled), tmp_path / "runs", train__seed=seed, method="full",
        train__epochs=3, train__learning_rate=3e-3, evaluate__verify=False, evaluate__evidence=False,
    )  # fmt: skip
    report = report_of(values)
    assert report["verdict"]["outcome"] in ("unclear", "hurt")
    assert not any(one["kind"] == "base" and one["outcome"] == "helped" for one in report["compared"])
