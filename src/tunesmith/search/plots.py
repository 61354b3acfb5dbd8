"""History, importance and parallel coordinates of a search, as PNG files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.report.plots import INK, SECOND

if TYPE_CHECKING:
    from tunesmith.search.study import Line, Study

_BELOW = -0.15
"""Where a line passes an axis that it has no value on."""


def all_of(
    study: Study, lines: Sequence[Line], metric: str, importances: Mapping[str, float], folder: Path
) -> list[str]:
    """Draw what there is to draw; the names of the files, without their suffix."""
    drawn = ["history"]
    history(lines, metric, study.engine.direction.name == "MAXIMIZE", folder / "history.png")
    if importances:
        importance(importances, folder / "importance.png")
        drawn.append("importance")
    logs = {name for name, (_, _, log) in study.space.ends().items() if log}
    scored = [line for line in lines if line.value is not None and line.params]
    if len(scored) > 1:
        coordinates(scored, metric, logs, folder / "coordinates.png")
        drawn.append("coordinates")
    return drawn


def history(lines: Sequence[Line], metric: str, higher_is_better: bool, path: Path) -> None:
    """The score of every trial, and the best so far; pruned ones are hollow."""
    figure, axes = _figure(6.4, 3.4)
    for state, face in (("complete", INK), ("pruned", "none")):
        some = [line for line in lines if line.state == state and line.value is not None]
        axes.scatter(
            [line.number for line in some], [line.value for line in some], s=22, facecolors=face, edgecolors=INK,
            label=state,
        )  # fmt: skip
    best: list[float] = []
    done = [line for line in lines if line.state == "complete" and line.value is not None]
    for line in done:
        assert line.value is not None
        pick = max if higher_is_better else min
        best.append(pick(best[-1], line.value) if best else line.value)
    axes.step([line.number for line in done], best, where="post", color=SECOND, label="best so far")
    axes.set(xlabel="trial", ylabel=metric, title="History")
    axes.legend(frameon=False, fontsize=8)
    _save(figure, axes, path)


def importance(importances: Mapping[str, float], path: Path) -> None:
    """A bar a parameter, the longest on top."""
    figure, axes = _figure(6.4, 1.2 + 0.35 * len(importances))
    names = sorted(importances, key=importances.__getitem__)
    axes.barh(names, [importances[name] for name in names], color=INK)
    axes.set(xlabel="share of what the scores vary by", title="Importance")
    _save(figure, axes, path)


def coordinates(lines: Sequence[Line], metric: str, logs: set[str], path: Path) -> None:
    """A line a trial over an axis a parameter, shaded by its score; one that lacks the parameter passes below it."""
    import numpy as np

    names = list(dict.fromkeys(name for line in lines for name in line.params))
    columns = [_places([line.params.get(name) for line in lines], name in logs) for name in names]
    values = [float(line.value) for line in lines if line.value is not None]
    columns.append(_places(values, False))
    figure, axes = _figure(2.0 + 1.5 * len(columns), 4.0)
    shades = np.array(columns[-1][0])
    for place in np.argsort(shades):
        heights = [column[place] for column, _ in columns]
        axes.plot(range(len(columns)), heights, color=_shade(float(shades[place])), linewidth=1.2, alpha=0.85)
    for number, (_, ticks) in enumerate(columns):
        axes.axvline(number, color="black", linewidth=0.6)
        for height, label in ticks:
            axes.annotate(label, (number, height), fontsize=7, xytext=(3, 0), textcoords="offset points")
    axes.set_xticks(range(len(columns)), [*(name.replace(".", ".\n", 1) for name in names), metric], fontsize=7)
    axes.set_yticks([])
    _save(figure, axes, path)


def _places(values: Sequence[Any], log: bool) -> tuple[list[float], list[tuple[float, str]]]:
    """Heights from 0 to 1 (below, where there is no value), and the labels of the axis with theirs."""
    there = [value for value in values if value is not None]
    none = [(_BELOW, "none")] if len(there) < len(values) else []
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in there):
        scaled = [math.log(value) if log else float(value) for value in there]
        low, high = min(scaled), max(scaled)
        width = (high - low) or 1.0
        heights = [_BELOW if v is None else ((math.log(v) if log else v) - low) / width for v in values]
        return heights, [*none, (0.0, f"{min(there):.3g}"), (1.0, f"{max(there):.3g}")]
    names = sorted({str(value) for value in there})
    step = 1.0 / max(len(names) - 1, 1)
    heights = [_BELOW if value is None else names.index(str(value)) * step for value in values]
    return heights, [*none, *((number * step, name) for number, name in enumerate(names))]


def _shade(share: float) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"](share)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _save(figure: Any, axes: Any, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
