"""What the report page says of the scores, part by part: from `report.json` (reportshape.py) to what `report.html` lays
out. A part of which nothing is known is None or empty, and is left out of the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunesmith.report import charts, svg
from tunesmith.report.pagetext import percent, signed
from tunesmith.report.tables import final_split, number

Part = Mapping[str, Any]
Lines = list[dict[str, Any]]
_OUTCOMES = {
    "helped": ("helped", "good", "▲"),
    "hurt": ("hurt", "bad", "▼"),
    "unclear": ("no difference shown", "unsure", "◆"),
}
_KINDS = {"base": "untuned", "baseline": "baseline", "run": "another run", "model": "another model"}
_BESIDE = {
    "helped": ("tuned is better", "good"),
    "hurt": ("tuned is worse", "bad"),
    "unclear": ("no difference shown", "unsure"),
}
_CHANGES = {
    "broken": ("Broken", "the base was right, the tuned model is wrong"),
    "fixed": ("Fixed", "the base was wrong, the tuned model is right"),
    "both wrong": ("Both wrong", "neither is right"),
    "other": ("Answers side by side", "better or worse, not right or wrong"),
    "both right": ("Both right", "nothing changed"),
}
_ALONE = {"both right": ("Right", "the tuned model is right"), "both wrong": ("Wrong", "the tuned model is wrong")}
"""The same where there is no base beside it."""
_WISHES = {"held": ("good", "✓", "fulfilled"), "broken": ("bad", "▼", "not fulfilled"),
           "unclear": ("unsure", "◆", "these rows cannot tell")}  # fmt: skip
_MAPPED = 30
"""Labels that a map of confusions shows; of more, the largest confusions are listed."""
_CONFUSIONS = 25
_GROUPS = 20
"""Groups that are shown first."""


def drawn(found: Sequence[Part], interval: Callable[[Part], svg.Interval], tone: Callable[[Part], str],
          mark: float | None = None) -> tuple[Lines, str]:  # fmt: skip
    """Each with a `strip`, on one scale, and the axis of all. `mark` is a line through all of them."""
    intervals = [interval(one) for one in found]
    along = svg.strip_scale([value for some in intervals for value in some] + ([] if mark is None else [mark]))
    lines = []
    for one, (value, low, high) in zip(found, intervals, strict=True):
        said = f"{number(value)}, 95 % interval {number(low)} to {number(high)}"
        lines.append({**one, "strip": svg.strip(along, (value, low, high), said, mark, tone(one))})
    return lines, svg.strip_axis(along)


def verdict(report: Part) -> dict[str, Any]:
    """The sentence, its outcome in a word, a sign and a tone, and what is to be known with it."""
    said, tone, sign = (
        _OUTCOMES[report["verdict"]["outcome"]] if report["verdict"] else ("nothing to compare with", "none", "●")
    )
    more = []
    if report["needed_rows"] is not None and f"{report['needed_rows']:,} rows" not in report["headline_says"]:
        scored = tuned(report)
        had = f"; this test had {scored['n']:,}" if scored else ""
        more.append(f"About {report['needed_rows']:,} rows would tell a difference of this size{had}.")
    wins = report["win_rate"]
    if wins:
        value, low, high = (percent(wins[name]) for name in ("value", "low", "high"))
        more.append(
            f"The tuned model finds the reference likelier than the base does on {value} [{low}, {high}] of "
            f"{wins['n']:,} rows."
        )
    return {"said": said, "tone": tone, "sign": sign, "more": more}


def tuned(report: Part) -> Part | None:
    """The headline of the tuned model, where it has one."""
    found: Part | None = report["scores"][final_split(report)].get(report["headline"]) if report["scores"] else None
    return found


def forest(report: Part) -> dict[str, Any] | None:
    """The headline of all systems on the same rows, each with its interval."""
    own = tuned(report)
    if own is None:
        return None
    split, metric = final_split(report), report["headline"]
    found = [{"name": "tuned", "kind": "this run", "score": own}]
    found += [{**one, "kind": _KINDS[one["kind"]]} for one in report["compared"]]
    if not report["compared"]:
        systems = {"base": report["base"], **report["baselines"]}
        scores = {name: scored.get(split, {}).get(metric) for name, scored in systems.items()}
        found += [
            {"name": name, "kind": "untuned" if name == "base" else "baseline", "score": score}
            for name, score in scores.items()
            if score
        ]
    lines, axis = drawn(found, lambda one: _of(one["score"]), lambda one: "own" if one["kind"] == "this run" else "",
                        own["value"])  # fmt: skip
    better = "higher" if report["higher_is_better"] else "lower"
    return {"lines": lines, "axis": axis, "split": split, "n": own["n"], "metric": metric, "better": better}


def against(report: Part) -> dict[str, Any] | None:
    """What the tuned model is worth beside each of the others."""
    if not report["compared"]:
        return None
    lines, axis = drawn(report["compared"], _change, lambda one: _BESIDE[one["outcome"]][1], 0.0)
    for line in lines:
        line["said"], line["tone"] = _BESIDE[line["outcome"]]
        line["kind"] = _KINDS[line["kind"]]
    return {"lines": lines, "axis": axis, "tests": sorted({line["test"] for line in lines})}


def changed(report: Part) -> dict[str, Any] | None:
    """Counts of two by two, and rows by what became of them."""
    found = report["changed"]
    if found is None:
        return None
    counts = {kind: found[kind.replace(" ", "_")] for kind in ("fixed", "broken", "both right", "both wrong")}
    alone = not any(row["base"] is not None for row in found["rows"])
    groups = []
    for kind, (title, meaning) in {**_CHANGES, **(_ALONE if alone else {})}.items():
        rows = [row for row in found["rows"] if row["change"] == kind]
        if rows:
            whole = counts.get(kind, len(rows))
            groups.append({"kind": kind, "title": title, "meaning": meaning, "rows": rows, "count": whole})
    paired = found["p"] is not None and any(counts.values())
    return {"counts": counts if paired else None, "p": found["p"], "groups": groups} if paired or groups else None


def labels(report: Part) -> dict[str, Any] | None:
    """Precision and recall of each label, the weakest first."""
    found = sorted(report["labels"], key=lambda one: one["f1"] if svg.finite(one["f1"]) else math.inf)
    return {"lines": found, "base": any(one["base_f1"] is not None for one in found)} if found else None


def confusion(report: Part) -> dict[str, Any] | None:
    """A map of few labels; of many the largest confusions."""
    found = report["confusion"]
    if found is None or not found["labels"]:
        return None
    names, counts = found["labels"], found["counts"]
    if len(names) <= _MAPPED:
        return {"map": charts.confusion(names, counts), "pairs": []}
    pairs = [
        {"gold": names[i], "said": names[j], "n": n, "share": n / sum(row)}
        for i, row in enumerate(counts)
        for j, n in enumerate(row)
        if n and i != j
    ]
    pairs.sort(key=lambda pair: -pair["n"])
    return {"map": None, "pairs": pairs[:_CONFUSIONS], "all": len(pairs)} if pairs else None


def calibration(report: Part) -> dict[str, Any] | None:
    """Errors of calibration, the diagram, its bins in numbers, and what is left of the rows where only sure answers
    are given."""
    found = report["calibration"]
    if found is None:
        return None
    errors = [
        {"name": name, "score": score}
        for name, score in (
            ("as saved", found["error"]),
            ("before the temperature", found["raw_error"]),
            ("base", found["base_error"]),
        )
        if score
    ]
    lines, axis = drawn(errors, lambda one: _of(one["score"]), lambda one: "own" if one["name"] == "as saved" else "")
    wishes = [{**one, "told": _WISHES.get(one["outcome"])} for one in found["wishes"]]
    return {**found, "errors": lines, "axis": axis, "diagram": charts.reliability(found),
            "curve": charts.coverage(found["coverage"]), "wishes": wishes}  # fmt: skip


def thresholds(report: Part) -> dict[str, Any] | None:
    """Each label with the threshold in force and the one that validation rows would choose, and its curves."""
    if not report["thresholds"]:
        return None
    lines = []
    for one in report["thresholds"]:
        low, high = (one["gain"][name] if one["gain"] else None for name in ("low", "high"))
        tone = "good" if svg.finite(low) and low > 0 else "bad" if svg.finite(high) and high < 0 else ""
        lines.append({**one, "chart": charts.threshold(one), "tone": tone})
    return {"lines": lines, "chosen": any(one["chosen"] for one in lines), "rows": lines[0]["rows"],
            "split": final_split(report)}  # fmt: skip


def slices(report: Part) -> dict[str, Any] | None:
    """Parts of the rows; those that are worse than the rest first."""
    found = report["slices"]
    if found is None or not found["slices"]:
        return None
    ordered = sorted(found["slices"], key=lambda one: not one["worse"])
    lines, axis = drawn(ordered, lambda one: _of(one["score"]), lambda one: "bad" if one["worse"] else "")
    base = any(one["base"] is not None for one in ordered)
    return {**found, "slices": lines, "axis": axis, "base": base, "worse": sum(one["worse"] for one in ordered)}


def fairness(report: Part) -> Lines:
    """False positives by group; beyond the first groups the rest is folded."""
    made = []
    for found in report["fairness"]:
        overall = found["overall"]
        lines, axis = drawn(found["groups"], lambda one: _of(one["rate"]), lambda one: "bad" if one["odd"] else "",
                            overall["value"])  # fmt: skip
        for line in lines:
            line["said"] = _odd(line)
        made.append({**found, "first": lines[:_GROUPS], "rest": lines[_GROUPS:], "axis": axis})
    return made


def _odd(group: Part) -> str:
    """What a gap means, where it is there."""
    if not group["odd"] or not svg.finite(group["gap"]):
        return ""
    return "higher than the others" if group["gap"] > 0 else "lower than the others"


def kept(report: Part) -> dict[str, Any] | None:
    """What the untuned model knew, before and after."""
    if not report["kept"] and not report["written"]:
        return None
    tones = {"kept": ("good", "still known"), "lost": ("bad", "lost"), "gained": ("good", "better than before"),
             "unclear": ("unsure", "no difference shown")}  # fmt: skip
    lines = []
    for one in report["kept"]:
        (line,), axis = drawn([one], _change, lambda one: tones[one["outcome"]][0], 0.0)
        tone, said = tones[one["outcome"]]
        better = "higher" if one["higher_is_better"] else "lower"
        lines.append({**line, "axis": axis, "tone": tone, "said": said, "better": better})
    return {"lines": lines, "written": report["written"] and written(report["written"])}


def written(found: Part) -> dict[str, Any]:
    """What both models wrote: of each probe, the requests whose answers changed first."""
    tones = {"lost": ("bad", "▼", "lost"), "gained": ("good", "✓", "better than before"),
             "unclear": ("unsure", "◆", "no difference shown")}  # fmt: skip
    shares = [one[side] for one in found["probes"] for side in ("base", "tuned")]
    lines, axis = drawn([{"score": score} for score in shares], lambda one: _of(one["score"]), lambda one: "")
    made = []
    for k, one in enumerate(found["probes"]):
        rows = sorted(one["rows"], key=lambda row: row["base_right"] == row["tuned_right"])
        made.append({**one, "rows": rows, "told": tones[one["outcome"]],
                     "strips": [line["strip"] for line in lines[2 * k : 2 * k + 2]]})  # fmt: skip
    return {**found, "probes": made, "axis": axis}


def advice(report: Part) -> Lines:
    """What to try next, with the change of the recipe as YAML."""
    import yaml

    made = []
    for one in report["advice"]:
        change = yaml.safe_dump(nested(one["change"]), sort_keys=False, allow_unicode=True) if one["change"] else ""
        made.append({**one, "yaml": change.rstrip()})
    return made


def nested(change: Mapping[str, Any]) -> dict[str, Any]:
    """`{"train.epochs": 5}` as it stands in a recipe: `{"train": {"epochs": 5}}`."""
    made: dict[str, Any] = {}
    for key, value in change.items():
        *sections, last = key.split(".")
        if sections[:2] == ["search", "space"]:  # its keys have dots of their own
            sections, last = sections[:2], key.removeprefix("search.space.")
        place = made
        for section in sections:
            inner = place.setdefault(section, {})
            place = inner if isinstance(inner, dict) else place
        place[last] = value
    return made


def interval(one: Part) -> str:
    """A difference with its interval."""
    return f"{signed(one['difference'])} [{signed(one['low'])}, {signed(one['high'])}]"


def _of(score: Part) -> svg.Interval:
    return score["value"], score["low"], score["high"]


def _change(one: Part) -> svg.Interval:
    return one["difference"], one["low"], one["high"]
