"""The report of a search: `table.csv` after every trial; `report.json` (all that `--json` prints), `report.html`,
`report.md` and PNGs at the end. `report.json` comes last: where it is, the search is whole."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunesmith import recipefile
from tunesmith.errors import NotFinite, OutOfMemory, UserError
from tunesmith.rundir import RunDir, guarded, write_bytes
from tunesmith.search import edges, page, plots, text, winner
from tunesmith.search.directory import SearchDir
from tunesmith.search.opening import Opening
from tunesmith.searchspace import Axis, lookup, walk

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
    higher = opening.metric.higher_is_better
    auto = opening.recipe.search.space == "auto"
    summed: dict[str, Any] = {
        **tried(opening, study, lines, "finished"),
        "best": made.best.number,
        "recipe": str(directory.best),
        "changes": changes(opening, made.best),
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
        "advice": edges.advice(opening.space, auto, made.best, lines, importances, higher, _takes(opening)),
        "notes": _notes(opening, made, importances),
    }
    with guarded(directory.path):
        drawn = plots.all_of(study, lines, opening.metric.name, importances, directory.path)
    write_bytes(directory.path / "report.md", text.markdown(summed, lines, drawn).encode())
    write_bytes(directory.path / "report.html", page.page(summed).encode())
    directory.write("report", summed)


def tried(opening: Opening, study: Study, lines: Sequence[Line], state: str) -> dict[str, Any]:
    """What is known of a search before its winner is."""
    looks = {trial.number: trial.intermediate_values for trial in study.engine.get_trials(deepcopy=False)}
    return {
        "search": str(opening.directory.path),
        "state": state,
        "metric": opening.metric.name,
        "higher_is_better": opening.metric.higher_is_better,
        "chosen_on": "validation" if opening.tested else "half of validation",
        "axes": [_as_json(name, axis) for name, axis in edges.named(opening.space.axes)],
        "trials": [as_json(line, opening.directory, looks[line.number]) for line in lines],
    }


def _as_json(name: str, axis: Axis) -> dict[str, Any]:
    of = axis.range
    ends = {"low": None, "high": None, "log": False, "integer": False} if of is None else {
        "low": of.low, "high": of.high, "log": of.log, "integer": of.integer}  # fmt: skip
    return {"name": name, **ends, "choices": axis.labels if of is None else None}


def changes(opening: Opening, best: Line) -> dict[str, Any]:
    """Keys in which the winning recipe differs from the recipe as it was -> their values in it."""
    if best.start:
        return {}
    axes, start = opening.space.axes, opening.space.start
    own = {} if start is None else walk(axes, lookup(start))
    return {key: value for key, value in walk(axes, lookup(best.params)).items() if key not in own or own[key] != value}


def _takes(opening: Opening) -> edges.Takes:
    """Whether a recipe of the space, were it such, could be trained."""

    def takes(axes: tuple[Axis, ...], params: Mapping[str, Any]) -> bool:
        try:
            opening.shared.prepare(recipefile.changed(opening.base, walk(axes, lookup(params))))
        except (UserError, NotFinite, OutOfMemory):
            return False
        return True

    return takes


def as_json(line: Line, directory: SearchDir, passed: Mapping[int, float]) -> dict[str, Any]:
    """A trial as `--json` prints it; `passed` are its looks as the study has them, percent of its updates -> score,
    where another machine has its folder."""
    place = directory.trial(line.number) / "recipe.yaml"
    found = directory.result(line.number) or {}
    told = [(one["share"], one["value"]) for one in found.get("looks", [])]
    told = told or [(percent / 100, value) for percent, value in sorted(passed.items())]
    return {
        "number": line.number,
        "state": line.state,
        "start": line.start,
        "params": line.params,
        "value": line.value,
        "share": line.share,
        "seconds": line.seconds,
        "said": line.said,
        "looks": [{"share": share, "value": value} for share, value in told if math.isfinite(value)],
        "recipe": place.relative_to(directory.path).as_posix() if place.exists() else None,
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
