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

    def numbered(self, ids: NDArray[np.int64]) -> Measured:
        """The measures of some rows, each row numbered by its place among these ids."""
        order = np.argsort(ids)
        part = self.of(ids)
        made = Measured(groups={at: self.groups[row] for at, row in enumerate(ids.tolist()) if row in self.groups})
        for name, rows in part.rows.items():
            number = order[np.searchsorted(ids, rows, sorter=order)]
            placed = np.argsort(number)
            made.rows[name], made.values[name] = number[placed], part.values[name][placed]
        return made

    def only(self, names: Sequence[str]) -> Measured:
        """Some of the measures."""
        return Measured({n: self.rows[n] for n in names}, {n: self.values[n] for n in names}, self.groups)
