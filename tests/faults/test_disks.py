"""Disks that are full, and folders that cannot be written: a clear error, the last checkpoint whole, and a way on."""

import ctypes
import io
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from faults import kills
from tunesmith import cli, recipefile
from tunesmith.rundir import RunDir, list_runs

_NEW_MOUNTS = 0x00020000
SIZE = 8 * 2**20


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def own_mounts() -> None:
    """What this process mounts is its own, and is gone with it."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    mount("--make-rprivate", "/")


@pytest.fixture(scope="session")
def may_mount(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("mount")

    def work() -> None:
        own_mounts()
        mount("-t", "tmpfs", "-o", f"size={SIZE}", "none", str(place))

    if kills.in_child(work, place / "words").code:
        pytest.skip("nothing can be mounted here")


@pytest.fixture(scope="session")
def values(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return kills.labels(encoder, tmp_path_factory.mktemp("rows"), save_every=9)


@pytest.fixture(scope="session")
def whole(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> kills.Whole:
    return kills.undisturbed(values, tmp_path_factory.mktemp("whole"))


def said_by(*arguments: str) -> tuple[Any, str, str]:
    """Exit code, standard output and standard error of a command."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main(list(arguments))
        except SystemExit as leaving:
            code = leaving.code
    return code, out.getvalue(), err.getvalue()


def fill(folder: Path, left: int) -> Path:
    """A file that leaves so many bytes of a disk free."""
    free = shutil.disk_usage(folder).free
    with open(folder / "filler", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - left)
    return folder / "filler"


def refused_for_want_of_room(code: Any, err: str) -> None:
    assert code == 1, err
    assert err.startswith("error: "), err
    assert "no space left" in err, err
    assert "hint: free some space" in err, err
    assert "Traceback" not in err, err


def on_a_full_disk(template: RunDir, left: int, disk: Path, whole: kills.Whole) -> Callable[[], int]:
    """Work: go on with a run on a disk that has so many bytes left, then with room. 3 where there was room enough."""

    def work() -> int:
        own_mounts()
        mount("-t", "tmpfs", "-o", f"size={SIZE}", "none", str(disk))
        shutil.copytree(template.path, disk / "run", symlinks=True)
        directory = RunDir(disk / "run")
        before = kills.committed(directory)
        filler = fill(disk, left)
        code, _, err = said_by("resume", str(directory.path))
        if code == 0:
            return 3
        refused_for_want_of_room(code, err)
        assert kills.committed(directory) >= before
        assert not list(directory.path.glob(".*")) and not list(directory.checkpoints.glob(".*"))
        filler.unlink()
        kills.nothing_half_made(directory, whole)
        kills.goes_on_to(directory, whole)
        return 0

    return work


@pytest.mark.parametrize("step", [9, 18])
def test_a_disk_with_any_number_of_bytes_left_ends_in_a_clear_error_and_the_run_goes_on_when_there_is_room(
    step: int,
    request: pytest.FixtureRequest,
    may_mount: None,
    values: dict[str, Any],
    whole: kills.Whole,
    tmp_path: Path,
) -> None:
    """From no page left to a few too few, for a save of a checkpoint, and of the model and the report."""
    template = kills.stopped_after(values, tmp_path / "runs", step)
    (tmp_path / "disk").mkdir()
    pages = 4 if request.config.getoption("--whole") else 37
    full = 0
    for left in range(0, SIZE, pages * 4096):
        words = tmp_path / f"{left}.txt"
        end = kills.in_child(on_a_full_disk(template, left, tmp_path / "disk", whole), words)
        assert end.code in (0, 3), f"{left} bytes left: {end.words}"
        full += end.code == 0
        if end.code == 3:
            break
    print(f"\nafter update {step}: {full} full disks survived")
    assert full > 1


def test_a_run_is_not_begun_on_a_full_disk_and_leaves_nothing(
    may_mount: None, values: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipefile.yaml.safe_dump({**values, "run": {"dir": str(tmp_path / "disk" / "runs")}}))

    def work() -> None:
        own_mounts()
        mount("-t", "tmpfs", "-o", f"size={SIZE}", "none", str(tmp_path / "disk"))
        (tmp_path / "disk" / "runs").mkdir()
        for left in (0, 4096, 2 * 4096):
            filler = fill(tmp_path / "disk", left)
            refused_for_want_of_room(*said_by("train", str(recipe))[::2])
            assert list((tmp_path / "disk" / "runs").iterdir()) == []
            filler.unlink()

    end = kills.in_child(work, tmp_path / "words")
    assert end.code == 0, end.words


def in_a_folder_that_cannot_be_written(folder: Path, work: Callable[[], None], words: Path) -> kills.End:
    """Do some work where a folder can only be read: as root, permissions would not bind."""

    def inside() -> None:
        own_mounts()
        mount("--bind", str(folder), str(folder))
        mount("-o", "remount,bind,ro", str(folder))
        work()

    return kills.in_child(inside, words)


def test_a_run_that_can_only_be_read_is_listed_and_used_and_refused_to_go_on(
    may_mount: None, values: dict[str, Any], tmp_path: Path
) -> None:
    directory = kills.stopped_after(values, tmp_path / "runs", 9)

    def work() -> None:
        (line,) = kills.listed(tmp_path / "runs").values()
        assert line["state"] == "stopped"
        code, out, err = said_by("predict", str(directory.path), "--text", "where is my parcel")
        assert code == 0 and out.strip() and not err
        code, _, err = said_by("resume", str(directory.path))
        assert code == 1
        assert err.startswith("error: cannot write: Read-only file system\n  at "), err
        assert "Traceback" not in err

    end = in_a_folder_that_cannot_be_written(tmp_path / "runs", work, tmp_path / "words")
    assert end.code == 0, end.words


def test_a_run_is_not_begun_where_nothing_can_be_written(
    may_mount: None, values: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    recipe = tmp_path / "recipe.yaml"

    def work() -> None:
        for folder in ("there", "there/new"):
            recipe.write_text(recipefile.yaml.safe_dump({**values, "run": {"dir": str(tmp_path / folder)}}))
            code, _, err = said_by("train", str(recipe))
            assert code == 1
            assert err.startswith("error: cannot write: Read-only file system\n  at "), err

    end = in_a_folder_that_cannot_be_written(tmp_path / "there", work, tmp_path / "words")
    assert end.code == 0, end.words
    assert list((tmp_path / "there").iterdir()) == []


def test_a_cache_that_can_only_be_read_is_done_without(
    may_mount: None, values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rows would be kept, and frozen blocks: the folders are there already, from another user."""
    from tunesmith import encoding
    from tunesmith.train import trunk

    cache = tmp_path / "cache"
    for kind in ("tokens", "trunk", "rows", "splits"):
        (cache / kind).mkdir(parents=True)
    monkeypatch.setenv("TUNESMITH_CACHE", str(cache))
    monkeypatch.setattr(encoding, "_KEPT_SECONDS", 0.0)
    monkeypatch.setattr(encoding, "_TRIED", 4)
    monkeypatch.setattr(trunk, "_SHARED_BYTES", 1)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipefile.yaml.safe_dump({**values, "method": "head", "run": {"dir": str(tmp_path / "runs")}}))

    def work() -> None:
        code, _, err = said_by("train", str(recipe))
        assert code == 0, err

    end = in_a_folder_that_cannot_be_written(cache, work, tmp_path / "words")
    assert end.code == 0, end.words
    assert list(cache.rglob("*.*")) == []
    assert [directory.status()["state"] for directory in list_runs(tmp_path / "runs")] == ["finished"]
