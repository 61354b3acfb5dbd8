"""Every parameter learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tunesmith.contracts import Method

if TYPE_CHECKING:
    from tunesmith.models.model import Model


@dataclass(frozen=True)
class Full(Method):
    """Every parameter that the loss reaches learns."""

    learning_rate: ClassVar[float] = 2e-5

    def apply(self, model: Model, seed: int) -> None:
        """Thaw everything that is read."""
        unread = {f"{model.root}.{path}" for path in model.anatomy.unread}
        for name, parameter in model.net.named_parameters():
            parameter.requires_grad_(name not in unread)


plugin = Full
