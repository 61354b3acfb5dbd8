"""The study of a search: Optuna's, in a journal file or a database that any number of processes work on.

A trial is claimed under a lock. One whose process died, or let it go, is claimed again with the number and the
parameters that it had. The proposals come from (seed, number of the trial, axis, trials before it) alone: nothing of a
sampler lives in a process, so that a search that was killed goes on as if it had not been. Nothing is pickled.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from tunesmith.data import sql
from tunesmith.errors import RecipeError, StorageError
from tunesmith.search.directory import SearchDir
from tunesmith.search.space import Space
from tunesmith.searchspace import Axis, Search, grid, walk

_NAME = "search"
_TRIALS = 16
_RUNGS = {"first": 10, "factor": 3}
"""Looks that are compared: from 10 % of a trial's updates on, then 30 %, then 90 %; a third of the trials goes on."""
_SILENT = 900.0
"""Seconds without a sign after which a trial of another machine counts as left."""
_ORPHANED = 30.0
"""Seconds after which a trial that no process signed counts as left: it is signed as soon as it is made."""
_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
           TrialState.RUNNING: "running", TrialState.WAITING: "waiting"}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A trial as the table shows it."""

    number: int
    state: str
    """`waiting`, `running`, `complete`, `pruned` (it fell behind) or `failed`."""
    start: bool
    """Whether it is the recipe's own point."""
    params: dict[str, Any]
    value: float | None
    """The best score on the rows that choose."""
    share: float | None
    """Of its updates that were made."""
    seconds: float | None
    said: str
    """Why it failed, where it was pruned, which trial it is the same as."""
    digest: str
    """Of its recipe."""
    together: int
    """Trials that were trained together, itself among them; 1 of one that was trained alone, or not at all."""

    @property
    def ended(self) -> bool:
        """Whether it is done with."""
        return self.state in ("complete", "pruned", "failed")


@dataclass(frozen=True)
class Claim:
    """A trial that this process is to run, and the lock on it."""

    trial: Trial
    start: bool
    handle: int

    @property
    def number(self) -> int:
        return self.trial.number

    def release(self) -> None:
        """Let go of it: where it has not ended, another process may claim it."""
        os.close(self.handle)


