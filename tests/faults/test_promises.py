"""What a run promises on a disk and across a death, each by the smallest thing that can go wrong with it."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunesmith import attempt, cli, commands, recipefile, run, rundir
from tunesmith.errors import RunError
from tunesmith.events import Updated
from tunesmith.prepare import Prepared
from tunesmith.rundir import RunDir
from tunesmith.train import checkpoint, loop
from tunesmith.train.checkpoint import Progress

_STEPS = ("mkdir", "fsync", "replace", "rename", "symlink", "unlink", "rmdir")
"""What changes a disk, as functions of the module `os`; files are written between them."""


def dies(work: Callable[[], object], at: int | None = None) -> int:
    """How a fork of this process ends that dies, as by SIGKILL, just before its `at`-th change of the disk."""
    process = os.fork()
    if process == 0:
        count = 0

        def step(real: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*given: Any, **named: Any) -> Any:
                nonlocal count
                count += 1
                if count == at:
                    os._exit(9)
                return real(*given, **named)

            return counted

        for name in _STEPS if at is not None else ():
            setattr(os, name, step(getattr(os, name)))
        try:
            work()
        except SystemExit as ended:
            os._exit(ended.code if isinstance(ended.code, int) else 0)
        except BaseException:
            os._exit(70)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def tensors(number: float) -> dict[str, torch.Tensor]:
    return {"w": torch.full((3,), number)}


def three_checkpoints(folder: Path) -> RunDir:
    """A run whose best checkpoint is that of update 3, and whose last that of update 6."""
    made = rundir.create(folder, "r", {"resolved.json": {}})
    for step in (3, 6):
        checkpoint.write(made, tensors(step), tensors(-step), Progress(step=step, best_step=3, best_score=0.5))
    return made


def values_of(model: Path, rows: Path, out: Path, **changes: Any) -> dict[str, Any]:
    more: dict[str, Any] = {"method": "full", "evaluate__compare": False, "train__learning_rate": 3e-3, **changes}
    made = tiny.recipe_values(model, rows, out, **more)
    made["model"] = {"name": str(model), "dropout": 0.2}
    return made


def test_a_death_at_any_write_of_a_checkpoint_leaves_a_whole_one(tmp_path: Path) -> None:
    start = three_checkpoints(tmp_path / "start")
    ends = []
    for at in range(1, 200):
        made = RunDir(Path(shutil.copytree(start.path, tmp_path / str(at), symlinks=True)))
        progress = Progress(step=9, best_step=3, best_score=0.5)
        ends.append(dies(partial(checkpoint.write, made, tensors(9), tensors(-9), progress), at))
        for folder in made.checkpoints.glob("step_*"):
            checkpoint.read(folder)  # one that has its name is whole
        found = checkpoint.read_latest(made, pytest.fail)
        assert found is not None and found[2].step in (6, 9)
        assert torch.equal(found[0]["w"], tensors(found[2].step)["w"])
        assert (made.checkpoints / "best").resolve().name == "step_000003"
        checkpoint.read(made.checkpoints / "best")
        checkpoint.read(made.checkpoints / "last")
        checkpoint.write(made, tensors(9), tensors(-9), progress)  # whoever goes on
        left = {path.name for path in made.checkpoints.glob("[!.]*")}
        assert left == {"best", "last", "step_000003", "step_000009"}
        if ends[-1] == 0:
            break
    assert ends == [9] * (len(ends) - 1) + [0] and len(ends) > 15


def test_a_death_at_any_write_of_a_new_run_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    files = {"resolved.json": {}, "plan.json": {"threads": 1}, "recipe.yaml": "model: x\n"}
    ends = []
    for at in range(1, 100):
        folder = tmp_path / str(at)
        ends.append(dies(partial(rundir.create, folder, "r", files), at))
        for found in rundir.list_runs(folder):
            assert {"checkpoints", "logs", "control", *files} == {path.name for path in found.path.iterdir()}
        named = [path.name for path in folder.glob("[!.]*")]
        assert named == ["r"] * len(rundir.list_runs(folder))
        made = rundir.create(folder, "r", files)
        assert made.json("plan") == {"threads": 1}
        if ends[-1] == 0:
            break
    assert ends == [9] * (len(ends) - 1) + [0] and len(ends) > 8


def test_every_file_of_a_checkpoint_is_on_the_disk_before_its_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill leaves what was written in the kernel's memory; only the order of syncs and names tells of a power cut."""
    made = three_checkpoints(tmp_path)
    done: list[tuple[str, str]] = []
    fsync, replace, rename = os.fsync, os.replace, os.rename

    def synced(handle: int) -> None:
        done.append(("sync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def named(real: Callable[..., None]) -> Callable[..., None]:
        def wrapped(old: Any, new: Any) -> None:
            done.append(("from", str(old)))
            done.append(("to", str(new)))
            real(old, new)

        return wrapped

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", named(replace))
    monkeypatch.setattr(os, "rename", named(rename))
    checkpoint.write(made, tensors(9), tensors(-9), Progress(step=9, best_step=3))
    monkeypatch.undo()
    home = str(made.checkpoints)
    final = done.index(("to", f"{home}/step_000009"))
    beside = done[final - 1][1]
    before = done[: final - 1]
    for name in ("trained.safetensors", "optimizer.safetensors", "state.json", "manifest.json"):
        at = before.index(("to", f"{beside}/{name}"))
        assert ("sync", before[at - 1][1]) in before[:at]
        assert ("sync", beside) in before[at:]
    link = done.index(("to", f"{home}/last"))
    assert ("sync", home) in done[final:link]


def test_the_newest_checkpoint_is_that_of_the_highest_update_whatever_its_age(tmp_path: Path) -> None:
    made = three_checkpoints(tmp_path)
    os.utime(made.checkpoints / "step_000006", (0, 0))
    found = checkpoint.read_latest(made, pytest.fail)
    assert found is not None and found[2].step == 6


def test_the_lock_of_a_process_that_died_is_taken_over(tmp_path: Path) -> None:
    made = rundir.create(tmp_path, "r", {"resolved.json": {}})

    def holds() -> None:
        made.lock().__enter__()
        os._exit(9)

    assert dies(holds) == 9
    assert (made.path / "lock").read_text() not in ("", str(os.getpid()))
    assert not made.locked()
    with made.lock():
        assert made.locked() and (made.path / "lock").read_text() == str(os.getpid())


def updates(directory: RunDir) -> dict[int, tuple[dict[str, float], float]]:
    """Update -> its losses and its rate: the same rows, dropout and weights give the same losses."""
    return {e.step: (e.losses, e.learning_rate) for e in directory.events() if isinstance(e, Updated)}


def stop_after(directory: RunDir, prepared: Prepared, count: int) -> None:
    """Train so many updates."""
    made = 0

    def enough() -> bool:
        return made >= count

    for event in run.go(directory, prepared, enough):
        made += isinstance(event, Updated)


def test_a_resumed_run_takes_the_rows_and_the_random_numbers_that_were_left(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    """Stopped in the first epoch, and in the second; it does what was left, and no update again."""
    whole = tiny.train_to_end(values_of(encoder, labels_csv, tmp_path / "whole"))
    wanted, last = updates(whole), whole.checkpoints / "last" / "trained.safetensors"
    per_epoch = len(wanted) // 2
    for stop_at in (3, per_epoch + 2):
        directory, prepared = run.begin(
            recipefile.build(values_of(encoder, labels_csv, tmp_path / str(stop_at))), None, []
        )
        stop_after(directory, prepared, stop_at)
        again, resumed = run.resume(directory.path)
        assert resumed is not None
        steps = [event.step for event in run.go(again, resumed) if isinstance(event, Updated)]
        assert steps == list(range(stop_at + 1, len(wanted) + 1))
        assert updates(again) == wanted
        assert (again.checkpoints / "last" / "trained.safetensors").read_bytes() == last.read_bytes()


def test_the_best_checkpoint_so_far_is_remembered_across_a_stop(
    encoder: Path, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.9, 0.5, 0.6])
    monkeypatch.setattr(attempt, "value_of", lambda *_: {"macro_f1": next(scores)})
    values = values_of(encoder, labels_csv, tmp_path, train__epochs=2, train__save_every=2)
    directory, prepared = run.begin(recipefile.build(values), None, [])
    per_epoch = directory.json("plan")["evaluate_every"]
    stop_after(directory, prepared, per_epoch + 1)
    again, resumed = run.resume(directory.path)
    assert resumed is not None
    list(run.go(again, resumed))
    assert (again.checkpoints / "best").resolve().name == f"step_{per_epoch:06d}"
    state = json.loads((again.checkpoints / "last" / "state.json").read_text())
    assert (state["best_step"], state["best_score"], state["looks"]) == (per_epoch, 0.9, 1)


def test_a_death_between_the_last_checkpoint_and_its_links_loses_no_better_one(
    encoder: Path, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No update is left that would turn the links again."""
    scores, real = iter([0.5, 0.9]), checkpoint.point_at
    monkeypatch.setattr(attempt, "value_of", lambda *_: {"macro_f1": next(scores)})
    directory, prepared = run.begin(recipefile.build(values_of(encoder, labels_csv, tmp_path)), None, [])
    steps = directory.json("plan")["steps"]

    def die(made: RunDir, progress: Progress) -> None:
        if progress.step == steps:
            raise KeyboardInterrupt
        real(made, progress)

    monkeypatch.setattr(checkpoint, "point_at", die)
    with pytest.raises(KeyboardInterrupt):
        list(run.go(directory, prepared))
    monkeypatch.setattr(checkpoint, "point_at", real)
    again, resumed = run.resume(directory.path)
    assert resumed is not None
    list(run.go(again, resumed))
    assert (again.checkpoints / "best").resolve().name == f"step_{steps:06d}"
    best = checkpoint.read(again.checkpoints / "best")[0]
    assert all(torch.equal(tensor, best[name]) for name, tensor in resumed.model.state().items())


def test_a_changed_model_is_refused_on_resume(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = Path(shutil.copytree(encoder, tmp_path / "model"))
    directory, prepared = run.begin(recipefile.build(values_of(model, labels_csv, tmp_path / "runs")), None, [])
    next(run.go(directory, prepared))
    held = load_file(model / "model.safetensors")
    held["encoder.layer.0.output.dense.weight"][0, 0] += 1e-3
    save_file(held, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(RunError, match="pretrained model has changed"):
        run.resume(directory.path)


MOMENTS: dict[str, tuple[Any, str]] = {
    "update": (loop, "accumulate"),
    "look": (attempt, "judge"),
    "save": (checkpoint, "write"),
}
"""Moment of a run -> the function that is at work then."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_sigterm_at_any_moment_of_training_ends_it_with_the_work_at_hand_saved(
    moment: str, encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(recipefile.yaml.safe_dump(values_of(encoder, labels_csv, tmp_path / "runs", train__save_every=4)))

    def work() -> None:
        module, name = MOMENTS[moment]
        real, stoppable = getattr(module, name), commands.stoppable

        def told(*given: Any, **named: Any) -> Any:
            setattr(module, name, real)
            os.kill(os.getpid(), signal.SIGTERM)
            return real(*given, **named)

        def listening(screen: Any) -> Any:
            setattr(module, name, told)  # not before: what is measured first is no work to be saved
            return stoppable(screen)

        commands.stoppable = listening
        cli.main(["train", str(recipe), "--json"])

    assert dies(work) == 128 + signal.SIGTERM
    (found,) = map(RunDir, (tmp_path / "runs").iterdir())
    kept = checkpoint.read_latest(found, pytest.fail)
    assert kept is not None and found.status()["state"] == "stopped" and found.status()["step"] == kept[2].step
    again, resumed = run.resume(found.path)
    assert resumed is not None
    list(run.go(again, resumed))
    assert again.status()["state"] == "finished" and len(updates(again)) == again.json("plan")["steps"]
