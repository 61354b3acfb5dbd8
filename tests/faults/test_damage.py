"""Files damaged, moved, copied or linked: what is whole is gone on with, what is not is never taken for whole."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from faults import kills
from tunesmith import predictor, recipefile, run
from tunesmith.errors import NotFinite, RunError
from tunesmith.events import Event, Started, Warned
from tunesmith.rundir import RunDir
from tunesmith.train import checkpoint


@pytest.fixture(scope="session")
def values(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """18 updates, a checkpoint every two; the scores are looked at after 9 and 18."""
    return kills.labels(encoder, tmp_path_factory.mktemp("rows"), save_every=2)


@pytest.fixture(scope="session")
def finished(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    out = tmp_path_factory.mktemp("finished")
    return run.train_recipe(recipefile.build({**values, "run": {"dir": str(out)}}))


@pytest.fixture(scope="session")
def stopped(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run that was left after update 12; the best score is that of 9."""
    return kills.stopped_after(values, tmp_path_factory.mktemp("stopped"), 12)


@pytest.fixture
def copy(stopped: RunDir, tmp_path: Path) -> RunDir:
    shutil.copytree(stopped.path, tmp_path / "copy", symlinks=True)
    return RunDir(tmp_path / "copy")


def begun_again(directory: RunDir) -> tuple[int, list[str]]:
    """Resume as far as the first update: the update that it begins after, and its warnings."""
    again, prepared = run.resume(directory.path)
    assert prepared is not None
    seen: list[Event] = []
    for event in run.go(again, prepared):
        seen.append(event)
        if isinstance(event, Started):
            return event.step, [e.message for e in seen if isinstance(e, Warned)]
    raise AssertionError("it never started")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


HARMS: dict[str, Callable[[Path], None]] = {"flip": flip, "cut": cut, "empty": empty, "gone": Path.unlink}
FILES = ("trained.safetensors", "optimizer.safetensors", "state.json", "manifest.json")


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("file", FILES)
def test_harm_to_any_file_of_the_last_checkpoint_leads_back_to_the_one_before_and_is_said(
    file: str, harm: str, copy: RunDir
) -> None:
    HARMS[harm](copy.checkpoints / "step_000012" / file)
    step, warnings = begun_again(copy)
    assert step == 9
    assert any("step_000012" in said and "going on from the checkpoint before" in said for said in warnings)


@pytest.mark.parametrize("harm", [h if h == "flip" else pytest.param(h, marks=pytest.mark.slow) for h in HARMS])
def test_the_best_checkpoint_damaged_is_stood_in_for_by_the_last_and_that_is_said(
    harm: str, copy: RunDir, finished: RunDir
) -> None:
    HARMS[harm](copy.checkpoints / "best" / "trained.safetensors")
    step, warnings = begun_again(copy)
    assert step == 12
    assert any("step_000009" in said and "it scored best" in said for said in warnings)
    assert (copy.checkpoints / "best").resolve().name == "step_000012"
    again, prepared = run.resume(copy.path)
    assert prepared is not None
    list(run.go(again, prepared))
    assert kills.losses(copy) == kills.losses(finished)
    assert (copy.checkpoints / "best").resolve().name == "step_000018"
    assert copy.status()["state"] == "finished"


def test_all_checkpoints_damaged_lead_back_to_the_start(copy: RunDir) -> None:
    for folder in copy.checkpoints.glob("step_*"):
        flip(folder / "trained.safetensors")
    step, warnings = begun_again(copy)
    assert step == 0
    assert any("or from the start" in said for said in warnings)


def test_a_harm_is_noticed_when_the_run_is_used(finished: RunDir, tmp_path: Path) -> None:
    shutil.copytree(finished.path, tmp_path / "copy", symlinks=True)
    flip(tmp_path / "copy" / "checkpoints" / "best" / "trained.safetensors")
    with pytest.raises(RunError, match="is damaged"):
        predictor.load(tmp_path / "copy")


def test_the_newest_checkpoint_is_the_one_of_the_largest_number_though_its_name_sorts_first(copy: RunDir) -> None:
    last = copy.checkpoints / "step_000012"
    state = json.loads((last / "state.json").read_text())
    tensors = checkpoint.read(last)
    for step in (999_999, 1_000_000):
        checkpoint.write(copy, *tensors, checkpoint.Progress(**{**state, "step": step, "best_step": step - 1}))
        (copy.checkpoints / "best").unlink()
    found = checkpoint.read_latest(copy, pytest.fail)
    assert found is not None
    assert found[2].step == 1_000_000


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_of_the_optimizer_that_is_not_finite_is_never_committed(copy: RunDir, number: float) -> None:
    trained, moments = checkpoint.read(copy.checkpoints / "step_000012")
    spoiled = next(name for name, tensor in moments.items() if tensor.is_floating_point() and tensor.ndim)
    moments[spoiled] = torch.full_like(moments[spoiled], number)
    with pytest.raises(NotFinite, match="not finite in update 14") as caught:
        checkpoint.write(copy, trained, moments, checkpoint.Progress(step=14))
    assert spoiled in str(caught.value)
    assert kills.committed(copy) == 12


def followed(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=False)


def without_links(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)
    for name in ("best", "last"):
        (target / "checkpoints" / name).unlink()


def hard_linked(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=os.link)


def linked(source: Path, target: Path) -> None:
    shutil.copytree(source, target.with_name("real"), symlinks=True)
    target.symlink_to("real")


COPIES: dict[str, Callable[[Path, Path], None]] = {
    "links followed": followed,
    "links left out": without_links,
    "hard links": hard_linked,
    "a link to it": linked,
}


@pytest.mark.parametrize("way", COPIES)
def test_a_run_copied_in_any_way_goes_on_to_the_same_bits_and_leaves_the_original_alone(
    way: str, stopped: RunDir, finished: RunDir, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in stopped.path.rglob("*") if path.is_file()}
    COPIES[way](stopped.path, tmp_path / "copy")
    kills.goes_on_to(RunDir(tmp_path / "copy"), kills.Whole.of(finished))
    assert {path: path.read_bytes() for path in stopped.path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("way", COPIES)
def test_a_finished_run_copied_in_any_way_answers_as_the_original_does(
    way: str, finished: RunDir, tmp_path: Path
) -> None:
    COPIES[way](finished.path, tmp_path / "copy")
    texts = ["where is my parcel", "the card was charged twice"]
    assert predictor.load(tmp_path / "copy").predict(texts) == predictor.load(finished.path).predict(texts)
    assert kills.listed(tmp_path)["copy"]["value"] == kills.listed(finished.path.parent)[finished.path.name]["value"]
    scored, original = (predictor.load(path).evaluate() for path in (tmp_path / "copy", finished.path))
    assert scored["scores"] == original["scores"]


def test_a_run_moved_while_it_was_stopped_goes_on_where_it_is(
    stopped: RunDir, finished: RunDir, tmp_path: Path
) -> None:
    shutil.copytree(stopped.path, tmp_path / "a" / "run", symlinks=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "run").rename(tmp_path / "b" / "other name")
    kills.goes_on_to(RunDir(tmp_path / "b" / "other name"), kills.Whole.of(finished))
    assert list((tmp_path / "a").iterdir()) == []


def test_a_run_with_a_torn_status_does_not_hide_the_others(stopped: RunDir, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copytree(stopped.path, tmp_path / name, symlinks=True)
    empty(tmp_path / "b" / "status.json")
    lines = kills.listed(tmp_path)
    assert {name: line["state"] for name, line in lines.items()} == {"a": "stopped", "b": "damaged", "c": "stopped"}
