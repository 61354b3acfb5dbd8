"""What the battery's tests share."""

from pathlib import Path
from typing import Any

import pytest

import samples
import tiny


@pytest.fixture
def values(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    def make(task: str, family: str, method: str, **changes: Any) -> dict[str, Any]:
        model = request.getfixturevalue(family.replace("-", "_"))
        rows = samples.write(task, tmp_path)
        return tiny.recipe_values(model, rows, tmp_path / "runs", task=task, method=method, **changes)

    return make
