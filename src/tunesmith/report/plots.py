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
    taken = [event for event in updates if not event.left_out]
    steps = [event.step for event in taken]
    losses = [sum(event.losses.values()) for event in taken]
    left.plot(steps, losses, color=INK, alpha=0.25, linewidth=0.8)
    left.plot(steps, smooth(losses), color=INK, label="training loss")
    left.set(xlabel="update", ylabel="loss", title="Training loss")
    right.plot([e.step for e in looks], [(e.scores or {})[headline] for e in looks], "o-", color=SECOND, markersize=4)
    right.set(xlabel="update", ylabel=headline, title=f"Validation {headline}")
    _save(figure, path)


def blend(points: Sequence[Any], score: str, kept: str | None, path: Path) -> None:
    """The score of every share of the tuned weights, and beside it what is kept of another task."""
    figure, axes = _figure(1 if kept is None else 2, 4.6 if kept is None else 9.0, 3.4)
    shares = [point.share for point in points]
    values = [point.score.value for point in points]
    axes[0].fill_between(
        shares, [p.score.low for p in points], [p.score.high for p in points], color=INK, alpha=0.15, linewidth=0
    )
    axes[0].plot(shares, values, "o-", color=INK, markersize=4)
    axes[0].set(xlabel="share of the tuned weights", ylabel=score, title="What was learned")
    if kept is not None:
        left = [point.kept for point in points]
        axes[1].plot(left, values, "o-", color=SECOND, markersize=4)
        for share, x, y in zip(shares, left, values, strict=True):
            axes[1].annotate(f"{share:g}", (x, y), textcoords="offset points", xytext=(4, 4), fontsize=7)
        axes[1].set(xlabel=kept, ylabel=score, title="Learned against kept")
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


def smooth(values: Sequence[float], keep: float = 0.9) -> list[float]:
    """Exponential mean without the pull of its start."""
    made, mean, weight = [], 0.0, 0.0
    for value in values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        made.append(mean / weight)
    return made
