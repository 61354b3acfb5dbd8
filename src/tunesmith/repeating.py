"""What `train` and `resume` do with a recipe that is to be trained several times."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.console import Screen
from tunesmith.errors import RecipeError
from tunesmith.stopping import stoppable, told

if TYPE_CHECKING:
    from tunesmith.recipe import Recipe


def is_folder(path: Path) -> bool:
    """Whether several trainings were begun there."""
    return (path / "repeat.json").is_file()


def train(screen: Screen, recipe: Recipe, text: str | None) -> int:
    """Train every part, and say what all of them tell."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(
            "folds and seeds are trained one after another, by one process",
            where="evaluate.folds" if recipe.evaluate.folds else "evaluate.seeds",
            hint="leave `torchrun` out",
        )
    from tunesmith import repeated

    with told("nothing was begun"):
        folder, recipe = repeated.begin(recipe, text, screen.say)
    return _follow(screen, folder, recipe)


def resume(screen: Screen, folder: Path) -> int:
    """Go on with what is not finished."""
    from tunesmith import repeated

    return _follow(screen, folder, repeated.recipe_of(folder))


def _follow(screen: Screen, folder: Path, recipe: Recipe) -> int:
    from tunesmith import repeated

    with (
        told(f"`tunesmith resume {folder}` goes on with it"),
        stoppable(screen) as wish,
        closing(repeated.go(folder, recipe, sys.argv, screen.say, lambda: wish() is not None)) as events,
    ):
        screen.follow(events, lambda: wish() is not None)
    if not (folder / repeated.FILE).is_file():
        screen.say(f"`tunesmith resume {folder}` goes on with it")
        return 128 + number if (number := wish()) else 0
    from tunesmith.rundir import read_json

    found = read_json(folder / repeated.FILE)
    if screen.as_json:
        screen.value(found)
    else:
        show(screen, found)
    return 0


def show(screen: Screen, found: dict[str, Any]) -> None:
    """All of it for people."""
    from tunesmith.report.tables import chance, number, with_interval

    name = found["headline"]
    screen.say()
    table = [["run", name]]
    table += [[Path(part["run"]).name, with_interval(part["score"])] for part in found["parts"]]
    screen.table(table)
    screen.say()
    table = [["metric", *(["base"] if found["base"] else []), "tuned", "n"]]
    for metric, score in found["scores"].items():
        base = [with_interval(found["base"][metric])] if found["base"] else []
        table.append([metric + (" *" if metric == name else ""), *base, with_interval(score), f"{score['n']:,}"])
    screen.table(table)
    screen.say("* headline; of all test rows together, the mean over seeds; brackets are 95 % intervals over rows\n")
    if found["between_seeds"] is not None:
        screen.say(f"between seeds {name} moves by {number(found['between_seeds'])} (standard deviation)")
    if found["between_folds"] is not None:
        screen.say(f"between folds it moves by {number(found['between_folds'])}")
    for verdict in found["verdicts"]:
        screen.say(
            f"against the base: {verdict['outcome']}, {verdict['difference']:+.3f} "
            f"[{verdict['low']:+.3f}, {verdict['high']:+.3f}], {chance(verdict['p'])}"
        )
    screen.say(f"\nkept in {found['folder']}")
