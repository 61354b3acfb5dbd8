"""The run directory: complete or not there, readable after any death."""

import errno
from pathlib import Path

import pytest

from tunesmith import rundir
from tunesmith.errors import StorageError
from tunesmith.events import Saved, Updated, Warned, from_line, to_line


def made(tmp_path: Path) -> rundir.RunDir:
    return rundir.create(tmp_path, "r", {"resolved.json": {}})


def test_a_run_directory_appears_whole_and_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    first, second = made(tmp_path), made(tmp_path)
    assert (first.path.name, second.path.name) == ("r", "r-2")
    assert {p.name for p in tmp_path.iterdir()} == {"r", "r-2"}


def test_a_failed_creation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rundir, "write_bytes", full)
    with pytest.raises(StorageError, match="no space left"):
        made(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_torn_last_line_is_passed_over_and_closed_by_the_next(tmp_path: Path) -> None:
    run = made(tmp_path)
    run.append(Saved(1, True))
    with open(run.path / "events.jsonl", "a") as file:
        file.write('{"event": "Saved", "st')
    run.append(Warned("after"))
    assert list(run.events()) == [Saved(1, True), Warned("after")]


def test_events_survive_the_way_to_a_line_and_back() -> None:
    event = Updated(3, {"loss": 0.1 + 0.2}, 1e-30, 2e-5, 10, 0, 3.0, 0.5, {"accuracy": 1 / 3})
    assert from_line(to_line(event)) == event
    assert "\n" not in to_line(Warned("a\u2028b\nc"))
    assert from_line(to_line(Warned("a\u2028b\nc"))) == Warned("a\u2028b\nc")


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    rundir.write_json(file, {"old": 1})

    def broken(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rundir.os, "fsync", broken)
    with pytest.raises(StorageError) as caught:
        rundir.write_json(file, {"new": 2})
    assert str(file) in str(caught.value)
    assert "bytes" in str(caught.value)
    assert rundir.read_json(file) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_run_whose_process_is_gone_is_interrupted(tmp_path: Path) -> None:
    run = made(tmp_path)
    run.set_status("running", step=1, steps=2, attempt=1)
    assert run.status()["state"] == "interrupted"
    with run.lock():
        assert run.status()["state"] == "running"
    assert run.status()["state"] == "interrupted"
