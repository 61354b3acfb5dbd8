"""What hostile input is tried in: a cache of its own, and no network."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of a bad input may stay in the user's cache either."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TUNESMITH_CACHE", str(folder))
    return folder
