"""(IA)^3: a learned factor for every key, value and feed-forward number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tunesmith.contracts import Method
from tunesmith.errors import RecipeError

if TYPE_CHECKING:
    from tunesmith.models.model import Model


@dataclass(frozen=True)
class Ia3(Method):
    """Factors on keys, values and what the feed-forward part made (Liu et al. 2022): the fewest numbers of all
    adapters. A fresh head learns whole."""

    learning_rate: ClassVar[float] = 3e-3

    def apply(self, model: Model, seed: int) -> None:
        """Freeze all but a fresh head, put the factors in. Raises RecipeError for a net without keys and values."""
        from tunesmith.models import adapted, anatomy
        from tunesmith.models.ia3 import Ia3Linear

        model.freeze()
        roles = {path: anatomy.role(path) for path in adapted.products(model)}
        if "keys-values" not in roles.values():
            raise RecipeError(
                "the blocks of this model have no keys and values to scale",
                where="method",
                hint="take `full`, `top-layers` or `bitfit`",
            )
        for path, role in roles.items():
            if role in ("keys-values", "feed-forward-end"):
                factors = Ia3Linear(model.base.get_submodule(path), reads=role == "feed-forward-end")
                model.base.set_submodule(path, factors)


plugin = Ia3
