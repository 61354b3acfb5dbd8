"""Prompt tuning: embeddings of virtual tokens before every row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from tunesmith.contracts import Method
from tunesmith.errors import RecipeError

if TYPE_CHECKING:
    from tunesmith.models.model import Model


@dataclass(frozen=True)
class PromptTuning(Method):
    """The embeddings of virtual tokens before every row learn (Lester et al. 2021), and a fresh head whole. Nothing of
    the net is touched, and every block is run with gradients: a small file, at the time of `lora`."""

    learning_rate: ClassVar[float] = 5e-3

    tokens: Annotated[int, Ge(1)] = 20
    """Virtual tokens; they take room in the model's context."""

    text: str | None = None
    """Words whose embeddings they begin as, over and over. None begins as tokens drawn from the vocabulary."""

    def apply(self, model: Model, seed: int) -> None:
        """Freeze all but a fresh head, put the virtual tokens in. Raises RecipeError for nets that read no text, and
        where no room is left for it."""
        from tunesmith.models import prompt

        if model.family == "vision":
            raise RecipeError(
                "virtual tokens stand before texts, and this model reads images",
                where="method",
                hint="take `lora`, `top-layers` or `head`",
            )
        model.freeze()
        prompt.put(model, self.tokens, self.text, seed)


plugin = PromptTuning
