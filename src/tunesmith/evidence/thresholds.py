"""Where to cut: precision, recall and F1 of a label by the threshold on its probability, with the threshold that the
validation rows would choose; and the confidence above which answers are wrong no more often than is wished.

Rows are sorted once. A threshold cannot part rows of equal probability, so that every count is of all of them or none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from tunesmith import stats
from tunesmith.contracts import Answer, Row, Sums, Task
from tunesmith.evidence.case import Case
from tunesmith.metrics.counts import ratio
from tunesmith.metrics.measured import Measured, Score
from tunesmith.significance import effective, share_interval
from tunesmith.train.evaluate import Judged

LABELS = 12
"""Of several labels a row, those that are looked at: the most frequent."""
WISHES = (0.01, 0.05, 0.1)
"""Shares of wrong answers that a user may wish for."""
SURE = 0.9
"""How often a wish that validation rows are found to fulfil is to be fulfilled."""
_GRID = np.linspace(0.0, 1.0, 21)
_MORE = 20
"""Points of a curve beside the grid: at probabilities of rows that have the label, where the curve bends."""
Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Sweep:
    """What is given from each threshold on that parts the rows, the highest first."""

    chances: Numbers
    """Different ones."""
    given: NDArray[np.int64]
    """Rows of this chance and of higher ones."""
    hits: NDArray[np.int64]
    """Those among them that have the label."""
    gold: int
    """Rows that have it."""
    rows: int

    def at(self, threshold: float) -> tuple[int, int]:
        """(rows of at least this chance, those among them that have the label)."""
        place = int(np.searchsorted(-self.chances, -threshold, side="right"))
        return (int(self.given[place - 1]), int(self.hits[place - 1])) if place else (0, 0)

    def between(self, place: int) -> float:
        """A threshold that gives the rows of this place and all before, and no other."""
        here = float(self.chances[place])
        below = float(self.chances[place + 1]) if place + 1 < len(self.chances) else 0.0
        middle = (here + below) / 2
        return middle if middle > below else here

    def best(self) -> float | None:
        """The threshold with the best F1; None where no row has the label."""
        if not self.gold:
            return None
        return self.between(int((2 * self.hits / (self.given + self.gold)).argmax()))


def sweep(chances: Numbers, truth: Flags) -> Sweep:
    """Of the chance of each row [rows] and whether it has the label."""
    order = np.argsort(-chances, kind="stable")
    ordered = chances[order]
    last = np.append(ordered[1:] != ordered[:-1], True)[: len(ordered)]
    given = np.flatnonzero(last) + 1
    return Sweep(ordered[last], given, np.cumsum(truth[order])[last], int(truth.sum()), len(chances))


@dataclass(frozen=True)
class Cut:
    """A label on some rows, and who is given it."""

    label: str
    chances: Numbers
    truth: Flags
    given: Flags
    """As the model answers."""
    threshold: float
    """In force."""

    @cached_property
    def sweep(self) -> Sweep:
        """By threshold."""
        return sweep(self.chances, self.truth)


def look(case: Case) -> list[dict[str, Any]]:
    """See reportshape.Threshold. Empty for answers that no threshold decides: of many labels the likeliest is given."""
    rows = [row for row in case.rows if row.id in case.tuned]
    now = cuts(case.task, rows, case.result.tuned)
    held = case.result.held
    before = {} if held is None else {cut.label: cut for cut in cuts(case.task, case.validation, held)}
    known = sorted((cut for cut in now if cut.truth.any()), key=lambda cut: -int(cut.truth.sum()))[:LABELS]
    chosen = [before[cut.label].sweep.best() if cut.label in before else None for cut in known]
    if not known:
        return []
    scores = _scores(known, chosen, case.ids(rows), case.result.tuned.measured.groups)
    return [
        {
            "label": cut.label,
            "rows": len(rows),
            "n": int(cut.truth.sum()),
            "in_force": _side(cut.threshold, cut.given, cut.truth, scores[f"in force {k}"]),
            "chosen": None
            if best is None
            else _side(best, cut.chances >= best, cut.truth, scores[f"chosen {k}"]),
            "gain": None if best is None else asdict(scores[f"gain {k}"]),
            "points": points(cut.sweep, cut.chances[cut.truth]),
        }
        for k, (cut, best) in enumerate(zip(known, chosen, strict=True))
    ]  # fmt: skip


def cuts(task: Task, rows: Sequence[Row], judged: Judged) -> list[Cut]:
    """The labels that thresholds decide about: the rarer one of two, each of several a row, or that there is an answer
    in a text."""
    rows = [row for row in rows if row.id in judged.answers]
    answers = [judged.answers[row.id] for row in rows]
    if not rows:
        return []
    labels, own = task.classes(), getattr(task, "cuts", ())
    if len(labels) == 2 and all("probabilities" in answer for answer in answers):
        shares = getattr(task, "shares", ()) or (0.5, 0.5)
        label = labels[int(shares[1] <= shares[0])]
        truth = np.array([row["label"] == label for row in rows])
        return [Cut(label, _chances(answers, label), truth, np.array([a["label"] == label for a in answers]), 0.5)]
    if own and all("labels" in answer and "probabilities" in answer for answer in answers):
        table = judged.measured.values["truth"] > 0
        return [
            Cut(label, _chances(answers, label), table[:, k], np.array([label in a["labels"] for a in answers]), cut)
            for k, (label, cut) in enumerate(zip(task.counted(), own, strict=True))
        ]
    if getattr(task, "unanswerable", False) and all("no_answer_score" in answer for answer in answers):
        return [_has_answer(task, rows, answers, judged)]
    return []


def _chances(answers: Iterable[Answer], label: str) -> Numbers:
    return np.array([answer["probabilities"].get(label, 0.0) for answer in answers])


def _has_answer(task: Task, rows: Sequence[Row], answers: Sequence[Answer], judged: Judged) -> Cut:
    """How likely the best span is, against none: the two scores are logits."""
    from scipy.special import expit

    has = judged.measured.rows.get("has", np.zeros(0, np.int64))
    truth = np.isin(np.array([row.id for row in rows]), has)
    gaps = np.array([answer["no_answer_score"] for answer in answers], np.float64)
    given = np.array([bool(answer["answer"]) for answer in answers])
    return Cut("has an answer", expit(-gaps), truth, given, float(expit(-getattr(task, "threshold", 0.0))))


def points(found: Sweep, chances: Numbers) -> list[dict[str, Any]]:
    """See reportshape.ThresholdPoint; `chances` are of the rows that have the label."""
    among = np.sort(chances)[np.unique(np.linspace(0, len(chances) - 1, _MORE).astype(int))] if len(chances) else []
    made = []
    for threshold in np.unique([*_GRID, *among]).tolist():
        given, hit = found.at(threshold)
        made.append(
            {"threshold": threshold, "given": given / found.rows, "precision": hit / given if given else None,
             "recall": hit / found.gold if found.gold else 0.0, "f1": _f1(given, hit, found.gold)}
        )  # fmt: skip
    return made


def _f1(given: int, hit: int, gold: int) -> float:
    return 2 * hit / (given + gold) if given + gold else 0.0


def _side(threshold: float, given: Flags, truth: Flags, score: Score) -> dict[str, Any]:
    """See reportshape.AtThreshold."""
    count, hit = int(given.sum()), int((given & truth).sum())
    return {
        "threshold": threshold,
        "given": count / len(given),
        "precision": hit / count if count else None,
        "recall": hit / int(truth.sum()),
        "f1": asdict(score),
    }


@dataclass(frozen=True)
class _Sides:
    """F1 of each label at the threshold in force and at the chosen one, and what the latter gains: of a task, what
    `stats` asks of one, so that intervals are drawn as those of all scores are."""

    each: ClassVar[tuple[str, ...]] = ()

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """`in force K`, `chosen K` and `gain K` of the label with that number."""
        made: dict[str, NDArray[np.float64]] = {}
        f1 = {side: ratio(2 * sums[f"{side} hit"], sums["gold"] + sums[side]) for side in ("in force", "chosen")}
        for k in range(sums["gold"].shape[-1]):
            made |= {f"{side} {k}": values[..., k] for side, values in f1.items()}
            made[f"gain {k}"] = f1["chosen"][..., k] - f1["in force"][..., k]
        return made


def _scores(
    found: Sequence[Cut], chosen: Sequence[float | None], ids: NDArray[np.int64], groups: dict[int, int]
) -> Mapping[str, Score]:
    pairs = list(zip(found, chosen, strict=True))
    truth = np.stack([cut.truth for cut in found], 1)
    given = np.stack([cut.given for cut in found], 1)
    best = np.stack([cut.given if at is None else cut.chances >= at for cut, at in pairs], 1)
    flags = {
        "gold": truth,
        "in force": given,
        "in force hit": given & truth,
        "chosen": best,
        "chosen hit": best & truth,
    }
    values = {name: each.astype(np.float64) for name, each in flags.items()}
    return stats.scores(cast(Task, _Sides()), Measured(dict.fromkeys(values, ids), values, groups))


def promised(
    sure: tuple[Numbers, Numbers], held: tuple[Numbers, Numbers] | None, groups: Sequence[NDArray[np.int64] | None]
) -> list[dict[str, Any]]:
    """See reportshape.Wish: each a pair of confidences and of which answers are right, on the rows of the verdict and
    on the validation rows; `groups` numbers the rows of both."""
    if held is None:
        return []
    made = []
    for wish in WISHES:
        threshold = lowest(*held, wish, groups[1])
        one: dict[str, Any] = {"wrong": wish, "threshold": threshold, "chosen_on": len(held[0])}
        made.append(one | _kept(*sure, wish, threshold, groups[0]))
    return made


def lowest(sure: Numbers, right: Numbers, wish: float, groups: NDArray[np.int64] | None) -> float | None:
    """The lowest confidence from which on answers are wrong no more often than wished, nine times in ten as often as
    that is said (the upper end of a one-sided interval; Clopper and Pearson 1934): one that merely was right often
    enough on these rows is wrong more often than wished every second time. None where no threshold is sure enough."""
    from scipy.stats import beta

    found = sweep(sure, right < 0.5)
    if not found.rows:
        return None
    share = effective(right, groups)[1] / found.rows  # rows of a group tell less
    wrong, given = found.hits * share, found.given * share
    most = np.where(wrong < given, beta.ppf(SURE, wrong + 1, np.maximum(given - wrong, 1e-9)), 1.0)
    fine = np.flatnonzero(most <= wish)
    if not len(fine):
        return None
    return 0.0 if fine[-1] == len(found.chances) - 1 else found.between(int(fine[-1]))


def _kept(
    sure: Numbers, right: Numbers, wish: float, threshold: float | None, groups: NDArray[np.int64] | None
) -> dict[str, Any]:
    """What the threshold does to the rows of the verdict."""
    kept = np.zeros(len(sure), bool) if threshold is None else sure >= threshold
    if not kept.any():
        return {"answered": None, "among": None, "outcome": None}
    answered = _share(kept.astype(np.float64), groups)
    among = _share(1 - right[kept], None if groups is None else groups[kept])
    outcome = "held" if among.high <= wish else "broken" if among.low > wish else "unclear"
    return {"answered": asdict(answered), "among": asdict(among), "outcome": outcome}


def _share(flags: Numbers, groups: NDArray[np.int64] | None) -> Score:
    low, high = share_interval(*effective(flags, groups))
    return Score(float(flags.mean()), float(low), float(high), len(flags))
