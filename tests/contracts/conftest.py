"""What the battery's tests share, and the sample of it that `make test` runs; `make battery` runs all."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import samples
import tiny

SHARE = 0.5
"""Of the cases of a test that has many: `make test` gives the battery six minutes at most."""


def chosen(cases: list[dict[str, str]], seed: int, share: float = SHARE, times: int = 1) -> list[int]:
    """Numbers of the cases of one test that run: all values of all parameters so many times, then at random up to the
    share."""
    order = random.Random(seed).sample(range(len(cases)), len(cases))
    seen: Counter[tuple[str, str]] = Counter()
    first: list[int] = []
    for k in order:
        if any(seen[item] < times for item in cases[k].items()):
            first.append(k)
            seen.update(cases[k].items())
    rest = [k for k in order if k not in first]
    return sorted([*first, *rest[: max(round(share * len(cases)) - len(first), 0)]])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    named = any("::" in argument for argument in config.args) or config.getoption("keyword")
    if config.getoption("--whole") or named:
        return
    here = Path(__file__).parent
    groups: dict[tuple[Path, str], list[pytest.Item]] = {}
    for item in items:
        if item.path.parent == here and hasattr(item, "callspec"):
            groups.setdefault((item.path, item.originalname), []).append(item)  # type: ignore[attr-defined]
    dropped: set[pytest.Item] = set()
    for group in groups.values():
        cases = [{k: str(v) for k, v in item.callspec.params.items()} for item in group]  # type: ignore[attr-defined]
        large = group[0].path.name == "test_matrix.py"
        share, times = (0.0, 3) if large else (SHARE, 1)
        kept = set(chosen(cases, config.getoption("--battery-seed"), share, times))
        dropped |= {item for k, item in enumerate(group) if k not in kept}
    config.hook.pytest_deselected(items=list(dropped))
    items[:] = [item for item in items if item not in dropped]


@pytest.fixture
def values(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    def make(task: str, family: str, method: str, **changes: Any) -> dict[str, Any]:
        model = request.getfixturevalue(family.replace("-", "_"))
        if method == "peft":
            changes = {"method": {"name": "peft", "type": "LOHA", "config": {"r": 4, "alpha": 8}}, **changes}
        else:
            changes = {"method": method, **changes}
        rows = samples.write(task, tmp_path)
        return tiny.recipe_values(model, rows, tmp_path / "runs", task=task, **changes)

    return make
