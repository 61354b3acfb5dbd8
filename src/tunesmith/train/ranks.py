"""One run by several processes, as `torchrun` starts them: each computes its share of an update's micro-batches, the
gradients are summed, and all take the same step.

What a loss is divided by is counted over the whole update beforehand, so shares of different sizes, and processes
without any, change nothing but rounding. Only the first process writes and judges. What they tell each other is numbers
and JSON.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from tunesmith.errors import RunError

Made = TypeVar("Made")
Item = TypeVar("Item")
_PATIENCE = datetime.timedelta(days=7)
"""How long a process waits for another, which may be judging."""
_BUCKET = 2**23
"""Numbers that are summed at once."""


@dataclass(frozen=True)
class Ranks:
    """A process among those of a run."""

    number: int = 0
    count: int = 1
    here: int = 1
    """Processes on this machine, which share its memory."""

    @property
    def first(self) -> bool:
        """Whether it is the one that writes."""
        return self.number == 0

    def share(self, pieces: Sequence[Item]) -> Sequence[Item]:
        """Those that this process computes; they come sorted by length, so each gets short and long ones."""
        return pieces[self.number :: self.count]

    def add(self, *tensors: Tensor) -> None:
        """Sum each over all processes, in place."""
        for tensor in tensors if self.count > 1 else ():
            with _reached():
                distributed.all_reduce(tensor)

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum every gradient over all processes; one that a process has not counts as zero."""
        if self.count == 1:
            return
        there = torch.tensor([int(p.grad is not None) for p in parameters])
        self.add(there)
        learning = [p for p, some in zip(parameters, there.tolist(), strict=True) if some]
        for bucket in _buckets(learning):
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            flat = torch.cat([grad.flatten() for grad in grads])
            self.add(flat)
            for parameter, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                parameter.grad = part.view_as(parameter).to(parameter.dtype)

    def from_first(self, make: Callable[[], Made]) -> Made:
        """What the first process makes, which is JSON; the others wait for it. Raises RunError in these where it
        failed."""
        if self.count == 1:
            return make()
        if self.first:
            try:
                made = make()
            except BaseException:
                _tell({"failed": True})
                raise
            _tell({"made": made})
            return made
        told = _hear()
        if "failed" in told:
            raise RunError("the first process ended, and says why", where=f"process {self.number}")
        heard: Made = told["made"]
        return heard

    def in_turn(self, make: Callable[[], Made]) -> Made:
        """What each process makes for itself, once the first is done: it leaves in the caches what others need."""
        made: list[Made] = []

        def lead() -> None:
            made.append(make())

        self.from_first(lead)
        return made[0] if self.first else make()


ALONE = Ranks()


@contextmanager
def _reached() -> Iterator[None]:
    """Turn the end of another process into a RunError."""
    try:
        yield
    except RuntimeError as fault:
        raise RunError(
            f"another process of the run is gone: {str(fault).splitlines()[0]}",
            where="torchrun",
            hint="what was saved is whole: `torchrun ... -m tunesmith resume RUN`",
        ) from fault


def _tell(value: dict[str, Any]) -> None:
    content = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    with _reached():
        distributed.broadcast(torch.tensor([len(content)]), 0)
        distributed.broadcast(content, 0)


def _hear() -> dict[str, Any]:
    size = torch.zeros(1, dtype=torch.int64)
    with _reached():
        distributed.broadcast(size, 0)
        content = torch.zeros(int(size), dtype=torch.uint8)
        distributed.broadcast(content, 0)
    found: dict[str, Any] = json.loads(bytes(content.tolist()))
    return found


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Some at a time, of one kind of number each."""
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        if bucket and (bucket[0].dtype != parameter.dtype or sum(p.numel() for p in bucket) > _BUCKET):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket


def joined() -> Ranks:
    """This process's place among those that `torchrun` started; alone where it was not. Raises RunError for several GPU
    processes without a GPU each."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE
    here, place = int(os.environ.get("LOCAL_WORLD_SIZE", count)), int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        if here > torch.cuda.device_count():
            raise RunError(
                f"{here} processes were started and there are {torch.cuda.device_count()} GPUs",
                where="torchrun",
                hint="start one process a GPU: `torchrun --nproc-per-node gpu`",
            )
        torch.cuda.set_device(place)
    if "MASTER_ADDR" not in os.environ:
        raise RunError(
            f"WORLD_SIZE says that {count} processes work together, and nothing says where they meet",
            where="the environment",
            hint="start them with `torchrun`, or unset WORLD_SIZE",
        )
    if not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=_PATIENCE)
    return Ranks(distributed.get_rank(), distributed.get_world_size(), here)


def leave() -> None:
    """Let go of the other processes, where there are any."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
