"""Models that learn together over one frozen trunk, each by its own rows, rate, clipping and optimizer: each as alone.

In a round every member makes one update. Its rows are cut into micro-batches as they are alone; those of several
members go through the trunk in one stream (models/crew.py), as many as the budget has room for, and one backward makes
the gradients of all. A member's loss, its gradients and its random numbers depend on nothing of the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tunesmith.contracts import Loss, Tokens
from tunesmith.errors import RecipeError, TunesmithError
from tunesmith.events import Updated
from tunesmith.models.crew import Asked, adapters_of, states_of, unite
from tunesmith.models.draws import Dice, seed
from tunesmith.models.lora import LoraLinear
from tunesmith.models.segments import Look
from tunesmith.models.stream import Stream
from tunesmith.train.accumulate import Piece, means
from tunesmith.train.loop import Begun, Member, Updates


def train_team(
    members: Sequence[Member], *, budget: int | None = None, stop: Callable[[int], bool] = lambda number: False
) -> Iterator[tuple[int, Updated | TunesmithError]]:
    """Yield (number of the member, its update) when it is done, as `loop.train` does for one; all have one update a
    round, until they have made theirs. A member for which `stop` is true before an update leaves. One whose update
    fails, with a loss that is not finite, say, leaves too: its error is yielded in place of an update, and is nobody
    else's.

    `budget` is the most tokens of a micro-batch of all together, by default the largest of the members' own: so that
    what was measured to fit in memory for one does for all. The models share the frozen tensors of the first from here
    on. Raises RecipeError, before anything is changed, where they cannot.
    """
    join(members)
    most = max((member.batches.budget for member in members), default=0) if budget is None else budget
    running = {number: (Updates(member), adapters_of(member.model)) for number, member in enumerate(members)}
    while running := {number: one for number, one in running.items() if not (one[0].done or stop(number))}:
        jobs: dict[int, _Job] = {}
        for number, (updates, adapters) in list(running.items()):
            try:
                jobs[number] = _job(updates, adapters)
            except TunesmithError as fault:
                del running[number]
                yield number, fault
        most = _gradients(list(jobs.values()), most)
        for number, job in jobs.items():
            made = _ended(job)
            if not isinstance(made, Updated):
                del running[number]
            yield number, made


def join(members: Sequence[Member]) -> None:
    """Have the models of members share the frozen tensors of the first. Raises RecipeError where they cannot train
    together, before anything is changed."""
    if any(member.task.joint for member in members):
        raise RecipeError(
            "the loss of the task is of all rows of an update together, in two passes; trials of it are trained alone",
            where="task",
            hint="train them one by one",
        )
    unite([member.model for member in members])


@dataclass
class _Job:
    """An update of a member on its way."""

    updates: Updates
    adapters: Mapping[str, LoraLinear]
    begun: Begun
    pieces: Sequence[Piece]
    sums: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    fault: TunesmithError | None = None
    """What its task met with."""

    def forget(self) -> None:
        """Begin the gradients again."""
        model = self.updates.member.model
        model.forget_gradients()
        self.sums = {name: torch.zeros((), dtype=torch.float64, device=model.device) for name in self.begun.weights}

    def end(self) -> Updated:
        """Take the update. Raises TunesmithError where it failed."""
        if self.fault is not None:
            self.updates.member.model.forget_gradients()
            raise self.fault
        return self.updates.end(self.begun, self.pieces, means(self.sums, self.begun.weights), self.seconds)


def _job(updates: Updates, adapters: Mapping[str, LoraLinear]) -> _Job:
    begun = updates.begin()
    return _Job(updates, adapters, begun, updates.batches.at(begun.step, updates.member.model.layout))


def _ended(job: _Job) -> Updated | TunesmithError:
    try:
        return job.end()
    except TunesmithError as fault:
        return fault


def _gradients(jobs: Sequence[_Job], most: int) -> int:
    """The gradients of everyone's update. Returns the tokens that a micro-batch of all may have: half as many where a
    device ran out of memory. Raises torch.OutOfMemoryError when one micro-batch of one member does not fit."""
    while True:
        for job in jobs:
            job.forget()
        passes = list(_passes(jobs, most))
        try:
            for seats in passes:
                _run(seats)
        except torch.OutOfMemoryError:
            if all(len(seats) == 1 for seats in passes):
                raise
            most = max(most // 2, 1)
            torch.cuda.empty_cache()
        else:
            return most


def _passes(jobs: Sequence[_Job], most: int) -> Iterator[list[_Seat]]:
    """Micro-batches that go through the trunk together: the next of each member, where there is room."""
    left = [list(job.pieces) for job in jobs]
    while any(left):
        seats: list[_Seat] = []
        room = most
        for job, pieces in zip(jobs, left, strict=True):
            size = sum(example.length for example in pieces[0].examples) if pieces else 0
            if pieces and (not seats or size <= room):
                seats.append(_Seat(job, pieces.pop(0), size))
                room -= size
        yield seats


def _run(seats: Sequence[_Seat]) -> None:
    """Forward and backward of micro-batches of several members."""
    began = time.perf_counter()
    waiting = list(seats)
    while waiting := [seat for seat in waiting if seat.asks()]:
        asked = [seat.asked for seat in waiting if seat.asked is not None]
        for seat, one, states in zip(waiting, asked, states_of(asked), strict=True):
            seat.answers.append((states, one.dice))
    totals = [total for seat in seats if (total := seat.total()) is not None]
    if totals:
        torch.autograd.backward(totals)
    for seat in seats:
        seat.collect()
    seconds, tokens = time.perf_counter() - began, sum(seat.size for seat in seats)
    for seat in seats:
        seat.job.seconds += seconds * seat.size / tokens


class _AsksTheTrunk(Exception):
    """Leaves a task's loss at the place where it needs what others have a part in."""


