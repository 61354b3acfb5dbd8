"""What a search knows once it is open: its folder, its space, and what its trials are changes of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith import recipefile
from tunesmith.contracts import Metric
from tunesmith.data.sums import of_code, sha256
from tunesmith.prepare import Prepared
from tunesmith.provenance import model_hash
from tunesmith.recipe import Recipe
from tunesmith.search.directory import SearchDir
from tunesmith.search.shared import Shared
from tunesmith.search.space import Space
from tunesmith.searchspace import lookup, walk


@dataclass(frozen=True)
class Opening:
    """All that a search needs to go on."""

    directory: SearchDir
    recipe: Recipe
    """As it was written, with its `search`."""
    base: Recipe
    """What trials are changes of: data and task resolved, without the `search`."""
    space: Space
    metric: Metric
    """What picks checkpoints, and trials."""
    tested: bool
    """Whether there are test rows."""
    shared: Shared

    def recipe_at(self, params: Mapping[str, Any]) -> Recipe:
        """The recipe of a trial; without any parameters, that of the recipe's own point."""
        changes = walk(self.space.axes, lookup(params)) if params else {}
        return recipefile.changed(self.base, changes)


def made_of(prepared: Prepared) -> dict[str, Any]:
    """What a trial's score depends on beside its recipe."""
    files = {path for paths in prepared.splits.files.values() for path in paths}
    return {
        "data_sha256": {path: sha256(Path(path)) for path in sorted(files)},
        "model_sha256": model_hash(prepared),
        "code_sha256": of_code(),
        "matmul": prepared.model.matmul.name,
    }


def unlike(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str] | None:
    """Of what two searches are made of, what makes their trials incomparable: rows or the model, and the file."""
    for key, what in (("data_sha256", "rows"), ("model_sha256", "pretrained model")):
        odd = sorted(name for name in then[key].keys() | now[key].keys() if then[key].get(name) != now[key].get(name))
        if odd:
            return what, odd[0]
    return None
