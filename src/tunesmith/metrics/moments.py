"""Correlation from sums over rows, so that it can be resampled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def moments(a: float, b: float) -> Floats:
    """(a, b, a a, b b, a b) of a row; the nearer to their means, the less is lost to rounding."""
    return np.array([a, b, a * a, b * b, a * b])


def pearson(sums: Floats, rows: Floats) -> Floats:
    """Pearson's correlation from sums of moments [..., 5] over rows [...]; 0 where one side does not vary."""
    a, b, aa, bb, ab = np.moveaxis(sums, -1, 0)
    up = rows * ab - a * b
    down = np.sqrt(np.maximum((rows * aa - a * a) * (rows * bb - b * b), 0))
    found: Floats = np.divide(up, down, out=np.zeros_like(up), where=down > 1e-12)
    return found
