"""LoRA: a low-rank matrix beside every frozen one."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from tunesmith.contracts import Method
from tunesmith.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from tunesmith.models.model import Model


@dataclass(frozen=True)
class Lora(Method):
    """Low-rank adapters (Hu et al. 2021) beside the matrix products of every block; a fresh head learns whole."""

    learning_rate: ClassVar[float] = 2e-4

    rank: Annotated[int, Ge(1)] = 16
    """Width of the adapters."""

    alpha: Annotated[float, Gt(0)] = 32.0
    """The adapter's output is scaled by alpha / rank."""

    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Dropout on what the adapters read."""

    targets: Literal["all-linear"] | list[str] = "all-linear"
    """Which matrix products of a block: all, or the last part of their names, such as `q_proj`."""

    layers: Annotated[int, Ge(1)] | None = None
    """Blocks that get adapters, counted from the last. None adapts all."""

    start: str | None = None
    """Folder of an adapter in PEFT's format to go on from."""

    def apply(self, model: Model, seed: int) -> None:
        """Freeze all but a fresh head, put the adapters in. Raises RecipeError for targets that are not there."""
        from tunesmith.models import adapters, anatomy

        model.freeze()
        start = f"{model.root}." if model.root else ""
        layers = [
            path
            for path, _ in anatomy.linear_layers(model.base, model.anatomy)
            if f"{start}{path}.weight" not in model.fresh  # what is new learns whole
        ]
        chosen = layers
        if not layers:
            raise RecipeError(
                "the blocks of this model have no linear layers to put adapters beside",
                where="method",
                hint="take `full`, `top-layers` or `head`",
            )
        if self.targets != "all-linear":
            chosen = [path for path in layers if path.rpartition(".")[2] in self.targets]
            known = {path.rpartition(".")[2] for path in layers}
            odd = next((name for name in self.targets if name not in known), None)
            if odd is not None or not chosen:
                raise RecipeError(
                    f"the model has no layer `{odd}` to adapt",
                    where="method.targets",
                    hint=did_you_mean(str(odd), known),
                )
        if self.layers is not None:
            last = anatomy.last_blocks(model.base, model.anatomy, self.layers)
            chosen = [path for path in chosen if model.depth_of(f"{model.root}.{path}") in last]
        for path in chosen:
            adapters.wrap(model.base, path, self.rank, self.alpha, self.dropout, seed + zlib.crc32(path.encode()))
        if self.start is not None:
            adapters.load_peft(model.net, Path(self.start))


plugin = Lora
