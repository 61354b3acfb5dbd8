"""What `train` and `resume` do with a recipe that is to be trained several times."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.console import Screen
from tunesmith.errors import RecipeError, Stopped
from tunesmith.events import Event
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


def combine(screen: Screen, folder: Path, how: Any) -> int:
    """Make one model of trainings that have finished, of their `weights` or as an `ensemble`."""
    from tunesmith import repeated

    recipe = repeated.recipe_of(folder)
    made: list[dict[str, Any] | None] = []
    with told(f"nothing was made; the trainings in {folder} are as they were"), stoppable(screen) as wish:

        def events() -> Generator[Event, None, None]:
            made.append((yield from repeated.combine(folder, recipe, how, lambda: wish() is not None)))

        with closing(events()) as running:
            screen.follow(running, lambda: wish() is not None)
        found = made[0] if made else None
        if found is None:
            raise Stopped(wish() or signal.SIGINT)
    if screen.as_json:
        screen.value(found)
    else:
        _show_combined(screen, found)
    return int(any(check["holds"] is False for check in found["verified"]))


def _show_combined(screen: Screen, found: dict[str, Any]) -> None:
    from tunesmith.report.tables import verified_lines

    screen.say(f"\n{found['says']}")
    for note in found["notes"]:
        screen.say(f"note: {note}")
    for line in verified_lines(found["verified"]):
        screen.say(line)
    screen.say(f"kept in {found['folder']}\nuse it  tunesmith predict {found['folder']} --text ...")


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
    return int(any(check["holds"] is False for one in found["combined"] for check in one["verified"]))


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
    for one in found["combined"]:
        _show_combined(screen, one)
    screen.say(f"\nkept in {found['folder']}")
