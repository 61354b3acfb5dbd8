"""Confident learning (Northcutt, Jiang & Chuang 2021, arXiv:1911.00068): which labels are likely wrong, from
probabilities that a model gives rows it has not learned from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def thresholds(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """[classes] mean probability of a class over the rows that are labelled with it; 1 for a class without rows."""
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, own, classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)


def likely(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """[rows] the class that each row is confidently of: of those whose probability reaches their threshold, the
    likeliest; -1 where there is none."""
    above = np.where(probabilities >= thresholds(probabilities, labels), probabilities, -1.0)
    best = above.argmax(1)
    return np.where(above.max(1) >= 0, best, -1)


def joint(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """[given, true] the estimated share of rows with a given and a true label: the confident joint, each of its rows
    scaled to the count of its given label. Sums to 1."""
    classes = probabilities.shape[1]
    sure = likely(probabilities, labels)
    known = sure >= 0
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels[known], sure[known]), 1)
    given = np.bincount(labels, minlength=classes).astype(float)
    empty = counts.sum(1) == 0
    counts[empty, empty] = 1.0  # nothing is known of the class: its labels are taken as right
    scaled: NDArray[np.float64] = counts / counts.sum(1, keepdims=True) * given[:, None]
    return scaled / max(len(labels), 1)


def margins(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """[rows] the probability of the given label less that of the likeliest other: from -1, surely wrong, to 1."""
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -np.inf
    found: NDArray[np.float64] = probabilities[rows, labels] - others.max(1)
    return found


def trust(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """[rows] the probability of the given label over the mean of its class: the least trusted labels are wrong most
    often. Among many classes it ranks better than margins do, which near classes make small (bench/label_noise.py)."""
    own = probabilities[np.arange(len(labels)), labels]
    found: NDArray[np.float64] = own / np.maximum(thresholds(probabilities, labels)[labels], 1e-12)
    return found


def noise_share(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The estimated share of wrong labels."""
    return float(1 - np.trace(joint(probabilities, labels)))
