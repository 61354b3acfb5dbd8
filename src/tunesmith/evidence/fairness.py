"""False positives by group: of the rows that should not be given a positive label, the share that is (Dixon et al.
2018; Hardt et al. 2016, arXiv:1610.02413), with intervals, on the rows of the verdict or on those of a file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Row, Task
from tunesmith.data.content import SLICE
from tunesmith.data.files import find_files
from tunesmith.data.read import Batch, read_batches, refuse_bad
from tunesmith.errors import DataError, RecipeError, did_you_mean
from tunesmith.evaluating import Fairness
from tunesmith.evidence.case import Case
from tunesmith.labelled import label_text
from tunesmith.metrics.measured import Score
from tunesmith.recipe import Recipe
from tunesmith.significance import corrected, effective, share_difference, share_interval
from tunesmith.stats import LEVEL
from tunesmith.train.evaluate import answer_rows

_GOLD = "beside_gold"
_REPEATS = 2000
_SEED = 20_261_127


def look(case: Case) -> list[dict[str, Any]]:
    """See reportshape.Fairness, once for every group column that the recipe names. Raises UserError."""
    return [_one(case, asked) for asked in case.recipe.evaluate.fairness]


def refuse(recipe: Recipe, task: Task, rows: Sequence[Row]) -> None:
    """Before anything is learned: raise UserError for what a recipe asks in vain. `rows` are those of the verdict."""
    for asked in recipe.evaluate.fairness:
        labels = task.classes()
        if not labels:
            raise RecipeError(
                "false positives by group are of tasks that give each row one label",
                where="evaluate.fairness",
                hint="leave it out",
            )
        unknown = next((label for label in asked.positive if label not in labels), None)
        if unknown is not None:
            hint = did_you_mean(unknown, labels)
            raise RecipeError(f"the task has no label `{unknown}`", where="evaluate.fairness.positive", hint=hint)
        given, file = _rows(recipe, task, asked, rows)
        if sum(len(part) >= asked.least for part in _grouped(given, asked).values()) < 2:
            raise DataError(
                f"fewer than two groups of `{asked.by}` have {asked.least} rows that should not be positive",
                where=file,
                hint="set `evaluate.fairness.least` lower, name another column, or leave it out",
            )


def _grouped(rows: Sequence[Row], asked: Fairness) -> dict[str, list[Row]]:
    """Group -> its rows that should not be positive."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        value = row.values.get(SLICE + asked.by)
        if value not in (None, "") and _innocent(row, asked):
            groups[str(value)].append(row)
    return groups


def _one(case: Case, asked: Fairness) -> dict[str, Any]:
    rows, file = _rows(case.recipe, case.task, asked, case.rows)
    groups = _grouped(rows, asked)
    enough = {value: part for value, part in groups.items() if len(part) >= asked.least}
    if asked.data is None:
        answers = dict(case.tuned)
    else:
        answers = answer_rows(case.model, case.task, [row for part in enough.values() for row in part])
    together = case.result.tuned.measured.groups if asked.data is None else {}
    hits = {
        value: Hits(
            np.array([answers[row.id]["label"] in asked.positive for row in part], np.float64),
            np.array([together[row.id] for row in part]) if together else None,
        )
        for value, part in enough.items()
    }
    return {
        "by": asked.by,
        "file": file,
        "positive": list(asked.positive),
        "overall": asdict(_rate(_all(list(hits.values())))),
        "groups": _groups(hits),
        "least": asked.least,
        "left_out": len(groups) - len(enough),
        "spread": asdict(_spread(list(hits.values()))),
    }


def _innocent(row: Row, asked: Fairness) -> bool:
    """Whether a row should not be given a positive label; one that says nothing of it is none."""
    gold = label_text(row.values.get(_GOLD, row.values.get("label")))
    if not gold:
        return False
    return gold in asked.innocent if asked.innocent else gold not in asked.positive


def _rows(recipe: Recipe, task: Task, asked: Fairness, rows: Sequence[Row]) -> tuple[Sequence[Row], str]:
    """The rows that are looked at, and their file. Raises DataError."""
    if asked.data is None:
        return rows, rows[0].file
    files = find_files(Path(asked.data))
    paths = files.get("test") or next(iter(files.values()))
    said = recipe.column_map()
    label = said.get("label", "label")
    if not isinstance(label, str):
        raise RecipeError("a label of several columns", where="evaluate.fairness.data", hint="leave `data` out")
    columns = {name: column for name, column in said.items() if name in task.asked()}
    batch = Batch(tuple(paths), columns, None, {SLICE + asked.by: asked.by, _GOLD: label}, (asked.by, label))
    found = read_batches([batch], task, targets=False)
    refuse_bad(found.bad)
    return found.rows, str(paths[0])


@dataclass(frozen=True)
class Hits:
    """The rows of a group."""

    given: NDArray[np.float64]
    """[rows], 1 where a positive label is given."""
    drawn: NDArray[np.int64] | None
    """[rows], the number of those that are drawn together; None where each row stands for itself."""

    @property
    def worth(self) -> tuple[float, float]:
        """Hits and rows that tell as much, each standing for itself."""
        return effective(self.given, self.drawn)


def _all(hits: Sequence[Hits]) -> Hits:
    drawn = [part.drawn for part in hits if part.drawn is not None]
    return Hits(np.concatenate([part.given for part in hits]), np.concatenate(drawn) if drawn else None)


def _groups(hits: Mapping[str, Hits]) -> list[dict[str, Any]]:
    """The highest rate first."""
    made: list[dict[str, Any]] = []
    for value, mine in hits.items():
        rest = _all([part for other, part in hits.items() if other != value])
        low, high, p = share_difference(mine.worth, rest.worth)
        gap = float(mine.given.mean() - rest.given.mean())
        made.append(
            {"value": value, "n": len(mine.given), "rate": asdict(_rate(mine)), "gap": gap, "low": low, "high": high,
             "p": p}
        )  # fmt: skip
    for one, p in zip(made, corrected([one["p"] for one in made]), strict=True):
        del one["p"]
        one |= {"corrected": p, "odd": p < LEVEL}
    return sorted(made, key=lambda one: (-one["rate"]["value"], one["value"]))


def _rate(found: Hits) -> Score:
    low, high = share_interval(*found.worth)
    return Score(float(found.given.mean()), float(low), float(high), len(found.given))


def _spread(hits: Sequence[Hits]) -> Score:
    """Highest rate minus lowest. Chance alone makes it more than 0, and in replicates once more. So these (of rates
    from their posteriors, Jeffreys') are shifted by what they are too high on average, and the interval begins at 0
    where equal rates would show as much in one sample of twenty."""
    rng = np.random.default_rng(_SEED)
    rates: list[float] = [float(found.given.mean()) for found in hits]
    value = max(rates) - min(rates)
    counts, sizes = np.array([found.worth for found in hits]).T
    drawn = np.ptp(rng.beta(counts + 0.5, sizes - counts + 0.5, (_REPEATS, len(hits))), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975]) - (drawn.mean() - value)
    whole = np.maximum(np.round(sizes), 1).astype(int)
    even = rng.binomial(whole, counts.sum() / sizes.sum(), (_REPEATS, len(hits))) / whole
    if value <= np.quantile(np.ptp(even, axis=1), 0.95):
        low = 0.0
    n = sum(len(found.given) for found in hits)
    return Score(value, float(np.clip(low, 0.0, value)), float(np.clip(high, value, 1.0)), n)
