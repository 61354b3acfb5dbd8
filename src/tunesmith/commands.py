"""What each command does, in the order it does it. Heavy parts are imported where they are used."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import repeating
from tunesmith.asked import read_recipe
from tunesmith.console import Screen
from tunesmith.errors import RunError, Stopped
from tunesmith.rundir import RunDir, finished_run, open_model, open_run
from tunesmith.stopping import stoppable, told

if TYPE_CHECKING:
    from tunesmith.prepare import Prepared
    from tunesmith.train.ranks import Ranks


def train(
    screen: Screen, what: tuple[str, ...], task: str | None, method: str | None, overrides: tuple[str, ...]
) -> int:
    """Prepare, make the run, train, report."""
    screen = _heard(screen)
    recipe, text = read_recipe(screen, what, task, method, overrides)
    if recipe.evaluate.repeated:
        return repeating.train(screen, recipe, text)
    with told("`tunesmith runs` says whether there is a run to go on with"), _together() as ranks:
        from tunesmith import run

        made, prepared = run.begin(recipe, text, sys.argv, screen.say, ranks)
        return _follow(screen, made, prepared, ranks)


def resume(screen: Screen, path: Path) -> int:
    """Go on, or say that there is nothing left to do."""
    if repeating.is_folder(path):
        return repeating.resume(screen, path)
    open_run(path)
    screen = _heard(screen)
    with told(_how_to_go_on(path)), _together() as ranks:
        from tunesmith import run

        made, prepared = run.resume(path, screen.say, ranks)
        if prepared is None:
            screen.say(f"the run has finished; nothing is left to do: {path}")
            return _show(screen, made) if ranks.first else 0
        return _follow(screen, made, prepared, ranks)


def _heard(screen: Screen) -> Screen:
    """Of the processes that `torchrun` started, the first alone is heard."""
    if os.environ.get("RANK", "0") != "0":
        screen.out = open(os.devnull, "w")  # noqa: SIM115
    return screen


@contextmanager
def _together() -> Iterator[Ranks]:
    """The processes of this run, while they work together."""
    from tunesmith.train import ranks

    try:
        yield ranks.joined()
    finally:
        ranks.leave()


def _follow(screen: Screen, made: RunDir, prepared: Prepared, ranks: Ranks) -> int:
    from tunesmith import run
    from tunesmith.events import Finished

    with (
        told(_how_to_go_on(made.path)),
        stoppable(screen) as wish,
        closing(run.go(made, prepared, lambda: wish() is not None, ranks)) as events,
    ):
        last = screen.follow(events, lambda: wish() is not None)
    if not ranks.first:
        return 0
    if isinstance(last, Finished) and last.state == "stopped":
        if screen.as_json:
            screen.value(_stopped(made, prepared))
        return 128 + number if (number := wish()) else 0
    return _show(screen, made)


def _how_to_go_on(path: Path) -> str:
    return f"`tunesmith resume {path}` goes on with it"


def _show(screen: Screen, made: RunDir) -> int:
    """The result of a finished run."""
    from tunesmith.report import tables
    from tunesmith.results import Result

    report: dict[str, Any] = {"verified": [], **made.json("report/report")}
    failed = any(check["holds"] is False for check in report["verified"])
    if screen.as_json:
        screen.value({name: report[name] for name in Result.model_fields})
        return int(failed)
    screen.say()
    screen.table(tables.comparison(report))
    screen.say("* headline; brackets are 95 % intervals\n")
    screen.say(tables.verdict_line(report))
    for note in report["notes"]:
        screen.say(f"note: {note}")
    for line in tables.verified_lines(report["verified"]):
        screen.say(line)
    screen.say(f"\nreport  {made.report / 'index.html'}\nmodel   {made.model}")
    screen.say(f"use it  tunesmith predict {made.path} --text ...")
    return int(failed)


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
        "verified": [],
    }


def evaluate(screen: Screen, path: Path, data: Path | None) -> int:
    """Score a run's model, or a combination of some."""
    open_model(path)
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


