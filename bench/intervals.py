"""Whether intervals hold what they say and tests are wrong as often as they say: `python bench/intervals.py [--save]`.

Rows are drawn again and again from a population whose true score is known; the functions are those that every report
calls. An interval should hold the true score in 93 to 97 of 100 draws, a test of two systems that are alike should find
a difference in 4 to 6. `--save` keeps the result and writes the page. Exit status 1 where one does not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.measure import put_between  # noqa: E402

from tunesmith import stats  # noqa: E402
from tunesmith.contracts import Metric, Task  # noqa: E402
from tunesmith.metrics.measured import Measured  # noqa: E402
from tunesmith.tasks.chat import Chat  # noqa: E402
from tunesmith.tasks.text_classification import TextClassification  # noqa: E402

RESULT = ROOT / "bench" / "results" / "intervals.json"
PAGE = ROOT / "docs" / "concepts" / "report.md"
HELD, WRONG = (0.93, 0.97), (0.04, 0.06)
_LARGE = 400_000
"""Rows of a population."""
Numbers = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A kind of rows, and how many are drawn."""

    name: str
    metrics: tuple[str, ...]
    n: int
    task: Task
    draw: Callable[[int, np.random.Generator], tuple[Measured, Measured]]
    """Two systems that are alike, on the same rows."""


def labels(count: int, right: float) -> Callable[[int, np.random.Generator], tuple[Measured, Measured]]:
    """Rows of so many labels, the last four times as frequent as the first, of which a share is told right."""
    shares = np.linspace(1, 4, count) / np.linspace(1, 4, count).sum()
    eye = np.eye(count + 1)

    def draw(n: int, rng: np.random.Generator) -> tuple[Measured, Measured]:
        gold = rng.choice(count, n, p=shares)
        hard = rng.normal(0, 1, n)  # what one system finds hard the other does too
        made = []
        for _ in range(2):
            ok = hard + rng.normal(0, 1, n) < np.sqrt(2) * _quantile(right)
            guess = np.where(ok, gold, rng.choice(count, n, p=shares))
            loss = np.where(guess == gold, rng.exponential(0.1, n), rng.exponential(2.0, n))
            values = {"row": np.ones((n, 1)), "gold": eye[gold], "guess": eye[guess]}
            values |= {"hit": eye[gold] * (gold == guess)[:, None], "loss": loss[:, None]}
            made.append(Measured(dict.fromkeys(values, np.arange(n)), values))
        return made[0], made[1]

    return draw


def texts(n: int, rng: np.random.Generator) -> tuple[Measured, Measured]:
    """Answers of very different lengths, with a loss a token of each."""
    tokens = np.maximum(rng.lognormal(3, 0.8, n).round(), 1)
    hard = rng.gamma(4, 0.5, n)
    made = []
    for _ in range(2):
        values = {"loss": (tokens * hard * rng.gamma(20, 0.05, n))[:, None], "tokens": tokens[:, None]}
        made.append(Measured(dict.fromkeys(values, np.arange(n)), values))
    return made[0], made[1]


