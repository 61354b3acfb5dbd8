"""What the pages of reports have in common: how their templates are opened, and how texts and numbers are said there.

Nothing that comes from rows is ever markup: it is made visible, then escaped. No torch.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.report import tables

if TYPE_CHECKING:
    from jinja2 import Environment

_LONGEST = 1000
"""Characters of a text that are shown."""
_PLAIN = ("\n", "\t", "\u200c", "\u200d")
"""Control characters that are left as they are: line ends, tabs, and the joiners of Persian, Hindi and emoji."""
_SIZES = ("bytes", "kB", "MB", "GB", "TB")


def environment(filters: Mapping[str, Callable[..., Any]], *folders: Path) -> Environment:
    """Where templates are opened, of `folders` and those beside this file: all that is not marked as markup is
    escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda said: safe(said) if type(said) is str else said,  # what is markup already stays so
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= filters
    return made


def safe(text: str, longest: int = _LONGEST) -> str:
    """A text that moves nothing around it, cut where it is very long. Not escaped yet."""
    over = len(text) - longest
    return visible(text if over <= 0 else f"{text[:longest]} … and {over:,} more characters")


def visible(text: str) -> str:
    """A text without characters that would move, hide or colour what stands around them: each as its number. Those
    are control characters, marks of direction, halves of characters, which cannot be written at all, and the two that
    are none."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"⟨U+{ord(sign):04X}⟩" if _moves(sign) else sign for sign in text)


def _moves(sign: str) -> bool:
    return sign not in _PLAIN and (unicodedata.category(sign) in ("Cc", "Cf", "Cs") or ord(sign) & 0xFFFE == 0xFFFE)


def count(number: float, name: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def signed(value: float | None) -> str:
    """A difference, with its sign; `-` where there is none."""
    said = tables.number(value)
    return f"+{said}" if value is not None and value > 0 and said not in ("-", "0.000") else said


def chance(p: float | None) -> str:
    """A p value: three digits, never 0."""
    return "< 0.001" if p is not None and p < 0.001 else tables.number(p)


def percent(share: float | None) -> str:
    """A share of all; small ones with the digits that they need."""
    if share is None or not math.isfinite(share):
        return "-"
    digits = 1 if share == 0 or abs(share) >= 0.001 else min(1 - math.floor(math.log10(abs(share))) - 2, 6)
    return f"{100 * share:.{digits}f} %"


def cutting(threshold: float | None) -> str:
    """A threshold, with as many digits as part it from 0 and 1; cut, not rounded up, so that what it gives is given."""
    if threshold is None or not math.isfinite(threshold):
        return "-"
    free = min(abs(threshold), abs(1 - threshold))
    digits = 3 if free == 0 or free >= 0.01 else min(1 - math.floor(math.log10(free)), 9)
    return f"{math.floor(threshold * 10**digits + 1e-6) / 10**digits:.{digits}f}"


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours, whichever says it shortest."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 or seconds == 0 else f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count_of_bytes: float) -> str:
    """Bytes in the unit that says them shortest."""
    place = 0
    while count_of_bytes >= 1000 and place < len(_SIZES) - 1:
        count_of_bytes, place = count_of_bytes / 1000, place + 1
    return f"{count_of_bytes:,.{1 if place and count_of_bytes < 100 else 0}f} {_SIZES[place]}"


def compact(number: float) -> str:
    """A count for a narrow place: `950`, `1.2k`, `35k`, `2.1M`."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= unit:
            return f"{number / unit:.{1 if abs(number) < 10 * unit else 0}f}".removesuffix(".0") + name
    return f"{number:.0f}"
