"""(IA)^3: a learned factor for every key, value and feed-forward number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tunesmith.contracts import Method
from tunesmith.errors import RecipeError

if TYPE_CHECKING:
    from tunesmith.models.model import Model

_MADE = (
    "key", "value", "k_proj", "v_proj", "k", "v", "k_lin", "v_lin", "c_attn", "query_key_value", "qkv_proj", "Wqkv",
    "key_proj", "value_proj",
)  # fmt: skip
"""Products that make keys and values; where one makes queries too, these are scaled with them."""
_READ = (
    "output.dense", "down_proj", "wo", "lin2", "fc2", "mlp.c_proj", "dense_4h_to_h", "mlp.Wo",
)  # fmt: skip
"""Products that read what the feed-forward part made."""


@dataclass(frozen=True)
class Ia3(Method):
    """Factors on keys, values and what the feed-forward part made (Liu et al. 2022): the fewest numbers of all
    adapters. A fresh head learns whole."""

    learning_rate: ClassVar[float] = 3e-3

    def apply(self, model: Model, seed: int) -> None:
        """Freeze all but a fresh head, put the factors in. Raises RecipeError for a net without keys and values."""
        from tunesmith.models import adapted
        from tunesmith.models.ia3 import Ia3Linear

        model.freeze()
        chosen = [(path, reads) for path in adapted.products(model) if (reads := _part(path)) is not None]
        if all(reads for _, reads in chosen):
            raise RecipeError(
                "the blocks of this model have no keys and values to scale",
                where="method",
                hint="take `full`, `top-layers` or `bitfit`",
            )
        for path, reads in chosen:
            model.base.set_submodule(path, Ia3Linear(model.base.get_submodule(path), reads=reads))


def _part(path: str) -> bool | None:
    """Whether factors go on what a product reads (true) or makes (false); None where it gets none."""
    if any(path.endswith(f".{name}") for name in _READ) and "attention.output." not in path:
        return True
    return False if path.rpartition(".")[2] in _MADE else None


plugin = Ia3