def blend(screen: Screen, path: Path, steps: int, keep: Path | None, save: float | None) -> int:
    """Mix the untuned and the tuned weights of a run in every share."""
    finished_run(path)
    from tunesmith.blending import Blend
    from tunesmith.report import plots
    from tunesmith.report.tables import number, with_interval

    mixed = Blend(path, keep)
    points = []
    other = None if mixed.other is None else mixed.other.name
    for point in mixed.curve([k / steps for k in range(steps + 1)]):
        points.append(point)
        beside = "" if point.kept is None else f", {other} {number(point.kept)}"
        screen.say(f"{point.share:4.0%} tuned: {mixed.metric.name} {with_interval(vars(point.score))}{beside}")
    plot = path / "report" / "blend.png"
    plot.parent.mkdir(exist_ok=True)
    plots.blend(points, f"{mixed.metric.name} on validation", other, plot)
    made = {
        "run": str(path), "headline": mixed.metric.name, "higher_is_better": mixed.metric.higher_is_better,
        "points": [{"share": p.share, "score": vars(p.score), "kept": p.kept} for p in points],
        "kept": other, "plot": str(plot), "saved": None,
    }  # fmt: skip
    if save is not None:
        folder = path / "blends" / f"{save:g}"
        split, scores = mixed.keep(save, folder)
        made["saved"] = {"share": save, "folder": str(folder), "split": split,
                         "scores": {name: vars(score) for name, score in scores.items()}}  # fmt: skip
        screen.say(f"saved {folder}: {mixed.metric.name} on {split} {with_interval(vars(scores[mixed.metric.name]))}")
    if screen.as_json:
        screen.value(made)
    else:
        screen.say(f"drawn in {plot}")
    return 0


def verify(screen: Screen, path: Path) -> int:
    """Prove what a run promises; 1 where something does not hold."""
    finished_run(path)
    from tunesmith import verify as proofs
    from tunesmith.report import tables

    found = []
    for check in proofs.whole(path, screen.say):
        found.append(check.as_json())
        screen.say(tables.verified_lines(found[-1:])[0])
    if screen.as_json:
        screen.value({"run": str(path), "verified": found})
    failed = sum(check["holds"] is False for check in found)
    held = sum(check["holds"] is True for check in found)
    screen.say(f"{held} of {held + failed} promises hold")
    return int(failed > 0)


def reproduce(screen: Screen, path: Path, keep: Path | None) -> int:
    """Make a run again and compare; 1 where what it was made of has changed, or anything came out otherwise."""
    directory = finished_run(path)
    import shutil
    import tempfile

    from tunesmith import reproduce as redone
    from tunesmith.report import tables

    if keep is not None and keep.exists():
        raise RunError("the folder exists", where=str(keep), hint="name a new one")
    changed = redone.changes(directory)
    for change in changed:
        screen.say(f"changed since: {change}")
    found = []
    if any(change.what in ("data", "model") for change in changed):
        screen.say("it is not made again: it would be another run")
    else:
        place = Path(tempfile.mkdtemp(prefix="tunesmith-reproduce-")) if keep is None else keep
        try:
            with (
                told(f"nothing was compared; {path} is as it was"),
                stoppable(screen) as wish,
                closing(redone.made_again(directory, place, lambda: wish() is not None)) as events,
            ):
                screen.follow(events, lambda: wish() is not None)
                if number := wish():
                    raise Stopped(number)
            for check in redone.compared(directory, RunDir(place / directory.path.name)):
                found.append(check.as_json())
                screen.say(tables.verified_lines(found[-1:])[0])
        finally:
            if keep is None:
                shutil.rmtree(place, ignore_errors=True)
    same = bool(found) and all(check["holds"] for check in found)
    screen.say("the same to the bit" if same else "not the same")
    if screen.as_json:
        screen.value({"run": str(path), "changed": [vars(change) for change in changed], "compared": found,
                      "same": same})  # fmt: skip
    return int(not same)


def predict(screen: Screen, path: Path, texts: tuple[str, ...], source: Path | None, target: Path | None) -> int:
    """Answer texts, or a file into a file."""
    import json

    open_model(path)
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
    recipe, _ = read_recipe(screen, what, task, method, overrides, lone_file=True)
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
