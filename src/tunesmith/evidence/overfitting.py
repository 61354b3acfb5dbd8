"""How much better a model is on what it learned from: its score there, rows that it knows by heart, and rows of the
verdict that were among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from tunesmith import stats
from tunesmith.contracts import Example, Row, Task
from tunesmith.data.rows import contents, select
from tunesmith.data.split import sample
from tunesmith.evidence.case import Case
from tunesmith.metrics.measured import Measured
from tunesmith.models.model import Model
from tunesmith.train.evaluate import judge

_SCORED = 400
"""Training rows that are scored."""
_TRIED = 32
"""Training rows that the model is asked to go on with."""
_SHORTEST, _LONGEST = 12, 32
"""Target tokens that must all be the likeliest, in a row, to be known by heart."""
_WHOLE = 0.9
"""Share of a row that is target from which on it has no question: it is gone on with from its middle."""
_BUDGET = 4096
Heart = dict[int, bool]
"""Row id -> whether its target is what the model writes."""


def look(case: Case, best_step: int, last_step: int, by_heart: Heart, base_by_heart: Heart) -> dict[str, Any] | None:
    """See reportshape.Overfitting. None for tasks whose training rows are not asked as rows to be scored are."""
    if type(case.task).gather is not Task.gather:
        return None
    measured = _on_train(case)
    found = stats.scores(case.task, measured)
    metric = case.metric if case.metric.name in found else case.task.watched({n: s.value for n, s in found.items()})
    unseen = case.result.scores[case.result.split].get(metric.name)
    if unseen is None:
        return None
    apart = stats.apart(case.task, metric.name, measured, case.result.tuned.measured)
    sign = 1.0 if metric.higher_is_better else -1.0
    low, high = sorted((sign * apart.low, sign * apart.high))
    return {
        "metric": metric.name,
        "train": asdict(found[metric.name]),
        "unseen": asdict(unseen),
        "gap": sign * apart.difference,
        "low": low,
        "high": high,
        "best_step": best_step,
        "last_step": last_step,
        "memorised": _memorised(case, by_heart, base_by_heart),
        "duplicates": _duplicates(case, metric.name),
    }


def _on_train(case: Case) -> Measured:
    return judge(case.model, case.task, sample(case.train, _SCORED), answers=0).measured


def tried(rows: Sequence[Row]) -> Sequence[Row]:
    """The training rows to be gone on with: those that stand there most often first, the others from all over."""
    _, inverse, counts = np.unique(contents(rows), return_inverse=True, return_counts=True)
    first = np.unique(inverse, return_index=True)[1]
    often = first[np.lexsort((first, -counts[inverse[first]]))]
    copied = often[counts[inverse[often]] > 1][: _TRIED // 2]
    others = np.setdiff1d(first, copied)
    spread = others[np.linspace(0, len(others) - 1, min(_TRIED - len(copied), len(others))).astype(int)]
    return select(rows, np.sort(np.concatenate([copied, spread])))


@torch.no_grad()
def knows(model: Model, task: Task, rows: Sequence[Row]) -> Heart:
    """Whether, given all before it, each of the first target tokens of a row is the likeliest: then a model that is
    asked greedily writes them. Rows with too few of them are left out; so are all of models that write nothing."""
    found: Heart = {}
    if model.kind != "causal-lm":
        return found
    model.net.eval()
    for row in rows:
        example = task.encode(row, model, "learn")[0]
        places = _places(example)
        if places:
            part = next(iter(example.parts.values()))
            logits = model.label_logits([part], torch.tensor([place - 1 for place in places]))
            wanted = [part.ids[place] for place in places]
            found[row.id] = logits.argmax(-1).tolist() == wanted
    return found


def _places(example: Example) -> list[int]:
    """The positions of the target tokens that are looked at."""
    part = next(iter(example.parts.values()))
    if not hasattr(part, "ids"):
        return []
    places = [k for k, learned in enumerate(part.trained) if learned and k]
    if len(places) > _WHOLE * len(part.ids):
        places = places[len(places) // 2 :]
    return places[:_LONGEST] if len(places) >= _SHORTEST else []


def _memorised(case: Case, now: Heart, before: Heart) -> dict[str, Any] | None:
    """See reportshape.Memorised: rows that the untuned model writes too are no news of this run. None where that is not
    known."""
    if not now or not before:
        return None
    rows = {row.id: row for row in tried(case.train)}
    known = [rows[row] for row, exact in now.items() if exact]
    return {
        "tried": len(now),
        "exact": len(known),
        "base_exact": sum(before.get(row.id, False) for row in known),
        "rows": [_shown(case, row) for row in known if not before.get(row.id, False)],
    }


def _shown(case: Case, row: Row) -> dict[str, Any]:
    said = case.task.show(row, None)
    return {
        "file": row.file,
        "line": row.line,
        "text": said.asked,
        "reference": said.reference,
        "base": None,
        "tuned": said.reference or said.asked,
        "change": "other",
        "sure": None,
    }


def _duplicates(case: Case, metric: str) -> dict[str, Any] | None:
    """Rows of the verdict that are training rows too: what the model reads of them is the same."""
    ids = case.ids(case.rows)
    twice = np.isin(contents(case.rows), contents(case.train))
    if not twice.any():
        return None
    others = case.result.tuned.measured.of(ids[~twice])
    without = stats.scores(case.task, others).get(metric) if others.rows else None
    score = case.result.scores[case.result.split][metric]
    return {"rows": int(twice.sum()), "score": asdict(score), "without": None if without is None else asdict(without)}
