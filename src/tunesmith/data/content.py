"""What a row says, as a key and as a number: equal rows have the same on every machine."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tunesmith.contracts import Row

GROUP = "beside_group"
"""Where a row keeps the value of the column that `data.split.group` names."""
TIME = "beside_time"
"""Where it keeps that of `data.split.time`."""
SLICE = "beside_slice_"
"""What the name begins with under which it keeps a column that scores are parted by."""
SOURCE = "beside_source"
"""Where it keeps the number of its source, of several."""

_KINDS: dict[type, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    bytes: "bytes",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def content(row: Row) -> str:
    """What the model reads of a row, as a key: the same for rows that differ only in their label. A file whose sum
    stands beside it is known by that, wherever it lies."""
    summed = {key.removesuffix("_sha256") for key in row.values if key.endswith("_sha256")}
    values = {
        key: value for key, value in row.values.items() if not key.startswith(("label", "beside")) and key not in summed
    }
    return json.dumps(values, sort_keys=True, default=str)


def digest(text: str, salt: str) -> int:
    """64 bits of a text's sum."""
    return int.from_bytes(hashlib.sha256(f"{salt}\n{text}".encode()).digest()[:8], "big")


def together(row: Row) -> str:
    """What keeps rows on one side of a split: their group where one was named, else their content."""
    group = row.values.get(GROUP)
    return content(row) if group is None else json.dumps({"group": str(group)})  # CSV has texts where JSON has numbers


def place(row: Row) -> float:
    """A number in [0, 1) that is a function of the row's group or content."""
    return digest(together(row), "split") / 2**64


def kind_of(value: Any) -> str:
    """What kind of value of JSON it is, in words."""
    return next((words for kind, words in _KINDS.items() if isinstance(value, kind)), f"a {type(value).__name__}")


def plain(value: Any) -> Any:
    """A value that JSON has: dates and times as they are written, all else that it has not as its words."""
    if value is None or isinstance(value, str | int | float):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
