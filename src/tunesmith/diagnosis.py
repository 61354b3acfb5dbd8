"""All that is wrong with the rows of a run: what the doctor finds, and what only encoding can tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tunesmith import plugins
from tunesmith.contracts import Example, Row
from tunesmith.data import tokens
from tunesmith.doctor.case import Case
from tunesmith.doctor.examine import examine
from tunesmith.doctor.finding import EXAMPLES, Finding, about
from tunesmith.errors import DataError, RecipeError, did_you_mean
from tunesmith.prepare import Prepared

_MOST_CUT = 0.5
"""Of the training rows; where more lose a part of their answers, what is learned is to break off."""
_NAMED = 100_000
"""Rows of a finding that are named one by one."""


def diagnose(prepared: Prepared, *, quick: bool = False) -> list[Finding]:
    """The findings, the gravest first; `quick` leaves out what takes long."""
    assert prepared.recipe.task is not None
    case = Case(prepared.splits.rows, prepared.splits.bad, prepared.recipe.task.name, prepared.recipe.train.seed)
    found = [*_cut(prepared), *examine(case, quick=quick)]
    return sorted(found, key=lambda finding: not finding.stops)


def refuse_unknown(allowed: Sequence[str]) -> None:
    """Raise RecipeError for a name in `data.allow` that no finding which stops training has."""
    known = ["answer-cut"]
    for name in plugins.names("checks"):
        known += getattr(plugins.load("checks", name), "stopping", ())
    for kind in allowed:
        if kind not in known:
            raise RecipeError(
                f"no finding that stops training is called `{kind}`",
                where="data.allow",
                hint=did_you_mean(kind, known),
            )


def refuse(findings: Iterable[Finding], allowed: Sequence[str]) -> None:
    """Raise DataError for the first finding that makes training meaningless and is not allowed."""
    for finding in findings:
        if finding.stops and finding.kind not in allowed:
            places = "".join(f"\n  also {spot.place}" for spot in finding.examples[1:])
            raise DataError(
                f"{finding.kind} in {finding.split}, {finding.count:,} of {finding.of:,} rows: {finding.why}",
                where=f"{finding.examples[0].place}{places}" if finding.examples else None,
                hint=f"{finding.hint}; to train all the same, set `data.allow: [{finding.kind}]`",
            )


def _cut(prepared: Prepared) -> list[Finding]:
    """`answer-cut` and `truncated`: rows of which the model does not see all."""
    if prepared.model.family == "vision":
        return []
    found = []
    limit = prepared.model.text.max_tokens
    for split, rows in prepared.splits.rows.items():
        encoded = prepared.encoded[split]
        lost, cut = tokens.rows_with(encoded, "lost"), tokens.rows_with(encoded, "cut")
        hint = "shorten them, or raise `data.max_tokens` if the model can read more"
        if lost.any():
            why = f"a part of what is to be learned lies beyond the {limit} tokens that the model reads"
            shown = [_lost(encoded[k]) for k in np.flatnonzero(lost)[:EXAMPLES].tolist()]
            stops = split == "train" and bool(lost.mean() > _MOST_CUT)
            found.append(_finding("answer-cut", split, rows, lost, (why, hint), shown, stops=stops))
        if (only := cut & ~lost).any():
            why = f"the model reads {limit} tokens of them and never sees the rest"
            found.append(_finding("truncated", split, rows, only, (why, hint), []))
    return found


def _finding(
    kind: str,
    split: str,
    rows: Sequence[Row],
    chosen: NDArray[np.bool_],
    said: tuple[str, str],
    shown: Sequence[str],
    *,
    stops: bool = False,
) -> Finding:
    """A finding about chosen rows, however many: only those that are shown are made."""
    numbers = np.flatnonzero(chosen)
    first = [rows[k] for k in numbers[:EXAMPLES].tolist()]
    made = about(kind, split, first, len(rows), *said, shown=shown, stops=stops)
    return replace(made, count=len(numbers), rows=tuple((split, k) for k in numbers[:_NAMED].tolist()))


def _lost(examples: Sequence[Example]) -> str:
    parts = [part for example in examples for part in example.parts.values()]
    lost, kept = sum(part.lost for part in parts), sum(sum(part.trained) for part in parts)
    return f"{lost} of the {lost + kept} tokens of its answer"
