"""What to try next: rules, each from a sign that was measured in this run. At most five, the weightiest first."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith.doctor.finding import Finding
from tunesmith.errors import RecipeError
from tunesmith.recipe import Recipe
from tunesmith.recipefile import build
from tunesmith.report.tables import number

MOST = 5
_RISE = 0.003
"""What a score must still gain between two looks to be rising, as a share of itself."""
_FALL = 0.01
_DROPOUT = 0.2
_GAP = 0.05
"""What a model must surely be better on training rows for it to have overfitted, as a share of the score there."""
_RARE = 0.2
"""Of the mean share of a label: below it, one is rare."""
_CUT = 0.02
RISES = "the score still rises with the rows"
"""What the advice of a scaling curve begins with."""
Found = dict[str, Any]


@dataclass(frozen=True)
class Signs:
    """What a run left to judge by."""

    report: Mapping[str, Any]
    recipe: Recipe
    findings: tuple[Finding, ...]
    learning_rate: float
    shares: Mapping[str, float]
    """Label -> its share of the training rows."""
    options: frozenset[str]
    """Of the task."""
    room: int | None
    """Most tokens of an answer."""
    cut: float
    """Share of the answers that were cut at the limit."""
    higher: bool
    """Whether more is better, of the score that picks the checkpoint."""
    context: int | None
    """Tokens that the model reads at most; None of one that reads no texts."""
    ranged: tuple[str, float] | None = None
    """The end of a range test at which the rate was chosen, `upper` or `lower`, and the rate there; else None."""
    task: str | None = None
    """Its name, where the recipe left it to be found: then a change of one of its options must say it too."""

    @property
    def looks(self) -> list[tuple[int, float]]:
        """Update and score of every look at the validation rows where that was a number."""
        watched, looks = self.report["curves"]["watched"], self.report["curves"]["looks"]
        return [(look["step"], look["scores"][watched]) for look in looks if watched in look["scores"]]


def look(signs: Signs) -> list[Found]:
    """See reportshape.Advice. Where two would change a key, the weightier does."""
    found = [made for rule in _RULES if (made := rule(signs)) is not None][:MOST]
    taken: set[str] = set()
    for one in found:
        change = {key: value for key, value in one["change"].items() if key not in taken}
        taken |= change.keys()
        asks = signs.task is not None and any(key.startswith("task.") for key in change)
        one["change"] = {"task.name": signs.task, **change} if asks else change
    return found


def _parses(signs: Signs, **change: Any) -> bool:
    """Whether the recipe takes the change beside all that it says."""
    said = tuple(f"{key.replace('__', '.')}={json.dumps(value)}" for key, value in change.items())
    try:
        build(signs.recipe.model_dump(mode="json"), said)
    except RecipeError:
        return False
    return True


def _advice(sign: str, do: str, **change: Any) -> Found:
    return {"sign": sign, "do": do, "change": {key.replace("__", "."): value for key, value in change.items()}}


def _hurt(signs: Signs) -> Found | None:
    verdict = signs.report["verdict"]
    if verdict is None or verdict["outcome"] != "hurt":
        return None
    rate = _rounded(signs.learning_rate / 3)
    return _advice(
        f"the tuned model is worse than the untuned one ({verdict['metric']} {verdict['difference']:+.3f})",
        "look at the labels of the rows it broke, and learn more slowly",
        train__learning_rate=rate,
    )


def _leaked(signs: Signs) -> Found | None:
    overfitting = signs.report["overfitting"]
    twice = overfitting and overfitting["duplicates"]
    if not twice:
        return None
    if twice["without"] is None:
        return _advice("all rows of the verdict are training rows too: nothing is known of others", "take other rows")
    if abs(twice["score"]["value"] - twice["without"]["value"]) < 0.002:
        return None
    return _advice(
        f"{twice['rows']} rows of the verdict are training rows too: the score is {number(twice['score']['value'])} "
        f"with them and {number(twice['without']['value'])} without",
        "take the copies out: `tunesmith check` names them",
    )


def _rising(signs: Signs) -> Found | None:
    looks, overfitting = signs.looks, signs.report["overfitting"]
    if len(looks) < 2 or (overfitting and overfitting["best_step"] != overfitting["last_step"]):
        return None
    (_, before), (_, last) = looks[-2:]
    if (last - before) * (1 if signs.higher else -1) <= _RISE * abs(before):
        return None
    more = {"train__steps": signs.recipe.train.steps * 2} if signs.recipe.train.steps else {
        "train__epochs": signs.recipe.train.epochs * 2
    }  # fmt: skip
    return _advice(
        f"{signs.report['curves']['watched']} on validation was still getting better at the last look "
        f"({number(before)} to {number(last)})",
        "train longer",
        **more,
    )


def _passed(signs: Signs) -> Found | None:
    looks, overfitting = dict(signs.looks), signs.report["overfitting"]
    if not overfitting or overfitting["best_step"] > 0.7 * overfitting["last_step"] or len(looks) < 3:
        return None
    if signs.recipe.evaluate.early_stopping is not None:
        return None
    best, last = looks.get(overfitting["best_step"]), looks.get(overfitting["last_step"])
    if best is None or last is None or abs(best - last) < _FALL * abs(best):
        return None
    return _advice(
        f"the best checkpoint is of update {overfitting['best_step']} of {overfitting['last_step']}; after it "
        f"{signs.report['curves']['watched']} went from {number(best)} to {number(last)}",
        "stop when it no longer gets better",
        evaluate__early_stopping=2,
    )


def _gap(signs: Signs) -> Found | None:
    overfitting = signs.report["overfitting"]
    if not overfitting or overfitting["low"] <= _GAP * abs(overfitting["train"]["value"]):
        return None
    sign = (
        f"{overfitting['metric']} is {number(overfitting['train']['value'])} on training rows and "
        f"{number(overfitting['unseen']['value'])} on unseen ones"
    )
    more = {} if (signs.recipe.model.dropout or 0.0) >= _DROPOUT else {"model__dropout": _DROPOUT}
    smooth = {"task__smoothing": 0.1, **more}
    task = signs.recipe.task
    smoothed = "smoothing" not in signs.options or bool(task and task.options().get("smoothing"))
    if not smoothed and not signs.report["curves"]["watched"].endswith("loss") and _parses(signs, **smooth):
        return _advice(sign, "hold it back: smooth the labels" + (", and drop out more" if more else ""), **smooth)
    return _advice(sign, f"hold it back: {'drop out more, or ' if more else ''}learn fewer weights", **more)


def _slow(signs: Signs) -> Found | None:
    losses, verdict = signs.report["curves"]["losses"], signs.report["verdict"]
    if len(losses) < 20 or (verdict and verdict["outcome"] != "unclear"):
        return None
    if _lost(signs) is not None:  # it moved enough to forget
        return None
    part = max(len(losses) // 10, 3)
    first, last = sum(losses[:part]) / part, sum(losses[-part:]) / part
    if last < 0.9 * first or first <= 0:
        return None
    return _advice(
        f"the training loss hardly fell ({number(first)} to {number(last)})",
        "learn faster",
        train__learning_rate=_rounded(signs.learning_rate * 3),
    )


def _ranged(signs: Signs) -> Found | None:
    """A measured rate at an end of what was tried; where what it did to the model tells more, that is told instead."""
    if signs.ranged is None or any(rule(signs) is not None for rule in (_hurt, _slow, _forgotten)):
        return None
    (end, at), rate = signs.ranged, signs.learning_rate
    if end == "lower":
        sign = f"the learning rate that was measured, {rate:.2g}, is at the lower end of what was tried ({at:.2g})"
        return _advice(sign, "try one below it, or search around it", train__learning_rate=_rounded(rate / 3))
    sign = (
        f"the loss still fell at the highest learning rate that was tried, {at:.2g}, so that the one that was "
        f"measured, {rate:.2g}, may be too low"
    )
    return _advice(sign, "try one above it, or search around it", train__learning_rate=_rounded(rate * 3))


def _rare(signs: Signs) -> Found | None:
    if not signs.shares or "balance" not in signs.options or not _parses(signs, task__balance="weights"):
        return None
    if signs.recipe.task is not None and signs.recipe.task.options().get("balance", "none") != "none":
        return None
    usual = 1 / len(signs.shares)
    labels = [one for one in signs.report["labels"] if one["n"]]
    mean = sum(one["recall"] for one in labels) / max(len(labels), 1)
    weak = [
        one for one in labels if signs.shares.get(one["label"], usual) < _RARE * usual and one["recall"] < 0.7 * mean
    ]
    if not weak:
        return None
    first = min(weak, key=lambda one: one["recall"])
    return _advice(
        f"{len(weak)} rare labels are seldom found: recall of `{first['label']}` is {number(first['recall'])}, where "
        f"the mean is {number(mean)}",
        "weigh rare labels up, or add rows of them",
        task__balance="weights",
    )


def _noise(signs: Signs) -> Found | None:
    found = next((f for f in signs.findings if f.kind == "label-noise"), None)
    if found is None or found.count < 0.01 * max(found.of, 1):
        return None
    return _advice(
        f"{found.count} of {found.of} {found.split} rows look as if their label was wrong",
        "look at them: `tunesmith check --page check.html`, or leave them out with `--fix`",
    )


def _truncated(signs: Signs) -> Found | None:
    found = next((f for f in signs.findings if f.kind in ("truncated", "answer-cut")), None)
    if found is None or found.count < _CUT * max(found.of, 1):
        return None
    room = signs.recipe.data.max_tokens
    sign = f"{found.count} of {found.of} {found.split} rows did not fit the model and were cut"
    if room is not None and signs.context is not None and room < signs.context:
        return _advice(sign, "read more of them", data__max_tokens=min(2 * room, signs.context))
    return _advice(sign, "take a model that reads more at once, or shorten the rows")


def _endless(signs: Signs) -> Found | None:
    if signs.cut <= _CUT or signs.room is None:
        return None
    return _advice(
        f"{signs.cut:.0%} of the answers were cut at {signs.room} tokens",
        "let it write more",
        task__max_new_tokens=2 * signs.room,
    )


def _unclear(signs: Signs) -> Found | None:
    verdict = signs.report["verdict"]
    if verdict is None or verdict["outcome"] != "unclear" or not verdict["needed"]:
        return None
    return _advice(
        f"the difference to the untuned model ({verdict['difference']:+.3f}) cannot be told on these rows",
        f"score it on about {verdict['needed']:,} rows: `tunesmith evaluate RUN --data FILE`",
    )


def _lost(signs: Signs) -> str | None:
    """What the model no longer knows, or no longer does when it is asked."""
    known = next((one for one in signs.report["kept"] if one["outcome"] == "lost"), None)
    if known is not None:
        return f"{known['name']} went from {number(known['before'])} to {number(known['after'])}: {known['what']}"
    probes = (signs.report["written"] or {"probes": []})["probes"]
    done = next((one for one in probes if one["outcome"] == "lost"), None)
    return done and f"{done['tuned_hits']} of {done['n']} {done['what']}, {done['base_hits']} before tuning"


def _forgotten(signs: Signs) -> Found | None:
    lost = _lost(signs)
    if lost is None:
        return None
    return _advice(
        lost,
        "mix in the untuned weights (`tunesmith blend RUN` shows what each share is worth), or learn more slowly",
        train__learning_rate=_rounded(signs.learning_rate / 2),
    )


def _heart(signs: Signs) -> Found | None:
    overfitting = signs.report["overfitting"]
    known = overfitting and overfitting["memorised"]
    if not known or known["exact"] - known["base_exact"] < 1:
        return None
    sign = f"{known['exact'] - known['base_exact']} of {known['tried']} training rows are written by heart"
    remove, train = "remove rows that stand there several times (`tunesmith check`)", signs.recipe.train
    if _rising(signs) is not None or train.steps == 1:
        return _advice(sign, remove)
    less = {"train__steps": train.steps // 2} if train.steps else {"train__epochs": train.epochs / 2}
    return _advice(sign, f"{remove}, and train for fewer epochs", **less)


def _weak_slice(signs: Signs) -> Found | None:
    slices = signs.report["slices"]
    told = ("language", "source", "length", *signs.recipe.evaluate.slices)
    weak = [one for one in slices["slices"] if one["worse"] and one["by"] in told] if slices else []
    if not weak:
        return None
    worst = max(weak, key=lambda one: abs(one["difference"]))
    return _advice(
        f"rows with {worst['by']} `{worst['value']}` are worse: {slices['metric']} {number(worst['score']['value'])}, "
        f"{worst['difference']:+.3f} from all others",
        "add training rows like these",
    )


def _more_rows(signs: Signs) -> Found | None:
    return more_rows(signs.report["scaling"])


def more_rows(curve: Mapping[str, Any] | None) -> Found | None:
    """What a scaling curve says: it is measured after the report was written, where it was asked for."""
    if curve is None or curve["gain"][1] <= 0:
        return None
    return _advice(f"{RISES}: {curve['verdict']}", "add rows")


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")


_RULES: tuple[Callable[[Signs], Found | None], ...] = (
    _leaked, _hurt, _slow, _ranged, _rising, _passed, _endless, _truncated, _noise, _rare, _gap, _heart, _forgotten,
    _more_rows, _weak_slice, _unclear,
)  # fmt: skip
