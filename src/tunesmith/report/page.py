"""The report of a run as one HTML page that opens from disk: nothing is fetched, light or dark as the reader's system
is, whole without its script, which only sorts tables and picks among rows.

`report.html` beside this file is the template; `scripted.py` opens it.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.report import course, pagetext, scripted, sections, tables

if TYPE_CHECKING:
    from markupsafe import Markup

_TITLES = {
    "forest": "The headline",
    "scores": "All scores",
    "against": "Against the others",
    "advice": "What to try next",
    "changed": "What changed",
    "labels": "Labels",
    "confusion": "Confusions",
    "calibration": "Calibration",
    "thresholds": "Thresholds",
    "slices": "Slices",
    "fairness": "Fairness",
    "kept": "Forgetting",
    "overfitting": "Overfitting",
    "curves": "Training curves",
    "scaling": "Would more rows help?",
    "models": "Other models",
    "cost": "Cost",
    "verified": "What was verified",
    "origin": "Rows, notes and licence",
}
_TEXTS = 1_200_000
"""Bytes that the texts of changed rows may take on the page, all together."""
_LONGEST = 4000
"""Characters of one of them."""
_FIRST = 220
"""Characters of a folded one that are seen."""


def page(report: Mapping[str, Any]) -> str:
    """The page of a `report.json` (reportshape.Report)."""
    room = _room(report)
    filters: dict[str, Callable[..., Any]] = {
        "cutting": pagetext.cutting,
        "basename": lambda path: Path(path).name or path,
        "whole": room.whole,
        "start": room.start,
    }
    made = view(report)
    titles = {name: title for name, title in _TITLES.items() if made[name]}
    values = {"report": report, "view": made, "titles": titles, "name": Path(report["run"]).name}
    return scripted.page(Path(__file__).with_name("report.html"), filters, values)


def view(report: Mapping[str, Any]) -> dict[str, Any]:
    """Section -> what stands in it; None or empty where it has nothing to say."""
    scores = report["scores"]
    return {
        "verdict": sections.verdict(report),
        "settings": course.settings(report),
        "forest": sections.forest(report),
        "scores": tables.comparison(report) if scores else None,
        "against": sections.against(report),
        "advice": sections.advice(report),
        "changed": sections.changed(report),
        "labels": sections.labels(report),
        "confusion": sections.confusion(report),
        "calibration": sections.calibration(report),
        "thresholds": sections.thresholds(report),
        "slices": sections.slices(report),
        "fairness": sections.fairness(report),
        "kept": sections.kept(report),
        "overfitting": course.overfitting(report),
        "curves": course.curves(report),
        "scaling": course.scaling(report),
        "models": course.models(report),
        "cost": course.cost(report),
        "verified": course.verified(report),
        "origin": bool(report["notes"] or report["sums"] or report["licence"]),
        "files": course.files(report),
        "other_scores": {split: found for split, found in scores.items() if split != tables.final_split(report)}
        if scores
        else {},
    }


@dataclass(frozen=True)
class Room:
    """What the text of a row may take of the page: so many bytes as it stands there."""

    bytes: int

    def whole(self, text: str) -> Markup:
        """The text, cut where it is longer; what is left out is counted."""
        return self._marked(text, _LONGEST, counted=True)

    def start(self, text: str) -> Markup:
        """Its first words."""
        return self._marked(text, _FIRST, counted=False)

    def _marked(self, text: str, longest: int, *, counted: bool) -> Markup:
        from markupsafe import Markup

        shown = text[:longest]
        taken = len(html.escape(pagetext.visible(shown)).encode())
        if taken > self.bytes:
            longest = max(len(shown) * self.bytes // taken, 20)
        said = pagetext.safe(text, longest) if counted else f"{pagetext.visible(text[:longest])}…"
        return Markup(html.escape(said))


def _room(report: Mapping[str, Any]) -> Room:
    """A share of the page for each text of a row: four to a row, and of a folded one its beginning too."""
    rows = len((report["changed"] or {"rows": []})["rows"])
    if report["overfitting"] and report["overfitting"]["memorised"]:
        rows += len(report["overfitting"]["memorised"]["rows"])
    rows += sum(len(one["rows"]) for one in report["written"]["probes"]) if report["written"] else 0
    return Room(_TEXTS // max(8 * rows, 1))
