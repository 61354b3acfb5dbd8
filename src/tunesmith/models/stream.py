"""Rows laid end to end in one stream of tokens, without padding; what rows begin with in common may stand there once.

Knows where each token of each row went, so that the rest of the code may speak of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tunesmith.contracts import Tokens

if TYPE_CHECKING:
    from tunesmith.models.crew import Crew

SHARED_FROM = 8
"""Tokens that a shared beginning must save before it is worth an attention call of its own."""

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Segment:
    """Tokens of the stream that stand side by side, and the tokens before them that their row began with."""

    start: int
    length: int
    path: tuple[tuple[int, int], ...] = ()
    """(first token, one past the last) of every shared beginning, outermost first."""
    owner: int = 0
    """Which of several models it is of, where their rows stand in one stream."""

    @property
    def before(self) -> int:
        """Tokens of the shared beginnings: the position in its row of this segment's first token."""
        return sum(stop - start for start, stop in self.path)


@dataclass
class Stream:
    """Token ids [tokens] with their positions, cut into segments."""

    ids: Tensor
    positions: Tensor
    segments: tuple[Segment, ...]
    lengths: Tensor
    """Tokens of each row [rows]."""
    places: Tensor | None
    """Where each token of the rows laid end to end stands in the stream, on the host; None where nothing is shared."""
    types: Tensor | None = None
    """Token types [tokens]; None where all are 0."""
    filler: int = 0
    """Tokens at the end that belong to no row."""
    calls: int = 0
    """How often attention looked at it: a net that never does ignores the segments."""
    crew: Crew | None = None
    """The models whose rows it has, where they are of several."""
    groups: dict[Any, Any] = field(default_factory=dict)
    """What attention worked out from the segments, for the blocks to come."""

    def of_rows(self, states: Tensor) -> Tensor:
        """States of the stream [tokens, width] -> of the rows laid end to end."""
        if self.places is not None:
            return states[self.places.to(states.device)]
        return states[: len(states) - self.filler] if self.filler else states

    def at(self, positions: Tensor) -> Tensor:
        """Positions in the rows laid end to end -> positions in the stream; both on the host."""
        return positions if self.places is None else self.places[positions]

    def ends(self) -> Tensor:
        """Where segments begin and end, as kernels over lengths want it: [segments + 1], int32."""
        stops = [segment.start + segment.length for segment in self.segments]
        return torch.tensor([0, *stops], dtype=torch.int32, device=self.ids.device)


def stream_of(
    rows: Sequence[Tokens], first_position: int, device: torch.device, *, share: bool = False, grid: int = 1
) -> Stream:
    """Lay rows end to end. With `share`, beginnings that rows have in common are computed once: only for nets in
    which a token sees nothing after it, and no random numbers are drawn. A segment of filler makes the number of
    tokens a multiple of `grid`: no row sees it, and nothing reads what comes of it."""
    lengths = [len(row.ids) for row in rows]
    places: list[int] | None = None
    ids = [i for row in rows for i in row.ids]
    segments = [Segment(stop - length, length) for length, stop in zip(lengths, accumulate(lengths), strict=True)]
    if share and not any(row.types for row in rows):
        merged, fewer, homes = _shared([row.ids for row in rows])
        if len(fewer) < len(ids):
            segments, ids, places = merged, fewer, homes
    filler = -len(ids) % grid
    if filler:
        segments = [*segments, Segment(len(ids), filler)]
        ids = [*ids, *[ids[0]] * filler]
    steps = [torch.arange(s.before, s.before + s.length) for s in segments]
    return Stream(
        torch.tensor(ids, device=device),
        (torch.cat(steps) + first_position).to(device),
        tuple(segments),
        torch.tensor(lengths, device=device),
        None if places is None else torch.tensor(places),
        _types(rows, filler, device),
        filler,
    )


def _types(rows: Sequence[Tokens], filler: int, device: torch.device) -> Tensor | None:
    if not any(row.types for row in rows):
        return None
    types = [kind for row in rows for kind in row.types or (0,) * len(row.ids)]
    return torch.tensor([*types, *[0] * filler], device=device)


def _shared(rows: Sequence[Ids]) -> tuple[list[Segment], list[int], list[int]]:
    """Segments, the ids of the stream, and where each token of the rows went: a trie, where a node saves enough."""
    segments: list[Segment] = []
    ids: list[int] = []
    homes: list[list[int]] = [[] for _ in rows]

    def lay(tokens: Ids, path: tuple[tuple[int, int], ...]) -> tuple[int, int]:
        start = len(ids)
        segments.append(Segment(start, len(tokens), path))
        ids.extend(tokens)
        return start, len(ids)

    def place(members: list[int], done: int, path: tuple[tuple[int, int], ...]) -> None:
        """Lay rows that agree in their first `done` tokens, which `path` holds."""
        alone: list[int] = []
        for _, alike in groupby(members, key=lambda k: rows[k][done : done + 1]):
            group = list(alike)
            first, last = rows[group[0]], rows[group[-1]]  # sorted: where these two agree, so do all between
            # The last token of each row stays its own, so that no row is empty.
            most = min(len(rows[k]) for k in group) - 1 - done
            agree = next((n for n in range(most) if first[done + n] != last[done + n]), most)
            if agree * (len(group) - 1) < SHARED_FROM:
                alone += group
                continue
            span = lay(first[done : done + agree], path)
            for k in group:
                homes[k].extend(range(*span))
            place(group, done + agree, (*path, span))
        for k in sorted(alone, key=lambda k: len(rows[k])):  # near lengths share a call of attention
            homes[k].extend(range(*lay(rows[k][done:], path)))

    place(sorted(range(len(rows)), key=lambda k: rows[k]), 0, ())
    return segments, ids, [home for row in homes for home in row]
