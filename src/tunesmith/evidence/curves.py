"""How training went, as its events say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tunesmith.events import Updated

_MOST = 1000
"""Losses that are shown: of more updates, means of neighbours."""


def look(updates: Mapping[int, Updated], watched: str) -> dict[str, Any]:
    """See reportshape.Curves."""
    made = [updated for _, updated in sorted(updates.items())]
    taken = [updated for updated in made if not updated.left_out]
    width = -(-len(taken) // _MOST) or 1
    parts = [taken[k : k + width] for k in range(0, len(taken), width)]
    return {
        "steps": [part[-1].step for part in parts],
        "losses": [sum(sum(one.losses.values()) for one in part) / len(part) for part in parts],
        "looks": [{"step": one.step, "scores": _known(one.scores)} for one in made if one.scores],
        "watched": watched,
    }


def _known(scores: Mapping[str, float]) -> dict[str, float]:
    """Without those that are no finite number, which JSON has no word for."""
    return {name: value for name, value in scores.items() if math.isfinite(value)}
