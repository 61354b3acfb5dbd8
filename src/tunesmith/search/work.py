"""Trials at work: claimed, trained together or alone, each written down and told to the study at once when it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunesmith import recipefile
from tunesmith.errors import NotFinite, OutOfMemory, TunesmithError, UserError
from tunesmith.events import Event, Updated, Warned
from tunesmith.recipe import Recipe
from tunesmith.search import report
from tunesmith.search.events import Began, Ended, Looked, SearchEvent
from tunesmith.search.opening import Opening
from tunesmith.search.trial import Outcome, Trial, alone, joins, together

if TYPE_CHECKING:
    from tunesmith.search.study import Claim, Study

Stop = Callable[[], bool]
_BEAT = 60.0
FAULTS = (UserError, NotFinite, OutOfMemory)
"""What fails a trial; anything else ends the search."""


@dataclass
class Job:
    """A claimed trial, and what is to be written of it."""

    opening: Opening
    study: Study
    claim: Claim
    recipe: Recipe
    """The base's, until it is known what is proposed."""
    text: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    told: list[Event] = field(default_factory=list)
    ended: bool = False

    def heard(self, event: Event) -> Iterator[SearchEvent]:
        """Keep an event of its training: what the search makes of it."""
        self.told.append(event)
        if isinstance(event, Warned):
            yield event
        if isinstance(event, Updated) and event.scores is not None:
            yield Looked(self.claim.number, event.step, event.scores[self.opening.metric.name])

    def end(self, came: Mapping[str, Any]) -> Ended:
        """Write down what it came to, and tell the study."""
        directory, number = self.opening.directory, self.claim.number
        self.result |= came
        directory.keep(number, self.text, self.result, self.told)
        self.study.tell(self.claim, self.result)
        self.ended = True
        report.table(directory, self.study.lines())
        return Ended(self.study.lines()[number])

    def fail(self, fault: TunesmithError, beside: int = 1) -> Ended:
        """End it with the reason; `beside` is how many trained together."""
        return self.end({"state": "failed", "said": fault.problem, "together": beside})


