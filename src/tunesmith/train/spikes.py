"""Losses that jump: an update whose loss stands far out of those before it, which often means rows worth a look."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable

_WINDOW, _FEWEST = 50, 20
"""Updates that one is held against, and from how many on."""
_DEVIATIONS, _TIMES = 10.0, 2.0
"""A spike is so many robust deviations above the median, and so many times the median."""
_TO_DEVIATION = 1.4826
"""Of normal numbers, the standard deviation in median absolute deviations (Hampel 1974)."""
_MOST = 20
"""Spikes that are told."""


class Spikes:
    """The losses of the last updates."""

    def __init__(self, losses: Iterable[float] = ()) -> None:
        self.recent: deque[float] = deque(maxlen=_WINDOW)
        self.found = 0
        for loss in losses:
            self.see(loss)

    def see(self, loss: float) -> float | None:
        """Take in the loss of an update: the usual one, where it is a spike that is to be told. A spike does not count
        among what is usual."""
        if len(self.recent) >= _FEWEST:
            usual = statistics.median(self.recent)
            spread = _TO_DEVIATION * statistics.median(abs(one - usual) for one in self.recent)
            if loss > usual + _DEVIATIONS * spread and loss > _TIMES * usual:
                self.found += 1
                return usual if self.found <= _MOST else None
        self.recent.append(loss)
        return None
