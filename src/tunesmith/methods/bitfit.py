"""BitFit: only the biases learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tunesmith.contracts import Method
from tunesmith.errors import RecipeError

if TYPE_CHECKING:
    from tunesmith.models.model import Model


@dataclass(frozen=True)
class BitFit(Method):
    """The biases of the pretrained net learn (Ben Zaken et al. 2022, arXiv:2106.10199), and a fresh head whole."""

    learning_rate: ClassVar[float] = 5e-4

    def apply(self, model: Model, seed: int) -> None:
        """Freeze all but a fresh head, thaw the biases. Raises RecipeError for a net whose blocks have none."""
        model.freeze()
        biases = [(name, p) for name, p in model.net.named_parameters() if name.rpartition(".")[2] == "bias"]
        if not any(model.depth_of(name) is not None for name, _ in biases):
            raise RecipeError(
                "the blocks of this model have no biases, as is usual for LLaMA and its kin",
                where="method",
                hint="take `lora` or `ia3`",
            )
        for _, parameter in biases:
            parameter.requires_grad_(True)


plugin = BitFit
