"""All checks, found by name: each is a module of `checks/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tunesmith import plugins
from tunesmith.contracts import Row
from tunesmith.data.rows import select, spread
from tunesmith.doctor.case import Case, Check
from tunesmith.doctor.finding import Finding

MOST = 100_000
"""Rows of a split that checks look at, but for those that look at all: as many from all over a larger one."""
MOST_QUICK = 20_000
"""The same before a training."""


def examine(case: Case, *, quick: bool = False, most: int | None = None) -> list[Finding]:
    """What is wrong with the rows, the gravest first; `quick` leaves out what takes long, and looks at fewer rows."""
    most = most or (MOST_QUICK if quick else MOST)
    kept = {name: spread(len(rows), most) for name, rows in case.rows.items()}
    small = replace(case, rows={name: _some(rows, kept[name]) for name, rows in case.rows.items()})
    found: list[Finding] = []
    for name in plugins.names("checks"):
        check: Check = plugins.load("checks", name)
        if quick and not check.quick:
            continue
        if getattr(check, "whole", False):
            found += check.find(case)
        else:
            found += [_of_whole(finding, kept) for finding in check.find(small)]
    return sorted(found, key=lambda finding: not finding.stops)


def _some(rows: Sequence[Row], kept: NDArray[np.int64]) -> Sequence[Row]:
    return rows if len(kept) == len(rows) else [*select(rows, kept)]


def _of_whole(finding: Finding, kept: Mapping[str, NDArray[np.int64]]) -> Finding:
    """A finding about a sample, its rows by their ids among all."""
    rows = tuple((split, int(kept[split][k])) for split, k in finding.rows)
    return replace(finding, rows=rows, remove=tuple(int(kept["train"][k]) for k in finding.remove))
