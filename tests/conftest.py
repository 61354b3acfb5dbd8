"""Fixtures: tiny models, made once a session. Only tests marked `network` download anything."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tiny
from tunesmith.models import pretrained

# Tiny nets are quickest on one thread; the variable is for the processes that tests start, whose bits are compared.
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="run every case of the battery, and tests marked `slow`")
    parser.addoption("--battery-seed", type=int, default=0, help="which sample of its cases runs otherwise")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--whole"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)


@pytest.fixture(scope="session", autouse=True)
def one_library() -> Iterator[None]:
    """The library that multiplies is chosen once: on a busy machine two runs whose bits are compared could differ."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "fastest", functools.cache(pretrained.fastest))
        yield


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test can see whether the disk has taken what it was told to write, and a run of a tiny net waits longer for
    that than for anything else. Faults are another thing: there each call that changes a disk is a place to die at."""
    if "faults" not in request.path.parts:
        monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_encoder(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that only runs in padded batches."""
    return tiny.make_encoder(tmp_path_factory.mktemp("models") / "tiny-deberta", "deberta-v2")


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_decoder(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def encoder_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_seq2seq(tmp_path_factory.mktemp("models") / "tiny-bart", "bart")


@pytest.fixture(scope="session")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_vision(tmp_path_factory.mktemp("models") / "tiny-vit")


@pytest.fixture
def labels_csv(tmp_path: Path) -> Path:
    return tiny.write_csv(tmp_path / "rows.csv", tiny.label_rows())


@pytest.fixture
def chats_jsonl(tmp_path: Path) -> Path:
    return tiny.write_jsonl(tmp_path / "chats.jsonl", tiny.chat_rows())