def grouped(size: int) -> Callable[[int, np.random.Generator], tuple[Measured, Measured]]:
    """Rows of three labels in groups, in which nearly all are right or nearly all wrong."""
    eye = np.eye(4)

    def draw(n: int, rng: np.random.Generator) -> tuple[Measured, Measured]:
        groups = dict(enumerate((np.arange(n) // size).tolist()))
        chance = np.repeat(rng.beta(2, 0.8, -(-n // size)), size)[:n]
        gold = rng.choice(3, n)
        made = []
        for _ in range(2):
            guess = np.where(rng.random(n) < chance, gold, (gold + rng.integers(1, 3, n)) % 3)
            values = {"row": np.ones((n, 1)), "gold": eye[gold], "guess": eye[guess], "loss": np.ones((n, 1))}
            values["hit"] = eye[gold] * (gold == guess)[:, None]
            made.append(Measured(dict.fromkeys(values, np.arange(n)), values, groups))
        return made[0], made[1]

    return draw


def _quantile(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(share))


def _labelled(count: int) -> Task:
    return TextClassification(labels=tuple(f"{k:02}" for k in range(count)))


_SCORES = ("accuracy", "macro_f1", "mcc", "mean_row_loss")
CASES = (
    Case("3 labels", _SCORES, 200, _labelled(3), labels(3, 0.8)),
    Case("3 labels, nearly all right", _SCORES, 200, _labelled(3), labels(3, 0.95)),
    Case("20 labels", _SCORES, 200, _labelled(20), labels(20, 0.8)),
    Case("77 labels", _SCORES, 1000, _labelled(77), labels(77, 0.85)),
    Case("loss of texts", ("mean_token_loss",), 200, Chat(), texts),
    Case("groups of 4", ("accuracy", "macro_f1"), 400, _labelled(3), grouped(4)),
)


def main() -> int:
    """Draw, count, say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help="keep the result")
    parser.add_argument("--repeats", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES], help="the others stay as saved")
    asked = parser.parse_args()
    found: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))["cases"] if asked.only else {}
    for number, case in enumerate(CASES):  # each has draws of its own
        if asked.only and case.name not in asked.only:
            continue
        began = time.perf_counter()
        found[case.name] = {"n": case.n, **simulate(number, asked.repeats, asked.processes)}
        print(json.dumps({case.name: found[case.name]}), f"{time.perf_counter() - began:.0f} s", flush=True)
        if asked.save:
            keep(found, asked.repeats)
    odd = [
        (name, metric, one)
        for name, case_found in found.items()
        for metric, one in case_found["metrics"].items()
        if not (HELD[0] <= one["held"] <= HELD[1] and WRONG[0] <= one["wrong"] <= WRONG[1])
    ]
    for name, metric, one in odd:
        print(f"outside: {name}, {metric}: {one}")
    return int(bool(odd))


def keep(found: dict[str, Any], repeats: int) -> None:
    """The cases that are done, on disk and in the page."""
    found = {case.name: found[case.name] for case in CASES if case.name in found}
    RESULT.write_text(json.dumps({"repeats": repeats, "cases": found}, indent=1) + "\n", encoding="utf-8")
    write_page(found, repeats)


def simulate(number: int, repeats: int, processes: int) -> dict[str, Any]:
    """Metric -> how often its interval held the true score, and its test found a difference; of percentiles, too."""
    case = CASES[number]
    population, _ = case.draw(_LARGE, np.random.default_rng((number, 0)))
    true = {metric: stats.value(case.task, population, metric) for metric in case.metrics}
    parts = [(number, true, k, repeats // processes) for k in range(processes)]
    with Pool(processes) as pool:
        counted = pool.starmap(_count, parts)
    total = sum(part[3] for part in parts)
    return {
        "metrics": {
            metric: {
                "true": round(true[metric], 4),
                **{what: round(sum(part[metric][what] for part in counted) / total, 4) for what in counted[0][metric]},
            }
            for metric in case.metrics
        }
    }


def _count(number: int, true: dict[str, float], part: int, repeats: int) -> dict[str, dict[str, int]]:
    case = CASES[number]
    rng = np.random.default_rng((number, 1, part))
    metrics = [Metric(name, higher_is_better=True) for name in case.metrics]
    found = {metric: {"held": 0, "percentiles": 0, "wrong": 0} for metric in case.metrics}
    for _ in range(repeats):
        one, other = case.draw(case.n, rng)
        scores = stats.scores(case.task, one)
        drawn = stats.replicates_each(case.task, one)
        verdicts = stats.compare_each(case.task, metrics, one, other)
        for metric, counts in found.items():
            counts["held"] += scores[metric].low <= true[metric] <= scores[metric].high
            low, high = np.quantile(drawn[metric], [0.025, 0.975])
            counts["percentiles"] += bool(low <= true[metric] <= high)
            counts["wrong"] += verdicts[metric].p < stats.LEVEL
    return found


def write_page(found: dict[str, Any], repeats: int) -> None:
    """The table into the page."""
    heads = ("rows", "n", "score", "holds the true score", "plain percentiles would", "test is wrong")
    table = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, case in found.items():
        for metric, one in case["metrics"].items():
            shares = " | ".join(f"{one[what]:.1%}" for what in ("held", "percentiles", "wrong"))
            table.append(f"| {name} | {case['n']} | {metric} | {shares} |")
    put_between(PAGE, "<!-- intervals -->", [f"{repeats:,} draws of rows for each line.", "", *table])


if __name__ == "__main__":
    sys.exit(main())
