"""What the page of a search says, part by part: from `report.json` (searchshape.py) to what `page.html` lays out. What
is not known is None or empty, and is left out.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tunesmith.report import sections, svg
from tunesmith.report.pagetext import count, duration, signed
from tunesmith.report.tables import number, with_interval
from tunesmith.search import drawings
from tunesmith.search.drawings import MOST
from tunesmith.search.text import gain_of, rival_of, words

Part = Mapping[str, Any]
_LISTED = 500
"""Trials of the table: of more, the best. All are in table.csv."""
_SHOWN = {"complete": ("●", ""), "pruned": ("○", "unsure"), "failed": ("✗", "bad")}


def start_of(summed: Part) -> dict[str, Any] | None:
    """The trial of the recipe's own point."""
    return next((trial for trial in summed["trials"] if trial["start"]), None)


def best_of(summed: Part) -> dict[str, Any]:
    """The winner's trial."""
    return next(trial for trial in summed["trials"] if trial["number"] == summed["best"])


def verdict(summed: Part) -> dict[str, Any]:
    """What the best is, whether it is better than what it is compared with, and by how much the choice flatters: a
    sentence, and its outcome in a word, a sign and a tone."""
    best, start, found = best_of(summed), start_of(summed), summed["optimism"]
    who = "The recipe as it is" if best["start"] else f"Trial {best['number']}"
    many = len(summed["trials"])
    sentence = (
        f"{who} is {'the only trial' if many == 1 else f'the best of {many:,} trials'}: {summed['metric']} "
        f"{number(best['value'])} on {summed['chosen_on']}"
    )
    seeds = summed["seeds"]
    held = seeds["against"] if seeds else None
    said, tone, sign = "nothing to compare with" if seeds else "not tried with other seeds", "none", "●"
    if held is not None:
        rival, others = rival_of(seeds, start), count(len(held["gains"]), "other seed")
        said, tone, sign = {
            "better": (f"better than {rival}", "good", "▲"),
            "worse": (f"worse than {rival}", "bad", "▼"),
            "unclear": (f"not shown to be better than {rival}", "unsure", "◆"),
        }[held["outcome"]]
        sentence += {
            "better": f", and better than {rival} with {others}, by {gain_of(held)}",
            "worse": f", but worse than {rival} with {others}: {gain_of(held)}; its trial was luck",
            "unclear": f"; whether it is better than {rival} cannot be told with {others}: {gain_of(held)}",
        }[held["outcome"]]
    if found is not None:
        sentence += (
            f"; on rows that chose nothing ({found['rows']}) it has {with_interval(found['fresh'])}, an optimism of "
            f"{signed(found['by'])}"
        )
    return {"said": said, "tone": tone, "sign": sign, "sentence": f"{sentence}.", "what": words(best["params"])}


def settings(summed: Part) -> list[tuple[str, str]]:
    """(what, how much) of what a reader wants to know first."""
    states = Counter(trial["state"] for trial in summed["trials"])
    seconds = sum(trial["seconds"] or 0.0 for trial in summed["trials"])
    better = "higher" if summed["higher_is_better"] else "lower"
    return [
        ("trials", ", ".join(f"{many:,} {state}" for state, many in states.items())),
        ("score", f"{summed['metric']}, {better} is better"),
        ("chosen on", summed["chosen_on"]),
        ("time of the trials", duration(seconds)),
        ("searched", ", ".join(axis["name"] for axis in summed["axes"])),
    ]


def change(summed: Part) -> dict[str, Any]:
    """What the winner has in place of what the recipe had, in a table and as YAML."""
    import yaml

    best, start = best_of(summed), start_of(summed)
    own = start["params"] if start else {}
    names = [axis["name"] for axis in summed["axes"] if axis["name"] in best["params"] or axis["name"] in own]
    lines = [
        {"name": name, "was": _value(own, name), "now": _value(best["params"], name),
         "changed": own.get(name) != best["params"].get(name)}
        for name in names
    ]  # fmt: skip
    written = yaml.safe_dump(sections.nested(summed["changes"]), sort_keys=False, allow_unicode=True)
    return {"lines": [] if best["start"] else lines, "known": bool(own),
            "yaml": written.rstrip() if summed["changes"] else ""}  # fmt: skip


