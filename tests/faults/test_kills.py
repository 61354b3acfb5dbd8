"""Killed at every step on disk and at any time: nothing is lost but the work since the last checkpoint.

`make test` makes a few of the kills, `make test-faults` all of them.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from faults import kills
from tunesmith.rundir import RunDir

Works = dict[str, tuple[int | None, Callable[[Path], Callable[[kills.Gate], None]]]]


@pytest.fixture
def whole_sweep(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--whole"))


def labels_with_dropout(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """18 updates of all weights, a checkpoint every three."""
    model, rows = request.getfixturevalue("encoder"), request.getfixturevalue("labels_csv")
    made = tiny.recipe_values(model, rows, tmp_path, method="full", evaluate__answers=0, evaluate__compare=False)
    made["train"] |= {"save_every": 3, "learning_rate": 3e-3}
    return {**made, "model": {"name": str(model), "dropout": 0.2}}


def packed_chat(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """12 updates of an adapter over packed conversations, a checkpoint every two."""
    model, rows = request.getfixturevalue("decoder"), request.getfixturevalue("chats_jsonl")
    made = tiny.recipe_values(model, rows, tmp_path, method="lora", evaluate__answers=0, evaluate__compare=False)
    made["train"] |= {"save_every": 2, "learning_rate": 3e-3, "epochs": 4}
    return made


RUNS = {"labels": labels_with_dropout, "chat": packed_chat}
WORKS: dict[str, tuple[int | None, int]] = {"begin": (None, 17), "save": (9, 9), "end": (18, 25)}
"""Work -> the update after which a run is left for it, and which share of its calls `make test` kills in."""


@pytest.mark.skipif(not kills.can_strace(), reason="strace cannot be used here")
@pytest.mark.parametrize("work", WORKS)
def test_a_run_killed_at_any_step_on_disk_loses_nothing_and_leaves_nothing_half_made(
    work: str, request: pytest.FixtureRequest, tmp_path: Path, whole_sweep: bool
) -> None:
    values = labels_with_dropout(request, tmp_path)
    whole = kills.undisturbed(values, tmp_path / "whole")
    step, share = WORKS[work]
    folder = tmp_path / "runs"
    if step is None:
        folder.mkdir()
        of = kills.begins(values)
    else:
        kills.stopped_after(values, folder, step - 3 if work == "save" else step)
        of = kills.saves(step) if work == "save" else kills.concludes
    made, calls = kills.sweep(folder, of, whole, tmp_path / "copies", 1 if whole_sweep else share)
    print(f"\n{work}: {made} kills survived, of {calls} calls that change a disk")
    assert made and (made == calls or not whole_sweep)


@pytest.mark.parametrize("kind", ["labels", pytest.param("chat", marks=pytest.mark.slow)])
def test_a_run_killed_at_random_times_ends_with_the_same_bits(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, whole_sweep: bool
) -> None:
    values = RUNS[kind](request, tmp_path)
    kills.undisturbed(values, tmp_path / "warm")
    began = time.monotonic()
    whole = kills.undisturbed(values, tmp_path / "whole")
    count = 110 if whole_sweep else 3
    longest = 1.2 * (time.monotonic() - began)
    done = kills.at_random(values, whole, tmp_path / "random", count, seed=7, longest=longest)
    print(f"\n{kind}: {done.kills} kills survived over {done.runs} runs; {done.lost} updates were done twice")
    assert done.kills >= count


def test_the_harness_notices_what_a_death_took(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A proof that the checks can fail: a checkpoint that is torn, a row of events that promises more than is there."""
    values = labels_with_dropout(request, tmp_path)
    whole = kills.undisturbed(values, tmp_path / "whole")
    directory = kills.stopped_after(values, tmp_path / "runs", 9)
    assert kills.committed(directory) == 9
    torn = directory.checkpoints / "step_000009" / "trained.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    assert kills.committed(RunDir(directory.path)) < 9
    with pytest.raises(AssertionError):
        kills.nothing_half_made(directory, whole)
