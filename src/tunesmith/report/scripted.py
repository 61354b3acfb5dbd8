"""Pages with a script of ours: that of a run, and that of a search. They have in common their beginning
(`report_head.html`), style (`report.css`), script (`report.js`), the parts of `report_macros.html`, and filters.

The policy of a page names the script by its sum: nothing else can run, whatever rows hold.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tunesmith.report import pagetext, sections, tables


def page(template: Path, filters: Mapping[str, Callable[..., Any]], values: Mapping[str, Any]) -> str:
    """The page of a template; `filters` are its own, beside those of all. `values` hold the `titles` of its parts."""
    common: dict[str, Callable[..., Any]] = {
        "number": tables.number,
        "score": tables.with_interval,
        "sortable": sortable,
        "signed": pagetext.signed,
        "difference": sections.interval,
        "chance": pagetext.chance,
        "percent": pagetext.percent,
        "duration": pagetext.duration,
        "count": pagetext.count,
    }
    script = Path(__file__).with_name("report.js").read_text(encoding="utf-8")
    summed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    opened = pagetext.environment({**common, **filters}, template.parent)
    return opened.get_template(template.name).render({**values, "script": script, "script_sum": summed})


def sortable(value: float | None) -> str:
    """A number as the script reads it; nothing where there is none."""
    return f"{value:.6g}" if value is not None and math.isfinite(value) else ""
