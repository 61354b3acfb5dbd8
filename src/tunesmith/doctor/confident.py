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


def margins(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """[rows] the probability of the given label less that of the likeliest other: from -1, surely wrong, to 1."""
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -np.inf
    found: NDArray[np.float64] = probabilities[rows, labels] - others.max(1)
    return found


def trust(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """[rows] the probability of the given label over the mean of its class."""
    own = probabilities[np.arange(len(labels)), labels]
    found: NDArray[np.float64] = own / np.maximum(thresholds(probabilities, labels)[labels], 1e-12)
    return found


def suspicion(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """[rows] the least are wrong most often: the sum of the ranks by trust and by margin. Trust is the better of
    the two where a wrong label may be any, margins where it is a near one (bench/label_noise.py)."""
    ranks = [
        scores.argsort(kind="stable").argsort()
        for scores in (trust(probabilities, labels), margins(probabilities, labels))
    ]
    found: NDArray[np.float64] = (ranks[0] + ranks[1]).astype(float)
    return found


def calibrated(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """[rows, classes] the probabilities at the temperature at which the given labels are likeliest (Guo et al. 2017):
    those of one classifier a class, which are too even among many, become comparable, and those of labels that the
    texts do not tell become even."""
    from scipy.optimize import minimize_scalar

    logs = np.log(np.clip(probabilities, 1e-12, 1.0))
    rows = np.arange(len(labels))

    def at(sharpness: float) -> NDArray[np.float64]:
        scaled = logs * np.exp(sharpness)
        scaled = np.exp(scaled - scaled.max(1, keepdims=True))
        made: NDArray[np.float64] = scaled / scaled.sum(1, keepdims=True)
        return made

    def loss(sharpness: float) -> float:
        return float(-np.log(np.clip(at(sharpness)[rows, labels], 1e-12, 1.0)).mean())

    return at(minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x)


def gain(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """By how much the labels are likelier than by their shares alone (nats a row), and the standard error of that."""
    own = np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1.0)
    shares = np.bincount(labels) / len(labels)
    gains = np.log(own) - np.log(shares[labels])
    return float(gains.mean()), float(gains.std() / len(labels) ** 0.5)
