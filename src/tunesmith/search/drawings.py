"""The drawings of a search's page, from its `report.json`: SVG as text. A trial tells what it is when it is pointed at
or has the focus; how good it is can be read from its place, the shade only says so again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from tunesmith.doctor.finding import brief
from tunesmith.report import svg
from tunesmith.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Plot
from tunesmith.report.svg import Scale, finite
from tunesmith.report.tables import number
from tunesmith.search.text import words

Part = Mapping[str, Any]
MOST = 150
"""Trials that are drawn as lines: of more, the best."""
_SHADES = 5
_FAR = 6.0
"""How many times as far from the best as the middle one a score may lie, to be on the scale."""
_APART = (120, 200)
"""Pixels between the axes of parallel coordinates, least and most."""
_ROOM = 860
_PAD = (68, 74)
_HEAD, _FLOOR, _TALL = 54.0, 274.0, 322.0
"""Heights of the upper and the lower end of the axes, and of the whole."""
_NONE = 302.0
"""Where a line passes an axis that it has no value on."""


def ranked(summed: Part) -> list[Part]:
    """The trials with a score, the best first; those that fell behind come after all others."""
    sign = -1 if summed["higher_is_better"] else 1
    scored = [trial for trial in summed["trials"] if finite(trial["value"])]
    return sorted(scored, key=lambda trial: (trial["state"] != "complete", sign * trial["value"], trial["number"]))


def on_scale(values: Sequence[float], higher_is_better: bool) -> list[float]:
    """The scores that a scale is made for: without those so bad that all others would be one line."""
    if not values:
        return []
    best = max(values) if higher_is_better else min(values)
    reach = _FAR * abs(median(values) - best)
    return [value for value in values if not reach or abs(value - best) <= reach]


def shades(summed: Part) -> dict[int, str]:
    """Number of a trial -> its class: its fifth among all by their scores, the last the best; the winner by itself."""
    order = ranked(summed)[::-1]
    found = {trial["number"]: f"s{place * _SHADES // len(order)}" for place, trial in enumerate(order)}
    return found | {summed["best"]: "won"}


def tells(trial: Part, metric: str) -> str:
    """A trial in a line."""
    score = f"{metric} {number(trial['value'])}" if finite(trial["value"]) else trial["state"]
    fell = f", pruned at {trial['share']:.0%}" if trial["state"] == "pruned" and finite(trial["share"]) else ""
    return f"trial {trial['number']}: {score}{fell}; {words(trial['params'], start=trial['start'])}"


def history(summed: Part) -> str:
    """The score of every trial, and the best so far. What was pruned is hollow, what failed a cross on the ground."""
    trials, higher, metric = summed["trials"], summed["higher_is_better"], summed["metric"]
    scored = [trial for trial in trials if finite(trial["value"])]
    along = Scale(0.0, float(max([5, *(trial["number"] for trial in trials)])), LEFT + 6, RIGHT - 6)
    scores = on_scale([trial["value"] for trial in scored], higher)
    plot = Plot(along, svg.scale(scores, BOTTOM - 12, TOP), "trial", metric)
    best, first = _so_far(trials, higher), {trial["number"] for trial in trials[:MOST]}
    body, last = plot.ground(), float(max(trial["number"] for trial in trials))
    body.append(plot.line([*best, (last, best[-1][1])] if best else [], "curve second"))
    for trial in trials:
        if trial["state"] in ("complete", "pruned", "failed"):
            x = plot.x.at(trial["number"])
            y = plot.y.at(trial["value"]) if finite(trial["value"]) else BOTTOM
            telling = trial["number"] in first or trial["number"] == summed["best"]
            shape = _spot(trial, x, y, trial["number"] == summed["best"])
            said = tells(trial, metric)
            reach = svg.dot(x, y, "reach", radius=10)
            body.append(svg.telling([reach, *shape], said, [_name(said, x, y)], "trial") if telling else "".join(shape))
    said = "; ".join(tells(trial, metric) for trial in ranked(summed)[:20])
    return svg.picture("History", said, WIDTH, HEIGHT, body, role="group")


def _so_far(trials: Sequence[Part], higher: bool) -> list[tuple[float, float]]:
    """The best of the complete trials up to each, as steps."""
    points: list[tuple[float, float]] = []
    for trial in trials:
        if trial["state"] != "complete" or not finite(trial["value"]):
            continue
        before = points[-1][1] if points else None
        now = float(trial["number"])
        if before is None:
            points.append((now, trial["value"]))
        elif trial["value"] > before if higher else trial["value"] < before:
            points += [(now, before), (now, trial["value"])]
    return points


def _spot(trial: Part, x: float, y: float, won: bool) -> list[str]:
    """A trial of the history."""
    shape = [svg.dot(x, y, "point pruned" if trial["state"] == "pruned" else "point")]
    if trial["state"] == "failed":
        shape = [svg.line(x - 4, y - 4, x + 4, y + 4, "cross"), svg.line(x - 4, y + 4, x + 4, y - 4, "cross")]
    return [*shape, svg.dot(x, y, "ring", radius=8)] if won else shape


def _name(said: str, x: float, y: float) -> str:
    """What a trial is and came to, beside a point of a chart."""
    left = x < (LEFT + RIGHT) / 2
    below = y < TOP + 14
    return svg.text(
        x if left else x + 4, y + (20 if below else -12), said.partition(";")[0], "start" if left else "end"
    )


def looks(summed: Part) -> str | None:
    """The score of every trial on its way, by the share of its updates. None where no trial was looked at twice."""
    metric, higher = summed["metric"], summed["higher_is_better"]
    drawn = [trial for trial in _drawn(summed) if trial["looks"]]
    if not any(len(trial["looks"]) > 1 for trial in drawn):
        return None
    values = on_scale([look["value"] for trial in drawn for look in trial["looks"]], higher)
    plot = Plot(Scale(0.0, 100.0, LEFT, RIGHT - 8), svg.scale(values, BOTTOM, TOP), "% of its updates", metric)
    shade = shades(summed)
    body = plot.ground()
    for trial in drawn:
        points = [(plot.x.at(100 * look["share"]), plot.y.at(look["value"])) for look in trial["looks"]]
        said = tells(trial, metric)
        end = svg.dot(*points[-1], "point pruned" if trial["state"] == "pruned" else "point", radius=3.5)
        shape = [svg.path(points, "reach"), svg.path(points, "way"), end]
        body.append(svg.telling(shape, said, [_name(said, *points[-1])], _kind(trial, shade)))
    said = "; ".join(tells(trial, metric) for trial in drawn[::-1][:20])
    return svg.picture("Scores on the way", said, WIDTH, HEIGHT, body, role="group")


def coordinates(summed: Part) -> str | None:
    """A line a trial over an axis a parameter, and one of the score. None of fewer than two trials."""
    drawn = [trial for trial in _drawn(summed) if trial["params"]]
    if len(drawn) < 2:
        return None
    metric, axes = summed["metric"], summed["axes"]
    apart = min(max((_ROOM - sum(_PAD)) // len(axes), _APART[0]), _APART[1])
    scores = svg.scale(on_scale([trial["value"] for trial in drawn], summed["higher_is_better"]), _FLOOR, _HEAD)
    uprights = [_axis(axis, _PAD[0] + place * apart, drawn) for place, axis in enumerate(axes)]
    last = _PAD[0] + len(axes) * apart
    ticks = scores.ticks()
    said_ticks = zip(map(scores.at, ticks), scores.said(ticks), strict=True)
    uprights.append(_upright(last, "", metric, list(said_ticks)))
    body, shade = [ground for ground, _ in uprights], shades(summed)
    for trial in drawn:
        points = [(_PAD[0] + place * apart, _height(axis, trial["params"])) for place, axis in enumerate(axes)]
        points.append((last, scores.at(trial["value"])))
        values = [trial["params"].get(axis["name"]) for axis in axes]
        shown = [svg.text(x - 6, y - 5, _short(value), "end") for (x, y), value in zip(points, values, strict=False)
                 if value is not None]  # fmt: skip
        shown.append(svg.text(last - 6, points[-1][1] - 5, number(trial["value"]), "end"))
        shown.append(svg.text(_PAD[0] - 40, 13, tells(trial, metric).partition(";")[0], kind="said strong"))
        shape = [svg.path(points, "reach"), svg.path(points, "way")]
        if trial["number"] == summed["best"]:
            shape += [svg.dot(x, y, "point", radius=3) for x, y in points]
        body.append(svg.telling(shape, tells(trial, metric), shown, _kind(trial, shade)))
    body += [ticks for _, ticks in uprights]  # above the lines, to be read
    said = "; ".join(tells(trial, metric) for trial in drawn[::-1][:20])
    return svg.picture("Parallel coordinates", said, last + _PAD[1], _TALL, body, fixed=True, role="group")


def _drawn(summed: Part) -> list[Part]:
    """The trials that have a line, the best last, so that it lies on top."""
    order = ranked(summed)
    first = {trial["number"] for trial in order[:MOST]}
    return [trial for trial in order if trial["number"] in first or trial["start"]][::-1]


def _kind(trial: Part, shade: Mapping[int, str]) -> str:
    marks = [name for name in ("start",) if trial[name]] + (["fell"] if trial["state"] == "pruned" else [])
    return " ".join(["trial", shade[trial["number"]], *marks])


def _axis(axis: Part, x: float, drawn: Sequence[Part]) -> tuple[str, str]:
    """A parameter's axis, and what stands at its ticks."""
    if axis["choices"] is not None:
        ticks = [(_height(axis, {axis["name"]: choice}), _short(choice)) for choice in axis["choices"]]
    else:
        along = _scale(axis)
        ends = [axis["low"], axis["high"]]
        ticks = [(along.at(value), _short(value)) for value in ends]
        for value in along.ticks(5):
            whole = not axis["integer"] or float(value).is_integer()
            if whole and all(abs(along.at(value) - place) > 16 for place, _ in ticks):
                ticks.append((along.at(value), _short(value)))
    if any(axis["name"] not in trial["params"] for trial in drawn):
        ticks.append((_NONE, "not there"))
    section, _, name = axis["name"].rpartition(".")
    return _upright(x, section, name, ticks)


def _upright(x: float, section: str, name: str, ticks: Sequence[tuple[float, str]]) -> tuple[str, str]:
    ground = [
        svg.text(x, _HEAD - 24, brief(section, 20), "middle", "small name"),
        svg.text(x, _HEAD - 11, brief(name, 20), "middle"),
        svg.line(x, _HEAD, x, _FLOOR, "axis-line"),
    ]
    ground += [svg.line(x - 3, y, x + 3, y, "axis-line") for y, _ in ticks]
    return "".join(ground), "".join(svg.text(x + 6, y + 4, said, kind="tick") for y, said in ticks)


def _height(axis: Part, params: Part) -> float:
    """Where a trial passes a parameter's axis."""
    if axis["name"] not in params:
        return _NONE
    value: Any = params[axis["name"]]
    if axis["choices"] is None:
        return _scale(axis).at(value)
    names = [str(choice) for choice in axis["choices"]]
    return Scale(0.0, max(len(names) - 1, 1), _FLOOR, _HEAD).at(names.index(str(value)))


def _scale(axis: Part) -> Scale:
    return Scale(axis["low"], axis["high"], _FLOOR, _HEAD, logarithmic=axis["log"])


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else brief(str(value), 18)
