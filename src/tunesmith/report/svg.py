"""Drawings by hand: places on an axis, round ticks, and the few shapes that charts are made of.

Colours are classes that `report.css` knows, so that a chart is light or dark as its page is. Texts are made visible
and escaped here. Coordinates are of a view box, or percent of the place that a strip stands in.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeGuard

from tunesmith.doctor.finding import brief
from tunesmith.report.pagetext import compact, visible

Interval = tuple[float | None, float | None, float | None]
"""A value, and the low and high end of its interval."""
_NAME = 60
"""Characters of a name in a chart."""
_STRIP = 20
"""Height of a strip, in pixels."""
_EDGE = 3.0
"""Percent of a strip that are left free at each end, for the dots."""


@dataclass(frozen=True)
class Scale:
    """Numbers -> places between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The place of a number; of one that is beyond the scale, the scale's end."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 2)

    def ticks(self, most: int = 6) -> list[float]:
        """At most so many round numbers on the scale: multiples of 1, 2 or 5 times a power of ten."""
        if self.logarithmic:
            return self._powers(most)
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        while True:
            for times in (1, 2, 5):
                first, last = (math.ceil(self.low / step / times - 1e-9), math.floor(self.high / step / times + 1e-9))
                if last - first < most:
                    return [k * step * times for k in range(first, last + 1)]
            step *= 10

    def _powers(self, most: int) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for times in ((1, 2, 5), (1, 3), (1,)):
            found = [k * 10.0**decade for decade in decades for k in times if self.low <= k * 10.0**decade <= self.high]
            if len(found) <= most:
                return found or [self.low, self.high]
        return found[:: math.ceil(len(found) / most)]

    def said(self, ticks: Sequence[float]) -> list[str]:
        """Ticks in words, all with as many digits as their distance needs."""
        apart = min((b - a for a, b in pairwise(ticks)), default=abs(ticks[0]) if ticks else 1.0)
        digits = min(max(-math.floor(math.log10(apart) + 1e-9), 0), 6) if apart else 0
        whole = [f"{round(tick, digits) + 0.0:,.{digits}f}" for tick in ticks]
        short = [compact(tick) if abs(tick) >= 1000 else said for tick, said in zip(ticks, whole, strict=True)]
        return whole if digits or len(set(short)) < len(short) else short


def finite(value: float | None) -> TypeGuard[float]:
    """Whether there is a number to be drawn."""
    return value is not None and math.isfinite(value)


def scale(values: Iterable[float | None], start: float, end: float, margin: float = 0.06) -> Scale:
    """A linear scale that holds all finite values, with a margin that does not cross 0 or 1 where no value does."""
    found = [value for value in values if finite(value)] or [0.0, 1.0]
    low, high = min(found), max(found)
    free = margin * (high - low) or 0.1 * abs(low) or 0.1
    return Scale(
        max(low - free, 0.0) if low >= 0 else low - free,
        min(high + free, 1.0) if high <= 1 and low - free < 1 else high + free,
        start,
        end,
    )


def log_scale(values: Iterable[float | None], start: float, end: float) -> Scale:
    """A logarithmic scale that holds all finite values above zero."""
    found = [value for value in values if finite(value) and value > 0] or [1.0, 10.0]
    return Scale(min(found) / 1.4, max(found) * 1.4, start, end, logarithmic=True)


def words(said: str, longest: int = 10_000) -> str:
    """A text as it may stand in an element."""
    return html.escape(visible(brief(said, longest)))


def line(x1: float | str, y1: float | str, x2: float | str, y2: float | str, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{kind}"/>'


def path(points: Sequence[tuple[float, float]], kind: str) -> str:
    """A line through all points."""
    return f'<polyline points="{" ".join(f"{x:g},{y:g}" for x, y in points)}" class="{kind}"/>' if points else ""


def dot(x: float | str, y: float | str, kind: str, said: str = "", radius: float = 4) -> str:
    """A dot that tells a text when it is pointed at."""
    return f'<circle cx="{x}" cy="{y}" r="{radius:g}" class="{kind}">{_told(said)}</circle>'


def box(x: float, y: float, width: float, height: float, kind: str, said: str = "", shade: float = 1.0) -> str:
    """A filled rectangle; `shade` is how much of its colour is seen."""
    faint = f' fill-opacity="{shade:.2f}"' if shade < 1 else ""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" class="{kind}"{faint}>{_told(said)}</rect>'


def text(x: float | str, y: float | str, said: str, anchor: str = "start", kind: str = "said") -> str:
    """A short text; `anchor` is `start`, `middle` or `end`."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="{kind}">{words(said, _NAME)}</text>'


def telling(body: Iterable[str], said: str, shown: Iterable[str], kind: str) -> str:
    """Parts of a drawing that belong together and take the focus. They tell `said`; what is `shown` is seen only while
    they are pointed at or have the focus."""
    told = f'<g class="told">{"".join(shown)}</g>'
    return f'<g class="{kind}" tabindex="0" role="img"><title>{words(said)}</title>{"".join(body)}{told}</g>'


def picture(
    name: str, said: str, width: float, height: float, body: Iterable[str], *, fixed: bool = False, role: str = "img"
) -> str:
    """A whole drawing with its name and, in words, what it shows: as wide as its place, or in pixels (`fixed`). It is a
    `group` where parts of it take the focus."""
    pixels = f' width="{width:g}" height="{height:g}"' if fixed else ""
    return (
        f'<svg class="{"heat" if fixed else "chart"}"{pixels} viewBox="0 0 {width:g} {height:g}" role="{role}">'
        f"<title>{words(name)}</title><desc>{words(said)}</desc>{''.join(body)}</svg>"
    )


def strip(along: Scale, found: Interval, said: str, mark: float | None, tone: str) -> str:
    """A value and its interval as wide as the place they stand in, over a line at `mark`; what is no number is not
    drawn. `along` is in percent."""
    value, low, high = found
    body = [line(f"{along.at(tick)}%", 0, f"{along.at(tick)}%", _STRIP, "grid") for tick in _strip_ticks(along)]
    if finite(mark):
        body.append(line(f"{along.at(mark)}%", 0, f"{along.at(mark)}%", _STRIP, "mark"))
    if finite(low) and finite(high):
        body.append(line(f"{along.at(low)}%", _STRIP / 2, f"{along.at(high)}%", _STRIP / 2, "interval"))
    if finite(value):
        body.append(dot(f"{along.at(value)}%", _STRIP / 2, "point", radius=3.5))
    return f'<svg class="strip {tone}" height="{_STRIP}" role="img"><title>{words(said)}</title>{"".join(body)}</svg>'


def strip_scale(values: Iterable[float | None]) -> Scale:
    """The scale of strips that stand under one another, in percent."""
    return scale(values, _EDGE, 100 - _EDGE)


def strip_axis(along: Scale) -> str:
    """The ticks of strips, to stand under them."""
    ticks = _strip_ticks(along)
    body = []
    for tick, said in zip(ticks, along.said(ticks), strict=True):
        place = along.at(tick)
        anchor = "start" if place < 8 else "end" if place > 92 else "middle"
        body.append(text(f"{place}%", 13, said, anchor))
    return f'<svg class="strip axis" height="{_STRIP}" aria-hidden="true">{"".join(body)}</svg>'


def _strip_ticks(along: Scale) -> list[float]:
    """As many as have room in a narrow column."""
    ticks = along.ticks(4)
    return ticks if max(map(len, along.said(ticks))) <= 4 else along.ticks(3)


def _told(said: str) -> str:
    return f"<title>{words(said)}</title>" if said else ""
