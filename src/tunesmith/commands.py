"""What each command does, in the order it does it. Heavy parts are imported where they are used."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.console import Screen
from tunesmith.errors import RecipeError, RunError
from tunesmith.rundir import RunDir, list_runs, open_run, write_bytes

if TYPE_CHECKING:
    from tunesmith.prepare import Prepared
    from tunesmith.recipe import Recipe


def train(
    screen: Screen, what: tuple[str, ...], task: str | None, method: str | None, overrides: tuple[str, ...]
) -> int:
    """Prepare, make the run, train, report."""
    recipe, text = read_recipe(what, task, method, overrides)
    from tunesmith import run

    made, prepared = run.begin(recipe, text, sys.argv, screen.say)
    return _follow(screen, made, prepared)


def resume(screen: Screen, path: Path) -> int:
    """Go on, or say that there is nothing left to do."""
    open_run(path)
    from tunesmith import run

    made, prepared = run.resume(path, screen.say)
    if prepared is None:
        screen.say(f"the run has finished; nothing is left to do: {path}")
        return _show(screen, made)
    return _follow(screen, made, prepared)


def _follow(screen: Screen, made: RunDir, prepared: Prepared) -> int:
    from tunesmith import run
    from tunesmith.events import Finished

    with _stoppable(screen) as wish:
        last = screen.follow(run.go(made, prepared, lambda: wish() is not None), lambda: wish() is not None)
    if isinstance(last, Finished) and last.state == "stopped":
        if screen.as_json:
            screen.value(_stopped(made, prepared))
        return 128 + number if (number := wish()) else 0
    return _show(screen, made)


@contextmanager
def _stoppable(screen: Screen) -> Iterator[Callable[[], int | None]]:
    """Ctrl-C and SIGTERM become a wish to stop after the update at hand; a second Ctrl-C stops at once."""
    wishes: list[int] = []

    def wish(number: int, _: Any) -> None:
        if wishes:
            raise KeyboardInterrupt
        wishes.append(number)
        screen.say("stopping after this update; once more stops at once")

    old = {number: signal.signal(number, wish) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: wishes[0] if wishes else None
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _show(screen: Screen, made: RunDir) -> int:
    """The result of a finished run."""
    from tunesmith.report import tables
    from tunesmith.results import Result

    report: dict[str, Any] = made.json("report/report")
    if screen.as_json:
        screen.value({name: report[name] for name in Result.model_fields})
        return 0
    screen.say()
    screen.table(tables.comparison(report))
    screen.say("* headline; brackets are 95 % bootstrap intervals\n")
    screen.say(tables.verdict_line(report))
    for note in report["notes"]:
        screen.say(f"note: {note}")
    screen.say(
        f"\nreport  {made.report / 'report.md'}\nmodel   {made.model}\nuse it  tunesmith predict {made.path} --text ..."
    )
    return 0


def _stopped(made: RunDir, prepared: Prepared) -> dict[str, Any]:
    from tunesmith.train.fit import peak_bytes

    task = prepared.task
    status = made.status()
    return {
        "run": str(made.path),
        "state": "stopped",
        "task": made.json("task")["name"],
        "headline": task.headline.name,
        "higher_is_better": task.headline.higher_is_better,
        "scores": {},
        "base": {},
        "baselines": {},
        "verdict": None,
        "win_rate": None,
        "seconds": prepared.seconds,
        "tokens": {"real": 0, "padded": 0, "label": 0},
        "peak_memory_bytes": max(peak_bytes(), prepared.peak_bytes),
        "notes": [f"stopped after update {status['step']} of {status['steps']}; `tunesmith resume` goes on"],
    }


def evaluate(screen: Screen, path: Path, data: Path | None) -> int:
    """Score a run's model."""
    open_run(path)
    from tunesmith import predictor
    from tunesmith.report import tables

    result = predictor.load(path).evaluate(data)
    if screen.as_json:
        screen.value(result)
        return 0
    screen.table(tables.comparison(result))
    screen.say(f"\n{tables.verdict_line(result)}")
    for note in result["notes"]:
        screen.say(f"note: {note}")
    return 0


def predict(screen: Screen, path: Path, texts: tuple[str, ...], source: Path | None, target: Path | None) -> int:
    """Answer texts, or a file into a file."""
    import json

    open_run(path)
    if bool(texts) == bool(source) or (source is None) != (target is None):
        raise RunError(
            "say what to answer: `--text ...`, `--image ...`, or `--input FILE --output FILE`", where="predict"
        )
    from tunesmith import predictor

    loaded = predictor.load(path)
    if source is not None and target is not None:
        count = loaded.predict_file(source, target)
        screen.say(f"{count:,} rows answered in {target}")
        return 0
    answers = loaded.predict(list(texts))
    if screen.as_json:
        screen.value({"answers": answers})
        return 0
    for answer in answers:
        said = loaded.task.say(answer)
        screen.say(said if len(texts) == 1 or "\n" not in said else json.dumps(said, ensure_ascii=False))
    return 0


@dataclass(frozen=True)
class Checks:
    """What `check` is asked for beside its findings."""

    rows: int | None = None
    """Rows to show as the model sees them."""
    page: Path | None = None
    """Where a page of all of it goes."""
    fix: Path | None = None
    """Where the rows that are left go."""
    scaling: bool = False
    """Whether parts of the rows are learned from too."""


