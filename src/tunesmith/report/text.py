"""A report as Markdown: what `report.json` holds, for a terminal and for a pull request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tunesmith.report import tables
from tunesmith.report.pagetext import cutting, percent
from tunesmith.report.tables import cell, number

_SHOWN = 12
_SLICES = 20
_GROUPS = 10
Part = Mapping[str, Any]


def markdown(report: Part) -> str:
    """The whole report."""
    parts = [
        *_head(report),
        *_compared(report),
        *_advice(report["advice"]),
        _curves(report),
        *_labels(report["labels"]),
    ]
    if report["confusion"] is not None:
        parts.append("## Confusion\n\n![confusion](confusion.png)")
    parts += [*_changed(report["changed"]), *_calibration(report["calibration"])]
    parts += [*_thresholds(report), *_slices(report["slices"])]
    for found in report["fairness"]:
        parts.append(_fairness(found))
    parts += [
        *_kept(report["kept"]),
        *_written(report["written"]),
        *_overfitting(report["overfitting"]),
        *_scaling(report["scaling"]),
    ]
    parts += [*_models(report["models"]), _cost(report["cost"])]
    return "\n\n".join(parts) + "\n"


def _head(report: Part) -> list[str]:
    return [
        f"# {Path(report['run']).name}",
        f"**{report['headline_says']}**",
        tables.markdown(tables.comparison(dict(report))),
        "\\* headline; brackets are 95 % intervals.",
        *_wins(report["win_rate"]),
        *(f"Note: {note}." for note in report["notes"]),
        *tables.verified_lines(report["verified"]),
    ]


def _wins(wins: Part | None) -> list[str]:
    if wins is None:
        return []
    share = f"{wins['value']:.1%} [{wins['low']:.1%}, {wins['high']:.1%}] of {wins['n']:,}"
    return [f"The tuned model finds {share} references likelier than the base does."]


def _compared(report: Part) -> list[str]:
    if not report["compared"]:
        return []
    table = [["tuned against", "difference", "p", "corrected", "by", ""]]
    for one in report["compared"]:
        ps = (number(one["p"]), number(one["corrected"]))
        table.append([cell(one["name"]), between(one), *ps, one["test"], one["outcome"]])
    return [f"## Against others ({report['headline']})\n\n" + tables.markdown(table)]


def between(one: Part) -> str:
    """A difference with its interval."""
    value, low, high = (_signed(one[name]) for name in ("difference", "low", "high"))
    return f"{value} [{low}, {high}]"


def _signed(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:+.3f}"


def _advice(found: list[Part]) -> list[str]:
    lines = []
    for one in found:
        change = ", ".join(f"`{key}: {yaml.safe_dump(value).splitlines()[0]}`" for key, value in one["change"].items())
        lines.append(f"- {one['sign']}: {one['do']}" + (f" ({change})" if change else ""))
    return ["## What to try next\n\n" + "\n".join(lines)] if lines else []


def _curves(report: Part) -> str:
    looks = report["curves"]["looks"]
    names = list(dict.fromkeys(name for look in looks for name in look["scores"]))
    table = [["update", *names]]
    table += [[str(look["step"]), *(number(look["scores"].get(name)) for name in names)] for look in looks]
    return "## Curves\n\n![training loss and validation score](curves.png)\n\n" + tables.markdown(table)


def _labels(found: list[Part]) -> list[str]:
    if not found:
        return []
    table = [["label", "occurs", "precision", "recall", "f1", "f1 of the base"]]
    for one in found:
        values = [number(one[name]) for name in ("precision", "recall", "f1")]
        base = "-" if one["base_f1"] is None else number(one["base_f1"])
        table.append([cell(one["label"]), str(one["n"]), *values, base])
    return ["## Labels\n\n" + tables.markdown(table)]


def _changed(found: Part | None) -> list[str]:
    if found is None:
        return []
    said = ""
    if found["p"] is not None:
        said = (
            f"Against the base, {found['fixed']} rows became right and {found['broken']} wrong "
            f"(p = {found['p']:.3f}); {found['both_right']} stayed right, {found['both_wrong']} wrong.\n\n"
        )
    table = [["", "asked", "the file says", "base", "tuned", "sure", "where"]]
    for row in _first(found["rows"]):
        sure = "" if row["sure"] is None else f"{row['sure']:.2f}"
        words = [cell(row[name] or "-") for name in ("text", "reference", "base", "tuned")]
        table.append([row["change"], *words, sure, cell(f"{Path(row['file']).name}:{row['line']}")])
    return ["## What changed\n\n" + said + tables.markdown(table)]


def _first(rows: list[Part]) -> list[Part]:
    """Some of each kind; those that are right before and after say nothing."""
    kinds = dict.fromkeys(row["change"] for row in rows if row["change"] != "both right")
    return [row for kind in kinds for row in [r for r in rows if r["change"] == kind][:_SHOWN]]


def _calibration(found: Part | None) -> list[str]:
    if found is None:
        return []
    parts = [f"tuned {tables.with_interval(found['error'])}"]
    if found["raw_error"] is not None:
        parts.append(f"before the temperature of {found['temperature']:.2f} {tables.with_interval(found['raw_error'])}")
    if found["base_error"] is not None:
        parts.append(f"base {tables.with_interval(found['base_error'])}")
    table = [["sure", "rows", "says", "is right"]]
    for one in found["bins"]:
        right = f"{number(one['accuracy'])} [{number(one['accuracy_low'])}, {number(one['accuracy_high'])}]"
        table.append([f"{one['low']:.1f} to {one['high']:.1f}", str(one["n"]), number(one["confidence"]), right])
    said = f"Expected calibration error: {'; '.join(parts)}."
    wishes = "".join(f"\n- {_wish(one)}" for one in found["wishes"])
    return [f"## Calibration\n\n{said}\n\n" + tables.markdown(table) + (f"\n{wishes}" if wishes else "")]


def _wish(one: Part) -> str:
    """Above which confidence to answer."""
    wish = f"To be wrong at most {one['wrong']:.0%} of the time"
    if one["threshold"] is None:
        return f"{wish}: {one['chosen_on']:,} validation rows can tell no threshold to be enough."
    from_on = "answer all" if one["threshold"] == 0 else f"answer only from {cutting(one['threshold'])} on"
    if one["answered"] is None:
        return f"{wish}, {from_on}: none of the rows."
    answered, among = one["answered"], one["among"]
    return (
        f"{wish}, {from_on}: {percent(answered['value'])} of the rows, of which {percent(among['value'])} "
        f"[{percent(among['low'])}, {percent(among['high'])}] are wrong."
    )


def _thresholds(report: Part) -> list[str]:
    if not report["thresholds"]:
        return []
    table = [["label", "rows", "in force", "F1", "chosen on validation", "F1", "gained"]]
    for one in report["thresholds"]:
        mine, best, gain = one["in_force"], one["chosen"], one["gain"]
        line = [cell(one["label"]), str(one["n"]), cutting(mine["threshold"]), tables.with_interval(mine["f1"])]
        if best is None:
            line += ["-", "-", "-"]
        else:
            change = between({"difference": gain["value"], "low": gain["low"], "high": gain["high"]})
            line += [cutting(best["threshold"]), tables.with_interval(best["f1"]), change]
        table.append(line)
    return ["## Thresholds\n\n" + tables.markdown(table)]


def _slices(found: Part | None) -> list[str]:
    if found is None:
        return []
    table = [["by", "value", "rows", found["metric"], "base", "from the others", "corrected p", ""]]
    chosen = sorted(found["slices"], key=lambda one: (not one["worse"], one["corrected"]))[:_SLICES]
    for one in chosen:
        base = "-" if one["base"] is None else number(one["base"])
        score, worse = tables.with_interval(one["score"]), "worse" if one["worse"] else ""
        p = number(one["corrected"])
        table.append([one["by"], cell(one["value"]), str(one["n"]), score, base, between(one), p, worse])
    return ["## Slices\n\n" + tables.markdown(table)]


def _fairness(found: Part) -> str:
    table = [[found["by"], "rows", "wrongly positive", "from the others", "corrected p", ""]]
    for one in found["groups"][:_GROUPS]:
        rate, odd = tables.with_interval(one["rate"]), "differs" if one["odd"] else ""
        p = number(one["corrected"])
        gap = between({"difference": one["gap"], **one})
        table.append([cell(one["value"]), str(one["n"]), rate, gap, p, odd])
    said = (
        f"Of rows that should not be given {', '.join(found['positive'])}, {tables.with_interval(found['overall'])} "
        f"are; between groups it differs by up to {tables.with_interval(found['spread'])}. The highest of "
        f"{len(found['groups'])} groups; {found['left_out']} have fewer than {found['least']} rows."
    )
    return f"## False positives by {found['by']}\n\n{said}\n\n" + tables.markdown(table)


def _kept(found: list[Part]) -> list[str]:
    if not found:
        return []
    table = [["", "before", "after", "difference", "", "what it is"]]
    for one in found:
        table.append(
            [one["name"], number(one["before"]), number(one["after"]), between(one), one["outcome"], one["what"]]
        )
    return ["## What was kept\n\n" + tables.markdown(table)]


def _written(found: Part | None) -> list[str]:
    if found is None:
        return []
    table = [["asked in words", "base", "tuned", "corrected p", "", "what is counted"]]
    for one in found["probes"]:
        sides = [
            f"{one[f'{side}_hits']} of {one['n']} [{number(one[side]['low'])}, {number(one[side]['high'])}]"
            for side in ("base", "tuned")
        ]
        table.append([one["name"], *sides, number(one["corrected"]), one["outcome"], one["what"]])
    return ["## What is written when asked\n\n" + tables.markdown(table)]


def _overfitting(found: Part | None) -> list[str]:
    if found is None:
        return []
    lines = [
        f"{found['metric']} is {tables.with_interval(found['train'])} on {found['train']['n']:,} training rows and "
        f"{tables.with_interval(found['unseen'])} on unseen ones: better by {found['gap']:+.3f} "
        f"[{found['low']:+.3f}, {found['high']:+.3f}]. The best checkpoint is of update {found['best_step']} of "
        f"{found['last_step']}."
    ]
    known, twice = found["memorised"], found["duplicates"]
    if known is not None:
        lines.append(
            f"{known['exact']} of {known['tried']} training rows are written by heart ({known['base_exact']} of these "
            "by the untuned model too)."
        )
    if twice is not None:
        without = "and without them none is left" if twice["without"] is None else (
            f"{number(twice['without']['value'])} without"
        )  # fmt: skip
        score = f"{number(twice['score']['value'])} with them, {without}"
        lines.append(f"{twice['rows']} rows of the verdict are training rows too: {score}.")
    return ["## Overfitting\n\n" + " ".join(lines)]


def _scaling(found: Part | None) -> list[str]:
    if found is None:
        return []
    table = [["training rows", found["metric"]]]
    table += [[f"{one['rows']:,}", tables.with_interval(one)] for one in found["points"]]
    table += [[f"{one['rows']:,} (foretold)", tables.with_interval(one)] for one in found["more"]]
    return [f"## More rows\n\n{found['verdict']} ({found['how']}).\n\n" + tables.markdown(table)]


def _models(found: list[Part]) -> list[str]:
    if not found:
        return []
    table = [["model", "how", "parameters", "score", "seconds a thousand rows", "money"]]
    for one in found:
        money = "-" if one["money_per_1000"] is None else f"{one['money_per_1000']:.4f}"
        score, seconds = tables.with_interval(one["score"]), f"{one['seconds_per_1000']:,.1f}"
        table.append([one["name"], one["how"], f"{one['parameters']:,}", score, seconds, money])
    return ["## Other models\n\n" + tables.markdown(table)]


def _cost(found: Part) -> str:
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in found["seconds"].items())
    tokens = found["tokens"]
    lines = [
        f"Time: {seconds}.",
        f"Computed in training: {tokens['real']:,} {found['unit']}, {tokens['padded']:,} of padding; "
        f"{tokens['label']:,} targets; {found['tokens_per_second']:,.0f} {found['unit']} a second.",
        f"Peak memory {found['peak_memory_bytes'] / 2**30:.2f} GB; "
        f"on disk {', '.join(f'{name} {size / 2**20:,.1f} MB' for name, size in found['bytes'].items())}.",
        f"Energy {found['watt_hours']:.1f} Wh ({found['energy']})."
        + ("" if found["money"] is None else f" Money {found['money']:.4f} at {found['rate']:g} an hour."),
    ]
    if found["per_1000_rows"] is not None:
        lines.append(f"1,000 rows are answered in {found['per_1000_rows']:,.1f} s.")
    return "## Cost\n\n" + " ".join(lines)
