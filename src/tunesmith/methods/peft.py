"""Any adapter of the PEFT library, by its own config."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tunesmith.contracts import Method
from tunesmith.errors import RecipeError

if TYPE_CHECKING:
    from tunesmith.models.model import Model

_OURS = ("peft_type", "task_type", "base_model_name_or_path", "inference_mode", "modules_to_save", "auto_mapping",
         "revision", "peft_version")  # fmt: skip
"""Keys of a saved config that say nothing of the adapter itself, or that are known here."""


@dataclass(frozen=True)
class Peft(Method):
    """An adapter of the PEFT library, run by the library; a fresh head learns whole. `lora`, `ia3` and `prompt-tuning`
    are faster as methods of their own."""

    learning_rate: ClassVar[float] = 1e-3

    type: str | None = None
    """The kind, as the library's configs call it: LOHA, LOKR, OFT, BOFT, VERA, FOURIERFT, LN_TUNING ..."""

    config: dict[str, Any] = field(default_factory=dict)
    """Options of the library's config. Without `target_modules`, every matrix product of the blocks is adapted."""

    file: str | None = None
    """An `adapter_config.json`, or a folder with one, to take both from; `config` goes before it."""

    def apply(self, model: Model, seed: int) -> None:
        """Freeze all but a fresh head, put the adapters in. Raises RecipeError for what the library refuses."""
        from tunesmith.models import anypeft

        said = _read(Path(self.file)) if self.file is not None else {}
        kind = self.type or said.get("peft_type")
        if not isinstance(kind, str):
            raise RecipeError(
                "no kind of adapter is named",
                where="method.type",
                hint="`method: {name: peft, type: LOHA, config: {r: 8}}`",
            )
        options = {key: value for key, value in said.items() if key not in _OURS} | self.config
        anypeft.put(model, kind.upper().replace("-", "_"), options, seed)


def _read(path: Path) -> dict[str, Any]:
    """A config file. Raises RecipeError."""
    place = path / "adapter_config.json" if path.is_dir() else path
    try:
        said = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise RecipeError(f"the adapter's config cannot be read: {fault}", where=f"method.file: {path}") from None
    if not isinstance(said, dict):
        raise RecipeError("the adapter's config is not an object of JSON", where=f"method.file: {path}")
    return said


plugin = Peft
