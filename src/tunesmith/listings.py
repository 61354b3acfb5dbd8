"""The commands that list: runs, models, the schemas of what is read and printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunesmith.console import Screen
from tunesmith.errors import RunError
from tunesmith.rundir import RunDir, list_runs


def runs(screen: Screen, folder: Path) -> int:
    """A line per run."""
    lines = [_line_of(made) for made in list_runs(folder)]
    if screen.as_json:
        screen.value({"runs": lines})
    elif not lines:
        screen.say(f"no runs in {folder}")
    else:
        header = ["run", "state", "task", "model", "method", "update", "headline", "value"]
        table = [header]
        for line in lines:
            value = "" if line["value"] is None else f"{line['value']:.3f}"
            place = f"{line['step']}/{line['steps']}"
            name = Path(line["run"]).name
            said = [line[key] for key in ("state", "task", "model", "method")]
            table.append([name, *said, place, line["headline"] or "", value])
        screen.table(table)
    return 0


def licences(screen: Screen) -> int:
    """A line per package and model."""
    from tunesmith import licences as found
    from tunesmith.report.tables import cell

    packages, models = found.packages(), found.models()
    if screen.as_json:
        screen.value({"packages": packages, "models": models})
        return 0
    table = [["package", "version", "licence", "needed"]]
    table += [
        [p["name"], p["version"], cell(p["licence"], 60), "always" if p["needed"] else "by an extra"] for p in packages
    ]
    screen.table(table)
    screen.say()
    screen.table([["model", "licence"], *([model["name"], model["licence"]] for model in models)])
    return 0


def _line_of(made: RunDir) -> dict[str, Any]:
    """A line of a run, also of one with a file that is damaged: it does not hide the others."""
    try:
        return _line(made)
    except RunError:
        names = dict.fromkeys(("task", "model", "method"), "")
        place = {"step": 0, "steps": 0, "headline": None, "value": None}
        return {"run": str(made.path), "state": "damaged", **names, **place}


def _line(made: RunDir) -> dict[str, Any]:
    recipe = made.json("resolved")
    begun = (made.path / "status.json").exists()
    status = made.status() if begun else {"state": "interrupted", "step": 0, "steps": made.json("plan")["steps"]}
    line = {
        "run": str(made.path),
        "state": status["state"],
        "task": recipe["task"]["name"],
        "model": recipe["model"]["name"],
        "method": recipe["method"]["name"],
        "step": status["step"],
        "steps": status["steps"],
        "headline": None,
        "value": None,
    }
    if (made.report / "report.json").exists():
        report = made.json("report/report")
        from tunesmith.report.tables import final_split

        line["headline"] = report["headline"]
        line["value"] = report["scores"][final_split(report)][report["headline"]]["value"]
    return line


def models(screen: Screen, task: str | None) -> int:
    """The catalog, or what fits a task."""
    from tunesmith import plugins
    from tunesmith.models import catalog

    reasons: dict[str, str] = {}
    entries = list(catalog.CATALOG)
    if task is not None:
        found = catalog.recommend(task)
        if not found:
            plugins.load("tasks", task)
        entries, reasons = [entry for entry, _ in found], {entry.name: reason for entry, reason in found}
    lines = [
        {
            "name": entry.name,
            "description": entry.description,
            "parameters": entry.parameters,
            "download_bytes": entry.download_bytes,
            "licence": entry.licence,
            "tasks": list(entry.tasks),
            "here": catalog.is_here(entry),
            "reason": reasons.get(entry.name),
        }
        for entry in entries
    ]
    if screen.as_json:
        screen.value({"models": lines})
        return 0
    table = [["name", "parameters", "download", "licence", "here", "can do"]]
    for entry in entries:
        size = f"{entry.download_bytes / 1e6:.0f} MB"
        here = "yes" if catalog.is_here(entry) else "no"
        table.append([entry.name, f"{entry.parameters / 1e6:.1f} M", size, entry.licence, here, ", ".join(entry.tasks)])
    screen.table(table)
    for name, reason in reasons.items():
        screen.say(f"\n{name}: {reason}")
    screen.say("\nbeside these: any folder with config.json and safetensors, and any hub id such as org/name")
    return 0


def schema(screen: Screen, what: str) -> int:
    """JSON Schema of the recipe or of a result."""
    import json

    from tunesmith.recipe import Recipe
    from tunesmith.reportshape import SHAPES

    model: Any = Recipe if what == "recipe" else SHAPES[what]
    screen.say(json.dumps(model.model_json_schema(), indent=2, ensure_ascii=False))
    return 0
