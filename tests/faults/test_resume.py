"""Stopped, killed or torn at any moment: a resumed run ends with the same bits as one that was left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunesmith import recipefile, run
from tunesmith.errors import NotFinite, RunError
from tunesmith.events import Event, Finished, Updated
from tunesmith.prepare import Prepared, prepare
from tunesmith.rundir import RunDir
from tunesmith.train import checkpoint


def values_of(kind: str, request: pytest.FixtureRequest, out: Path, **changes: Any) -> dict[str, Any]:
    chat = kind == "chat"
    model = request.getfixturevalue("decoder" if chat else "encoder")
    rows = request.getfixturevalue("chats_jsonl" if chat else "labels_csv")
    more: dict[str, Any] = {"method": "lora" if chat else "full", "evaluate__answers": 0, "evaluate__compare": False}
    made = tiny.recipe_values(model, rows, out, **{**more, **changes})
    made["train"] |= {"learning_rate": 3e-3, "save_every": 3}
    made["model"] = {"name": str(model), "dropout": 0.2 if not chat else None}
    return made


def weights(directory: RunDir) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.model.rglob("*.safetensors")}


def rows_consumed(directory: RunDir) -> dict[int, float]:
    """Update -> loss: the same rows with the same weights and dropout give the same loss."""
    return {e.step: e.losses["loss"] for e in directory.events() if isinstance(e, Updated)}


def stop_after(directory: RunDir, prepared: Prepared, step: int) -> Event | None:
    """Train until the update `step` is done; returns the last event."""
    seen, last = [0], None
    for event in run.go(directory, prepared, lambda: seen[0] >= step):
        if isinstance(event, Updated):
            seen[0] = event.step
        last = event
    return last


@pytest.mark.parametrize("kind", ["labels", "chat"])
def test_a_run_stopped_anywhere_and_resumed_ends_with_the_same_bits(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    whole = tiny.train_to_end(values_of(kind, request, tmp_path / "a"))
    per_epoch = whole.json("plan")["evaluate_every"]
    for stop_at in (1, per_epoch - 1, per_epoch, per_epoch + 1):
        directory, prepared = run.begin(recipefile.build(values_of(kind, request, tmp_path / f"b{stop_at}")), None, [])
        last = stop_after(directory, prepared, stop_at)
        assert isinstance(last, Finished)
        assert last.state == "stopped"
        again, prepared_again = run.resume(directory.path)
        assert prepared_again is not None
        list(run.go(again, prepared_again))
        assert weights(again) == weights(whole)
        assert rows_consumed(again) == rows_consumed(whole)


SHAPED: list[dict[str, Any]] = [
    {"optimizer": "lion", "ema": 0.8, "layer_decay": 0.7},
    {"optimizer": "adamw-8bit"},
    {"optimizer": "sgd", "average": 0.6, "l2_sp": 0.1},
    {"optimizer": "adafactor", "unfreeze_every": 0.5, "freeze": ["*embeddings*"]},
]


@pytest.mark.parametrize("shaped", SHAPED, ids=lambda s: s["optimizer"])
def test_a_run_of_any_optimizer_pull_hold_and_average_is_resumed_to_the_same_bits(
    request: pytest.FixtureRequest, tmp_path: Path, shaped: dict[str, Any]
) -> None:
    def values(name: str) -> dict[str, Any]:
        made = values_of("labels", request, tmp_path / name)
        made["train"] |= {**shaped, "learning_rate": {"sgd": 0.3, "adafactor": 0.05}.get(shaped["optimizer"], 1e-3)}
        return made

    whole = tiny.train_to_end(values("a"))
    for stop_at in (2, whole.json("plan")["evaluate_every"] + 1):
        directory, prepared = run.begin(recipefile.build(values(f"b{stop_at}")), None, [])
        stop_after(directory, prepared, stop_at)
        again, prepared_again = run.resume(directory.path)
        assert prepared_again is not None
        list(run.go(again, prepared_again))
        assert weights(again) == weights(whole)
        assert rows_consumed(again) == rows_consumed(whole)
    start = prepare(recipefile.build(values("c"))).model.state()
    end = checkpoint.read(whole.checkpoints / "last")[0]
    assert end.keys() == start.keys() and any(not torch.equal(end[name], start[name]) for name in end)


def test_a_finished_run_has_nothing_to_resume(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    whole = tiny.train_to_end(values_of("labels", request, tmp_path))
    assert run.resume(whole.path)[1] is None


def test_the_stop_file_ends_a_run_with_its_state_saved(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    directory, prepared = run.begin(recipefile.build(values_of("labels", request, tmp_path)), None, [])
    for event in run.go(directory, prepared):
        if isinstance(event, Updated) and event.step == 2:
            directory.stop_file.touch()
    assert directory.status()["state"] == "stopped"
    assert (directory.checkpoints / "last").resolve().name == "step_000002"


@pytest.fixture
def train_process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Start `tunesmith train` or `resume` as a process of its own."""
    started = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tunesmith", *arguments]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_killed_in_every_phase_and_resumed_ends_with_the_same_bits(
    request: pytest.FixtureRequest, tmp_path: Path, train_process: Any
) -> None:
    """SIGKILL as soon as a file of the next phase appears, over and over, in one and the same run."""
    more = {"train__epochs": 3, "evaluate__compare": True}
    whole = tiny.train_to_end(values_of("labels", request, tmp_path / "a", **more))
    values = values_of("labels", request, tmp_path / "b", **more)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(recipefile.yaml.safe_dump(values))
    arguments = ["train", str(recipe)]
    marks = ("events.jsonl", "checkpoints/.step_000006.tmp", "checkpoints/step_000012", "model", "report")
    for mark in marks:
        process = train_process(*arguments)
        deadline = time.time() + 60
        while process.poll() is None and time.time() < deadline:
            found = list((tmp_path / "b").glob("2*"))
            if found and (found[0] / mark).exists():
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)  # often enough for each mark, and seldom enough to leave the core to the run
        process.wait(30)
        (directory,) = [RunDir(path) for path in (tmp_path / "b").iterdir() if path.name[0] != "."]
        arguments = ["resume", str(directory.path)]
    last = train_process(*arguments)
    assert last.wait(120) == 0, last.stdout.read()
    assert weights(directory) == weights(whole)
    assert directory.status()["state"] == "finished"


