"""Confident learning, on numbers that were computed by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.doctor import confident

PROBABILITIES = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.1, 0.9]])
LABELS = np.array([0, 0, 0, 1, 1])
"""Thresholds: class 0 (.9 + .7 + .2) / 3 = .6, class 1 (.6 + .9) / 2 = .75. Rows 0 and 1 reach that of class 0, rows 2
and 4 that of class 1, row 3 neither. Confident joint: given 0 -> [2, 1], given 1 -> [0, 1]; scaled to 3 and 2 rows:
[2, 1], [0, 2]; of five rows."""


def test_the_numbers_are_those_of_the_hand() -> None:
    assert confident.thresholds(PROBABILITIES, LABELS) == pytest.approx([0.6, 0.75])
    assert confident.likely(PROBABILITIES, LABELS).tolist() == [0, 0, 1, -1, 1]
    assert confident.joint(PROBABILITIES, LABELS) == pytest.approx(np.array([[0.4, 0.2], [0.0, 0.4]]))
    assert confident.margins(PROBABILITIES, LABELS) == pytest.approx([0.8, 0.4, -0.6, 0.2, 0.8])
    assert confident.trust(PROBABILITIES, LABELS) == pytest.approx([1.5, 0.7 / 0.6, 0.2 / 0.6, 0.8, 1.2])
    assert confident.noise_share(PROBABILITIES, LABELS) == pytest.approx(0.2)


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
    joint = confident.joint(probabilities, labels)
    assert confident.joint(other, renamed) == pytest.approx(joint[np.ix_(names, names)])
    assert joint.sum() == pytest.approx(1) and (joint >= 0).all()
    assert joint.sum(1) == pytest.approx(np.bincount(labels, minlength=classes) / rows)


def test_labels_that_are_all_right_have_no_noise() -> None:
    probabilities = np.eye(3)[[0, 1, 2, 0]] * 0.8 + 0.2 / 3
    assert confident.noise_share(probabilities, np.array([0, 1, 2, 0])) == pytest.approx(0)