class Pulse:
    """Signs of life of the trials at hand, for other machines."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.jobs: list[Job] = []
        self._last = time.monotonic()

    def beat(self) -> None:
        """Give one where it is time."""
        if time.monotonic() - self._last > _BEAT:
            for job in self.jobs:
                if not job.ended:
                    self.study.beat(job.claim.trial)
            self._last = time.monotonic()


def run_some(opening: Opening, study: Study, stop: Stop) -> Generator[SearchEvent, None, bool]:
    """Claim as many trials as are to train together, and run them. Returns whether there was one to claim.

    One that cannot train with the others is trained alone at once, so that at most two bases lie in memory beside the
    one that is kept. One of the same recipe as another waits for its result. Leaving the iteration, or `stop`, lets go
    of those that have not ended.
    """
    assert opening.recipe.search is not None
    pulse = Pulse(study)
    team: list[tuple[Job, Trial]] = []
    twins: list[Job] = []
    with ExitStack() as held:
        for place in range(opening.recipe.search.together):
            claim = None if place and stop() else study.claim()
            if claim is None:
                break
            held.callback(claim.release)
            job = Job(opening, study, claim, opening.base)
            pulse.jobs.append(job)
            yield from proposed(job)
            if any(other.result["digest"] == job.result["digest"] for other, _ in team if not job.ended):
                twins.append(job)
                continue
            trial = yield from _prepared(job)
            if trial is None:
                continue
            if joins(trial, [other for _, other in team]):
                team.append((job, trial))
            else:
                yield from _alone(job, trial, pulse, stop)
            del trial
        yield from _team(team, pulse, stop)
        for job in twins:
            if stop():
                break
            trial = yield from _prepared(job)
            if trial is not None:
                yield from _alone(job, trial, pulse, stop)
    return bool(pulse.jobs)


def proposed(job: Job) -> Iterator[SearchEvent]:
    """What its recipe is; where that cannot be, it has ended."""
    opening, study, claim = job.opening, job.study, job.claim
    job.result = {"number": claim.number, "value": None, "share": None, "seconds": None, "digest": ""}
    try:
        off = claim.start and opening.space.start is None
        changes = {} if off else study.pick(claim)
        job.recipe = recipefile.changed(opening.base, changes)
        job.text, digest = recipefile.dump(job.recipe), recipefile.digest(job.recipe)
        study.note(claim, digest)
        job.result |= {"digest": digest, "params": claim.trial.params, "changes": changes}
    except FAULTS as fault:
        yield job.fail(fault)
        return
    yield Began(claim.number, claim.trial.params)


def as_twin(job: Job) -> Iterator[SearchEvent]:
    """End it with the result of one of the same recipe, where one has ended."""
    twin = job.study.twin(job.result["digest"], job.claim.number)
    if twin is not None:
        said = f"the same as trial {twin.number}" + (f": {twin.said}" if twin.said else "")
        yield job.end({"state": twin.state, "value": twin.value, "share": twin.share, "said": said, "seconds": 0.0})


def _prepared(job: Job) -> Generator[SearchEvent, None, Trial | None]:
    """The trial, ready to train; None where it has ended: with a fault, or with the result of one of the same
    recipe."""
    study, claim = job.study, job.claim
    if not job.ended:
        yield from as_twin(job)
    if job.ended:
        return None
    try:
        return Trial(job.recipe, job.opening.shared, lambda share, value: study.prune(claim, share, value))
    except FAULTS as fault:
        yield job.fail(fault)
        return None


def _alone(job: Job, trial: Trial, pulse: Pulse, stop: Stop) -> Iterator[SearchEvent]:
    """Train one."""
    if stop():
        return
    try:
        with closing(alone(trial)) as running:
            for event in running:
                yield from job.heard(event)
                pulse.beat()
                if stop():
                    return
    except FAULTS as fault:
        yield job.fail(fault)
    else:
        yield job.end(result_of(trial.outcome()))


def _team(team: list[tuple[Job, Trial]], pulse: Pulse, stop: Stop) -> Iterator[SearchEvent]:
    """Train those that can over one base. Where they do not fit into memory together, those that have not ended are
    trained anew, one by one."""
    if len(team) < 2:
        for job, trial in team:
            yield from _alone(job, trial, pulse, stop)
        return
    try:
        with closing(together([trial for _, trial in team])) as running:
            for number, made in running:
                job, _ = team[number]
                if isinstance(made, Outcome):
                    yield job.end(result_of(made, len(team)))
                elif isinstance(made, FAULTS):
                    yield job.fail(made, len(team))
                elif isinstance(made, TunesmithError):
                    raise made
                else:
                    yield from job.heard(made)
                pulse.beat()
                if stop():
                    return
        return
    except OutOfMemory:
        yield Warned("memory ran out for trials together: those that have not ended are trained one by one")
    left = [job for job, _ in team if not job.ended]
    team.clear()  # their nets make room
    for job in left:
        job.told.clear()
        fresh = yield from _prepared(job)
        if fresh is not None:
            yield from _alone(job, fresh, pulse, stop)


def result_of(outcome: Outcome, beside: int = 1) -> dict[str, Any]:
    """What a trial came to, for `result.json`; `beside` is how many trained together."""
    known = not math.isnan(outcome.value)
    said = "" if known else f"{outcome.metric.name} is not a number at any look"
    if outcome.pruned:
        said = f"fell behind: {outcome.looks[-1].value:.4g} after {outcome.step} of {outcome.steps} updates"
    return {
        "state": "failed" if not known else "pruned" if outcome.pruned else "complete",
        "value": outcome.value if known else None,
        "best_step": outcome.best_step,
        "step": outcome.step,
        "steps": outcome.steps,
        "share": outcome.step / outcome.steps,
        "seconds": round(outcome.seconds, 3),
        "said": said,
        "together": beside,
        "looks": [vars(look) for look in outcome.looks if not math.isnan(look.value)],
        "plan": dict(outcome.plan),
    }
