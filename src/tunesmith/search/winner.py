"""What becomes of the best trial: it is trained with other seeds beside what it is compared with, then run as any
recipe is; the test rows are opened by that run, once, when the choice is made.

Each part is written down as it is done, so that a search that is killed here goes on from the part at hand.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith import recipefile, run, stats
from tunesmith.contracts import Metric
from tunesmith.errors import NotFinite, OutOfMemory, UserError
from tunesmith.events import Finished, Phase, Updated, Warned
from tunesmith.metrics.measured import Measured, Score
from tunesmith.recipe import Recipe
from tunesmith.rundir import RunDir, write_bytes
from tunesmith.search import report
from tunesmith.search.events import SearchEvent
from tunesmith.search.opening import Opening
from tunesmith.search.trial import Outcome, better, run_trial

if TYPE_CHECKING:
    from tunesmith.search.study import Line, Study

Stop = Callable[[], bool]
_NORMAL = 2 * 1.96
"""Standard errors in a 95 % interval."""


@dataclass(frozen=True)
class Choice:
    """The winner, and what it is held against."""

    best: Line
    rival: Line | None
    """The recipe's own point; where that won, the second best."""
    ended: tuple[Line, ...]


def choose(opening: Opening, study: Study, stop: Stop) -> Generator[SearchEvent, None, None]:
    """All that comes after the trials, by one process: the others wait for it. Leaves a `report.json`."""
    directory = opening.directory
    place = f"{socket.gethostname()}:{directory.path.resolve()}"
    handle = directory.hold("winner")
    if handle is None:
        yield Phase("another process runs the winner; waiting for it")
    while handle is None:
        if stop():
            return
        time.sleep(1.0)
        handle = directory.hold("winner")  # where it died, this one goes on
    try:
        if directory.has("report"):
            return
        owner = study.own(place)
        if owner != place:
            yield Warned(f"the winner is run at {owner}; the report will be there")
            return
        made = _choice(study.lines(), opening.metric)
        recipe = opening.recipe_at(made.best.params)
        write_bytes(directory.best, recipefile.dump(recipe).encode())
        yield Phase(f"trial {made.best.number} is the best; its recipe is {directory.best}")
        repeats = yield from _repeats(opening, made, stop)
        if repeats is None:
            return
        ran = yield from _run(opening, recipe, stop)
        if ran is None:
            return
        kept = None if opening.tested else (yield from _kept(opening, recipe, stop))
        if stop():
            return
        yield Phase("writing the report")
        report.write(opening, study, made, repeats, _optimism(opening, ran, kept), ran)
    finally:
        os.close(handle)


def _choice(lines: Sequence[Line], metric: Metric) -> Choice:
    """The best of the trials that were trained to their end; of equals the first."""
    complete = [line for line in lines if line.state == "complete" and line.value is not None]
    best = complete[0]
    for line in complete[1:]:
        assert line.value is not None
        best = line if better(line.value, best.value, metric) else best
    others = [line for line in complete if line.digest != best.digest]
    start = next((line for line in others if line.start), None)
    sign = 1.0 if metric.higher_is_better else -1.0
    second = max(others, key=lambda line: (sign * (line.value or 0.0), -line.number), default=None)
    return Choice(best, start or second, tuple(lines))


def _repeats(opening: Opening, made: Choice, stop: Stop) -> Generator[SearchEvent, None, dict[str, list[Any]] | None]:
    """`winner` and `rival` -> what each came to with every other seed, on the rows that choose; None where it was
    stopped. A seed that one of them fails with counts for neither."""
    assert opening.recipe.search is not None
    found: dict[str, list[Any]] = {"winner": [], "rival": []}
    for k in range(1, opening.recipe.search.seeds + 1):
        pair: dict[str, Any] = {}
        for name, line in (("winner", made.best), ("rival", made.rival)):
            if line is None:
                continue
            told = yield from _repeat(opening, opening.recipe_at(line.params), f"{name}_{k}", k, stop)
            if told is None:
                return None
            pair[name] = told
        if all(told["value"] is not None for told in pair.values()):
            for name, told in pair.items():
                found[name].append(told)
    return found


def _repeat(
    opening: Opening, recipe: Recipe, name: str, k: int, stop: Stop
) -> Generator[SearchEvent, None, dict[str, Any] | None]:
    """A recipe with another seed: what it came to, found where it was done before."""
    place = f"repeats/{name}"
    if opening.directory.has(place):
        return dict(opening.directory.json(place))
    seed = (recipe.train.seed + k) % 2**31
    yield Phase(f"{'the winner' if name.startswith('winner') else 'what it is compared with'}, with seed {seed}")
    other = recipefile.changed(recipe, {"train.seed": seed})
    try:
        outcome = yield from _quietly(run_trial(other, opening.shared), stop)
        if outcome is None:
            return None
        draws = stats.replicates(outcome.task, outcome.chose, outcome.metric.name)
        told = {"seed": seed, "value": outcome.value, "draws": draws.tolist(), "said": ""}
        if math.isnan(outcome.value):
            told |= {"value": None, "draws": [], "said": f"{outcome.metric.name} is not a number"}
    except (UserError, NotFinite, OutOfMemory) as fault:
        yield Warned(f"seed {seed} failed: {fault.problem}")
        told = {"seed": seed, "value": None, "draws": [], "said": fault.problem}
    opening.directory.write(place, told)
    if told["value"] is not None:
        yield Phase(f"  {opening.metric.name} {told['value']:.4f}")
    return told