class Study:
    """The trials of a search, wherever they are kept."""

    def __init__(self, directory: SearchDir, search: Search, space: Space, higher_is_better: bool) -> None:
        self.directory, self.search, self.space = directory, search, space
        self._place = f"{socket.gethostname()}:{directory.path.resolve()}"
        name = f"{_NAME}-{directory.path.name}"
        with calm(), _told(search.storage):
            self._study = optuna.create_study(
                storage=_storage(directory, search.storage),
                study_name=name,
                direction="maximize" if higher_is_better else "minimize",
                load_if_exists=True,
                pruner=_pruner(search.pruner),
            )
        points = grid(space.axes) if search.sampler == "grid" else []
        self.target = min(search.trials or max(len(points), 1), len(points)) if points else search.trials or _TRIALS
        with directory.lock("claim"), self._asked():
            self._enqueue(points)

    @property
    def engine(self) -> optuna.Study:
        """Optuna's own study, for what reads it."""
        return self._study

    def own(self, place: str) -> str:
        """The place that runs the winner: this one, where none does yet."""
        with self._asked():
            if "winner" not in self._study.user_attrs:
                self._study.set_user_attr("winner", place)
            return str(self._study.user_attrs["winner"])

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Around whatever is asked of the engine. Raises StorageError where its database does not answer."""
        with calm(), _told(self.search.storage):
            yield

    def _enqueue(self, points: list[dict[str, Any]]) -> None:
        """The recipe's own point first; then, of a grid, all others, or as many as are asked for, drawn by the seed."""
        there = self._study.get_trials(deepcopy=False)
        if not any(trial.user_attrs.get("start") for trial in there):
            self._study.enqueue_trial(dict(self.space.start or {}), user_attrs={"start": True})
        if not points:
            return
        off_grid = self.space.start is None or self.space.start not in points
        self.target += off_grid
        if self.target - off_grid < len(points):
            random.Random(self.search.seed).shuffle(points)
        wanted = [point for point in points if point != self.space.start][: self.target - 1]
        known = [trial.system_attrs.get("fixed_params") for trial in there]
        for point in wanted:
            if point not in known:
                self._study.enqueue_trial(point)

    def lines(self) -> list[Line]:
        """All trials, by number."""
        with self._asked():
            return [_line(trial) for trial in self._study.get_trials(deepcopy=False)]

    def claim(self) -> Claim | None:
        """The next trial to run: one that was left, else a new one; None where none is left to begin. Trials that had
        finished when their process died are told to the study on the way."""
        with self.directory.lock("claim"), self._asked():
            for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                claimed = self._left(frozen)
                if claimed is not None:
                    return claimed
            trials = self._study.get_trials(deepcopy=False)
            waiting = any(trial.state == TrialState.WAITING for trial in trials)
            if not waiting and len(trials) >= self.target:
                return None
            self._study.sampler = _sampler(self.search, self.space, len(trials))
            trial = self._study.ask()
            trial.set_user_attr("place", self._place)
            self.beat(trial)
            handle = self.directory.hold(f"trial_{trial.number:04d}")
            assert handle is not None, "a new trial's lock is free"
            return Claim(trial, bool(trial.user_attrs.get("start")), handle)

    def _left(self, frozen: FrozenTrial) -> Claim | None:
        """A running trial whose process is gone, as a claim."""
        silent = time.time() - float(frozen.user_attrs.get("beat", 0))
        place = frozen.user_attrs.get("place")
        if place is None:  # its process died as it began, or is about to sign it
            begun = frozen.datetime_start
            silent = time.time() - begun.timestamp() if begun is not None else _ORPHANED
        mine = place == self._place or (place is None and (self.search.storage is None or silent > _ORPHANED))
        if not mine and (place is None or silent < _SILENT):
            return None
        handle = self.directory.hold(f"trial_{frozen.number:04d}")
        if handle is None:
            return None
        self._study.sampler = _sampler(self.search, self.space, frozen.number)
        trial = Trial(self._study, frozen._trial_id)  # the one way to a trial that is there already
        claim = Claim(trial, bool(frozen.user_attrs.get("start")), handle)
        result = self.directory.result(frozen.number)
        if result is not None:
            self.tell(claim, result)
            claim.release()
            return None
        trial.set_user_attr("place", self._place)
        self.beat(trial)
        return claim

    def beat(self, trial: Trial) -> None:
        """A sign of life, for other machines."""
        with self._asked():
            trial.set_user_attr("beat", time.time())

    def pick(self, claim: Claim) -> dict[str, Any]:
        """What is proposed for a trial: a value of the recipe's key for each axis."""

        def pick(name: str, axis: Axis) -> Any:
            # Each by itself: a process that died between two of them must not change the second.
            self._study.sampler = _sampler(self.search, self.space, claim.number, name)
            return _suggest(claim.trial, name, axis)

        with self._asked():
            return walk(self.space.axes, pick)

    def prune(self, claim: Claim, share: float, value: float) -> bool:
        """Whether a trial has fallen behind others at the same share of their updates, one of which has come to its
        end. The recipe's own point never has: it is what the winner is compared with."""
        step = int(100 * share + 1e-9)
        with self._asked():
            if step in self._study.get_trials(deepcopy=False)[claim.number].intermediate_values:
                return False
            claim.trial.report(value, step)
            behind = claim.trial.should_prune()
        return behind and not claim.start and any(line.state == "complete" for line in self.lines())

    def note(self, claim: Claim, digest: str) -> None:
        """Write down which recipe a trial is."""
        with self._asked():
            claim.trial.set_user_attr("digest", digest)

    def twin(self, digest: str, number: int) -> Line | None:
        """A trial that has finished and was of the same recipe."""
        return next(
            (line for line in self.lines() if line.digest == digest and line.ended and line.number != number), None
        )

    def tell(self, claim: Claim, result: Mapping[str, Any]) -> None:
        """End a trial: `result` is that of `result.json`."""
        state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        ended = state[result["state"]]
        with self._asked(), suppress(optuna.exceptions.UpdateFinishedTrialError, ValueError):  # another was quicker
            for name in ("value", "share", "seconds", "said", "digest"):
                claim.trial.set_user_attr(name, result[name])
            claim.trial.set_user_attr("together", result.get("together", 1))
            self._study.tell(claim.trial, result["value"] if ended == TrialState.COMPLETE else None, state=ended)


