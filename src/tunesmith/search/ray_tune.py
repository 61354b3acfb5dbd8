"""A search whose trials Ray Tune runs on the workers of a cluster. Ray Tune asks the desk (ray_desk.py) for trials and
brings it their reports; it decides nothing. All of Ray is asked in a thread of its own, so that signals, and what the
search says meanwhile, stay with the command."""

from __future__ import annotations

import json
import tempfile
import threading
import time
import warnings
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.experiment import Trial as Seat
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tunesmith.events import Phase
from tunesmith.search import ray_worker
from tunesmith.search.events import SearchEvent
from tunesmith.search.opening import Opening
from tunesmith.search.ray_cluster import Cluster, joined
from tunesmith.search.ray_desk import Desk
from tunesmith.search.work import Stop
from tunesmith.searchspread import Ray

if TYPE_CHECKING:
    from tunesmith.search.study import Study

_GLANCE = 0.2
"""Seconds between looks at the wish to stop."""
_ROUND = 10.0
"""Seconds between looks whether there is a cluster at all."""
_END = 30.0
"""Seconds that Ray may take to end."""


def run_spread(opening: Opening, study: Study, stop: Stop) -> Generator[SearchEvent, None, bool]:
    """Run trials on a cluster until none is left for any process. Returns whether there was one.

    Leaving the iteration, or `stop`, lets go of those that have not ended. Raises RunError where there is no such
    cluster, and what a worker says that concerns all trials.
    """
    assert opening.recipe.search is not None and opening.recipe.search.ray is not None
    said: SimpleQueue[SearchEvent] = SimpleQueue()
    desk = Desk(opening, study, said.put)
    if desk.done():
        return False
    yield Phase("trials go to the workers of a Ray cluster")
    office = _Office(desk, opening.recipe.search.ray, said)
    thread = threading.Thread(target=office.work, name="ray-tune", daemon=True)
    thread.start()
    try:
        while thread.is_alive() or not said.empty():
            with suppress(Empty):
                yield said.get(timeout=_GLANCE)
            if stop():
                office.halt.set()
    finally:
        office.halt.set()
        thread.join(_END)
        desk.close()
    if office.faults:
        raise office.faults[0]
    return True


class _Office:
    """What Ray Tune is given to talk to: the desk, until the halt."""

    def __init__(self, desk: Desk, settings: Ray, said: SimpleQueue[SearchEvent]) -> None:
        self.desk, self.settings, self.said = desk, settings, said
        self.halt = threading.Event()
        self.faults: list[BaseException] = []
        self.cluster: Cluster

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune writes down all that it is given, and is never asked to read it again."""
        return {}

    def work(self) -> None:
        """Run trials until none is left, or the halt. What goes wrong is in `faults`."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._tune()
        except BaseException as fault:
            self.blame(fault)

    def blame(self, fault: BaseException) -> None:
        """Keep what ends the search. Ray Tune would wrap it, or go on."""
        self.faults.append(fault)
        self.halt.set()

    def _tune(self) -> None:
        with (
            tempfile.TemporaryDirectory(prefix="tunesmith-", ignore_cleanup_errors=True) as scratch,
            joined(self.settings, Path(scratch), self.said.put) as self.cluster,
        ):
            if self.halt.is_set():
                return
            tune.Tuner(
                tune.with_resources(ray_worker.train, {"cpu": self.settings.cpus, "gpu": self.settings.gpus}),
                tune_config=tune.TuneConfig(
                    search_alg=_Proposals(self),
                    scheduler=_Reports(self),
                    num_samples=-1,
                    reuse_actors=True,
                    trial_dirname_creator=_seat,
                ),
                run_config=tune.RunConfig(
                    name="trials",
                    storage_path=scratch,
                    stop=_Halt(self),
                    verbose=0,
                    callbacks=[_Meanwhile(self)],
                    failure_config=tune.FailureConfig(max_failures=0),
                ),
            ).fit()


def _seat(trial: Seat) -> str:
    """The name of a trial's folder: without its order."""
    return str(trial.trial_id)


class _Proposals(Searcher):  # type: ignore[misc]
    """Asks the desk for the next trial."""

    def __init__(self, office: _Office) -> None:
        super().__init__()
        self.office = office

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """An order, none for now, or that there will be none."""
        office = self.office
        try:
            order = None if office.halt.is_set() else office.desk.next(trial_id, office.cluster.room())
            if order is None and (office.halt.is_set() or office.desk.done()):
                return str(Searcher.FINISHED)
        except BaseException as fault:
            office.blame(fault)
            return str(Searcher.FINISHED)
        return None if order is None else {"order": order}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A worker is free."""
        self.office.desk.leave(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is what is kept."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class _Reports(FIFOScheduler):  # type: ignore[misc]
    """Brings the desk what workers report, and ends the trials that it ends."""

    def __init__(self, office: _Office) -> None:
        super().__init__()
        self.office = office

    def on_trial_result(self, tune_controller: Any, trial: Seat, result: dict[str, Any]) -> str:
        """A look, or the end."""
        go_on, end = str(TrialScheduler.CONTINUE), str(TrialScheduler.STOP)
        if "told" not in result:  # Ray Tune's own last word on a trial
            return go_on
        try:
            return end if self.office.desk.hear(trial.trial_id, json.loads(result["told"])) else go_on
        except BaseException as fault:
            self.office.blame(fault)
            return end

    def on_trial_error(self, tune_controller: Any, trial: Seat) -> None:
        """A worker is dead: whatever a trial may do wrong is reported."""
        try:
            self.office.desk.leave(trial.trial_id, _last_line(trial.get_error()))
        except BaseException as fault:
            self.office.blame(fault)


def _last_line(error: Any) -> str:
    lines = [line.strip() for line in str(error or "").splitlines() if line.strip()]
    return lines[-1] if lines else "no reason is known"


class _Meanwhile(tune.Callback):  # type: ignore[misc]
    """What is to be done as time goes by."""

    def __init__(self, office: _Office) -> None:
        self.office = office
        self._looked = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Seat], trial: Seat, result: dict[str, Any], **info: Any
    ) -> None:
        """It has been heard by then, and Ray Tune would keep the last one of each trial."""
        result.pop("told", None)

    def on_step_end(self, iteration: int, trials: list[Seat], **info: Any) -> None:
        """A tenth of a second has passed, or something has happened."""
        try:
            self.office.desk.beat()
            if time.monotonic() - self._looked > _ROUND:
                self._looked = time.monotonic()
                self.office.cluster.refuse_dead()
        except BaseException as fault:
            self.office.blame(fault)


class _Halt(tune.Stopper):  # type: ignore[misc]
    """The wish to stop."""

    def __init__(self, office: _Office) -> None:
        self.office = office

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """The desk ends a trial."""
        return False

    def stop_all(self) -> bool:
        """The search ends."""
        return self.office.halt.is_set()
