"""The report of a search: `table.csv` after every trial; `report.json` (all that `--json` prints), `report.md` and PNGs
at the end. `report.json` comes last: where it is, the search is whole."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.report.tables import cell, markdown, number, with_interval
from tunesmith.rundir import RunDir, guarded, write_bytes
from tunesmith.search import plots, winner
from tunesmith.search.directory import SearchDir
from tunesmith.search.opening import Opening

if TYPE_CHECKING:
    from tunesmith.search.study import Line, Study

_FEWEST = 4
"""Finished trials that importances are told from."""


def table(directory: SearchDir, lines: Sequence[Line]) -> None:
    """Write `table.csv`: a line a trial, a column a parameter."""
    names = list(dict.fromkeys(name for line in lines for name in line.params))
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["trial", "state", "value", "share", "seconds", *names, "said"])
    for line in lines:
        params = [line.params.get(name, "") for name in names]
        writer.writerow([line.number, line.state, line.value, line.share, line.seconds, *params, line.said])
    write_bytes(directory.path / "table.csv", file.getvalue().encode())


def words(params: Any, *, start: bool = False) -> str:
    """Parameters in a line, by the last part of their keys; of a choice's own options, behind it."""
    if not params:
        return "the recipe as it is" if start else ""
    said: list[str] = []
    for name, value in params.items():
        shown = f"{value:.3g}" if isinstance(value, float) else str(value)
        said.append(f"{name.rpartition('.')[2]} {shown}")
    return ", ".join(said)


def write(
    opening: Opening,
    study: Study,
    made: winner.Choice,
    repeats: dict[str, list[Any]],
    optimism: dict[str, Any] | None,
    ran: RunDir,
) -> None:
    """Write the report of a finished search."""
    assert opening.recipe.search is not None
    directory, lines = opening.directory, made.ended
    table(directory, lines)
    importances = importances_of(study, lines)
    held = winner.held_against(repeats["winner"], repeats["rival"], opening.metric)
    values = [told["value"] for told in repeats["winner"]]
    summed: dict[str, Any] = {
        "search": str(directory.path),
        "state": "finished",
        "metric": opening.metric.name,
        "higher_is_better": opening.metric.higher_is_better,
        "chosen_on": "validation" if opening.tested else "half of validation",
        "trials": [as_json(line) for line in lines],
        "best": made.best.number,
        "recipe": str(directory.best),
        "run": str(ran.path),
        "optimism": optimism,
        "seeds": None
        if not values
        else {
            "values": values,
            "mean": sum(values) / len(values),
            "low": min(values),
            "high": max(values),
            "rival": None if made.rival is None else made.rival.number,
            "rival_values": [told["value"] for told in repeats["rival"]],
            "against": held,
        },
        "importances": importances,
        "notes": _notes(opening, made, importances),
    }
    with guarded(directory.path):
        drawn = plots.all_of(study, lines, opening.metric.name, importances, directory.path)
    write_bytes(directory.path / "report.md", _markdown(summed, lines, drawn).encode())
    directory.write("report", summed)


def as_json(line: Line) -> dict[str, Any]:
    """A trial as `--json` prints it."""
    return {
        "number": line.number,
        "state": line.state,
        "start": line.start,
        "params": line.params,
        "value": line.value,
        "share": line.share,
        "seconds": line.seconds,
        "said": line.said,
    }


def importances_of(study: Study, lines: Sequence[Line]) -> dict[str, float]:
    """Parameter -> its share of what the scores vary by, of the parameters that every finished trial has, by PED-ANOVA
    (Watanabe et al. 2023, arXiv:2304.10255). Empty where too few have finished, or all scored alike."""
    import optuna

    from tunesmith.search.study import calm

    done = [line for line in lines if line.state == "complete" and line.params]
    if len(done) < _FEWEST or len({line.value for line in done}) == 1:
        return {}
    shared = [name for name in done[0].params if all(name in line.params for line in done)]
    varied = [name for name in shared if len({line.params[name] for line in done}) > 1]
    if not varied:
        return {}
    numbers = {line.number for line in done}
    with calm():
        copied = optuna.create_study(direction=study.engine.direction)
        for trial in study.engine.get_trials(deepcopy=False):
            if trial.number in numbers:
                copied.add_trial(trial)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(copied, evaluator=evaluator, params=varied)
    return {name: float(value) for name, value in found.items()}


