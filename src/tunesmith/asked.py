"""What a command is about: a recipe file, or a model and a file of rows; and a recipe to start with for such a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.console import Screen
from tunesmith.errors import RecipeError
from tunesmith.rundir import write_bytes

if TYPE_CHECKING:
    from tunesmith.recipe import Recipe


def read_recipe(
    screen: Screen,
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
    return recipe if named else _with_usual_model(screen, recipe), None


def _with_usual_model(screen: Screen, recipe: Recipe) -> Recipe:
    """The recipe with the model that is recommended for what the rows are for, and with files in place of URLs, so that
    none is asked twice."""
    from tunesmith.data import infer, sources
    from tunesmith.models import catalog

    recipe = sources.local(recipe, screen.say)
    data = recipe.data
    path, task = Path(data.parts()[0].path), recipe.task.name if recipe.task else None
    guess = infer.infer(path, recipe.column_map(), task, data.format, recipe.task.options() if recipe.task else None)
    name = catalog.recommend(guess.task)[0][0].name
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"name": name})})


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
method: {method}            # full, lora, ia3, bitfit, top-layers or head
train:
  epochs: 3
  batch_size: 16
"""


def _yaml(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