def check(
    screen: Screen,
    what: tuple[str, ...],
    task: str | None,
    method: str | None,
    overrides: tuple[str, ...],
    wanted: Checks,
) -> int:
    """Look at rows and plan; write nothing but what was asked for."""
    recipe, _ = read_recipe(what, task, method, overrides, lone_file=True)
    from tunesmith import checkup, mend, scaling
    from tunesmith.report import checkpage

    if wanted.page is not None:
        checkpage.refuse_target(wanted.page)
    if wanted.fix is not None:
        mend.refuse_target(wanted.fix)
    found = checkup.check(recipe, screen.say)
    prepared = found.prepared
    if wanted.scaling:
        found.value["scaling"] = scaling.measure(prepared, screen.say).as_json()
    if wanted.fix is not None:
        kept, left = mend.mend(prepared.recipe, prepared.task, prepared.splits, found.findings, wanted.fix)
        found.value["fixed"] = {"file": str(wanted.fix), "rows": kept, "left_out": left}
    if wanted.page is not None:
        checkup.write_page(found, wanted.page, wanted.rows)
    if screen.as_json:
        screen.value(found.value)
    else:
        checkup.show(found, screen, wanted.rows)
    if wanted.page is not None:
        screen.say(f"\nlook at all of it: {wanted.page}")
    return 0


def runs(screen: Screen, folder: Path) -> int:
    """A line per run."""
    lines = [_line(made) for made in list_runs(folder)]
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


def init(screen: Screen, file: Path, model: str | None, output: Path) -> int:
    """Write a recipe to start from."""
    if output.exists():
        raise RecipeError("the file exists already", where=str(output), hint="name another with `--output`")
    from tunesmith.data import infer
    from tunesmith.models import catalog

    guess = infer.infer(file, {})
    best = catalog.recommend(guess.task)[0][0]
    chosen = model or best.name
    method = "lora" if best.kind == "decoder" else "full"
    columns = "".join(f"\n    {name}: {_yaml(value)}" for name, value in guess.columns.items())
    text = _RECIPE.format(
        model=_yaml(chosen),
        task=guess.task,
        why=guess.why,
        train=_yaml(str(file.resolve())),
        columns=f"\n  columns:{columns}" if columns else "",
        method=method,
    )
    write_bytes(output, text.encode())
    screen.say(f"{output}: {guess.task} ({guess.why})")
    screen.say(f"look at the rows: tunesmith check {output}\ntune: tunesmith train {output}")
    return 0


_RECIPE = """\
# A recipe: what to learn, from what, starting where. `tunesmith schema` lists every key.
model: {model}          # a name of `tunesmith models`, a folder, or a hub id
task: {task}   # {why}
data:
  train: {train}   # validation and test are taken from it unless you name them{columns}
method: {method}            # full, lora, top-layers or head
train:
  epochs: 3
  batch_size: 16
"""


def _yaml(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


def schema(screen: Screen, what: str) -> int:
    """JSON Schema of the recipe or of a result."""
    import json

    from tunesmith.recipe import Recipe
    from tunesmith.results import SHAPES

    model: Any = Recipe if what == "recipe" else SHAPES[what]
    screen.say(json.dumps(model.model_json_schema(), indent=2, ensure_ascii=False))
    return 0


def read_recipe(
    what: tuple[str, ...],
    task: str | None,
    method: str | None,
    overrides: tuple[str, ...],
    *,
    lone_file: bool = False,
) -> tuple[Recipe, str | None]:
    """A recipe file, or a model and a file of rows. Returns the words of the file too, None where there is none."""
    from tunesmith import recipefile
    from tunesmith.data import files

    changes = (
        *(f"{key}={value}" for key, value in (("task", task), ("method", method)) if value),
        *overrides,
    )
    if len(what) == 1 and (what[0].lower().endswith((".yaml", ".yml")) or not lone_file):
        path = Path(what[0])
        if path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".json", ".parquet"):
            raise RecipeError(
                "a file of rows was given and no model",
                where=what[0],
                hint=f"tunesmith train minilm {what[0]}",
            )
        file = recipefile.load(path, changes)
        return file.recipe, file.text
    if len(what) > 2:
        raise RecipeError("too many arguments", where=" ".join(what), hint="RECIPE, or MODEL FILE")
    rows = what[-1]
    if "://" not in rows:
        files.find_files(rows)
    named = len(what) == 2 or any(change.partition("=")[0] in ("model", "model.name") for change in changes)
    values: dict[str, Any] = {"model": what[0] if len(what) == 2 else "minilm", "data": {"train": rows}}
    recipe = recipefile.build(values, changes, source="command line")
    return recipe if named else _with_usual_model(recipe), None


def _with_usual_model(recipe: Recipe) -> Recipe:
    """The recipe with the model that is recommended for what the rows are for."""
    from tunesmith.data import infer, sources
    from tunesmith.models import catalog

    data = sources.local(recipe, lambda _: None).data
    path, task = Path(data.parts()[0].path), recipe.task.name if recipe.task else None
    guess = infer.infer(path, recipe.column_map(), task, data.format, recipe.task.options() if recipe.task else None)
    name = catalog.recommend(guess.task)[0][0].name
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"name": name})})
