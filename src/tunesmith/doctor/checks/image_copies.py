"""Images that look the same: saved again, resized, a little brighter.

A difference hash (Krawetz, "Kind of like that", 2013) of 8 x 8 bits and one of the columns. Two images that differ in
few of 64 bits agree in one of eight bytes (surely where they are at most 7), so that only those that share a byte in a
place are compared. What is alike by hash is compared by its small picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Row
from tunesmith.doctor.case import Case
from tunesmith.doctor.finding import EXAMPLES, Finding, about
from tunesmith.doctor.pairing import partners, superfluous

quick = False
_BITS = 10
"""Of the 64 of the rows' hash that may differ; of the columns' twice as many."""
_SIDE = 16
_FAR = 9.0
"""Mean difference of the small pictures' grey values, brightness and contrast evened, in steps of 1/255."""
_FAR_TINY = 5.0
"""The same for pictures of fewer than 48 pixels, where two shoes look alike."""
_TINY = 48
_MOST, _BESIDE = 200, 20
"""Pictures of a bucket that are all compared; of a fuller one, each is with as many behind it."""
_FLAT = 4.0
"""Deviation of the grey values below which a picture shows nothing that could be compared."""


@dataclass(frozen=True)
class _Print:
    """What is kept of an image."""

    rows: NDArray[np.bool_]
    """[64] whether each of 8 x 9 grey values is lighter than the one to its left."""
    columns: NDArray[np.bool_]
    small: NDArray[np.float32]
    """[16 * 16] grey values with mean 0 and deviation 50."""
    tiny: bool


def find(case: Case) -> list[Finding]:
    """`near-duplicate-image`, within each split and between two; files of the same bytes are found elsewhere."""
    names = [name for name, rows in case.rows.items() if rows and "image" in rows[0].values]
    rows = [row for name in names for row in case.rows[name]]
    side = np.repeat(np.arange(len(names)), [len(case.rows[name]) for name in names])
    prints = [_print(str(row["image"])) for row in rows]
    pairs = [
        (a, b) for a, b in _candidates(prints)
        if rows[a].values.get("image_sha256") != rows[b].values.get("image_sha256") and _alike(prints[a], prints[b])
    ]  # fmt: skip
    found = []
    for first in range(len(names)):
        for second in range(first, len(names)):
            here = [(a, b) for a, b in pairs if (side[a], side[b]) == (first, second)]
            if here:
                found.append(_finding(names[first], names[second], rows, here, len(case.rows[names[second]])))
    return found


def _print(path: str) -> _Print | None:
    """None for what cannot be opened, and for a picture of one colour."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            grey: Any = ImageOps.exif_transpose(file).convert("L")
    except Exception:  # whatever PIL cannot read is a bad row elsewhere
        return None
    wide = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), np.int16)
    high = np.asarray(grey.resize((8, 9), Image.Resampling.BOX), np.int16)
    small = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32).ravel()
    if small.std() < _FLAT:
        return None
    small = (small - small.mean()) / small.std() * 50
    return _Print((wide[:, 1:] > wide[:, :-1]).ravel(), (high[1:] > high[:-1]).ravel(), small, min(grey.size) < _TINY)


def _candidates(prints: Sequence[_Print | None]) -> list[tuple[int, int]]:
    """Pairs whose hashes share a byte in a place."""
    buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
    for k, found in enumerate(prints):
        if found is not None:
            for place, byte in enumerate(np.packbits(found.rows).tolist()):
                buckets[place, byte].append(k)
    known = [k for k, found in enumerate(prints) if found is not None]
    bits = {k: int.from_bytes(np.packbits(found.rows).tobytes(), "big") for k in known if (found := prints[k])}
    return sorted(
        {(a, b) for bucket in buckets.values() for a, b in _pairs(bucket)
         if (bits[a] ^ bits[b]).bit_count() <= _BITS}
    )  # fmt: skip


def _pairs(bucket: Sequence[int]) -> Iterator[tuple[int, int]]:
    """All pairs of a bucket; of a full one (blank margins), each with some behind it."""
    if len(bucket) <= _MOST:
        yield from combinations(bucket, 2)
    else:
        for step in range(1, _BESIDE + 1):
            yield from zip(bucket, bucket[step:], strict=False)


def _alike(first: _Print | None, second: _Print | None) -> bool:
    assert first is not None and second is not None
    turned = int((first.columns != second.columns).sum())
    far = _FAR_TINY if first.tiny or second.tiny else _FAR
    return turned <= 2 * _BITS and float(np.abs(first.small - second.small).mean()) <= far


def _finding(first: str, second: str, rows: Sequence[Row], pairs: Sequence[tuple[int, int]], of: int) -> Finding:
    before = partners([a for a, _ in pairs], [b for _, b in pairs])
    if first == second:
        why, hint = "the same picture counts several times", "keep one of each"
    else:
        why = f"{first} has pictures that look the same, so that a score on {second} flatters"
        hint = f"remove them from {first}"
    label = [row.values.get("label") for row in rows]
    differ = {k for k, earlier in before.items() if any(label[j] != label[k] for j in earlier)}
    if differ:
        why += f"; {len(differ)} of them have another label than the picture they look like"
    if first == second:
        gone = superfluous({k: earlier for k, earlier in before.items() if k not in differ})
    else:
        gone = {a for a, _ in pairs}
    return about(
        "near-duplicate-image",
        first if first == second else f"{first}/{second}",
        [rows[k] for k in before],
        of,
        why,
        hint,
        shown=[f"{rows[k]['image']} ~ {rows[before[k][0]]['image']}" for k in list(before)[:EXAMPLES]],
        side=second,
        remove=[rows[k].id for k in sorted(gone)] if first == "train" else (),
    )
