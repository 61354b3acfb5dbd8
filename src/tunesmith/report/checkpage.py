"""What `check` found as one HTML file: no script, nothing fetched, light or dark as the reader's system is.

The template is `check.html` beside this file. All that comes from rows is escaped there, and made visible first.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.contracts import Mark
from tunesmith.doctor.finding import brief
from tunesmith.errors import DataError, RunError
from tunesmith.report import pagetext
from tunesmith.report.tokentext import note_of
from tunesmith.report.tokenview import PartView, RowView, Token

_SUFFIXES = (".html", ".htm")
_LABELS = 12
"""Labels that are shown from each end; those between are folded away."""
_FOLDED = 200
"""Labels that are folded away; of more, the next ones."""
_FILES = 4
_NAME = 80
"""Characters of a label that are shown."""
_THUMBNAIL = 96
_KINDS = {"trained": "learned", "masked": "read only", "cut": "did not fit"}


def refuse_target(target: Path) -> None:
    """Raise RunError for a file that is no page, or that has no folder to be in: before anything is measured."""
    if target.suffix.lower() not in _SUFFIXES:
        raise RunError("the page is a file of HTML", where=str(target), hint="`--page check.html`")
    if not target.parent.is_dir():
        raise RunError("there is no such folder", where=str(target.parent), hint="make it, or name another")
    if target.is_dir():
        raise RunError("this is a folder", where=str(target), hint="`--page check.html` names a file")


def page(value: dict[str, Any], views: Sequence[RowView]) -> str:
    """The page of what `check --json` prints, and of some rows as the model sees them."""
    folder = _folder(value["files"])
    filters: dict[str, Callable[..., Any]] = {
        "thumbnail": thumbnail,
        "note": note_of,
        "pieces": pieces,
        "count": pagetext.count,
        "near": lambda path: path.removeprefix(f"{folder}{os.sep}") if folder else path,
    }
    return (
        pagetext.environment(filters)
        .get_template("check.html")
        .render(
            value=value,
            views=views,
            folder=folder,
            files=_files(value["files"]),
            labels=_labels(value["labels"]),
            lengths=_lengths(value),
            plan=_plan(value["plan"], tokens=value["histogram"] is not None),
            stopping=sum(finding["stops"] for finding in value["findings"]),
        )
    )


def _folder(files: dict[str, list[str]]) -> str:
    """The folder that all files are in; empty where they have none in common."""
    try:
        return os.path.commonpath({os.path.dirname(path) for paths in files.values() for path in paths})
    except ValueError:
        return ""


def _files(files: dict[str, list[str]]) -> list[tuple[str, list[str], int]]:
    """(splits, their first files, how many more there are), splits of the same files together."""
    splits: dict[tuple[str, ...], list[str]] = {}
    for split, paths in files.items():
        splits.setdefault(tuple(paths), []).append(split)
    return [(", ".join(names), list(paths[:_FILES]), max(len(paths) - _FILES, 0)) for paths, names in splits.items()]


def _labels(labels: dict[str, dict[str, int]]) -> dict[str, Any] | None:
    """The labels of train, the most frequent first, each with its share of the most frequent and its rows in the other
    splits; those in the middle apart, where there are many."""
    train = labels.get("train")
    if not train:
        return None
    others = [split for split in labels if split != "train"]
    lines = [
        {"label": brief(label, _NAME), "rows": rows, "share": rows / max(train.values())}
        | {"others": [labels[split].get(label, 0) for split in others]}
        for label, rows in sorted(train.items(), key=lambda item: -item[1])
    ]
    few = len(lines) <= 2 * _LABELS
    middle = [] if few else lines[_LABELS:-_LABELS]
    return {
        "splits": ["train", *others],
        "first": lines if few else lines[:_LABELS],
        "middle": middle[:_FOLDED],
        "left_out": max(len(middle) - _FOLDED, 0),
        "last": [] if few else lines[-_LABELS:],
        "all": len(lines),
    }


def _lengths(value: dict[str, Any]) -> dict[str, Any] | None:
    """Bars of the histogram of each split in percent, and where the model's limit is among them."""
    histogram = value["histogram"]
    if histogram is None:
        return None
    edges, limit = histogram["edges"], histogram["limit"]
    width = 100 / (len(edges) - 1)
    charts = [
        {"split": split, "sizes": value["lengths"][split], "rows": value["rows"][split]}
        | {
            "bars": [
                {
                    "x": k * width,
                    "width": 0.9 * width,
                    "height": 100 * count / max(counts),
                    "said": f"{_span(edges[k], edges[k + 1])}: {count:,}",
                }
                for k, count in enumerate(counts)
                if count
            ]
        }
        for split, counts in histogram["counts"].items()
    ]
    at = float(np.interp(limit + 1, edges, np.linspace(0.0, 99.6, len(edges))))
    long = len(edges) > 2 and edges[-1] - edges[-2] > 2 * (edges[1] - edges[0])
    return {"charts": charts, "limit": limit, "at": at if limit < edges[-1] else None,
            "low": f"{edges[0]:,}", "high": _span(edges[-2], edges[-1]) if long else f"{edges[-1] - 1:,}"}  # fmt: skip


