"""Memory that runs out, scores that are no numbers, clocks that are set, files that change: said, and nothing lost."""

import itertools
import math
import os
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from faults import kills
from tunesmith import attempt, cli, recipefile, run
from tunesmith.errors import OutOfMemory, RunError
from tunesmith.events import Updated
from tunesmith.rundir import RunDir, list_runs
from tunesmith.train import loop


@pytest.fixture
def values(encoder: Path, labels_csv: Path, tmp_path: Path) -> dict[str, Any]:
    """18 updates, a checkpoint every three; the scores are looked at after 9 and 18."""
    made = tiny.recipe_values(
        encoder, labels_csv, tmp_path / "runs", task="text-classification", method="full", evaluate__answers=0
    )
    made["train"] |= {"save_every": 3, "learning_rate": 3e-3}
    made["evaluate"]["compare"] = False
    return made


def begun(values: dict[str, Any]) -> tuple[RunDir, Any]:
    return run.begin(recipefile.build(values), None, [])


def test_memory_that_runs_out_in_an_update_is_said_and_the_run_goes_on_to_the_same_bits(
    values: dict[str, Any], tmp_path: Path
) -> None:
    """RLIMIT_AS leaves no room for what the fifth update asks for."""
    whole = kills.undisturbed(values, tmp_path / "whole")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipefile.yaml.safe_dump(values))

    def work() -> None:
        real, calls = loop.accumulate, itertools.count(1)

        def hungry(*given: Any) -> Any:
            if next(calls) == 5:
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                limit = pages * os.sysconf("SC_PAGE_SIZE") + 2**26
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
                torch.ones(2**28)
            return real(*given)

        loop.accumulate = hungry  # type: ignore[assignment]
        cli.main(["train", str(recipe)])

    end = kills.in_child(work, tmp_path / "words")
    assert end.code == 1, end.words
    assert "error: memory ran out" in end.words
    assert "hint: free some and `tunesmith resume`" in end.words
    assert "Traceback" not in end.words
    (directory,) = list_runs(tmp_path / "runs")
    assert directory.status()["state"] == "failed"
    assert kills.committed(directory) == 3
    kills.goes_on_to(directory, whole)


@pytest.mark.parametrize("fault", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")])
def test_memory_that_runs_out_is_a_fault_of_the_run_however_it_is_said(
    fault: Exception, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise fault

    monkeypatch.setattr(loop, "accumulate", full)
    directory, prepared = begun(values)
    with pytest.raises(OutOfMemory) as caught:
        list(run.go(directory, prepared))
    assert caught.value.exit_code == 1
    assert directory.status()["state"] == "failed"


def test_a_mistake_of_ours_is_not_taken_for_a_want_of_memory(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any) -> None:
        raise RuntimeError("sizes do not match")

    monkeypatch.setattr(loop, "accumulate", wrong)
    directory, prepared = begun(values)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        list(run.go(directory, prepared))


@pytest.mark.parametrize(("scores", "best"), [((math.nan, 0.1), 18), ((0.9, math.nan), 9), ((0.2, 0.1), 9)])
def test_a_score_that_is_no_number_is_never_better_than_one_that_is(
    scores: tuple[float, float], best: int, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, prepared = begun(values)
    told = iter(scores)
    monkeypatch.setattr(attempt, "value_of", lambda task, measured: {task.headline.name: next(told)})
    list(run.go(directory, prepared))
    assert (directory.checkpoints / "best").resolve().name == f"step_{best:06d}"


def test_clocks_that_are_set_while_a_run_goes_on_change_neither_its_bits_nor_its_seconds(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = kills.undisturbed(values, tmp_path / "whole")
    real, jumps = time.time, itertools.cycle((4e8, -1.2e9, 0.0, 86_400.0))
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    directory = kills.stopped_after(values, tmp_path / "runs", 12)
    kills.goes_on_to(directory, whole)
    seconds = directory.json("report/report")["seconds"]
    assert all(0 <= spent < 600 for spent in seconds.values()), seconds
    assert all(0 <= event.seconds < 600 for event in directory.events() if isinstance(event, Updated))


def test_a_heartbeat_of_another_time_does_not_make_a_living_run_a_dead_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RunDir(tmp_path)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with directory.lock():
        directory.set_status("running", step=1, steps=2, attempt=1)
        monkeypatch.undo()
        assert directory.status()["state"] == "running"
    assert directory.status()["state"] == "interrupted"


def test_runs_begun_on_a_day_before_the_last_ones_get_names_of_their_own(
    values: dict[str, Any], tmp_path: Path
) -> None:
    first, _ = begun(values)
    first.path.rename(first.path.with_name("2999-01-01_later"))
    names = [begun(values)[0].path.name for _ in range(2)]
    assert len(set(names)) == 2
    assert len(kills.listed(tmp_path / "runs")) == 3


def test_rows_that_changed_are_refused_with_their_sums_then_and_now(values: dict[str, Any], labels_csv: Path) -> None:
    directory, _ = begun(values)
    then = directory.json("data")["train"]["files"][0]["sha256"][:12]
    labels_csv.write_text(labels_csv.read_text().replace("parcel", "packet", 1))
    with pytest.raises(RunError, match=f"sha256 was {then} and is [0-9a-f]{{12}}") as caught:
        run.resume(directory.path)
    assert caught.value.where == str(labels_csv)
    assert then not in str(caught.value).partition(" and is ")[2]


def test_a_model_that_changed_is_refused_by_the_files_that_did(
    values: dict[str, Any], encoder: Path, tmp_path: Path
) -> None:
    shutil.copytree(encoder, tmp_path / "model")
    directory, _ = begun({**values, "model": str(tmp_path / "model")})
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text() + "\n")
    (tmp_path / "model" / "notes.txt").write_text("new")
    with pytest.raises(RunError, match=r"has changed since the run began: config\.json is another, notes\.txt is new"):
        run.resume(directory.path)