def test_ctrl_c_saves_the_state_and_says_how_to_go_on(
    request: pytest.FixtureRequest, tmp_path: Path, train_process: Any
) -> None:
    recipe = tmp_path / "r.yaml"
    values = values_of("labels", request, tmp_path / "runs", train__epochs=200)
    recipe.write_text(recipefile.yaml.safe_dump(values))
    process = train_process("train", str(recipe))
    while not list((tmp_path / "runs").glob("2*/checkpoints/last")):
        time.sleep(0.02)
        assert process.poll() is None, process.stdout.read()
    process.send_signal(signal.SIGINT)
    words, _ = process.communicate(timeout=60)
    assert process.returncode == 130, words
    assert "tunesmith resume" in words
    assert "Traceback" not in words
    (found,) = (tmp_path / "runs").iterdir()
    assert RunDir(found).status()["state"] == "stopped"


def test_a_damaged_checkpoint_is_passed_over_and_that_is_said(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    whole = tiny.train_to_end(values_of("labels", request, tmp_path / "a"))
    directory, prepared = run.begin(recipefile.build(values_of("labels", request, tmp_path / "b")), None, [])
    stop_after(directory, prepared, 10)
    last = (directory.checkpoints / "last").resolve()
    assert (directory.checkpoints / "best").resolve() != last
    content = bytearray((last / "trained.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (last / "trained.safetensors").write_bytes(content)
    again, prepared_again = run.resume(directory.path)
    assert prepared_again is not None
    events = list(run.go(again, prepared_again))
    assert any("is damaged" in getattr(event, "message", "") for event in events)
    assert weights(again) == weights(whole)


def test_a_death_between_a_checkpoint_and_its_links_loses_neither(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny.train_to_end(values_of("labels", request, tmp_path / "a"))
    best = (whole.checkpoints / "best").resolve().name
    directory, prepared = run.begin(recipefile.build(values_of("labels", request, tmp_path / "b")), None, [])

    def die(_: Any, progress: checkpoint.Progress) -> None:
        if checkpoint.folder_of(directory, progress.step).name == best:
            raise KeyboardInterrupt
        real(directory, progress)

    real = checkpoint.point_at
    monkeypatch.setattr(checkpoint, "point_at", die)
    with pytest.raises(KeyboardInterrupt):
        list(run.go(directory, prepared))
    assert (directory.checkpoints / "best").resolve().name != best
    monkeypatch.undo()
    again, prepared_again = run.resume(directory.path)
    assert prepared_again is not None
    list(run.go(again, prepared_again))
    assert (again.checkpoints / "best").resolve().name == best
    assert weights(again) == weights(whole)


def test_a_second_process_is_refused_with_the_first_ones_pid(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    directory, prepared = run.begin(recipefile.build(values_of("labels", request, tmp_path)), None, [])
    with directory.lock(), pytest.raises(RunError, match=f"pid {os.getpid()}"):
        next(run.go(directory, prepared))


def test_changed_rows_are_refused_on_resume(request: pytest.FixtureRequest, tmp_path: Path, labels_csv: Path) -> None:
    directory, prepared = run.begin(recipefile.build(values_of("labels", request, tmp_path)), None, [])
    next(run.go(directory, prepared))
    labels_csv.write_text(labels_csv.read_text().replace("parcel", "packet", 1))
    with pytest.raises(RunError, match="have changed since the run began"):
        run.resume(directory.path)
    labels_csv.unlink()
    with pytest.raises(RunError, match="are gone"):
        run.resume(directory.path)


def test_a_loss_that_is_not_finite_stops_with_the_rows_and_keeps_the_last_checkpoint(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    directory, prepared = run.begin(recipefile.build(values_of("labels", request, tmp_path)), None, [])

    def poisoned() -> None:
        for event in run.go(directory, prepared):
            if isinstance(event, Updated) and event.step == 4:
                with torch.no_grad():
                    prepared.model.trained()[0][1].fill_(float("nan"))

    with pytest.raises(NotFinite) as caught:
        poisoned()
    assert "rows.csv:" in (caught.value.where or "")
    assert caught.value.exit_code == 1
    state = checkpoint.read(directory.checkpoints / "last")[0]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())
    assert directory.status()["state"] == "failed"


def test_weights_that_are_not_finite_are_never_committed(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    directory, prepared = run.begin(recipefile.build(values_of("labels", request, tmp_path)), None, [])
    state = prepared.model.state()
    with torch.no_grad():
        next(iter(state.values())).fill_(float("inf"))
    with pytest.raises(NotFinite):
        checkpoint.write(directory, state, {}, checkpoint.Progress(step=1))
    assert list(directory.checkpoints.iterdir()) == []


def test_a_full_disk_keeps_the_checkpoint_before_and_ends_with_exit_code_1(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The third checkpoint may not write a byte: RLIMIT_FSIZE stands in for the full disk."""
    recipe = tmp_path / "r.yaml"
    recipe.write_text(recipefile.yaml.safe_dump(values_of("labels", request, tmp_path / "runs")))
    program = (
        "import resource, signal, sys\n"
        "from tunesmith.train import checkpoint\n"
        "from tunesmith import cli\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "real, count = checkpoint.write, [0]\n"
        "def write(*a, **k):\n"
        "    count[0] += 1\n"
        "    if count[0] == 3:\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "    real(*a, **k)\n"
        "checkpoint.write = write\n"
        f"cli.main(['train', {str(recipe)!r}, '--json'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert "no space left" in done.stderr
    assert "bytes" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["error"]["kind"] == "StorageError"
    (found,) = (tmp_path / "runs").iterdir()
    kept = checkpoint.read_latest(RunDir(found), lambda word: pytest.fail(word))
    assert kept is not None
    assert kept[2].step == 6
    assert not list((found / "checkpoints").glob(".step*"))


def test_a_disk_that_is_full_when_the_model_is_saved_ends_with_exit_code_1_and_resumes(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(recipefile.yaml.safe_dump(values_of("labels", request, tmp_path / "runs")))
    program = (
        "import resource, signal\n"
        "from tunesmith.models import save\n"
        "from tunesmith import cli\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "real = save._net\n"
        "def net(*a):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "    real(*a)\n"
        "save._net = net\n"
        f"cli.main(['train', {str(recipe)!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    (found,) = (tmp_path / "runs").iterdir()
    assert not (found / "model").exists()
    again, prepared = run.resume(found)
    assert prepared is not None
    list(run.go(again, prepared))
    assert (again.model / "model.safetensors").exists()
