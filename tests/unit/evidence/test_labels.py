"""Precision and recall of labels against scikit-learn, and what is taken for what."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

import judged
from tunesmith.contracts import Row
from tunesmith.evidence import labels
from tunesmith.tasks.multi_label_classification import MultiLabelClassification

NAMES = ["a", "b", "c", "d"]


@pytest.mark.parametrize("seed", range(4))
def test_precision_recall_and_f1_are_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gold = [str(n) for n in rng.choice(NAMES, 80, p=[0.6, 0.3, 0.1, 0.0])]
    tuned, base = ([str(n) for n in rng.choice(NAMES, 80)] for _ in range(2))
    found, confusion = labels.look(judged.of_labels(gold, tuned, base, labels=NAMES))
    want = precision_recall_fscore_support(gold, tuned, labels=NAMES, zero_division=0)
    for k, one in enumerate(found):
        assert (one["label"], one["n"]) == (NAMES[k], gold.count(NAMES[k]))
        assert [one["precision"], one["recall"], one["f1"]] == pytest.approx([float(part[k]) for part in want[:3]])
    before = precision_recall_fscore_support(gold, base, labels=NAMES, zero_division=0)[2]
    assert [one["base_f1"] for one in found] == pytest.approx(before.tolist())
    assert confusion is not None
    assert confusion["counts"] == confusion_matrix(gold, tuned, labels=NAMES).tolist()


def test_what_is_given_to_rows_of_a_label_never_seen_is_wrong_there_too() -> None:
    gold, tuned = ["a", "a", "b", "new", "new"], ["a", "a", "b", "a", "b"]
    case = judged.of_labels(gold, tuned, base=tuned, labels=["a", "b"])
    found, confusion = labels.look(case)
    want = precision_recall_fscore_support(gold, tuned, labels=["a", "b"], zero_division=0)
    assert [one["precision"] for one in found] == pytest.approx(want[0].tolist())
    assert [one["f1"] for one in found] == pytest.approx(want[2].tolist())
    assert [one["base_f1"] for one in found] == pytest.approx(want[2].tolist())
    assert confusion is not None and np.sum(confusion["counts"]) == 3  # they have no line of their own


def test_the_f1_of_labels_and_the_macro_f1_are_one_number() -> None:
    rng = np.random.default_rng(9)
    gold = [str(n) for n in rng.choice(NAMES, 100)]
    case = judged.of_labels(gold, judged.mostly(gold, 0.7, rng))
    found, _ = labels.look(case)
    mean = float(np.mean([one["f1"] for one in found]))
    assert mean == pytest.approx(case.result.scores["test"]["macro_f1"].value)


def test_without_a_base_there_is_no_f1_of_it() -> None:
    found, _ = labels.look(judged.of_labels(["a", "b"], ["a", "a"]))
    assert [one["base_f1"] for one in found] == [None, None]
    assert found[1] == {"label": "b", "n": 1, "precision": 0.0, "recall": 0.0, "f1": 0.0, "base_f1": None}


def test_of_several_labels_a_row_each_is_counted_by_itself() -> None:
    task = MultiLabelClassification(labels=("late", "red"))
    said = [(["red"], ["red"]), (["red", "late"], ["red"]), ([], ["late"]), (["late"], ["late"])]
    rows = [Row(k, task.normalize({"text": "t", "labels": gold}), "f", k) for k, (gold, _) in enumerate(said)]
    answers = [{"labels": given, "probabilities": {n: float(n in given) for n in task.labels}} for _, given in said]
    case = judged.case_of(task, rows, {"tuned": answers, "base": answers})
    found, confusion = labels.look(case)
    by = {one["label"]: one for one in found}
    assert confusion is None
    assert (by["red"]["n"], by["red"]["precision"], by["red"]["recall"]) == (2, 1.0, 1.0)
    assert (by["late"]["n"], by["late"]["precision"], by["late"]["recall"]) == (2, 0.5, 0.5)
    assert by["late"]["base_f1"] == 0.5
    alone = replace(case, result=replace(case.result, base_judged=None))
    assert labels.look(alone)[0][0]["base_f1"] is None