def _span(low: int, after: int) -> str:
    return f"{low:,} tokens" if after == low + 1 else f"{low:,} to {after - 1:,} tokens"


def _plan(plan: dict[str, Any], *, tokens: bool) -> list[tuple[str, str, str]]:
    """(what, how much, more of it); without what is counted in tokens, where rows are images."""
    kept = plan["trunk"]
    worst = f", {plan['worst_micro_batch_tokens']:,} tokens" if tokens else ""
    per_epoch = f"{plan['tokens_per_epoch']:,} an epoch, {plan['label_tokens_per_epoch']:,} targets in it"
    learns = f"{plan['trainable']:,} of {plan['parameters']:,} parameters"
    lines = [
        ("updates", f"{plan['updates']:,}", f"{plan['epochs']:.1f} epochs of {plan['updates_per_epoch']:,}"),
        *([("tokens", f"{plan['tokens']:,}", per_epoch)] if tokens else []),
        ("learns", f"{100 * plan['trainable_share']:.2f} %", learns),
        ("memory", f"{plan['memory_bytes'] / 2**30:.2f} GB", f"measured on the worst micro-batch{worst}"),
        (
            "time",
            pagetext.duration(plan["train_seconds"]),
            f"{plan['worst_micro_batch_seconds']:.2f} s for the worst micro-batch",
        ),
        ("learning rate", f"{plan['learning_rate']:.2g}", f"{plan['head_learning_rate']:.2g} for a fresh head"),
    ]
    if kept["blocks"]:
        more = (
            f"run once a row and kept ({kept['bytes'] / 2**20:,.0f} MB): saves {100 * kept['saves']:.0f} % of the work"
        )
        lines.append(("frozen blocks", f"{kept['blocks']}", more))
    return lines


def pieces(part: PartView) -> list[tuple[str, str, str, list[Mark]]]:
    """(text, classes, what is told on hover, what is said behind it) of every token of a sequence."""
    behind: dict[int, list[Mark]] = {}
    within: set[int] = set()
    for first, after, mark in part.marks:
        behind.setdefault(after - 1, []).append(mark)
        if not mark.usual:
            within.update(range(first, after))
    made = []
    for place, token in enumerate(part.tokens):
        classes = [token.kind, *([token.role] if token.role != "text" else []), *(["in"] if place in within else [])]
        text = token.text.replace("\n", "↵\n") if token.kind != "between" else token.text
        made.append((text, " ".join(classes), _told(token), behind.get(place, [])))
    return made


def _told(token: Token) -> str:
    """What hovering over a token tells."""
    if token.id is None:
        return _KINDS.get(token.kind, "")
    role = f", {token.role}" if token.role != "text" else ""
    return f"{token.name} · id {token.id} · {_KINDS[token.kind]}{role}"


def thumbnail(path: str) -> str | None:
    """A small picture of an image file, as the address of an <img>; None where it cannot be read any more."""
    from PIL import Image

    from tunesmith.models.image import open_image

    try:
        image = open_image(Path(path))
    except DataError:
        return None
    image.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
