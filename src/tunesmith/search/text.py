"""What a search came to in words: lines for the terminal, and `report.md`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.report import tables

if TYPE_CHECKING:
    from tunesmith.search.study import Line


def words(params: Any, *, start: bool = False) -> str:
    """Parameters in a line, by the last part of their keys; of a choice's own options, behind it."""
    if not params:
        return "the recipe as it is" if start else ""
    said: list[str] = []
    for name, value in params.items():
        shown = f"{value:.3g}" if isinstance(value, float) else str(value)
        said.append(f"{name.rpartition('.')[2]} {shown}")
    return ", ".join(said)


def sentences(summed: dict[str, Any]) -> list[str]:
    """What came out, a line each."""
    lines = {trial["number"]: trial for trial in summed["trials"]}
    best, name = lines[summed["best"]], summed["metric"]
    params = words(best["params"], start=best["start"])
    said = [f"best: trial {best['number']}, {name} {tables.number(best['value'])} on {summed['chosen_on']}: {params}"]
    start = next((trial for trial in summed["trials"] if trial["start"]), None)
    if start is not None and start["number"] != best["number"] and start["value"] is not None:
        said.append(f"the recipe as it is: {name} {tables.number(start['value'])} on the same rows")
    found = summed["optimism"]
    if found is not None:
        chose, fresh = tables.with_interval(found["chose"]), tables.with_interval(found["fresh"])
        said.append(
            f"optimism of the choice {found['by']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]: "
            f"{chose} on the rows that chose, {fresh} on rows that chose nothing ({found['rows']})"
        )
    if summed["seeds"] is not None:
        said += _of_seeds(summed["seeds"], name, start)
    return said


def _of_seeds(seeds: dict[str, Any], name: str, start: dict[str, Any] | None) -> list[str]:
    count = len(seeds["values"])
    spread = (
        f"mean {tables.number(seeds['mean'])}, from {tables.number(seeds['low'])} to {tables.number(seeds['high'])}"
    )
    said = [f"the winner with {count} other seeds: {name} {spread}"]
    held = seeds["against"]
    if held is None:
        return said
    rival = rival_of(seeds, start)
    gain = f"{gain_of(held)} over the same seeds, positive is better"
    verdict = {
        "better": f"it is better than {rival}: {gain}",
        "worse": f"it is worse than {rival}: {gain}; its trial was luck",
        "unclear": f"whether it is better than {rival} cannot be told: {gain}",
    }
    return [*said, verdict[held["outcome"]]]


def rival_of(seeds: dict[str, Any], start: dict[str, Any] | None) -> str:
    """What the winner is compared with."""
    own = start is not None and seeds["rival"] == start["number"]
    return "the recipe as it is" if own else f"the second best, trial {seeds['rival']}"


def gain_of(held: dict[str, Any]) -> str:
    """By how much the winner is better, with its interval."""
    interval = "" if held["low"] is None else f" [{held['low']:+.4f}, {held['high']:+.4f}]"
    return f"{held['mean']:+.4f}{interval}"


def advised(summed: dict[str, Any]) -> list[str]:
    """What to try next, a line each, with the change of the recipe."""
    import yaml

    said = []
    for one in summed.get("advice", []):
        flow = (yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).splitlines()[0]
                for value in one["change"].values())  # fmt: skip
        change = ", ".join(f"{key}: {value}" for key, value in zip(one["change"], flow, strict=True))
        said.append(f"{one['do']}: {one['sign']} ({change})")
    return said


def rows_of(lines: Sequence[Line], metric: str) -> list[list[str]]:
    """The table of trials in words, its header first."""
    made = [["trial", "state", metric, "done", "seconds", "what", ""]]
    for line in lines:
        made.append(cells(line))
    return made


def cells(line: Line) -> list[str]:
    """A trial in words."""
    return [
        str(line.number),
        line.state,
        "" if line.value is None else tables.number(line.value),
        "" if line.share is None else f"{line.share:.0%}",
        "" if line.seconds is None else f"{line.seconds:.1f}",
        words(line.params, start=line.start),
        line.said,
    ]


def in_words(line: Line) -> str:
    """A trial that is done, as one line."""
    number_, state, value, share, seconds, what, said = cells(line)
    told = [value, f"{seconds} s" if seconds else "", f"{share} done" if line.state == "pruned" else "", what, said]
    return f"trial {number_} {state}: " + "; ".join(part for part in told if part)


def markdown(summed: dict[str, Any], lines: Sequence[Line], drawn: Sequence[str]) -> str:
    """`report.md`; `drawn` are the names of its pictures."""
    made = [[tables.cell(part) or " " for part in row] for row in rows_of(lines, summed["metric"])]
    parts = [
        "# Search",
        *sentences(summed),
        *(f"To try next: {line}" for line in advised(summed)),
        *(f"Note: {note}." for note in summed["notes"]),
        f"The winner's recipe is `{summed['recipe']}`, its run `{summed['run']}`.",
        "## Trials",
        tables.markdown(made),
        *(f"![{name}]({name}.png)" for name in drawn),
    ]
    return "\n\n".join(parts) + "\n"
