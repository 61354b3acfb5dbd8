"""The driver's side of a search over several machines: which trial goes out next, and what is made of what comes back.
It claims, writes and tells the study as a search in one process does. It knows no cluster; names are the cluster's."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import errors
from tunesmith.data.sums import of_code
from tunesmith.errors import FaultError, TunesmithError, UserError
from tunesmith.events import Phase, Warned, from_line
from tunesmith.search.events import SearchEvent
from tunesmith.search.opening import Opening
from tunesmith.search.work import Job, Pulse, as_twin, proposed

if TYPE_CHECKING:
    from tunesmith.search.study import Study

_PATIENCE = 1.0
"""Seconds between looks for a trial to claim, where there was none."""
_DEATHS = 3
"""Workers that may die under a trial before it counts as failed: it may be what kills them."""


class Desk:
    """Trials that are out on workers, by the name that the cluster has for each."""

    def __init__(self, opening: Opening, study: Study, say: Callable[[SearchEvent], None]) -> None:
        self._opening, self._study, self._say = opening, study, say
        self._pulse = Pulse(study)
        self._out: dict[str, Job] = {}
        self._twins: list[Job] = []
        """Claimed, and of the same recipe as one that is out."""
        self._deaths: Counter[int] = Counter()
        self._rest = 0.0
        """When to look for one to claim again."""
        self._waits = False

    def done(self) -> bool:
        """Whether nothing is left to do for any process."""
        if self._out or self._twins:
            return False
        lines = self._study.lines()
        done = len(lines) >= self._study.target and all(line.ended for line in lines)
        if not done and not self._waits and time.monotonic() < self._rest:
            self._say(Phase("waiting for the trials of other processes"))
            self._waits = True
        return done

    def next(self, name: str, room: int) -> str | None:
        """An order for a worker, as JSON; None where none is to go out now. `room` is how many may be out."""
        if len(self._out) >= room:
            return None
        job = self._unlike() or self._claimed(room)
        if job is None:
            return None
        self._out[name] = job
        return json.dumps(self._order(job))

    def hear(self, name: str, told: Mapping[str, Any]) -> bool:
        """What a worker reports. Returns whether its trial is to end. Raises what must end the search."""
        job = self._out.get(name)
        if job is None or job.ended:
            return True
        if "fault" in told:
            raise _raised(told["fault"], told["worker"])
        job.result["worker"] = told["worker"]
        for line in told["events"]:
            for event in job.heard(from_line(line)):
                self._say(event)
        if "look" in told:
            look = told["look"]
            if not self._study.prune(job.claim, look["share"], look["value"]):
                return False
            self._say(job.end(look["behind"]))
        elif "came" in told:
            self._say(job.end(told["came"]))
        else:
            self._say(job.fail(TunesmithError(told["failed"])))
        self._settle_twins()
        return True

    def leave(self, name: str, death: str | None = None) -> None:
        """A worker is done with a trial, or dead. One that has not ended goes out again."""
        job = self._out.pop(name, None)
        if job is None:
            return
        if not job.ended and death is not None:
            self._deaths[job.claim.number] += 1
            if self._deaths[job.claim.number] >= _DEATHS:
                self._say(job.fail(TunesmithError(f"its worker died {_DEATHS} times: {death}")))
                self._settle_twins()
            else:
                self._say(Warned(f"the worker of trial {job.claim.number} died, and it is run again: {death}"))
        self._release(job)

    def beat(self) -> None:
        """Signs of life, where it is time."""
        self._pulse.beat()

    def close(self) -> None:
        """Let go of all that has not ended."""
        for job in (*self._out.values(), *self._twins):
            self._release(job)
        self._out.clear()
        self._twins.clear()

    def _claimed(self, room: int) -> Job | None:
        """A trial of the study that is to be trained. Those that need no training end on the way."""
        if time.monotonic() < self._rest:
            return None
        while len(self._twins) < room:
            claim = self._study.claim()
            if claim is None:
                break
            job = Job(self._opening, self._study, claim, self._opening.base)
            self._pulse.jobs.append(job)
            for event in proposed(job):
                self._say(event)
            if not job.ended and self._is_out(job):
                self._twins.append(job)
                continue
            if self._settled(job):
                continue
            return job
        self._rest = time.monotonic() + _PATIENCE
        return None

    def _is_out(self, job: Job) -> bool:
        return any(other.result["digest"] == job.result["digest"] for other in self._out.values() if not other.ended)

    def _unlike(self) -> Job | None:
        """A twin that is to be trained after all: the one that it is the same as was let go."""
        job = next((job for job in self._twins if not self._is_out(job)), None)
        if job is not None:
            self._twins.remove(job)
        return job

    def _settle_twins(self) -> None:
        self._twins = [job for job in self._twins if not self._settled(job)]

    def _settled(self, job: Job) -> bool:
        """Whether a trial has ended, if need be with the result of one of the same recipe."""
        if not job.ended:
            for event in as_twin(job):
                self._say(event)
        if job.ended:
            self._release(job)
        return job.ended

    def _release(self, job: Job) -> None:
        self._pulse.jobs.remove(job)
        job.claim.release()

    def _order(self, job: Job) -> dict[str, Any]:
        """All that a worker needs to know; it is plain."""
        opening = self._opening
        assert opening.recipe.search is not None and opening.recipe.search.ray is not None
        return {
            "search": str(opening.directory.path.resolve()),
            "recipe": job.recipe.model_dump(mode="json", exclude_unset=True),
            "base": opening.base.model_dump(mode="json", exclude_unset=True),
            "made_of": opening.directory.json("made_of"),
            "code_sha256": of_code(),
            "folder": str(Path.cwd()),
            "threads": opening.recipe.search.ray.cpus,
        }


def _raised(fault: Mapping[str, Any], worker: str) -> Exception:
    """The error that a worker reports: of the same kind, with the worker's name."""
    if "trace" in fault:
        return RuntimeError(f"on worker {worker}:\n{fault['trace']}")
    kind = getattr(errors, fault["kind"], FaultError)
    base: type[TunesmithError] = kind if kind in (*UserError.__subclasses__(), errors.StorageError) else FaultError
    where = f"worker {worker}" + (f", {fault['where']}" if fault["where"] else "")
    return base(fault["problem"], where=where, hint=fault["hint"])
