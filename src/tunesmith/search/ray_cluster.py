"""A Ray cluster, joined or started for the time of a search, quietly: nothing is printed, reported home or left."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import ray

from tunesmith.errors import RunError
from tunesmith.events import Warned
from tunesmith.searchspread import Ray

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TQDM": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",
}
"""What Ray reads of the environment: no reports home, no notes, no files beside ours, and the folder of the command."""
_OBJECTS = 128 * 2**20
"""Bytes of the store of objects of a cluster of our own: only orders and reports pass."""


_PROMPT = 10.0
"""Seconds within which the head of a cluster answers."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that is joined."""

    settings: Ray

    def room(self) -> int:
        """Trials that may be out at a time: as many as were asked for, or as the machines that are there can take."""
        return self.settings.workers or max(_places(self.settings), 1)

    def refuse_dead(self) -> None:
        """Raise RunError where no machine of it is left: Ray would wait for ever."""
        if not any(node["Alive"] for node in ray.nodes()):
            raise RunError(
                "all machines of the Ray cluster are gone",
                where=f"search.ray.address: {self.settings.address}",
                hint="the same command goes on when there is a cluster again",
            )


def _places(settings: Ray) -> int:
    """Trials that the machines can take."""
    return sum(_on(node["Resources"], settings) for node in ray.nodes() if node["Alive"])


def _on(resources: Mapping[str, float], settings: Ray) -> int:
    """Trials that one machine can take. Parts of a GPU share one, and do not reach over two."""
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    by_cpus = int(cpus / settings.cpus)
    if not settings.gpus:
        return by_cpus
    each = int(gpus) * int(1 / settings.gpus + 1e-9) if settings.gpus < 1 else int(gpus / settings.gpus)
    return min(by_cpus, each)


@contextmanager
def joined(settings: Ray, scratch: Path, say: Callable[[Warned], None]) -> Iterator[Cluster]:
    """The cluster, for as long as it is used. Raises RunError where there is none, or none that could take a trial."""
    with _environment(_QUIET), _hushed():
        own = not ray.is_initialized()
        if own:
            _join(settings, scratch)
        try:
            if not _places(settings):
                _tell_no_room(settings, say)
            yield Cluster(settings)
        finally:
            if own:
                ray.shutdown()


def _join(settings: Ray, scratch: Path) -> None:
    where = f"search.ray.address: {settings.address}"
    ours: dict[str, Any] = {}
    if settings.address == "local":
        cpus = settings.workers * settings.cpus if settings.workers else len(os.sched_getaffinity(0))
        ours = {
            "num_cpus": cpus,
            "object_store_memory": _OBJECTS,
            "_temp_dir": str(scratch),
            "include_dashboard": False,
        }
    try:
        _knock(settings.address)
        ray.init(address=settings.address, log_to_driver=False, logging_level=logging.CRITICAL, **ours)
    except (ConnectionError, RuntimeError, ValueError, OSError) as fault:
        said = next((line.strip() for line in str(fault).splitlines() if line.strip()), type(fault).__name__)
        if settings.address == "local":
            raise RunError(f"Ray does not start: {said}", where=where) from None
        raise RunError(
            f"there is no Ray cluster to join: {said}",
            where=where,
            hint="`ray start --head` on one machine, `ray start --address=HOST:6379` on each other, and the command on "
            "any of them; or `address: local`",
        ) from None


def _knock(address: str) -> None:
    """Raise OSError where nothing listens: Ray itself would try for minutes."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _PROMPT).close()


def _tell_no_room(settings: Ray, say: Callable[[Warned], None]) -> None:
    """A machine that can take a trial may still join a cluster; it cannot join one of our own."""
    what = f"a trial asks for CPUs: {settings.cpus}, GPUs: {settings.gpus:g}"
    if settings.address == "local":
        raise RunError(f"{what}, which this machine does not have", where="search.ray", hint="ask for less")
    say(Warned(f"{what}, which no machine of the cluster has; waiting for one that has"))


class _Hushed:
    """A stream that threads of Ray do not reach: one of them prints what happens to machines among our own lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As the stream does."""
        if threading.current_thread().name.startswith("ray"):
            return len(text)
        return self._stream.write(text)


@contextmanager
def _hushed() -> Iterator[None]:
    """Standard output without Ray, until the end of the block."""
    before = sys.stdout
    sys.stdout = cast(TextIO, _Hushed(before))
    try:
        yield
    finally:
        sys.stdout = before


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Some variables, until the end of the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
