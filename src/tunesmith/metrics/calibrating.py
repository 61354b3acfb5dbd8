"""One number that makes confidences true: temperature scaling (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_FARTHEST = 3.0
"""Of the temperature's logarithm, either way."""
_WIDTH = 1.0
"""Of what is believed of it before any row is seen: few rows, or rows that are all right, move it no further than they
must."""


def tempered(logs: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Log probabilities [..., labels] at another temperature."""
    if temperature == 1.0:
        return logs
    moved = logs / temperature
    top = moved.max(-1, keepdims=True)
    made: NDArray[np.float64] = moved - top - np.log(np.exp(moved - top).sum(-1, keepdims=True))
    return made


def mean(logs: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The log of the mean of several probabilities, each [..., labels] as its log."""
    table = np.stack(logs)
    top = table.max(0)
    with np.errstate(divide="ignore"):  # what none thinks possible
        made: NDArray[np.float64] = top + np.log(np.exp(table - np.where(np.isfinite(top), top, 0.0)).mean(0))
    return made


def temperature(logs: Sequence[NDArray[np.float64]], truth: Sequence[int]) -> float:
    """The temperature at which rows with these log probabilities [rows, labels] are likeliest; 1 without rows."""
    from scipy.optimize import minimize_scalar

    if not len(logs):
        return 1.0
    table, place = np.stack(logs), (np.arange(len(truth)), np.asarray(truth))

    def unlikely(power: float) -> float:
        return float(-tempered(table, float(np.exp(power)))[place].sum() + 0.5 * (power / _WIDTH) ** 2)

    found = minimize_scalar(unlikely, bounds=(-_FARTHEST, _FARTHEST), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
