"""Curves and confusion as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith.events import Event, Updated

INK, SECOND = "#2563eb", "#d97706"


def curves(events: Sequence[Event], headline: str, path: Path) -> None:
    """Training loss by update, smoothed, with the validation score beside it."""
    updates = list({e.step: e for e in events if isinstance(e, Updated)}.values())
    updates.sort(key=lambda event: event.step)
    looks = [event for event in updates if event.scores]
    figure, (left, right) = _figure(2, 9.0, 3.4)
    steps = [event.step for event in updates]
    losses = [sum(event.losses.values()) for event in updates]
    left.plot(steps, losses, color=INK, alpha=0.25, linewidth=0.8)
    left.plot(steps, _smooth(losses), color=INK, label="training loss")
    left.set(xlabel="update", ylabel="loss", title="Training loss")
    right.plot([e.step for e in looks], [(e.scores or {})[headline] for e in looks], "o-", color=SECOND, markersize=4)
    right.set(xlabel="update", ylabel=headline, title=f"Validation {headline}")
    _save(figure, path)


def confusion(labels: Sequence[str], counts: Any, path: Path) -> None:
    """Rows are gold labels, columns the model's; each row's shares as shades, counts where they fit."""
    size = max(4.0, min(0.45 * len(labels) + 2.0, 24.0))
    figure, (axes,) = _figure(1, size + 1.0, size)
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    small = len(labels) > 30
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=5 if small else 8)
    axes.set_yticks(range(len(labels)), labels, fontsize=5 if small else 8)
    if not small:
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                if count:
                    shade = "white" if shares[i, j] > 0.5 else "black"
                    axes.text(j, i, int(count), ha="center", va="center", fontsize=7, color=shade)
    axes.set(xlabel="the model says", ylabel="the file says")
    _save(figure, path)


def _figure(columns: int, width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _save(figure: Any, path: Path) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def _smooth(values: Sequence[float], keep: float = 0.9) -> list[float]:
    """Exponential mean without the pull of its start."""
    made, mean, weight = [], 0.0, 0.0
    for value in values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        made.append(mean / weight)
    return made
