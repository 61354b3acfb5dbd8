"""The last blocks learn, with all that comes after them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from tunesmith.contracts import Method

if TYPE_CHECKING:
    from tunesmith.models.model import Model


@dataclass(frozen=True)
class TopLayers(Method):
    """The last blocks of the trunk, what follows them, and the head learn."""

    learning_rate: ClassVar[float] = 5e-5

    layers: Annotated[int, Ge(1)] = 2
    """Blocks that learn, counted from the last."""

    def apply(self, model: Model, seed: int) -> None:
        """Freeze all, thaw the last blocks and what the trunk runs after them. Raises RecipeError for too many."""
        from tunesmith.models import anatomy

        stack = anatomy.blocks(model.base, model.anatomy)
        last = anatomy.last_blocks(model.base, model.anatomy, self.layers)
        model.freeze()
        trunk = {id(parameter) for parameter in model.base.parameters()}
        for module in (*(stack[number] for number in last), *anatomy.after_blocks(model.base, model.anatomy)):
            for parameter in module.parameters():
                parameter.requires_grad_(True)
        for _, child in model.head_modules():
            for parameter in child.parameters():
                if id(parameter) not in trunk:
                    parameter.requires_grad_(True)


plugin = TopLayers
