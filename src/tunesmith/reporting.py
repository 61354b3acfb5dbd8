"""What the commands `report` and `compare` do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunesmith.console import Screen
from tunesmith.errors import RunError
from tunesmith.rundir import RunDir, finished_run

_PARTS = ("compared", "curves", "cost", "settings", "models", "scaling", "advice", "thresholds", "written")


def report(screen: Screen, path: Path, runs: tuple[Path, ...], models: tuple[str, ...], scaling: bool) -> int:
    """Make a run's report anew, with what was asked for added to it."""
    run = finished_run(path)
    found = run.json("report/report")
    lost = next((name for name in _PARTS if name not in found), None)
    if lost is not None:
        raise RunError(
            f"the report has no `{lost}`: it is of an earlier version", where=str(run.report), hint="train it again"
        )
    if runs:
        found["compared"] = _with_runs(run, found, runs)
    if models or scaling:
        found |= _looked(screen, run, found, models, scaling)
    from tunesmith.report import tables, write

    write.put(run, found)
    if screen.as_json:
        screen.value(found)
        return 0
    screen.table(tables.comparison(found))
    screen.say(f"\n{found['headline_says']}")
    for one in found["compared"]:
        screen.say(tables.against_line(one))
    for one in found["models"]:
        screen.say(tables.model_line(one))
    if found["scaling"]:
        screen.say(found["scaling"]["verdict"])
    screen.say(f"\nlook at it: {run.report / 'index.html'}")
    return 0


def _with_runs(run: RunDir, found: dict[str, Any], others: tuple[Path, ...]) -> list[dict[str, Any]]:
    """The systems that the run is compared with, and these runs on the same rows; p is corrected among all."""
    from tunesmith import comparing
    from tunesmith.evidence.compared import together

    compared = comparing.compare([run, *(finished_run(path) for path in others)])
    names = {str(path) for path in others}
    return together([one for one in found["compared"] if one["name"] not in names] + compared.first_against())


def _looked(
    screen: Screen, run: RunDir, found: dict[str, Any], models: tuple[str, ...], scaling: bool
) -> dict[str, Any]:
    """What needs the rows again. Raises UserError where they, or the model, are not what they were."""
    from tunesmith.evidence import advice, prompted
    from tunesmith.evidence.compared import together
    from tunesmith.metrics.measured import Measured
    from tunesmith.recipefile import task_from
    from tunesmith.report import measures
    from tunesmith.run import reopen

    prepared = reopen(run, screen.say)
    task = task_from(run.json("task"))
    made: dict[str, Any] = {"models": list(found["models"]), "compared": list(found["compared"])}
    rows = prepared.splits.rows[prepared.final_split]
    tuned = measures.unpack(run.report / "measures.safetensors").systems["tuned"] if models else Measured()
    for name in models:
        other, against = prompted.beside(name, task, prepared.recipe, prepared.train_rows, rows, tuned, screen.say)
        made["models"] = [one for one in made["models"] if one["name"] != other["name"]] + [other]
        if against is not None:
            made["compared"] = [one for one in made["compared"] if one["name"] != other["name"]] + [against]
    made["compared"] = together(made["compared"])
    if scaling:
        from tunesmith import scaling as sizes

        made["scaling"] = sizes.measure(prepared, screen.say).as_json()
        more = advice.more_rows(made["scaling"])
        others = [one for one in found["advice"] if not one["sign"].startswith(advice.RISES)]
        made["advice"] = [*others, *([more] if more else [])][: advice.MOST]
    return made


def compare(screen: Screen, paths: tuple[Path, ...]) -> int:
    """Runs on the rows that they share."""
    if len(paths) < 2:
        raise RunError("one run has nothing to be compared with", where=str(paths[0]), hint="name two runs, or more")
    runs = [finished_run(path) for path in paths]
    from tunesmith import comparing
    from tunesmith.report.tables import against_line, with_interval

    found = comparing.compare(runs)
    name = found.metric.name
    against = found.against_first()
    if screen.as_json:
        screen.value(
            {
                "headline": name,
                "higher_is_better": found.metric.higher_is_better,
                "rows": found.rows,
                "runs": [{"run": str(one.run.path), "score": vars(one.scores[name])} for one in found.runs],
                "against": against,
            }
        )
        return 0
    metrics = [metric for metric in found.runs[0].scores if all(metric in one.scores for one in found.runs)]
    table = [["run", *(metric + (" *" if metric == name else "") for metric in metrics)]]
    for one in found.runs:
        table.append([str(one.run.path), *(with_interval(vars(one.scores[metric])) for metric in metrics)])
    screen.table(table)
    screen.say(f"* headline; {found.rows:,} rows that all of them were scored on; brackets are 95 % intervals\n")
    for other in against:
        screen.say(against_line(other, first=str(runs[0].path)))
    return 0
