"""What the report page says of how training went and what it took: as `sections.py` does of the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.report import charts
from tunesmith.report.pagetext import count, duration, percent, size
from tunesmith.report.sections import drawn, tuned
from tunesmith.report.svg import finite
from tunesmith.report.tables import number

Part = Mapping[str, Any]


def settings(report: Part) -> list[tuple[str, str]]:
    """(what, how much) of what a reader wants to know first."""
    made, found = [], dict(report["settings"])
    learns, of = found.get("trainable"), found.get("parameters")
    if isinstance(learns, int) and isinstance(of, int) and of:
        found["trainable"] = f"{learns:,} ({percent(learns / of)})"
    for key, value in found.items():
        said = _said(key, value)
        if said:
            made.append((key.replace("_", " "), said))
    return made


def _said(key: str, value: Any) -> str:
    """A setting in words; nothing where it says nothing."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_said(name, inner)} {name}" for name, inner in value.items() if _said(name, inner))
    if isinstance(value, list | tuple):
        return ", ".join(said for said in (_said(key, one) for one in value) if said)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return percent(value) if key.endswith("share") else f"{value:.4g}" if finite(value) else ""
    return "" if value is None else str(value)


def overfitting(report: Part) -> dict[str, Any] | None:
    """The score on what was learned from beside that on unseen rows; what is known by heart, or stands in both."""
    found = report["overfitting"]
    if found is None:
        return None
    systems = [{"name": "training rows", "score": found["train"]}, {"name": "unseen rows", "score": found["unseen"]}]
    twice = found["duplicates"]
    if twice and twice["without"]:
        systems.append({"name": "unseen rows, without those that are in the training rows", "score": twice["without"]})
    lines, axis = drawn(systems, lambda one: (one["score"]["value"], one["score"]["low"], one["score"]["high"]),
                        lambda one: "own" if one["name"] == "unseen rows" else "")  # fmt: skip
    return {**found, "lines": lines, "axis": axis}


def curves(report: Part) -> list[str]:
    """The charts of training: the loss, and the score that picks the checkpoint."""
    found, made = report["curves"], []
    if sum(map(finite, found["losses"])) > 1:
        made.append(charts.losses(found["steps"], found["losses"]))
    looks = [point for point in found["looks"] if finite(point["scores"].get(found["watched"]))]
    if len(looks) > 1:
        made.append(charts.looks(looks, found["watched"], _best(report, looks)))
    return made


def _best(report: Part, looks: Sequence[Part]) -> int | None:
    """The update that was kept, where that can be told: the direction is known of the headline alone."""
    if report["overfitting"]:
        return int(report["overfitting"]["best_step"])
    watched = report["curves"]["watched"]
    if watched != report["headline"]:
        return None
    sign = 1 if report["higher_is_better"] else -1
    return int(max(looks, key=lambda point: sign * point["scores"][watched])["step"])


def scaling(report: Part) -> dict[str, Any] | None:
    """Scores with parts of the rows, as a chart and in numbers."""
    found = report["scaling"]
    if found is None or not found["points"]:
        return None
    lines = [{**point, "kind": kind} for kind, points in (("measured", found["points"]), ("foretold", found["more"]))
             for point in points]  # fmt: skip
    return {**found, "lines": lines, "chart": charts.scaling(found)}


def models(report: Part) -> dict[str, Any] | None:
    """Other models beside this one: score, time and money."""
    own = tuned(report)
    if not report["models"] or own is None:
        return None
    this = {"name": "this run", "how": "tuned", "parameters": None, "score": own, "own": True,
            "seconds_per_1000": report["cost"]["per_1000_rows"], "money_per_1000": None}  # fmt: skip
    found = [this, *({**one, "own": False} for one in report["models"])]
    lines, axis = drawn(found, lambda one: (one["score"]["value"], one["score"]["low"], one["score"]["high"]),
                        lambda one: "own" if one["own"] else "", own["value"])  # fmt: skip
    timed = [one for one in found if finite(one["seconds_per_1000"]) and one["seconds_per_1000"] > 0]
    return {"lines": lines, "axis": axis, "chart": charts.models(found, report["headline"]) if len(timed) > 1 else None}


def cost(report: Part) -> dict[str, Any]:
    """Phases with their share of the time, and all else that the run took."""
    found = report["cost"]
    seconds = {name: value for name, value in found["seconds"].items() if finite(value)}
    whole, most = sum(seconds.values()), max(seconds.values(), default=0) or 1
    phases = [
        {"name": name, "seconds": value, "bar": 100 * value / most, "share": value / whole if whole else 0.0}
        for name, value in sorted(seconds.items(), key=lambda item: -item[1])
    ]
    tokens = found["tokens"]
    facts = [
        ("time", duration(whole), "all phases together"),
        (f"{found['unit']} learned from", f"{tokens.get('real', 0):,}", _tokens(tokens, found["unit"])),
        ("speed", f"{_speed(found['tokens_per_second'])} {found['unit']}/s", "of training, without padding"),
        ("peak memory", size(found["peak_memory_bytes"]), ""),
        *((f"{name} on disk", size(value), "") for name, value in found["bytes"].items()),
        ("energy", f"{number(found['watt_hours'])} Wh", found["energy"]),
    ]
    if finite(found["money"]):
        at = f"at {number(found['rate'])} an hour" if finite(found["rate"]) else ""
        facts.append(("money", number(found["money"]), at))
    if finite(found["per_1000_rows"]):
        speed = f"{_speed(found['rows_per_second'])} rows/s" if finite(found["rows_per_second"]) else ""
        facts.append(("answering 1,000 rows", duration(found["per_1000_rows"]), speed))
    return {"phases": phases, "facts": facts}


def _speed(value: float | None) -> str:
    return f"{value:,.{0 if value >= 100 else 1}f}" if finite(value) else "-"


def _tokens(tokens: Mapping[str, int], unit: str) -> str:
    said = [count(tokens["label"], "target")] if tokens.get("label") else []
    if tokens.get("padded"):
        said.append(f"{tokens['padded']:,} {unit} of padding beside them")
    return ", ".join(said)


def verified(report: Part) -> list[dict[str, Any]]:
    """Promises, and whether they hold."""
    words = {True: ("holds", "good", "✓"), False: ("DOES NOT HOLD", "bad", "✗"), None: ("not verified", "unsure", "–")}
    return [{**one, **dict(zip(("word", "tone", "sign"), words[one["holds"]], strict=True))}
            for one in report["verified"]]  # fmt: skip


def files(report: Part) -> list[tuple[str, str, str]]:
    """(name, whole path, sha256) of the files of rows."""
    return [(Path(path).name or path, path, digest) for path, digest in report["sums"].items()]
