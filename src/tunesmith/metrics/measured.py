"""What judging rows leaves behind: measures of each row, and scores with their intervals."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """A number the user sees: its value, its 95 % interval and the rows it rests on."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Measured:
    """Per-row measures of one set of rows, kept so that intervals and paired tests are sums."""

    rows: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """Measure -> ids of the rows that have it, ascending."""
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Measure -> [rows, width]."""
