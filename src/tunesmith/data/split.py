"""Splits and samples that depend on the rows alone: the same rows give the same split on every machine.

A row's place is a hash of its group or content against fixed thresholds, so rows added later move no old row, and exact
duplicates never end up on two sides. Columns that begin with `label` (to be predicted) or `beside` (what goes with a
row) do not count. Rows with times are split by them instead: the last are set aside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Row
from tunesmith.data.content import TIME
from tunesmith.data.rows import marks, select
from tunesmith.errors import DataError, RecipeError

_FORMS = "times are numbers, or dates such as 2024-05-31 or 2024-05-31T12:00:00"
Interval = tuple[float, float, str]
"""From, below, and the part that places between the two are in; what is in none is in `train`."""


def intervals(shares: Mapping[str, float], fold: tuple[int, int] | None = None) -> list[Interval]:
    """The thresholds of each part, one after the other from 0. With (number, count) of a fold, test is that part of
    [0, 1) and validation follows it, beyond 1 from 0 again."""
    if fold is None:
        made, edge = [], 0.0
        for name, share in shares.items():
            made.append((edge, edge := edge + share, name))
        return made
    number, count = fold
    low, high = number / count, (number + 1) / count
    after = (high + shares["validation"]) % 1.0
    if after > high or high == 1.0:
        return [(low, high, "test"), (high % 1.0, after, "validation")]
    return [(low, high, "test"), (high, 1.0, "validation"), (0.0, after, "validation")]


def split_rows(rows: Sequence[Row], bounds: Sequence[Interval]) -> dict[str, Sequence[Row]]:
    """`train` and the parts between the thresholds, within each label. A label with enough different rows is in every
    part.

    Raises DataError for a label with a single row (it cannot be both learned and scored), and where too few rows are
    left for a part.
    """
    names = tuple(dict.fromkeys(("train", *(name for _, _, name in bounds))))
    found = marks(rows)
    labelled = len(rows) > 0 and any(rows[int(k)].values.get("label") is not None for k in _firsts(found.label))
    if labelled:
        counts = np.bincount(found.label)
        if (lone := np.flatnonzero(counts == 1)).size:
            only = rows[int(np.flatnonzero(found.label == lone[0])[0])]
            label = only.values.get("label")
            raise DataError(
                f"the label `{label}` occurs once: a split would leave it either unlearned or unscored",
                where=only.place,
                hint="add rows of this label, remove it, or name files in `data.validation` and `data.test`",
            )
    side = _sides(found.place, found.label, bounds, names)
    return _parts(rows, names, side)


def _firsts(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """The first row of each label."""
    return np.unique(labels, return_index=True)[1].astype(np.int64)


def _parts(rows: Sequence[Row], names: tuple[str, ...], side: NDArray[np.int8]) -> dict[str, Sequence[Row]]:
    parts: dict[str, Sequence[Row]] = {}
    for number, name in enumerate(names):
        parts[name] = select(rows, np.flatnonzero(side == number))
        if not len(parts[name]):
            raise DataError(
                f"{len(rows)} rows are too few to set some aside for `{name}`",
                where=rows[0].file if rows else None,
                hint="add rows, or name files in `data.validation` and `data.test`",
            )
    return parts


def _sides(
    place: NDArray[np.float64], label: NDArray[np.int32], bounds: Sequence[Interval], names: tuple[str, ...]
) -> NDArray[np.int8]:
    """The part of each row: fixed thresholds, then the nearest place for a part that would have none of a label.

    The repair needs at least one place more than there are parts to fill, and moves nothing in labels of usual size. It
    moves all rows of a place, and no place that an earlier label has too.
    """
    side = np.zeros(len(place), np.int8)
    for low, high, name in bounds:
        side[(place >= low) & (place < high)] = names.index(name)
    different, at = np.unique(place, return_inverse=True)
    owner = np.full(len(different), np.iinfo(np.int32).max, np.int32)
    np.minimum.at(owner, at, label)
    of_place = np.zeros(len(different), np.int8)
    of_place[at] = side
    order = np.argsort(label, kind="stable")
    edges = np.searchsorted(label[order], np.arange(label.max(initial=-1) + 2))
    for number, (first, after) in enumerate(pairwise(edges)):
        mine = np.unique(at[order[first:after]])  # in the order of their places
        _repair(of_place, mine, owner[mine] == number, names)
    return of_place[at]


def _repair(side: NDArray[np.int8], mine: NDArray[np.int64], free: NDArray[np.bool_], names: tuple[str, ...]) -> None:
    """Give each part a place of this label, where it has none and another can spare one."""
    for number, name in enumerate(names):
        counts = np.bincount(side[mine], minlength=len(names))
        if counts[number] or (free.sum() <= len(names) - 1 and name != "train"):
            continue
        donor = int(np.argmax(counts))
        spare = mine[free & (side[mine] == donor)]
        if counts[donor] > 1 and len(spare):
            side[spare[-1] if name == "train" else spare[0]] = number


def split_by_time(
    rows: Sequence[Row], shares: Mapping[str, float], given: Mapping[str, str | float]
) -> tuple[dict[str, Sequence[Row]], dict[str, float]]:
    """`train`, then `validation`, then `test` in time, and the times that these begin at: `given`, or such that each
    has about its share. Rows of one time are on one side.

    Raises DataError for a row without a time, and where a part would have no row.
    """
    times = _times(rows)
    ordered = np.sort(times)
    begin: dict[str, float] = {}
    left = len(rows)
    for name in sorted(shares):  # test is taken first, from the end
        left -= round(shares[name] * len(rows))
        begin[name] = _said(given[name], name) if name in given else float(ordered[min(max(left, 0), len(rows) - 1)])
    names = ("train", *(name for name in ("validation", "test") if name in shares))
    side = np.zeros(len(rows), np.int8)
    for number, name in enumerate(names[1:], start=1):
        side[times >= begin[name]] = number
    return _parts(rows, names, side), begin


def _times(rows: Sequence[Row]) -> NDArray[np.float64]:
    """The time of each row. Raises DataError."""
    times = np.empty(len(rows))
    kinds: dict[bool, Row] = {}
    for k, row in enumerate(rows):
        value = row.values.get(TIME)
        try:
            times[k] = _moment(value)
        except ValueError:
            said = "has no time" if value in (None, "") else f"has a time that cannot be read: {value!r}"
            raise DataError(f"the row {said}", where=row.place, hint=_FORMS) from None
        kinds.setdefault(_is_date(value), row)
    if len(kinds) > 1:
        number, date = kinds[False], kinds[True]
        raise DataError(
            f"some times are numbers ({number.values[TIME]!r}), others dates ({date.values[TIME]!r})",
            where=f"{number.place}\n  and {date.place}",
            hint="write all of them alike",
        )
    return times


def _said(value: str | float, name: str) -> float:
    try:
        return _moment(value)
    except ValueError:
        raise RecipeError(f"the time cannot be read: {value!r}", where=f"data.split.{name}_from", hint=_FORMS) from None


def _is_date(value: Any) -> bool:
    if isinstance(value, int | float):
        return False
    try:
        float(str(value))
    except ValueError:
        return True
    return False


def _moment(value: Any) -> float:
    """A number, or a date as seconds since 1970 (UTC where it names no zone). Raises ValueError."""
    if isinstance(value, bool) or value is None:
        raise ValueError(value)
    if _is_date(value):
        moment = datetime.fromisoformat(str(value).strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def sample(rows: Sequence[Row], limit: int | None) -> Sequence[Row]:
    """At most `limit` rows that keep the labels' shares and the rows' order; a smaller sample is part of a larger. Ids
    are the new positions."""
    return rows if limit is None or len(rows) <= limit else select(rows, sampled(rows, limit))


def sampled(rows: Sequence[Row], limit: int | None) -> NDArray[np.int64]:
    """The positions of a sample, ascending."""
    if limit is None or len(rows) <= limit:
        return np.arange(len(rows))
    found = marks(rows)
    order = np.lexsort((np.arange(len(rows)), found.draw, found.label))
    counts = np.bincount(found.label)
    begin = np.concatenate([[0], np.cumsum(counts)])
    label = found.label[order]
    rank = (np.arange(len(rows)) - begin[label] + 0.5) / counts[label]
    chosen = order[np.lexsort((order, found.draw[order], rank))[:limit]]
    return np.sort(chosen)
