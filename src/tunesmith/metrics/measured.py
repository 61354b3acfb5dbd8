"""What judging rows leaves behind: measures of each row, and scores with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
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
    groups: dict[int, int] = field(default_factory=dict)
    """Row id -> the number of the group that it is drawn with. Empty where rows stand for themselves."""

    def of(self, ids: NDArray[np.int64]) -> Measured:
        """The measures of some rows."""
        kept = {name: np.isin(rows, ids) for name, rows in self.rows.items()}
        kept = {name: chosen for name, chosen in kept.items() if chosen.any()}
        return Measured(
            {name: self.rows[name][chosen] for name, chosen in kept.items()},
            {name: self.values[name][chosen] for name, chosen in kept.items()},
            self.groups,
        )

    def only(self, names: Sequence[str]) -> Measured:
        """Some of the measures."""
        return Measured({n: self.rows[n] for n in names}, {n: self.values[n] for n in names}, self.groups)
