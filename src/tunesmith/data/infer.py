"""What a file of rows is for, when nobody says: the task and the columns, or a question back to the user.

Guesses from names and from what the values look like, says what it guessed, and asks rather than be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tunesmith import plugins
from tunesmith.contracts import BadRow
from tunesmith.data.read import Columns, find_files, raw_rows
from tunesmith.errors import DataError

_LOOK = 1000


@dataclass(frozen=True)
class Guess:
    """A task and its columns, with the reason in words."""

    task: str
    columns: dict[str, str | list[str]]
    why: str


def infer(path: Path, given: Columns, task: str | None = None, file_format: str | None = None) -> Guess:
    """What the training rows at a path are for. Raises DataError that lists the columns when it cannot tell."""
    file = find_files(path)["train"][0]
    rows = [item[1] for item in islice(raw_rows(file, file_format), _LOOK) if not isinstance(item, BadRow)]
    if not rows:
        raise DataError("the file has no rows", where=str(file))
    names = list(rows[0])
    if task in (None, "chat"):
        found = _chat(names, rows)
        if found is not None or task == "chat":
            return found or Guess("chat", {}, "as you said")
    columns: dict[str, str | list[str]] = dict(given)
    label = columns.get("label") or _label(names, rows)
    text = columns.get("text") or _texts(names, rows, label)
    if label is None or not text:
        lost = "label" if label is None else "text"
        raise DataError(
            f"which column is the {lost}? The file has {', '.join(f'`{n}`' for n in names)}",
            where=str(file),
            hint="say it with `--set data.text=COLUMN --set data.label=COLUMN`, "
            "or say `--task` if the rows are for something else",
        )
    columns |= {"text": text, "label": label}
    shown = text if isinstance(text, str) else " + ".join(text)
    return Guess("text-classification", columns, f"text is `{shown}`, label is `{label}`")


def _chat(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> Guess | None:
    for name in ("messages", "conversation", "chat"):
        value = rows[0].get(name)
        if isinstance(value, list) and value and isinstance(value[0], dict) and "role" in value[0]:
            return Guess("chat", {"messages": name}, f"`{name}` holds messages with roles")
    for pair in (("prompt", "completion"), ("prompt", "response"), ("instruction", "output")):
        if all(name in names for name in pair):
            return Guess("chat", {}, f"`{pair[0]}` and `{pair[1]}` are a question and its answer")
    return None


def _label(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> str | None:
    for name in _names("label"):
        if name in names:
            return name
    few = [name for name in names if _few_values([row.get(name) for row in rows])]
    return few[0] if len(few) == 1 else None


def _texts(names: Sequence[str], rows: Sequence[dict[str, Any]], label: Any) -> str | list[str]:
    for name in _names("text"):
        if name in names and name != label:
            return name
    running = [name for name in names if name != label and _running([row.get(name) for row in rows])]
    return running[0] if len(running) == 1 else running


def _names(column: str) -> tuple[str, ...]:
    """What a text classifier's column is usually called in files."""
    return (column, *plugins.load("tasks", "text-classification").columns[column].names)


def _few_values(values: Sequence[Any]) -> bool:
    """Short values that come again and again: at least four rows each on average."""
    plain = [value for value in values if isinstance(value, str | int | bool) and value != ""]
    if len(plain) < 0.9 * len(values) or not plain:
        return False
    return 2 <= len(set(plain)) <= len(plain) / 4 and max(len(str(v)) for v in plain) <= 60


def _running(values: Sequence[Any]) -> bool:
    """Words in a row, mostly different ones."""
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < 0.9 * len(values):
        return False
    words = sum(len(text.split()) for text in texts) / max(len(texts), 1)
    return words >= 3 and len(set(texts)) > 0.5 * len(texts)
