"""Which segments of a stream attend in one call, and how their tokens are taken and put back.

Worked out once a stream and used by every block. Knows nothing of the arithmetic of attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tunesmith.models.draws import Dice
from tunesmith.models.stream import Segment, Stream

if TYPE_CHECKING:
    from tunesmith.models.crew import Crew

_FLASH_FROM = {True: 128, False: 384}
"""Length from which torch's flash kernel beats small products on two cores: causal (it skips half), and not."""
_NEAR = 1.25
"""Lengths that may share a call: the longest over the shortest. Small products cost little, calls cost more."""
_ALONE_FROM = 64
"""Length from which other lengths have calls of their own: a row alone is not padded, and its heads need no copies."""


@dataclass(frozen=True)
class Look:
    """Tokens of the stream that ask, when not all do: in the last block, those whose states are used."""

    index: Tensor
    """Their places in the stream, ascending, each once."""
    places: tuple[int, ...]
    crew: Crew | None = None
    """The models that they are of, where they are of several."""


def pairs(stream: Stream, look: Look, *, beginnings: bool) -> int:
    """Pairs of a token that asks and a token of its segment, and of the beginnings before it where they count too;
    padding does not."""
    asked = _offsets(stream.segments, look)
    before = [one.segment.before if beginnings else 0 for one in asked]
    return sum(len(one.offsets) * (b + one.segment.length) for one, b in zip(asked, before, strict=True))


@dataclass(frozen=True)
class Side:
    """Tokens of consecutive segments as [rows, longest, ...], padded where lengths differ."""

    span: slice
    rows: int
    longest: int
    index: Tensor | None
    """[rows * longest] into the stream; padding repeats a token of the row. None: equal lengths, a view."""
    real: Tensor | None
    """Which of the padded are real, in the stream's order."""

    def take(self, x: Tensor) -> Tensor:
        """[tokens, heads, dim] -> [rows, longest, heads, dim]; padding holds some token of its row."""
        flat = x[self.span] if self.index is None else x.index_select(0, self.index)
        return torch.as_tensor(flat.unflatten(0, (self.rows, self.longest)))

    def take_or_zero(self, x: Tensor) -> Tensor:
        """The same with zeros for padding."""
        if self.real is None:
            return self.take(x)
        flat = x.new_zeros(self.rows * self.longest, *x.shape[1:])
        flat[self.real] = x[self.span]
        return torch.as_tensor(flat.unflatten(0, (self.rows, self.longest)))

    def put(self, x: Tensor, made: Tensor) -> None:
        """Write [rows, longest, heads, dim] over the segments' tokens of [tokens, heads, dim]."""
        if self.real is None:
            x[self.span].unflatten(0, (self.rows, self.longest)).copy_(made)
        else:
            x[self.span] = made.flatten(0, 1).index_select(0, self.real)


@dataclass(frozen=True)
class Group:
    """Segments that attend in one call."""

    asking: Side
    own: Side
    """The keys of the segments themselves."""
    mask: Tensor | None
    """[rows or 1, longest, keys], added to the scores: 0 or minus infinity. None where all is seen, or where the
    flash kernel is told that it is causal."""
    flash: bool
    dice: Dice | None = None
    """What draws for it, where segments of several models stand in the stream."""


@dataclass(frozen=True)
class Beginning:
    """Tokens that rows begin with in common, and those that stand behind it in any of the rows: each sees all of it,
    unless it is too far away."""

    keys: slice
    asking: slice
    """Neighbours, since the stream is laid row by row."""
    mask: Tensor | None
    """[asking, keys], added to the scores; None where nothing is too far away."""


def groups_of(
    stream: Stream, causal: bool, window: int | None, look: Look | None, *, flash: bool, near: bool = True
) -> tuple[Group, ...]:
    """The groups of a stream, in its order; without `look`, kept on the stream for the blocks to come."""
    key = (causal, window, flash, near)
    if look is None and key in stream.groups:
        found: tuple[Group, ...] = stream.groups[key]
        return found
    runs = _runs(_offsets(stream.segments, look), causal, flash, near)
    made = tuple(_group(run, causal, window, flash, stream) for run in runs)
    if look is None:
        stream.groups[key] = made
    return made


def beginnings_of(stream: Stream, window: int | None, look: Look | None) -> tuple[Beginning, ...]:
    """The shared beginnings behind which some token asks; without `look`, kept on the stream for the blocks to come."""
    if not any(segment.path for segment in stream.segments):
        return ()
    if look is None and (window,) in stream.groups:
        found: tuple[Beginning, ...] = stream.groups[window,]
        return found
    behind: dict[tuple[int, int], tuple[int, int]] = {}
    for one in _offsets(stream.segments, look):
        for span in one.segment.path:
            behind[span] = (behind.get(span, (one.first,))[0], one.first + len(one.offsets))
    made = tuple(_beginning(slice(*span), slice(*asking), window, look, stream) for span, asking in behind.items())
    if look is None:
        stream.groups[window,] = made
    return made


