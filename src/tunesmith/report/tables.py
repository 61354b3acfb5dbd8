"""Scores as Markdown tables and one sentence: what a person reads first. No torch, no plots."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Shape = Mapping[str, Any]


def verdict_line(result: Shape) -> str:
    """Whether tuning helped, in one sentence."""
    verdict = result["verdict"]
    split = final_split(result)
    tuned = result["scores"][split][result["headline"]]
    if verdict is None:
        return (
            f"{result['headline']} {number(tuned['value'])} on {tuned['n']:,} {split} rows (nothing to compare with)."
        )
    base = result["base"][split][result["headline"]]
    word = {
        "helped": "Tuning helped",
        "hurt": "Tuning hurt",
        "unclear": "Not distinguishable at this test size",
    }
    changed = result.get("changed")
    worse = f"; {changed['broken']:,} rows got worse" if changed and changed["p"] is not None else ""
    needed = f" You would need about {verdict['needed']:,} rows to tell." if verdict["needed"] else ""
    return (
        f"{word[verdict['outcome']]}: {verdict['metric']} went from {number(base['value'])} to "
        f"{number(tuned['value'])} on {tuned['n']:,} {split} rows (difference {verdict['difference']:+.3f}, "
        f"95 % interval {verdict['low']:+.3f} to {verdict['high']:+.3f}, {chance(verdict['p'])}){worse}.{needed}"
    )


def final_split(result: Shape) -> str:
    """The split that the verdict is on."""
    return "test" if "test" in result["scores"] else next(iter(result["scores"]))


def comparison(result: Shape) -> list[list[str]]:
    """Header and rows: one metric a row, one system a column, each with its interval."""
    split = final_split(result)
    systems = {"tuned": result["scores"]}
    if result["base"]:
        systems = {"base": result["base"], **systems}
    systems |= result["baselines"]
    table = [["metric", *systems, "n"]]
    for metric, tuned in result["scores"][split].items():
        cells = [with_interval(found[split].get(metric)) for found in systems.values()]
        mark = " *" if metric == result["headline"] else ""
        table.append([metric + mark, *cells, f"{tuned['n']:,}"])
    return table


def with_interval(score: Shape | None) -> str:
    """`.883 [.860, .905]`"""
    if score is None:
        return "-"
    return f"{number(score['value'])} [{number(score['low'])}, {number(score['high'])}]"


def number(value: float | None) -> str:
    """Three digits behind the point; large numbers fewer. `-` for what is no number, or infinite."""
    if value is None or not math.isfinite(value):
        return "-"
    value = 0.0 if abs(value) < 0.0005 else value  # which would be -0.000
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


_WORDS = {"helped": "better than", "hurt": "worse than", "unclear": "not distinguishable from"}


def against_line(one: Shape, first: str | None = None) -> str:
    """The tuned model against another system, or another run against the first, in one sentence."""
    who, other = ("the tuned model", one["name"]) if first is None else (one["name"], first)
    return (
        f"{who} is {_WORDS[one['outcome']]} {other}: {one['difference']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}], "
        f"{chance(one['corrected'])} ({one['test']}, corrected)"
    )


def model_line(one: Shape) -> str:
    """Another model and what it costs, in one sentence."""
    return (
        f"{one['name']} ({one['parameters']:,} parameters, {one['how']}): {with_interval(one['score'])}, "
        f"{one['seconds_per_1000']:,.1f} s for 1,000 rows"
    )


def chance(p: float) -> str:
    """`p = .012`, or what it is below."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def verified_lines(found: Sequence[Shape]) -> list[str]:
    """What was verified, a line each."""
    words = {True: "holds", False: "DOES NOT HOLD", None: "not verified"}
    return [f"{check['name']} {words[check['holds']]}: {check['said']}" for check in found]


def markdown(table: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([lines[0], "|" + "---|" * len(table[0]), *lines[1:]])


def cell(text: str, longest: int = 200) -> str:
    """A text that fits a Markdown table."""
    flat = " ".join(text.split()).replace("|", "\\|")
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"
