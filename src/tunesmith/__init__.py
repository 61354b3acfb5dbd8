"""Tunesmith: from a file of rows to a tuned, evaluated, saved and used model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import (
    DataError,
    FaultError,
    ModelError,
    RecipeError,
    RunError,
    StorageError,
    TunesmithError,
    UserError,
)

if TYPE_CHECKING:
    from tunesmith.predictor import Predictor

__version__ = "0.1.0"
__all__ = [
    "DataError",
    "FaultError",
    "ModelError",
    "RecipeError",
    "RunError",
    "StorageError",
    "TunesmithError",
    "UserError",
    "load",
    "tune",
]


def tune(recipe: str | Path | dict[str, Any], overrides: dict[str, Any] | None = None) -> Predictor:
    """Tune a model and give it back, ready to `predict`.

    `recipe` is a recipe file or its content as a mapping; `overrides` maps keys such as `train.epochs` to values.
    The run directory is `.run.path` of what is returned. Raises UserError for anything that the caller can mend.
    """
    import json

    from tunesmith import recipefile, run

    changes = tuple(f"{key}={json.dumps(value)}" for key, value in (overrides or {}).items())
    if isinstance(recipe, dict):
        made, text = recipefile.build(recipe, changes), None
    else:
        file = recipefile.load(Path(recipe), changes)
        made, text = file.recipe, file.text
    return load(run.train_recipe(made, text).path)


def load(run: str | Path) -> Predictor:
    """The tuned model of a run directory. `load(run).predict(["a text", ...])`"""
    from tunesmith import predictor

    return predictor.load(run)
