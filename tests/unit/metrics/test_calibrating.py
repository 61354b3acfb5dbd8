"""The temperature that makes confidences true."""

import numpy as np
import pytest

from tunesmith.contracts import Row
from tunesmith.metrics.calibrating import temperature, tempered
from tunesmith.tasks.text_classification import TextClassification


def drawn(sharpness: float, n: int, seed: int = 0) -> tuple[list[np.ndarray], list[int]]:
    """Log probabilities that are `sharpness` times surer than the labels are, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 4))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = [int(rng.choice(4, p=row)) for row in true]
    return list(tempered(logits * sharpness, 1.0 + 1e-12)), labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0, 4.0])
def test_the_temperature_that_was_put_in_is_found(sharpness: float) -> None:
    logs, labels = drawn(sharpness, 5000)
    assert temperature(logs, labels) == pytest.approx(sharpness, rel=0.06)


def test_rows_that_are_all_right_make_no_model_sure_of_everything() -> None:
    sure = [np.log([0.7, 0.1, 0.1, 0.1])] * 10
    assert 0.2 < temperature(sure, [0] * 10) < 1.0
    assert temperature([], []) == 1.0


def test_a_temperature_changes_how_sure_an_answer_is_and_never_the_answer() -> None:
    task = TextClassification(labels=("a", "b", "c", "d"))
    logs, labels = drawn(3.0, 400)
    rows = [Row(k, {"text": "t", "label": task.labels[label]}, "f", k) for k, label in enumerate(labels)]
    rows.append(Row(400, {"text": "t", "label": "never seen"}, "f", 400))
    settled = task.settle(rows, {k: [logs[k % 400]] for k in range(401)})
    assert settled.temperature == pytest.approx(3.0, rel=0.2)
    for row, log in zip(rows, logs, strict=False):
        before, after = task.decode(row, [log]), settled.decode(row, [log])
        assert after["label"] == before["label"]
        assert sum(after["probabilities"].values()) == pytest.approx(1.0)
        assert after["probability"] < before["probability"]
