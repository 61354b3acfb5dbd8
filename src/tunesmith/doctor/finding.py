"""What a check found, in full: how many rows, which, why that matters and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.contracts import Row

EXAMPLES = 5
_SHOWN = 160


@dataclass(frozen=True)
class Spot:
    """One row of a finding."""

    file: str
    line: int
    """0 for a row that is of no file."""
    shown: str = ""
    """What is to be seen there, in a line."""

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Finding:
    """Something the user should look at."""

    kind: str
    """What it is called, in `--json` and in `data.allow`."""
    split: str
    """`train`, or `train/test` where it lies between two."""
    count: int
    of: int
    """Rows that were looked at."""
    examples: tuple[Spot, ...]
    why: str
    """Why it matters, a sentence."""
    hint: str
    """What to do, a sentence."""
    rows: tuple[tuple[str, int], ...] = ()
    """(split, row id) of every row it is about."""
    remove: tuple[int, ...] = ()
    """Ids of training rows that `--fix` leaves out."""
    stops: bool = False
    """Whether training makes no sense before it is mended or allowed."""

    def as_json(self) -> dict[str, Any]:
        """As `check --json` prints it."""
        return {
            "kind": self.kind,
            "split": self.split,
            "count": self.count,
            "of": self.of,
            "examples": [{"file": s.file, "line": s.line, "shown": s.shown} for s in self.examples],
            "why": self.why,
            "hint": self.hint,
            "stops": self.stops,
            "fixed": len(self.remove),
        }


def spot(row: Row, shown: str = "") -> Spot:
    """A row, with what is to be seen in it."""
    return Spot(row.file, row.line, brief(shown))


def brief(text: str, most: int = _SHOWN) -> str:
    """A text in a line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def about(
    kind: str,
    split: str,
    rows: Sequence[Row],
    of: int,
    why: str,
    hint: str,
    *,
    shown: Sequence[str] = (),
    side: str | None = None,
    remove: Sequence[int] = (),
    stops: bool = False,
) -> Finding:
    """A finding about some rows of a split (of `side`, where it lies between two). `shown` goes with the first rows."""
    words = [*shown[:EXAMPLES], *[""] * EXAMPLES]
    examples = tuple(spot(row, word) for row, word in zip(rows[:EXAMPLES], words, strict=False))
    held = tuple((side or split, row.id) for row in rows)
    return Finding(kind, split, len(rows), of, examples, why, hint, held, tuple(remove), stops)
