"""LoRA: a low-rank matrix beside every frozen one."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from tunesmith.contracts import Method
from tunesmith.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from tunesmith.models.lora import LoraKind
    from tunesmith.models.model import Model


@dataclass(frozen=True)
class Lora(Method):
    """Low-rank adapters (Hu et al. 2021) beside the matrix products of every block; a fresh head learns whole."""

    learning_rate: ClassVar[float] = 2e-4

    rank: Annotated[int, Ge(1)] = 16
    """Width of the adapters."""

    ranks: dict[str, Annotated[int, Ge(1)]] = field(default_factory=dict)
    """Patterns of names, such as `*.v_proj` or `*.layer.5.*`, and the rank of what they match; the last that does
    counts."""

    alpha: Annotated[float, Gt(0)] = 32.0
    """The adapter's output is scaled by alpha / rank."""

    scaling: Literal["rank", "root"] = "rank"
    """Scale by alpha / rank, or by alpha / sqrt(rank), which keeps the steps of high ranks large (rsLoRA, Kalajdzievski
    2023)."""

    kind: Literal["lora", "dora"] = "lora"
    """`dora` learns the lengths of the matrix's rows apart from their directions (Liu et al. 2024)."""

    init: Literal["zero", "pissa"] = "zero"
    """Begin as nothing, or as the matrix's largest singular vectors, which are taken off again (Meng et al. 2024)."""

    b_rate: Annotated[float, Gt(0)] = 1.0
    """Learning rate of the second matrix, as a multiple of the first's: 16 is usual (LoRA+, Hayou et al. 2024)."""

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
        from tunesmith.models import lora, peftfiles

        model.freeze()
        paths = self._paths(model)
        for pattern in self.ranks:
            if not any(fnmatchcase(path, pattern) for path in paths):
                raise RecipeError(
                    f"no adapted layer is called like `{pattern}`",
                    where="method.ranks",
                    hint=f"names are such as `{paths[0]}`; `*` stands for any part",
                )
        for path in paths:
            lora.wrap(model.base, path, self._kind(path), seed + zlib.crc32(path.encode()))
        if self.start is not None:
            if self.init == "pissa":
                raise RecipeError(
                    "an adapter to start from and a start from singular vectors are two starts",
                    where="method.start",
                    hint="leave `start` or `init` out",
                )
            peftfiles.load_peft(model.net, Path(self.start))

    def rate(self, name: str) -> float:
        """The second matrix may learn faster."""
        return self.b_rate if name.endswith(".lora_B") else 1.0

    def end_to_end(self, count: int) -> Lora:
        """With what adapters of several nets are like that stand end to end, each a share of their mean."""
        wider = count * (2 if self.init == "pissa" else 1)  # what is taken off again stands beside what was learned
        scale = wider / count if self.scaling == "rank" else wider**0.5 / count
        ranks = {pattern: wider * rank for pattern, rank in self.ranks.items()}
        return replace(
            self, rank=wider * self.rank, ranks=ranks, alpha=self.alpha * scale, init="zero", start=None, b_rate=1.0
        )

    def _kind(self, path: str) -> LoraKind:
        from tunesmith.models.lora import LoraKind

        rank = self.rank
        for pattern, own in self.ranks.items():
            rank = own if fnmatchcase(path, pattern) else rank
        scale = self.alpha / (rank if self.scaling == "rank" else rank**0.5)
        return LoraKind(rank, scale, self.dropout, self.kind == "dora", self.init == "pissa")

    def _paths(self, model: Model) -> list[str]:
        """Where the adapters go, in the base model."""
        from tunesmith.models import adapted, anatomy

        layers = chosen = adapted.products(model)
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
        return chosen


plugin = Lora
