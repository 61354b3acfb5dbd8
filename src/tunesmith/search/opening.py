"""What a search knows once it is open: its folder, its space, and what its trials are changes of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith import recipefile
from tunesmith.contracts import Metric
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
