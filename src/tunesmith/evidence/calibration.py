"""Whether a confidence is the chance to be right (expected calibration error: Naeini et al. 2015; with a temperature:
Guo et al. 2017, arXiv:1706.04599), and what is left when unsure answers are not given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith import resampling
from tunesmith.contracts import Answer, Row
from tunesmith.evidence import thresholds
from tunesmith.evidence.case import Case
from tunesmith.metrics.measured import Score
from tunesmith.significance import effective, share_interval
from tunesmith.train.evaluate import Judged

BINS = 10
_THRESHOLDS = np.linspace(0.0, 0.95, 20)
_REPEATS = 1000
_SEED = 20_261_127
Numbers = NDArray[np.float64]


def look(case: Case) -> dict[str, Any] | None:
    """See reportshape.Calibration. None for answers without a confidence."""
    if not case.task.classes() or not case.sure:
        return None
    sure, right = pairs(case.rows, case.tuned)
    held = case.result.held
    number = _numbers(case.rows, case.result.tuned)
    groups = None if number is None else dict(enumerate(number.tolist()))
    temperature = getattr(case.task, "temperature", None)
    raw = None
    if temperature is not None:
        raw = error(np.array([_raw(case.tuned[row.id], temperature) for row in case.rows]), right, groups)
    return {
        "bins": bins(sure, right, groups),
        "error": asdict(error(sure, right, groups)),
        "raw_error": None if raw is None else asdict(raw),
        "temperature": temperature,
        "base_error": asdict(error(*pairs(case.rows, case.base), groups)) if case.base else None,
        "coverage": coverage(sure, right),
        "wishes": thresholds.promised(
            (sure, right),
            pairs(case.validation, held.answers) if held else None,
            (number, _numbers(case.validation, held) if held else None),
        ),
    }


def pairs(rows: Sequence[Row], answers: Mapping[int, Answer]) -> tuple[Numbers, Numbers]:
    """Of each row the confidence of its answer, and 1 where that is right."""
    sure = np.array([answers[row.id]["probability"] for row in rows])
    right = np.array([answers[row.id]["label"] == row["label"] for row in rows], np.float64)
    return sure, right


def _numbers(rows: Sequence[Row], judged: Judged) -> NDArray[np.int64] | None:
    """The group of each row; None where each stands for itself."""
    groups = judged.measured.groups
    return np.array([groups[row.id] for row in rows]) if groups else None


def _raw(answer: Answer, temperature: float) -> float:
    """The confidence of an answer before the temperature."""
    logs = np.log(np.maximum(list(answer["probabilities"].values()), 1e-300)) * temperature
    shares = np.exp(logs - logs.max())
    return float(shares.max() / shares.sum())


def _places(sure: Numbers) -> NDArray[np.int64]:
    """The bin of each confidence: equally wide ones."""
    return np.minimum((sure * BINS).astype(np.int64), BINS - 1)


def bins(sure: Numbers, right: Numbers, groups: Mapping[int, int] | None = None) -> list[dict[str, Any]]:
    """The bins that have rows: see reportshape.Bin. `groups` numbers the group that each row is drawn with."""
    place = _places(sure)
    number = np.array([groups[k] for k in range(len(sure))]) if groups else None
    made = []
    for k in range(BINS):
        mine = place == k
        n = int(mine.sum())
        if n:
            hits = float(right[mine].sum())
            low, high = share_interval(*effective(right[mine], None if number is None else number[mine]))
            spread = {"accuracy_low": float(low), "accuracy_high": float(high)}
            made.append({"low": k / BINS, "high": (k + 1) / BINS, "n": n, "confidence": float(sure[mine].mean()),
                         "accuracy": hits / n, **spread})  # fmt: skip
    return made


def error(sure: Numbers, right: Numbers, groups: Mapping[int, int] | None = None) -> Score:
    """The mean over rows of what confidence and accuracy of their bin differ by. Chance alone raises it, the more so
    the fewer rows a bin has, and in a bootstrap once more. So replicates are shifted by what they are too high on
    average, and the interval begins at 0 where a model that is right as often as it says would show as much in one
    sample of twenty (consistency: Bröcker and Smith 2007). `groups` numbers the group that each row is drawn with."""
    place = _places(sure)
    n = len(sure)
    gaps = np.zeros((n, BINS))
    gaps[np.arange(n), place] = sure - right
    value = float(np.abs(gaps.sum(0)).sum() / n)
    drawn = np.abs(resampling.drawn_sums(gaps, np.arange(n), dict(groups or {}))).sum(1) / n
    low, high = np.quantile(drawn, [0.025, 0.975]) - (drawn.mean() - value)
    if value <= _by_chance(sure, place, groups):
        low = 0.0
    return Score(value, float(np.clip(low, 0.0, value)), float(np.clip(high, value, max(value, 1.0))), n)


def _by_chance(sure: Numbers, place: NDArray[np.int64], groups: Mapping[int, int] | None) -> float:
    """The error that true confidences stay below in nineteen samples of twenty: what a bin is off by is then a normal
    number. Rows of a group are right or wrong together, at worst."""
    each = np.sqrt(sure * (1 - sure))
    number = np.arange(len(sure)) if not groups else np.array([groups[k] for k in range(len(sure))])
    summed = np.zeros((number.max() + 1, BINS))
    np.add.at(summed, (number, place), each)
    spread = np.sqrt((summed**2).sum(0))
    drawn = np.abs(np.random.default_rng(_SEED).normal(size=(_REPEATS, BINS)) * spread).sum(1)
    return float(np.quantile(drawn, 0.95) / len(sure))


def coverage(sure: Numbers, right: Numbers) -> list[dict[str, float]]:
    """See reportshape.Coverage."""
    made = []
    for threshold in _THRESHOLDS:
        kept = sure >= threshold
        if kept.any():
            made.append({"threshold": round(float(threshold), 2), "coverage": float(kept.mean()),
                         "accuracy": float(right[kept].mean())})  # fmt: skip
    return made
