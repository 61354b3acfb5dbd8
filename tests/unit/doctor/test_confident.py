"""Confident learning, on numbers that were computed by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.doctor import confident

PROBABILITIES = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.1, 0.9]])
LABELS = np.array([0, 0, 0, 1, 1])
"""Thresholds: class 0 (.9 + .7 + .2) / 3 = .6, class 1 (.6 + .9) / 2 = .75. Rows 0 and 1 reach that of class 0, rows 2
and 4 that of class 1, row 3 neither."""


def test_the_numbers_are_those_of_the_hand() -> None:
    assert confident.thresholds(PROBABILITIES, LABELS) == pytest.approx([0.6, 0.75])
    assert confident.likely(PROBABILITIES, LABELS).tolist() == [0, 0, 1, -1, 1]
    assert confident.margins(PROBABILITIES, LABELS) == pytest.approx([0.8, 0.4, -0.6, 0.2, 0.8])
    assert confident.trust(PROBABILITIES, LABELS) == pytest.approx([1.5, 0.7 / 0.6, 0.2 / 0.6, 0.8, 1.2])


@given(st.integers(2, 5), st.integers(5, 40), st.integers(0, 2**31), st.data())
@settings(max_examples=60, deadline=None)
def test_neither_the_order_of_rows_nor_that_of_classes_matters(
    classes: int, rows: int, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), rows)
    labels = rng.integers(0, classes, rows)
    order, names = rng.permutation(rows), rng.permutation(classes)
    other, renamed = probabilities[order][:, names], np.argsort(names)[labels[order]]
    assert confident.margins(other, renamed) == pytest.approx(confident.margins(probabilities, labels)[order])
    sure = confident.likely(probabilities, labels)[order]
    assert [int(names[k]) if k >= 0 else -1 for k in confident.likely(other, renamed)] == sure.tolist()
    assert confident.calibrated(other, renamed) == pytest.approx(
        confident.calibrated(probabilities, labels)[order][:, names], abs=1e-4
    )


def test_calibrated_probabilities_are_those_of_the_temperature_that_made_them() -> None:
    rng = np.random.default_rng(0)
    true = rng.dirichlet(np.full(4, 0.4), 20_000)
    labels = np.array([rng.choice(4, p=row) for row in true])
    for temperature in (0.3, 3.0):
        bent = true**temperature / (true**temperature).sum(1, keepdims=True)
        assert np.abs(confident.calibrated(bent, labels) - true).mean() < 0.01


def test_labels_that_the_probabilities_do_not_tell_gain_nothing_and_become_even() -> None:
    rng = np.random.default_rng(1)
    sure = rng.dirichlet(np.full(3, 0.2), 3000)
    labels = rng.choice(3, 3000, p=[0.7, 0.2, 0.1])
    even = confident.calibrated(sure, labels)
    gain, error = confident.gain(even, labels)
    assert gain < 2 * error and even.max() < 0.45
    own = np.eye(3)[labels] * 0.8 + 0.2 / 3
    assert confident.gain(own, labels)[0] == pytest.approx(
        np.log(0.8 + 0.2 / 3) - sum(s * np.log(s) for s in np.bincount(labels) / 3000), abs=1e-9
    )


def test_suspicion_is_the_sum_of_the_ranks_by_trust_and_by_margin() -> None:
    # trust 1.5, 1.17, .33, .8, 1.2: ranks 4, 2, 0, 1, 3; margins .8, .4, -.6, .2, .8: ranks 3, 2, 0, 1, 4
    assert confident.suspicion(PROBABILITIES, LABELS).tolist() == [7, 4, 0, 2, 7]
