"""Bottleneck adapters: a small net behind the parts of every block."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from tunesmith.contracts import Method
from tunesmith.errors import RecipeError

if TYPE_CHECKING:
    from tunesmith.models.model import Model


@dataclass(frozen=True)
class Bottlenecks(Method):
    """A small net, `down`, GELU and `up`, behind the parts of every block (Houlsby et al. 2019); a fresh head learns
    whole. Other nets are told apart by the adapter alone, but it cannot be merged into the weights."""

    learning_rate: ClassVar[float] = 5e-4

    width: Annotated[int, Ge(1)] = 48
    """Numbers between `down` and `up`."""

    behind: Literal["both", "feed-forward"] = "both"
    """Behind the attention and the feed-forward part, or behind the latter alone (Pfeiffer et al. 2021,
    arXiv:2005.00247)."""

    layers: Annotated[int, Ge(1)] | None = None
    """Blocks that get adapters, counted from the last. None takes all."""

    def apply(self, model: Model, seed: int) -> None:
        """Freeze all but a fresh head, put the adapters in. Raises RecipeError for blocks without such parts, or for
        more blocks than there are."""
        from tunesmith.models import adapted, anatomy
        from tunesmith.models.bottleneck import Bottleneck

        model.freeze()
        roles = ("attention-end", "feed-forward-end") if self.behind == "both" else ("feed-forward-end",)
        paths = [path for path in adapted.products(model) if anatomy.role(path) in roles]
        if self.layers is not None:
            last = anatomy.last_blocks(model.base, model.anatomy, self.layers)
            paths = [path for path in paths if model.depth_of(f"{model.root}.{path}") in last]
        if not paths:
            raise RecipeError(
                "the blocks of this model end in no matrix product to put an adapter behind",
                where="method",
                hint="take `full`, `top-layers` or `head`",
            )
        for path in paths:
            part = Bottleneck(model.base.get_submodule(path), self.width, seed + zlib.crc32(path.encode()))
            model.base.set_submodule(path, part)


plugin = Bottlenecks
