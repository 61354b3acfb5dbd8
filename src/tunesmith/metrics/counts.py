"""Shares of counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ratio(up: NDArray[np.float64], down: NDArray[np.float64]) -> NDArray[np.float64]:
    """up / down; 0 where there is nothing to divide by."""
    return np.divide(up, down, out=np.zeros_like(up), where=down > 0)