class _Seat:
    """A micro-batch of a member, and its way through the loss of its task.

    The task computes as if it had the model to itself. Where it asks for states, the computation is left, and when the
    states of all are there, it is made again from the beginning, with the same random numbers and the answer at hand.
    What comes before the trunk is rows laid end to end, which takes no time; and no threads wait for each other.
    """

    def __init__(self, job: _Job, piece: Piece, size: int) -> None:
        self.job = job
        self.piece = piece
        self.size = size
        self.asked: Asked | None = None
        self.answers: list[tuple[Tensor, Dice]] = []
        """States, and where the trunk left the random numbers."""
        self.losses: dict[str, Loss] = {}
        self._given = 0
        self._start: Dice | None = None
        """Where the random numbers of the micro-batch begin: put back, not seeded again."""

    def asks(self) -> bool:
        """Go on to the next question to the trunk, which is then in `asked`, or to the end."""
        member = self.job.updates.member
        fillers = member.model.fillers
        if self.job.fault is not None:
            return False
        self._given = 0
        if self._start is None:
            seed(self.piece.seed, member.model.device)
            self._start = Dice(member.model.device)
        else:
            self._start.put(self._start.state)
        member.model.trunk = self._trunk
        try:
            self.losses = member.task.loss(member.model, self.piece.examples)
        except _AsksTheTrunk:
            member.model.fillers = fillers  # it will lay these rows again
            return True
        except TunesmithError as fault:
            self.job.fault = fault
        finally:
            member.model.trunk = None
        return False

    def _trunk(self, rows: Sequence[Tokens], stream: Stream, look: Look | None) -> Tensor:
        """What the model runs in place of its blocks."""
        if self._given < len(self.answers):
            states, dice = self.answers[self._given]
            dice.put(dice.state)
            self._given += 1
            return states
        model = self.job.updates.member.model
        self.asked = Asked(model, self.job.adapters, rows, stream, look, Dice(model.device))
        raise _AsksTheTrunk

    def total(self) -> Tensor | None:
        """What the backward begins with; None where nothing has a label."""
        weights = self.job.begun.weights
        parts = [loss.total / weights[name] for name, loss in self.losses.items() if weights[name]]
        return torch.stack(parts).sum() if parts else None

    def collect(self) -> None:
        """Take the gradients and losses into those of the update."""
        self.job.updates.member.model.collect()
        for name, loss in self.losses.items():
            self.job.sums[name] += loss.total.detach()
        self.answers.clear()
