"""Whether a confidence is the chance to be right (expected calibration error: Naeini et al. 2015; with a temperature:
Guo et al. 2017, arXiv:1706.04599), and what is left when unsure answers are not given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Answer
from tunesmith.evidence.case import Case
from tunesmith.metrics.measured import Score
from tunesmith.significance import share_interval

BINS = 10
_THRESHOLDS = np.linspace(0.0, 0.95, 20)
_REPEATS = 1000
_SEED = 20_261_127
Numbers = NDArray[np.float64]


def look(case: Case) -> dict[str, Any] | None:
    """See reportshape.Calibration. None for answers without a confidence."""
    if not case.task.classes() or not case.sure:
        return None
    sure, right = pairs(case, case.tuned)
    temperature = getattr(case.task, "temperature", None)
    raw = None
    if temperature is not None:
        raw = error(np.array([_raw(case.tuned[row.id], temperature) for row in case.rows]), right)
    return {
        "bins": bins(sure, right),
        "error": asdict(error(sure, right)),
        "raw_error": None if raw is None else asdict(raw),
        "temperature": temperature,
        "base_error": asdict(error(*pairs(case, case.base))) if case.base else None,
        "coverage": coverage(sure, right),
    }


def pairs(case: Case, answers: Mapping[int, Answer]) -> tuple[Numbers, Numbers]:
    """Of each row the confidence of its answer, and 1 where that is right."""
    sure = np.array([answers[row.id]["probability"] for row in case.rows])
    right = np.array([answers[row.id]["label"] == row["label"] for row in case.rows], np.float64)
    return sure, right


def _raw(answer: Answer, temperature: float) -> float:
    """The confidence of an answer before the temperature."""
    logs = np.log(np.maximum(list(answer["probabilities"].values()), 1e-300)) * temperature
    shares = np.exp(logs - logs.max())
    return float(shares.max() / shares.sum())


def _places(sure: Numbers) -> NDArray[np.int64]:
    """The bin of each confidence: equally wide ones."""
    return np.minimum((sure * BINS).astype(np.int64), BINS - 1)


def bins(sure: Numbers, right: Numbers) -> list[dict[str, Any]]:
    """The bins that have rows: see reportshape.Bin."""
    place = _places(sure)
    made = []
    for k in range(BINS):
        mine = place == k
        n = int(mine.sum())
        if n:
            hits = float(right[mine].sum())
            low, high = share_interval(hits, n)
            spread = {"accuracy_low": float(low), "accuracy_high": float(high)}
            made.append({"low": k / BINS, "high": (k + 1) / BINS, "n": n, "confidence": float(sure[mine].mean()),
                         "accuracy": hits / n, **spread})  # fmt: skip
    return made


def error(sure: Numbers, right: Numbers) -> Score:
    """The mean over rows of what confidence and accuracy of their bin differ by, with its bootstrap interval. Few rows
    a bin raise it: it is not 0 for a model that is right as often as it says."""
    place = _places(sure)
    gaps = np.zeros((len(sure), BINS))
    gaps[np.arange(len(sure)), place] = sure - right
    n = len(sure)
    counts = np.random.default_rng((_SEED, n)).multinomial(n, np.full(n, 1 / n), size=_REPEATS)
    low, high = np.quantile(np.abs(counts @ gaps).sum(1) / n, [0.025, 0.975])
    return Score(float(np.abs(gaps.sum(0)).sum() / n), float(low), float(high), n)


def coverage(sure: Numbers, right: Numbers) -> list[dict[str, float]]:
    """See reportshape.Coverage."""
    made = []
    for threshold in _THRESHOLDS:
        kept = sure >= threshold
        if kept.any():
            made.append({"threshold": round(float(threshold), 2), "coverage": float(kept.mean()),
                         "accuracy": float(right[kept].mean())})  # fmt: skip
    return made