def _quietly(running: Generator[Any, None, Outcome], stop: Stop) -> Generator[SearchEvent, None, Outcome | None]:
    """A trial of which only warnings are told; None where it was stopped."""
    with closing(running):
        while True:
            try:
                event = next(running)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            if isinstance(event, Warned):
                yield event
            if stop():
                return None


def _run(opening: Opening, recipe: Recipe, stop: Stop) -> Generator[SearchEvent, None, RunDir | None]:
    """The run of the winner, begun or gone on with; None where it was stopped."""
    name = f"seed_{recipe.train.seed}"
    place = opening.directory.runs / name
    recipe = recipefile.changed(recipe, {"run.dir": str(opening.directory.runs), "run.name": name})
    yield Phase(f"the run of the winner: {place}")
    if place.exists():
        made, prepared = run.resume(place)
    else:
        made, prepared = run.begin(recipe, None, ["search"], ways=opening.shared.ways())
    if prepared is None:
        return made
    last: Any = None
    with closing(run.go(made, prepared, stop)) as events:
        for event in events:
            last = event
            if isinstance(event, Phase | Warned):
                yield event
            elif isinstance(event, Updated) and event.scores:
                yield Phase(f"update {event.step}: {opening.metric.name} {event.scores[opening.metric.name]:.4f}")
    return None if isinstance(last, Finished) and last.state == "stopped" else made


def _kept(
    opening: Opening, recipe: Recipe, stop: Stop
) -> Generator[SearchEvent, None, tuple[dict[str, Any], dict[str, Any]] | None]:
    """The winner's scores on the validation rows that chose it and on those that chose nothing."""
    if opening.directory.has("repeats/kept"):
        told = opening.directory.json("repeats/kept")
        return told["chose"], told["kept"]
    yield Phase("the winner on the validation rows that were kept out of the choice")
    outcome = yield from _quietly(run_trial(recipe, opening.shared, keep=True), stop)
    if outcome is None or outcome.kept is None:
        return None
    chose, kept = (_score(outcome, measured) for measured in (outcome.chose, outcome.kept))
    opening.directory.write("repeats/kept", {"chose": asdict(chose), "kept": asdict(kept)})
    return asdict(chose), asdict(kept)


def _score(outcome: Outcome, measured: Measured) -> Score:
    return stats.scores(outcome.task, measured)[outcome.metric.name]


def _optimism(
    opening: Opening, ran: RunDir, kept: tuple[dict[str, Any], dict[str, Any]] | None
) -> dict[str, Any] | None:
    """How much better the winner looks on the rows that chose it than on rows that chose nothing; None where the run
    has no such score."""
    name, sign = opening.metric.name, 1.0 if opening.metric.higher_is_better else -1.0
    if opening.tested:
        scores = ran.json("report/report")["scores"]
        if name not in scores["validation"] or name not in scores["test"]:
            return None
        chose, fresh, rows = scores["validation"][name], scores["test"][name], "test"
    elif kept is not None:
        (chose, fresh), rows = kept, "validation, kept out of the choice"
    else:
        return None
    gap = sign * (chose["value"] - fresh["value"])
    error = math.hypot(*((score["high"] - score["low"]) / _NORMAL for score in (chose, fresh)))
    return {
        "rows": rows, "chose": chose, "fresh": fresh, "by": gap, "low": gap - 1.96 * error, "high": gap + 1.96 * error,
    }  # fmt: skip


def held_against(winner: Sequence[Any], rival: Sequence[Any], metric: Metric) -> dict[str, Any] | None:
    """Whether the winner is better than its rival over seeds that neither was chosen with: the mean difference, seed by
    seed, with a 95 % interval for the spread of seeds and of rows (paired bootstrap) together: Student's t with the
    degrees of freedom of Welch and Satterthwaite, as the variance of rows is known and that of few seeds is not."""
    from scipy.stats import t as student

    if not winner or len(winner) != len(rival):
        return None
    sign = 1.0 if metric.higher_is_better else -1.0
    gains = sign * np.array([a["value"] - b["value"] for a, b in zip(winner, rival, strict=True)])
    rows = np.array([np.subtract(a["draws"], b["draws"]) for a, b in zip(winner, rival, strict=True)]).mean(0)
    count, mean = len(gains), float(gains.mean())
    found: dict[str, Any] = {"gains": gains.tolist(), "mean": mean, "low": None, "high": None, "outcome": "unclear"}
    if count > 1:
        of_seeds, of_rows = float(gains.var(ddof=1)) / count, float(np.nanvar(rows))
        freedom = (count - 1) * ((of_seeds + of_rows) / of_seeds) ** 2 if of_seeds else math.inf
        reach = float(student.ppf(0.975, freedom)) * math.sqrt(of_seeds + of_rows)
        found |= {"low": mean - reach, "high": mean + reach}
        if mean - reach > 0 or mean + reach < 0:
            found["outcome"] = "better" if mean > 0 else "worse"
    return found
