"""Only the head learns; the pretrained trunk stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tunesmith.contracts import Method
from tunesmith.errors import RecipeError

if TYPE_CHECKING:
    from tunesmith.models.model import Model


@dataclass(frozen=True)
class Head(Method):
    """Only the layers beside the pretrained trunk learn."""

    learning_rate: ClassVar[float] = 1e-3

    def apply(self, model: Model, seed: int) -> None:
        """Freeze the trunk, thaw the head. Raises RecipeError where the head is the input embedding too."""
        model.freeze()
        trunk = {id(parameter) for parameter in model.base.parameters()}
        for _, child in model.head_modules():
            for parameter in child.parameters():
                if id(parameter) not in trunk:
                    parameter.requires_grad_(True)
        if not model.trained() and not any(True for _ in model.head_modules()):
            raise RecipeError(
                "the model has no head: its own states are what the task reads",
                where="method",
                hint="take `full`, `top-layers` or `lora`",
            )
        if not model.trained():
            raise RecipeError(
                "the model's output layer is its input embedding, so it has no head of its own to tune",
                where="method",
                hint="take `top-layers` or `lora`",
            )


plugin = Head
