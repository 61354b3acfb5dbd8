"""Splits and samples that depend on the rows' content alone: the same rows give the same split on every machine.

A row's place is a hash of its content against fixed thresholds, so rows added later move no old row, and exact
duplicates never end up on two sides. Columns that begin with `label` (to be predicted) or `beside` (what goes with a
row) do not count.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from tunesmith.contracts import Row
from tunesmith.errors import DataError


def content(row: Row) -> str:
    """What the model reads of a row, as a key: the same for rows that differ only in their label. A file whose sum
    stands beside it is known by that, wherever it lies."""
    summed = {key.removesuffix("_sha256") for key in row.values if key.endswith("_sha256")}
    values = {
        key: value for key, value in row.values.items() if not key.startswith(("label", "beside")) and key not in summed
    }
    return json.dumps(values, sort_keys=True, default=str)


def place(row: Row, salt: str = "split") -> float:
    """A number in [0, 1) that is a function of the row's content."""
    digest = hashlib.sha256(f"{salt}\n{content(row)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_rows(rows: Sequence[Row], shares: dict[str, float]) -> dict[str, list[Row]]:
    """`train` and the named shares, within each label. A label with enough different rows is in every part.

    Raises DataError for a label with a single row: it cannot be both learned and scored.
    """
    groups: dict[object, dict[float, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row.values.get("label")][place(row)].append(row)
    labelled = any(row.values.get("label") is not None for row in rows)
    side: dict[float, str] = {}
    for label, places in groups.items():
        if labelled and sum(map(len, places.values())) == 1:
            only = next(iter(places.values()))[0]
            raise DataError(
                f"the label `{label}` occurs once: a split would leave it either unlearned or unscored",
                where=only.place,
                hint="add rows of this label, remove it, or name files in `data.validation` and `data.test`",
            )
        side |= _sides(sorted(places), shares, side)
    parts: dict[str, list[Row]] = {name: [] for name in ("train", *shares)}
    for row in rows:
        parts[side[place(row)]].append(row)
    for name, part in parts.items():
        if not part:
            raise DataError(
                f"{len(rows)} rows are too few to set some aside for `{name}`",
                where=rows[0].file if rows else None,
                hint="add rows, or name files in `data.validation` and `data.test`",
            )
    return {name: renumber(part) for name, part in parts.items()}


def _sides(places: list[float], shares: dict[str, float], taken: dict[float, str]) -> dict[float, str]:
    """Place -> part for one label: fixed thresholds, then the nearest row for a part that would have none.

    The repair needs at least one row more than there are parts to fill, and moves nothing in labels of usual size.
    """
    bounds: list[tuple[float, str]] = []
    edge = 0.0
    for name, share in shares.items():
        edge += share
        bounds.append((edge, name))
    side = {at: next((name for bound, name in bounds if at < bound), "train") for at in places}
    side |= {at: taken[at] for at in places if at in taken}
    free = [at for at in places if at not in taken]
    for name in ("train", *shares):
        counts = {part: list(side.values()).count(part) for part in ("train", *shares)}
        if counts[name] or (len(free) <= len(shares) and name != "train"):
            continue
        donor = max(counts, key=lambda part: counts[part])
        spare = [at for at in free if side[at] == donor]
        if counts[donor] > 1 and spare:
            side[spare[-1] if name == "train" else spare[0]] = name
    return side


def sample(rows: Sequence[Row], limit: int | None) -> list[Row]:
    """At most `limit` rows that keep the labels' shares and the rows' order; a smaller sample is part of a larger."""
    if limit is None or len(rows) <= limit:
        return list(rows)
    groups: dict[object, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.values.get("label")].append(row)
    ranked: list[tuple[float, float, int]] = []
    for group in groups.values():
        ordered = sorted(group, key=lambda row: (place(row, "sample"), row.id))
        ranked += [((k + 0.5) / len(group), place(row, "sample"), row.id) for k, row in enumerate(ordered)]
    kept = {row_id for _, _, row_id in sorted(ranked)[:limit]}
    return [row for row in rows if row.id in kept]


def renumber(rows: Sequence[Row]) -> list[Row]:
    """The rows with ids that are their positions."""
    return [replace(row, id=number) for number, row in enumerate(rows)]
