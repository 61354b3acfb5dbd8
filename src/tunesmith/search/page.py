"""The report of a search as one HTML page that opens from disk, as that of a run does (report/page.py): `page.html` is
its template, `page.css` what it has beside the style of a run's page.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.report import scripted, sections
from tunesmith.search import pageparts

_TITLES = {
    "change": "The winning recipe",
    "seeds": "Is it really better?",
    "advice": "What to try next",
    "course": "How it went",
    "coordinates": "What was tried",
    "importances": "What matters",
    "trials": "All trials",
    "files": "Notes and files",
}


def page(summed: Mapping[str, Any]) -> str:
    """The page of a finished search's `report.json` (searchshape.Searched)."""
    made = view(summed)
    titles = {name: title for name, title in _TITLES.items() if made[name]}
    values = {"found": summed, "view": made, "titles": titles, "name": Path(summed["search"]).name}
    return scripted.page(Path(__file__).with_name("page.html"), {"whole": "{:,}".format}, values)


def view(summed: Mapping[str, Any]) -> dict[str, Any]:
    """Section -> what stands in it; None or empty where it has nothing to say."""
    return {
        "verdict": pageparts.verdict(summed),
        "settings": pageparts.settings(summed),
        "change": pageparts.change(summed),
        "seeds": pageparts.seeds(summed),
        "advice": sections.advice(summed),
        "course": pageparts.course(summed),
        "coordinates": pageparts.coordinates(summed),
        "importances": pageparts.importances(summed),
        "trials": pageparts.trials(summed),
        "files": pageparts.links(summed),
    }
