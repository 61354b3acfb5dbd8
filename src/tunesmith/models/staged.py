"""Blocks that run in stages, up to their attention and from there on, as a decode loop needs them; what those that
norm first, and perhaps turn queries and keys by their positions, have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from tunesmith.models import anatomy
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.attention import Rope, Terms, attend
from tunesmith.models.fused import products
from tunesmith.models.matmul import Matmul
from tunesmith.models.segments import Look
from tunesmith.models.stream import Stream

if TYPE_CHECKING:
    from tunesmith.models.crew import Crew


class Staged(ABC):
    """A body (bodies.py) whose blocks run in stages."""

    def __init__(self, base: Any, parts: Anatomy, matmul: Matmul) -> None:
        self.base = base
        self.matmul = matmul
        self.blocks: Any = anatomy.blocks(base, parts)
        self._stream: Stream | None = None
        self._turns: dict[str, Rope] = {}
        """Of that stream, by kind."""

    @abstractmethod
    def usual(self, block: Any) -> bool:
        """Whether every piece of a block is one that `fused.py` knows."""

    @abstractmethod
    def placed(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """What the first block reads [tokens, width], from embeddings of tokens and their positions [tokens]."""

    @abstractmethod
    def project(
        self, number: int, x: Tensor, look: Look | None, crew: Crew | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (where looked at), keys and values [tokens, heads, dim] of a block, not yet turned."""

    @abstractmethod
    def rest(self, number: int, made: Tensor, x: Tensor, crew: Crew | None = None) -> Tensor:
        """The block from what attention made [tokens, heads * dim] and what the block read on."""

    @abstractmethod
    def terms(self, number: int) -> Terms:
        """How a block attends."""

    @abstractmethod
    def end(self, x: Tensor) -> Tensor:
        """What stands after the last block."""

    def begin(self, stream: Stream, embedded: Tensor | None = None) -> Tensor:
        """What the first block reads [tokens, width]."""
        return self.placed(self._table(stream.ids) if embedded is None else embedded, stream.positions)

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Token ids and positions [tokens] -> what the first block reads [tokens, width]."""
        return self.placed(self._table(ids), positions)

    def block(self, number: int, x: Tensor, stream: Stream, look: Look | None) -> Tensor:
        """One block: [tokens, width] -> [tokens, width], or [looked at, width]."""
        q, k, v = self.project(number, x, look, stream.crew)
        return self.attended(number, q, k, v, x, stream, look)

    def attended(
        self, number: int, q: Tensor, k: Tensor, v: Tensor, x: Tensor, stream: Stream, look: Look | None
    ) -> Tensor:
        """The block from its queries, keys and values on."""
        made = attend(q, k, v, stream, self.terms(number), rope=self.rope(number, x, stream), kept=look)
        crew = stream.crew if look is None else look.crew
        return self.rest(number, made.flatten(1), x if look is None else x[look.index], crew)

    def rope(self, number: int, x: Tensor, stream: Stream) -> Rope | None:
        """Turns of a stream's positions, worked out once for all blocks that turn alike; None for a block without."""
        kind = self.turning(number)
        if kind is None:
            return None
        if self._stream is not stream:
            self._stream, self._turns = stream, {}
        if kind not in self._turns:
            self._turns[kind] = self._rope(x, stream.positions, kind)
        return self._turns[kind]

    def rope_at(self, number: int, x: Tensor, positions: Tensor) -> Rope | None:
        """Turns of any positions [tokens]."""
        kind = self.turning(number)
        return None if kind is None else self._rope(x, positions, kind)

    def turning(self, number: int) -> str | None:
        """How a block turns queries and keys by their positions, as its net calls it: empty where there is one way
        only, None where it does not."""
        return ""

    def _rope(self, x: Tensor, positions: Tensor, kind: str) -> Rope:
        """Half of what the stock module gives, whose two halves are the same."""
        cos, sin = self.base.rotary_emb(x, positions[None], *([kind] if kind else []))
        half = cos.shape[-1] // 2
        return cos[0, :, None, :half].contiguous(), sin[0, :, None, :half].contiguous()

    def _three(
        self, normed: Tensor, layers: tuple[nn.Module, nn.Module, nn.Module], look: Look | None, crew: Crew | None
    ) -> tuple[Tensor, ...]:
        """Products with the layers of queries (where looked at), keys and values."""
        if look is None:
            return products(normed, layers, self.matmul, crew=crew)
        asking = products(normed[look.index], layers[:1], self.matmul, crew=look.crew)
        return *asking, *products(normed, layers[1:], self.matmul, crew=crew)

    def _of_one(
        self, normed: Tensor, layer: nn.Module, size: int, look: Look | None, crew: Crew | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (where looked at), keys and values [tokens, heads, size] of one layer that makes a third of each."""
        (three,) = products(normed, (layer,), self.matmul, crew=crew)
        q, k, v = (part.unflatten(1, (-1, size)) for part in three.chunk(3, 1))
        return q if look is None else q[look.index], k, v

    def _table(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.base.get_input_embeddings()(ids)
        return embedded