def _line(trial: FrozenTrial) -> Line:
    told = trial.user_attrs
    return Line(
        number=trial.number,
        state=_STATES[trial.state],
        start=bool(told.get("start")),
        params=dict(trial.params),
        value=told.get("value"),
        share=told.get("share"),
        seconds=told.get("seconds"),
        said=str(told.get("said", "")),
        digest=str(told.get("digest", "")),
        together=int(told.get("together", 1)),
    )


def _suggest(trial: Trial, name: str, axis: Axis) -> Any:
    if axis.range is None:
        return trial.suggest_categorical(name, axis.labels)
    low, high, log = axis.range.low, axis.range.high, axis.range.log
    if axis.range.integer:
        return trial.suggest_int(name, int(low), int(high), log=log)
    return trial.suggest_float(name, low, high, log=log)


def _storage(directory: SearchDir, url: str | None) -> BaseStorage:
    if url is not None:
        return RDBStorage(url)
    return JournalStorage(JournalFileBackend(str(directory.journal), lock_obj=_KernelLock(directory)))


class _KernelLock(JournalFileOpenLock):
    """A lock on the journal that no death leaves behind; who takes it cuts off a line that a death has torn."""

    def __init__(self, directory: SearchDir) -> None:
        super().__init__(str(directory.journal))
        self._directory = directory
        self._file: Any = None

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._file = open(self._directory.path / "locks" / "journal", "w")  # noqa: SIM115
        fcntl.flock(self._file, fcntl.LOCK_EX)
        with open(self._directory.journal, "rb+") as journal:
            end = journal.seek(0, os.SEEK_END)
            if end:
                journal.seek(end - 1)
                if journal.read(1) != b"\n":
                    journal.seek(0)
                    journal.truncate(journal.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Let go."""
        self._file.close()


def _sampler(search: Search, space: Space, number: int, name: str = "") -> optuna.samplers.BaseSampler:
    """What proposes the trial of a number, or its value on an axis."""
    seed = zlib.crc32(f"{search.seed} {number} {name}".encode())
    if search.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.startup, constant_liar=True)
    if search.sampler == "cma-es":
        from tunesmith.search.cma import CmaSampler

        return CmaSampler(seed, search.startup, space.ends())
    return optuna.samplers.RandomSampler(seed=seed)


def _pruner(name: str) -> optuna.pruners.BasePruner:
    first, factor = _RUNGS["first"], _RUNGS["factor"]
    if name == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=first, max_resource=100, reduction_factor=factor)
    return optuna.pruners.NopPruner()


@contextmanager
def calm() -> Iterator[None]:
    """Keep Optuna's notes off the screen."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)


@contextmanager
def _told(url: str | None) -> Iterator[None]:
    """Turn what a database can do wrong into an error of ours; a password is never shown."""
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    shown = sql.safe(url) if url else "the journal"
    try:
        yield
    except (ArgumentError, NoSuchModuleError):
        raise RecipeError(
            f"`{shown}` is no database URL", where="search.storage", hint="such as sqlite:///trials.db"
        ) from None
    except ImportError as fault:
        hint = "pip install it, or leave `search.storage` out"
        raise RecipeError(
            f"the database's own driver is missing: {fault.name}", where="search.storage", hint=hint
        ) from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as fault:
        first = str(fault).splitlines()[0]
        raise StorageError(
            f"the database of the search refused: {sql.safe(first)}",
            where=shown,
            hint="the same command goes on when it answers",
        ) from None