def _notes(opening: Opening, made: winner.Choice, importances: dict[str, float]) -> list[str]:
    notes = []
    if not opening.tested:
        notes.append(
            "there are no test rows: trials were chosen on half of the validation rows, and the winner's run has its "
            "scores on all of them"
        )
    if opening.space.start is None:
        notes.append("the recipe's own point is no point of the space; it was trained beside it, as trial 0")
    names = {name for line in made.ended for name in line.params}
    left = sorted(names - importances.keys()) if importances else []
    if left:
        notes.append(f"no importance is told for {', '.join(left)}: not every trial has it, or it was always the same")
    beside = sum(line.together > 1 for line in made.ended)
    if beside:
        notes.append(
            f"{beside} of {len(made.ended)} trials were trained together with others over one frozen base, each as "
            "alone but for rounding"
        )
    twins = sum(line.said.startswith("the same as") for line in made.ended)
    if twins:
        notes.append(f"{twins} trials were proposed a second time, and took the result of the first")
    return notes


def sentences(summed: dict[str, Any]) -> list[str]:
    """What came out, a line each."""
    lines = {trial["number"]: trial for trial in summed["trials"]}
    best, name = lines[summed["best"]], summed["metric"]
    params = words(best["params"], start=best["start"])
    said = [f"best: trial {best['number']}, {name} {number(best['value'])} on {summed['chosen_on']}: {params}"]
    start = next((trial for trial in summed["trials"] if trial["start"]), None)
    if start is not None and start["number"] != best["number"] and start["value"] is not None:
        said.append(f"the recipe as it is: {name} {number(start['value'])} on the same rows")
    found = summed["optimism"]
    if found is not None:
        chose, fresh = with_interval(found["chose"]), with_interval(found["fresh"])
        said.append(
            f"optimism of the choice {found['by']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]: "
            f"{chose} on the rows that chose, {fresh} on rows that chose nothing ({found['rows']})"
        )
    if summed["seeds"] is not None:
        said += _of_seeds(summed["seeds"], name, start)
    return said


def _of_seeds(seeds: dict[str, Any], name: str, start: dict[str, Any] | None) -> list[str]:
    count = len(seeds["values"])
    spread = f"mean {number(seeds['mean'])}, from {number(seeds['low'])} to {number(seeds['high'])}"
    said = [f"the winner with {count} other seeds: {name} {spread}"]
    held = seeds["against"]
    if held is None:
        return said
    own = start is not None and seeds["rival"] == start["number"]
    rival = "the recipe as it is" if own else f"the second best, trial {seeds['rival']}"
    interval = "" if held["low"] is None else f" [{held['low']:+.4f}, {held['high']:+.4f}]"
    gain = f"{held['mean']:+.4f}{interval} over the same seeds, positive is better"
    verdict = {
        "better": f"it is better than {rival}: {gain}",
        "worse": f"it is worse than {rival}: {gain}; its trial was luck",
        "unclear": f"whether it is better than {rival} cannot be told: {gain}",
    }
    return [*said, verdict[held["outcome"]]]


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
        "" if line.value is None else number(line.value),
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


def _markdown(summed: dict[str, Any], lines: Sequence[Line], drawn: Sequence[str]) -> str:
    made = [[cell(part) or " " for part in row] for row in rows_of(lines, summed["metric"])]
    parts = [
        "# Search",
        *sentences(summed),
        *(f"Note: {note}." for note in summed["notes"]),
        f"The winner's recipe is `{summed['recipe']}`, its run `{summed['run']}`.",
        "## Trials",
        markdown(made),
        *(f"![{name}]({name}.png)" for name in drawn),
    ]
    return "\n\n".join(parts) + "\n"