def _beginning(keys: slice, asking: slice, window: int | None, look: Look | None, stream: Stream) -> Beginning:
    mask: Tensor | None = None
    if window is not None:
        asked = stream.positions[asking if look is None else look.index[asking]]
        hidden = asked[:, None] - stream.positions[keys] >= window
        if bool(hidden.any()):
            mask = torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, float("-inf"))
    return Beginning(keys, asking, mask)


@dataclass(frozen=True)
class _Asked:
    """A segment, and which of its tokens ask: a place among those that ask, and their offsets in the segment."""

    segment: Segment
    first: int
    offsets: Sequence[int]


def _offsets(segments: Sequence[Segment], look: Look | None) -> list[_Asked]:
    if look is None:
        return [_Asked(segment, segment.start, range(segment.length)) for segment in segments]
    made, at = [], 0
    for segment in segments:
        end = at
        while end < len(look.places) and look.places[end] < segment.start + segment.length:
            end += 1
        if end > at:
            made.append(_Asked(segment, at, [place - segment.start for place in look.places[at:end]]))
        at = end
    return made


def _runs(asked: Sequence[_Asked], causal: bool, flash: bool, near: bool) -> list[list[_Asked]]:
    """Neighbours that may share a call: near lengths, or equal ones where the flash kernel takes over."""
    runs: list[list[_Asked]] = []
    for one in asked:
        if runs and _fit(runs[-1], one, causal, flash, near):
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


def _fit(run: list[_Asked], one: _Asked, causal: bool, flash: bool, near: bool) -> bool:
    last = run[-1]
    follows = (
        last.segment.owner == one.segment.owner  # each draws as alone
        and last.segment.start + last.segment.length == one.segment.start
        and last.first + len(last.offsets) == one.first
    )
    if not follows:
        return False
    longest = max(item.segment.length for item in (*run, one))
    if not near or (flash and longest >= _FLASH_FROM[causal]):
        return all(item.segment.length == longest and len(item.offsets) == len(one.offsets) for item in run)
    shortest = min(item.segment.length for item in (*run, one))
    if longest >= _ALONE_FROM:
        return longest == shortest
    return longest <= _NEAR * shortest + 4


def _group(run: list[_Asked], causal: bool, window: int | None, flash: bool, stream: Stream) -> Group:
    device, crew = stream.ids.device, stream.crew
    lengths = [one.segment.length for one in run]
    whole = all(len(one.offsets) == one.segment.length for one in run)
    own = _side([one.segment.start for one in run], lengths, device)
    asking = own if whole else None
    if asking is None or run[0].first != run[0].segment.start:
        asking = _side([one.first for one in run], [len(one.offsets) for one in run], device)
    equal = own.real is None and asking.real is None
    kernel = flash and whole and equal and own.longest >= _FLASH_FROM[causal]
    windowed = window is not None and own.longest > window
    plain = equal and not windowed and (not causal or kernel)
    mask = None if plain else _mask(run, own.longest, asking.longest, causal, window if windowed else None, device)
    return Group(asking, own, mask, kernel, None if crew is None else crew.dice[run[0].segment.owner])


def _side(starts: list[int], lengths: list[int], device: torch.device) -> Side:
    span = slice(starts[0], starts[-1] + lengths[-1])
    longest = max(lengths)
    if min(lengths) == longest:
        return Side(span, len(starts), longest, None, None)
    steps = torch.arange(longest)
    sizes, first = torch.tensor(lengths)[:, None], torch.tensor(starts)[:, None]
    index = first + torch.minimum(steps, sizes - 1)
    real = (steps < sizes).flatten().nonzero()[:, 0]
    return Side(span, len(starts), longest, index.flatten().to(device), real.to(device))


def _mask(run: list[_Asked], keys: int, queries: int, causal: bool, window: int | None, device: torch.device) -> Tensor:
    """[rows or 1, queries, keys] of 0 and minus infinity. Padding that asks sees as a real one does."""
    alike = all(one.offsets == run[0].offsets and one.segment.length == keys for one in run)
    some = run[:1] if alike else run
    asks = torch.tensor([[*one.offsets, *[one.offsets[-1]] * (queries - len(one.offsets))] for one in some])[..., None]
    places = torch.arange(keys)
    sizes = torch.tensor([one.segment.length for one in some])[:, None, None]
    hidden = (places >= sizes) | torch.zeros_like(asks, dtype=torch.bool)
    if causal:
        hidden = hidden | (places > asks)
    if window is not None:
        hidden = hidden | ((asks - places).abs() >= window)
    return torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf")).to(device)
