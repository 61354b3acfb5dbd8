"""Greedy decoding with keys and values kept, for decoders whose blocks `bodies.py` runs.

Prompts are read without padding, what they begin with in common once. Rows that end leave the batch at once and waiting
prompts take their place, so that the weights, whose reading is most of a step's time, are read for a full batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tunesmith.contracts import Tokens
from tunesmith.models.attention import turn
from tunesmith.models.staged import Staged
from tunesmith.models.stream import Stream

ROWS = 32
"""Rows of a step: from one to here a step takes about as long on two cores, as its time is reading the weights."""
_REFILL = 0.75
"""Share of a full batch below which waiting prompts are taken in."""
_GROWTH = 64
"""Tokens by which the kept keys and values grow."""


@dataclass
class _Batch:
    """Rows that are being written: what was kept of them, and where they are."""

    numbers: list[int] = field(default_factory=list)
    """Which prompts they are."""
    keys: list[Tensor] = field(default_factory=list)
    """Of each block: [rows, heads, room, dim], turned by their positions."""
    values: list[Tensor] = field(default_factory=list)
    lengths: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """Tokens kept of each row."""
    last: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """The token each row wrote last: kept by the next step."""


@torch.no_grad()
def decode(
    body: Staged,
    head: Callable[[Tensor], Tensor],
    stream_of: Callable[[Sequence[Tokens]], Stream],
    prompts: Sequence[Tokens],
    room: Sequence[int],
    stops: frozenset[int],
) -> list[list[int]]:
    """The tokens each prompt is continued with, a stop token included; at most `room` of each."""
    written: list[list[int]] = [[] for _ in prompts]
    waiting = sorted(range(len(prompts)), key=lambda k: len(prompts[k].ids), reverse=True)
    batch = _Batch()
    while waiting or batch.numbers:
        if waiting and len(batch.numbers) <= _REFILL * ROWS:
            taken = [waiting.pop() for _ in range(min(ROWS - len(batch.numbers), len(waiting)))]
            fresh = _read(body, head, stream_of([prompts[k] for k in taken]), taken)
            _write(written, fresh)
            batch = _joined(batch, fresh)
        else:
            batch.last = head(_step(body, batch)).argmax(-1)
            _write(written, batch)
        going = [
            place
            for place, number in enumerate(batch.numbers)
            if written[number][-1] not in stops and len(written[number]) < room[number]
        ]
        if len(going) < len(batch.numbers):
            batch = _kept(batch, going)
    return written


def _write(written: list[list[int]], batch: _Batch) -> None:
    for number, token in zip(batch.numbers, batch.last.tolist(), strict=True):
        written[number].append(token)


def _read(body: Staged, head: Callable[[Tensor], Tensor], stream: Stream, numbers: list[int]) -> _Batch:
    """Read whole prompts: their keys and values, and the first token each is continued with."""
    lengths = stream.lengths
    ends = lengths.cumsum(0)
    flat = torch.arange(int(ends[-1]), device=lengths.device)
    rows = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    steps = flat - (ends - lengths)[rows]
    home = stream.at(flat)
    longest = int(lengths.max())
    batch = _Batch(numbers, lengths=lengths.clone())
    x = body.begin(stream)
    for number in range(len(body.blocks)):
        q, k, v = body.project(number, x, None)
        rope = body.rope(number, x, stream)
        for part, into in ((k if rope is None else turn(k, *rope), batch.keys), (v, batch.values)):
            kept = part.new_zeros(len(lengths), part.shape[1], longest, part.shape[2])
            kept[rows, :, steps] = part[home]
            into.append(kept)
        x = body.attended(number, q, k, v, x, stream, None)
    batch.last = head(body.end(x[stream.at(ends - 1)])).argmax(-1)
    return batch


def _step(body: Staged, batch: _Batch) -> Tensor:
    """One token more of every row: last states [rows, width]."""
    most = int(batch.lengths.max()) + 1
    if most > batch.keys[0].shape[2]:
        for kept in (batch.keys, batch.values):
            kept[:] = [_wider(part, most + _GROWTH) for part in kept]
    rows = torch.arange(len(batch.last), device=batch.last.device)
    places = torch.arange(most, device=batch.last.device)
    x = body.embed(batch.last, batch.lengths)
    for number in range(len(body.blocks)):
        q, k, v = body.project(number, x, None)
        rope = body.rope_at(number, x, batch.lengths)
        if rope is not None:
            q, k = turn(q, *rope), turn(k, *rope)
        keys, values = batch.keys[number], batch.values[number]
        keys[rows, :, batch.lengths] = k
        values[rows, :, batch.lengths] = v
        keys, values = keys[:, :, :most], values[:, :, :most]
        few = keys.shape[1]
        terms = body.terms(number)
        scores = torch.matmul(q.unflatten(1, (few, -1)) * terms.scale, keys.transpose(-1, -2))
        if terms.softcap is not None:
            scores = scores.div_(terms.softcap).tanh_().mul_(terms.softcap)
        far = batch.lengths[:, None] - places
        hidden = far < 0 if terms.window is None else (far < 0) | (far >= terms.window)
        scores.masked_fill_(hidden[:, None, None], float("-inf"))
        made = torch.matmul(scores.softmax(-1), values)
        x = body.rest(number, made.flatten(1), x)
    batch.lengths = batch.lengths + 1
    return body.end(x)


def _wider(kept: Tensor, room: int) -> Tensor:
    made = kept.new_zeros(*kept.shape[:2], room, kept.shape[3])
    made[:, :, : kept.shape[2]] = kept
    return made


def _joined(a: _Batch, b: _Batch) -> _Batch:
    """Two batches as one."""
    if not a.numbers:
        return b
    room = max(a.keys[0].shape[2], b.keys[0].shape[2])

    def both(first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
        return [torch.cat([_wider(x, room), _wider(y, room)]) for x, y in zip(first, second, strict=True)]

    return _Batch(
        a.numbers + b.numbers,
        both(a.keys, b.keys),
        both(a.values, b.values),
        torch.cat([a.lengths, b.lengths]),
        torch.cat([a.last, b.last]),
    )


def _kept(batch: _Batch, places: list[int]) -> _Batch:
    """A batch without the rows that ended."""
    index = torch.tensor(places, dtype=torch.long, device=batch.last.device)
    return _Batch(
        [batch.numbers[place] for place in places],
        [part[index] for part in batch.keys],
        [part[index] for part in batch.values],
        batch.lengths[index],
        batch.last[index],
    )
