"""The charts of the report page, each from its part of `report.json`: SVG as text, its numbers in words beside it.

A value that is no number is left out of a drawing; the tables say `-` there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.doctor.finding import brief
from tunesmith.report import svg
from tunesmith.report.pagetext import compact, cutting, percent
from tunesmith.report.plots import smooth
from tunesmith.report.svg import Scale, finite
from tunesmith.report.tables import number, with_interval

Part = Mapping[str, Any]
WIDTH, HEIGHT = 360, 236
"""Of the view box of a chart."""
LEFT, RIGHT, TOP, BOTTOM = 44.0, 348.0, 26.0, 196.0
"""Where its ground is in it."""
_MOST = 300
"""Buckets that the points of a long curve are put into, of each the least and the greatest are drawn."""
_CELL = 26
_MARKS = (("in force", "in_force", BOTTOM - 6), ("chosen", "chosen", BOTTOM - 20))
"""Of a chart of thresholds: what is marked, where that is told, and how high its name stands."""
_BARS = 44
"""Height of the counts under a reliability diagram."""


@dataclass(frozen=True)
class Plot:
    """The ground of a chart: two axes and what they are called."""

    x: Scale
    y: Scale
    x_name: str
    y_name: str

    def ground(self, bottom: float = BOTTOM) -> list[str]:
        """Grid, ticks and names; `bottom` is where those of x stand."""
        drawn = [svg.text(0, 12, self.y_name, kind="name")]
        ticks = self.y.ticks()
        for tick, said in zip(ticks, self.y.said(ticks), strict=True):
            place = self.y.at(tick)
            drawn += [svg.line(LEFT, place, RIGHT, place, "grid"), svg.text(LEFT - 6, place + 4, said, "end")]
        drawn.append(svg.line(LEFT, bottom, RIGHT, bottom, "axis-line"))
        ticks = self.x.ticks()
        for tick, said in zip(ticks, self.x.said(ticks), strict=True):
            place = self.x.at(tick)
            drawn += [svg.line(place, bottom, place, bottom + 4, "axis-line"),
                      svg.text(place, bottom + 17, said, "middle")]  # fmt: skip
        return [*drawn, svg.text(RIGHT, bottom + 34, self.x_name, "end", "name")]

    def interval(self, x: float | None, low: float | None, high: float | None, kind: str = "interval") -> str:
        """An upright interval at x."""
        if not (finite(x) and finite(low) and finite(high)):
            return ""
        return svg.line(self.x.at(x), self.y.at(low), self.x.at(x), self.y.at(high), kind)

    def line(self, points: Sequence[tuple[float | None, float | None]], kind: str) -> str:
        """A line through the points that are numbers."""
        return svg.path([(self.x.at(x), self.y.at(y)) for x, y in points if finite(x) and finite(y)], kind)

    def dot(self, x: float | None, y: float | None, kind: str, said: str) -> str:
        """A dot; none where a number is missing."""
        return svg.dot(self.x.at(x), self.y.at(y), kind, said) if finite(x) and finite(y) else ""


def reliability(calibration: Part) -> str | None:
    """How often answers of a confidence are right, with the number of answers of each bin below. None without any."""
    bins = [found for found in calibration["bins"] if _drawable(found)]
    if not bins:
        return None
    low = min([found["low"] for found in bins] + [found["accuracy_low"] for found in bins])
    plot = Plot(
        Scale(0.0 if low < 0.5 else 0.5, 1.0, LEFT, RIGHT),
        Scale(0.0 if low < 0.5 else 0.5, 1.0, BOTTOM, TOP),
        "how sure the model is",
        "share that is right",
    )
    under = BOTTOM + 18 + _BARS
    most = max(found["n"] for found in bins)
    drawn = [svg.line(plot.x.at(plot.x.low), BOTTOM, plot.x.at(1), TOP, "ideal")]
    said = []
    for found in bins:
        told = (
            f"{number(found['low'])} to {number(found['high'])}: sure {number(found['confidence'])}, right "
            f"{number(found['accuracy'])} [{number(found['accuracy_low'])}, {number(found['accuracy_high'])}], "
            f"{found['n']:,} answers"
        )
        said.append(told)
        left, right = plot.x.at(found["low"]), plot.x.at(found["high"])
        tall = max(_BARS * found["n"] / most, 1)
        drawn.append(svg.box(left + 0.5, under - tall, max(right - left - 1, 1), tall, "count", told))
        if right - left >= 24:
            drawn.append(svg.text((left + right) / 2, under - tall - 3, compact(found["n"]), "middle", "small"))
        drawn.append(plot.interval(found["confidence"], found["accuracy_low"], found["accuracy_high"]))
        drawn.append(plot.dot(found["confidence"], found["accuracy"], "point", told))
    ground = plot.ground(under)
    return svg.picture("Reliability diagram", "; ".join(said), WIDTH, under + 40, [*ground, *drawn])


def _drawable(found: Part) -> bool:
    """Whether a bin has answers, and numbers for all that is drawn of it."""
    names = ("low", "high", "confidence", "accuracy", "accuracy_low", "accuracy_high")
    return found["n"] > 0 and all(finite(found[name]) for name in names)


def coverage(points: Sequence[Part]) -> str | None:
    """How good the answers are that are left when the less sure ones are not given. None of fewer than two points."""
    points = [point for point in points if finite(point["coverage"]) and finite(point["accuracy"])]
    if len(points) < 2:
        return None
    shown = [(point["coverage"], point["accuracy"]) for point in points]
    plot = Plot(
        Scale(0.0, 1.0, LEFT, RIGHT),
        svg.scale([y for _, y in shown], BOTTOM, TOP),
        "share of rows answered",
        "accuracy of those answered",
    )
    said = [
        f"answers of {number(point['threshold'])} and surer: {percent(point['coverage'])} of the rows, accuracy "
        f"{number(point['accuracy'])}"
        for point in points
    ]
    dots = [plot.dot(x, y, "point", told) for (x, y), told in zip(shown, said, strict=True)]
    body = [*plot.ground(), plot.line(sorted(shown), "curve"), *dots]
    return svg.picture("Coverage", "; ".join(said), WIDTH, HEIGHT, body)


def threshold(found: Part) -> str | None:
    """Precision, recall and F1 by threshold, with the one in force and the one that validation rows would choose. None
    of fewer than two points."""
    points = [point for point in found["points"] if finite(point["threshold"])]
    if len(points) < 2:
        return None
    plot = Plot(Scale(0.0, 1.0, LEFT, RIGHT), Scale(0.0, 1.0, BOTTOM, TOP), "threshold", "")
    body = plot.ground()
    marks = [(name, found[key]["threshold"], lower) for name, key, lower in _MARKS if found[key] is not None]
    said = [f"{name} {cutting(at)}" for name, at, _ in marks]
    drawn = [(name, at, lower) for name, at, lower in marks if finite(at)]
    for name, at, lower in drawn:  # the name of the left one stands left of it, where there is room
        place, left = plot.x.at(at), len(drawn) > 1 and at == min(other for _, other, _ in drawn)
        left = (left and place > LEFT + 50) or place > RIGHT - 50
        body += [svg.line(place, TOP, place, BOTTOM, "mark"),
                 svg.text(place + (-4 if left else 4), lower, name, "end" if left else "start")]  # fmt: skip
    for k, (name, kind) in enumerate((("precision", ""), ("recall", " second"), ("f1", " third"))):
        body.append(plot.line([(point["threshold"], point[name]) for point in points], f"curve{kind}"))
        body.append(svg.text(LEFT + 72 * k, 12, "F1" if name == "f1" else name, kind=f"ink{kind}"))
    said += [
        f"from {cutting(point['threshold'])}: precision {number(point['precision'])}, recall "
        f"{number(point['recall'])}, F1 {number(point['f1'])}, given to {percent(point['given'])}"
        for point in points
    ]
    return svg.picture(f"Thresholds of {brief(found['label'])}", "; ".join(said), WIDTH, HEIGHT, body)


def losses(steps: Sequence[int], values: Sequence[float]) -> str:
    """The training loss of every update, and smoothed."""
    points = [(float(x), y) for x, y in zip(steps, values, strict=True) if finite(y)]
    even = list(zip([x for x, _ in points], smooth([y for _, y in points]), strict=True))
    plot = Plot(
        _steps([x for x, _ in points]), svg.scale([y for _, y in points], BOTTOM, TOP), "update", "training loss"
    )
    body = [*plot.ground(), plot.line(thin(points), "raw"), plot.line(thin(even), "curve")]
    said = f"smoothed, from {number(even[0][1])} to {number(even[-1][1])} over {len(points):,} updates"
    return svg.picture("Training loss", said, WIDTH, HEIGHT, body)


def looks(points: Sequence[Part], watched: str, best: int | None) -> str:
    """The watched score at every look at the validation rows, with the update that was kept."""
    shown = [(float(point["step"]), point["scores"].get(watched)) for point in points]
    shown = [(x, y) for x, y in shown if finite(y)]
    plot = Plot(
        _steps([x for x, _ in shown]),
        svg.scale([y for _, y in shown], BOTTOM, TOP),
        "update",
        f"validation {watched}",
    )
    body = [*plot.ground()]
    for x, _ in shown:
        if x == best:
            place = plot.x.at(x)
            body.append(svg.line(place, TOP, place, BOTTOM, "mark"))
            turned = "end" if place > (LEFT + RIGHT) / 2 else "start"
            body.append(svg.text(place + (-5 if turned == "end" else 5), BOTTOM - 6, f"best: {x:,.0f}", turned))
    said = [f"update {x:,.0f}: {number(y)}" for x, y in shown]
    many = len(shown) > 60
    body.append(plot.line(thin(shown), "curve second"))
    body += [
        plot.dot(x, y, "point second", told) for (x, y), told in zip(shown, said, strict=True) if not many or x == best
    ]
    return svg.picture(f"Validation {watched}", "; ".join(said[:100]), WIDTH, HEIGHT, body)


def scaling(found: Part) -> str:
    """Scores of growing parts of the rows; what is foretold is hollow."""
    measured, more = found["points"], found["more"]
    everything = [*measured, *more]
    values = [point[name] for point in everything for name in ("value", "low", "high")]
    plot = Plot(
        svg.log_scale([point["rows"] for point in everything], LEFT, RIGHT),
        svg.scale(values, BOTTOM, TOP),
        "training rows",
        found["metric"],
    )
    body, said = plot.ground(), []
    body.append(plot.line([(point["rows"], point["value"]) for point in measured], "curve"))
    body.append(plot.line([(point["rows"], point["value"]) for point in [*measured[-1:], *more]], "curve foretold"))
    for kind, points in (("measured", measured), ("foretold", more)):
        for point in points:
            told = f"{point['rows']:,} rows, {kind}: {with_interval({**point, 'n': 0})}"
            said.append(told)
            body.append(plot.interval(point["rows"], point["low"], point["high"], f"interval {kind}"))
            body.append(plot.dot(point["rows"], point["value"], f"point {kind}", told))
    return svg.picture(f"{found['metric']} by training rows", "; ".join(said), WIDTH, HEIGHT, body)


def models(systems: Sequence[Part], metric: str) -> str:
    """Score against the seconds that 1,000 rows take."""
    timed = [one for one in systems if finite(one["seconds_per_1000"]) and finite(one["score"]["value"])]
    scores = [one["score"] for one in timed]
    plot = Plot(
        svg.log_scale([one["seconds_per_1000"] for one in timed], LEFT, RIGHT - 8),
        svg.scale([score[name] for score in scores for name in ("value", "low", "high")], BOTTOM, TOP),
        "seconds for 1,000 rows",
        metric,
    )
    places = [(plot.x.at(max(one["seconds_per_1000"], 1e-9)), plot.y.at(one["score"]["value"])) for one in timed]
    body, said = plot.ground(), []
    for one, (x, y) in zip(timed, places, strict=True):
        told = f"{one['name']}: {with_interval(one['score'])}, {number(one['seconds_per_1000'])} s"
        said.append(told)
        body.append(plot.interval(one["seconds_per_1000"], one["score"]["low"], one["score"]["high"]))
        body.append(svg.dot(x, y, "point own" if one["own"] else "point", told, radius=5))
    body += names_beside(places, [brief(one["name"], 22) for one in timed])
    return svg.picture(f"{metric} against time", "; ".join(said), WIDTH, HEIGHT, body)


def names_beside(places: Sequence[tuple[float, float]], names: Sequence[str]) -> list[str]:
    """A name at each dot where one has room: beside it, above or below. The others are told by pointing at the dot."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    drawn = []
    for (x, y), name in zip(places, names, strict=True):
        wide = 6.5 * len(name)
        for left, top, anchor in (
            (x + 9, y - 7, "start"),
            (x - 9 - wide, y - 7, "end"),
            (x - wide / 2, y - 22, "middle"),
            (x - wide / 2, y + 9, "middle"),
            (x - 4, y - 22, "start"),
            (x - 4, y + 9, "start"),
        ):
            room = (left, top, left + wide, top + 14)
            free = not any(room[0] < c and a < room[2] and room[1] < d and b < room[3] for a, b, c, d in taken)
            if free and room[0] >= LEFT and room[2] <= RIGHT + 8:
                taken.append(room)
                at = {"start": left, "middle": x, "end": left + wide}[anchor]
                drawn.append(svg.text(round(at, 2), round(top + 11, 2), name, anchor))
                break
    return drawn


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Rows are gold labels, columns the model's; each row's shares as shades, with the counts. In pixels."""
    longest = min(max((len(label) for label in labels), default=0), 24)
    side = 14 + 7 * longest
    width, height = side + _CELL * len(labels) + 4, side + _CELL * len(labels) + 4
    drawn = []
    for k, label in enumerate(labels):
        middle = side + _CELL * (k + 0.5)
        short = label if len(label) <= longest else label[: longest - 1] + "…"
        drawn.append(svg.text(side - 6, middle + 4, short, "end"))
        drawn.append(f'<g transform="translate({middle + 4:g} {side - 6}) rotate(-90)">{svg.text(0, 0, short)}</g>')
    wrong = []
    for i, row in enumerate(counts):
        whole = sum(row)
        for j, found in enumerate(row):
            share = found / whole if whole else 0.0
            told = f"{brief(labels[i])}, the model says {brief(labels[j])}: {found:,} of {whole:,}"
            x, y = side + _CELL * j, side + _CELL * i
            kind = "cell right" if i == j else "cell wrong"
            drawn.append(svg.box(x, y, _CELL - 1, _CELL - 1, "ground", told if found else ""))
            if not found:
                continue
            drawn.append(svg.box(x, y, _CELL - 1, _CELL - 1, kind, told, max(share**0.7, 0.08)))
            ink = "on" if share > 0.55 else "off"
            drawn.append(svg.text(x + _CELL / 2 - 0.5, y + _CELL / 2 + 3, compact(found), "middle", f"small {ink}"))
            if i != j:
                wrong.append((found, told))
    said = "; ".join(told for _, told in sorted(wrong, key=lambda pair: -pair[0])[:25]) or "no row is confused"
    return svg.picture("Confusions", said, width, height, drawn, fixed=True)


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of a long curve the least and the greatest point of every bucket, in order: it looks the same."""
    size = math.ceil(len(points) / _MOST)
    if size <= 2:
        return list(points)
    made = []
    for first in range(0, len(points), size):
        bucket = points[first : first + size]
        made += sorted({min(bucket, key=lambda point: point[1]), max(bucket, key=lambda point: point[1])})
    return made


def _steps(steps: Sequence[float]) -> Scale:
    """Updates from 0."""
    return Scale(0.0, max([*steps, 1.0]), LEFT, RIGHT - 8)