def _value(params: Part, name: str) -> str:
    if name not in params:
        return "-"
    value = params[name]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def seeds(summed: Part) -> dict[str, Any] | None:
    """The winner and its rival with other seeds, and the winner on rows that chose nothing."""
    made: dict[str, Any] = {"pairs": [], "gain": None, "fresh": None}
    found, optimism = summed["seeds"], summed["optimism"]
    if found is not None:
        held = found["against"]
        made["rival"] = rival_of(found, start_of(summed)) if held else ""
        rivals = found["rival_values"] if held else [None] * len(found["values"])
        gains = held["gains"] if held else [None] * len(found["values"])
        made["pairs"] = [
            {"seed": seed, "winner": value, "rival": other, "gain": gain}
            for seed, (value, other, gain) in enumerate(zip(found["values"], rivals, gains, strict=True), 1)
        ]
        if held and held["low"] is not None:
            tone = {"better": "good", "worse": "bad", "unclear": ""}[held["outcome"]]
            lines, axis = sections.drawn(
                [held], lambda one: (one["mean"], one["low"], one["high"]), lambda _: tone, 0.0
            )
            made["gain"] = {**lines[0], "axis": axis}
    if optimism is not None:
        rows = (
            ("rows that chose it", optimism["chose"]),
            (f"rows that chose nothing: {optimism['rows']}", optimism["fresh"]),
        )
        lines, axis = sections.drawn([{"name": name, "score": score} for name, score in rows],
                                     lambda one: tuple(one["score"][key] for key in ("value", "low", "high")),
                                     lambda _: "own")  # fmt: skip
        made["fresh"] = {**optimism, "lines": lines, "axis": axis}
    return made if made["pairs"] or made["fresh"] else None


def course(summed: Part) -> dict[str, Any]:
    """The drawings of how it went, and how many scores they have no room for."""
    scores = [trial["value"] for trial in drawings.ranked(summed)]
    beyond = len(scores) - len(drawings.on_scale(scores, summed["higher_is_better"]))
    return {"history": drawings.history(summed), "looks": drawings.looks(summed), "beyond": beyond}


def coordinates(summed: Part) -> dict[str, Any] | None:
    """The parallel coordinates."""
    drawing = drawings.coordinates(summed)
    scored = sum(svg.finite(trial["value"]) for trial in summed["trials"])
    return {"drawing": drawing, "scored": scored, "most": MOST} if drawing else None


def importances(summed: Part) -> list[dict[str, Any]]:
    """Parameters with their share of what the scores vary by, the most important first."""
    found = sorted(summed["importances"].items(), key=lambda pair: -pair[1])
    most = max((share for _, share in found), default=0.0) or 1.0
    return [{"name": name, "share": share, "bar": 100 * share / most} for name, share in found]


def trials(summed: Part) -> dict[str, Any]:
    """The table: a line a trial, a column a parameter."""
    order = [trial["number"] for trial in drawings.ranked(summed)]
    first = set(order[:_LISTED]) if len(summed["trials"]) > _LISTED else None
    lines = []
    for trial in summed["trials"]:
        if first is not None and trial["number"] not in first:
            continue
        sign, tone = _SHOWN.get(trial["state"], ("…", ""))
        values = [trial["params"].get(axis["name"]) for axis in summed["axes"]]
        lines.append({**trial, "sign": sign, "tone": tone, "won": trial["number"] == summed["best"],
                      "values": [(value, _value(trial["params"], axis["name"]))
                                 for value, axis in zip(values, summed["axes"], strict=True)],
                      "link": link(trial["recipe"]) if trial["recipe"] else None})  # fmt: skip
    names = [axis["name"].rpartition(".")[::2] for axis in summed["axes"]]
    return {"names": names, "lines": lines, "left_out": len(summed["trials"]) - len(lines)}


def links(summed: Part) -> list[tuple[str, str, str]]:
    """(address, name, what it is) of the files beside the page."""
    run = os.path.relpath(summed["run"], summed["search"])
    found = [
        (f"{run}/report/index.html", "the winner's report", "its scores on rows that chose nothing, row by row"),
        (Path(summed["recipe"]).name, Path(summed["recipe"]).name, "the winning recipe, to be trained as any"),
        ("recipe.yaml", "recipe.yaml", "the recipe as it was"),
        ("table.csv", "table.csv", "all trials"),
        ("report.json", "report.json", "all that is said here"),
    ]
    return [(link(path), name, what) for path, name, what in found]


def link(path: str) -> str:
    """The address of a file beside the page, which is never one of the web."""
    return quote(Path(path).as_posix(), safe="/")
