"""A search on a Ray cluster of two workers: what it comes to, what it survives, and what it leaves behind."""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray", reason="pip install 'tunesmith[ray]'")

import tiny
from tunesmith import recipefile
from tunesmith.errors import RunError
from tunesmith.events import Warned
from tunesmith.search import run as search
from tunesmith.search.events import Began, Ended, Looked, SearchEvent

SPACE: dict[str, Any] = {
    "train.learning_rate": {"from": 1e-3, "to": 1e-1, "log": True},
    "method": ["head", {"name": "lora", "rank": {"from": 2, "to": 16, "integer": True}}],
}
LONG = 60
"""Epochs of trials that are to be at work for some seconds."""
LIMIT = 120.0
pytestmark = pytest.mark.timeout(600)  # a worker imports torch, and may find both cores busy


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_csv(tmp_path_factory.mktemp("rows") / "rows.csv", tiny.label_rows(60))


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, str]]:
    """Two machines of a CPU each, as far as Ray can tell: the address, and a word in the environment of all of it."""
    from ray.cluster_utils import Cluster

    # Sockets lie in it, whose paths are short.
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as place,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", place)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            made.add_node(num_cpus=1)
            yield str(made.address), place
        finally:
            made.shutdown()


def values_of(encoder: Path, rows: Path, out: Path, *, epochs: int = 2, **asked: Any) -> dict[str, Any]:
    searched = {"space": SPACE, "trials": 6, "seeds": 0, "sampler": "random", "pruner": "none", "dir": str(out)}
    return tiny.recipe_values(
        encoder, rows, out, method="lora", train={"epochs": epochs, "batch_size": 16, "learning_rate": 1e-2},
        evaluate={"compare": False, "verify": False}, search=searched | asked,
    )  # fmt: skip


def opened(values: dict[str, Any]) -> search.Opening:
    return search.begin(recipefile.build(values), None)


def tried(opening: search.Opening) -> list[tuple[float, SearchEvent]]:
    """Run all trials, and leave before the winner is run: what happened, and when."""
    seen: list[tuple[float, SearchEvent]] = []
    for event in search.go(opening):
        seen.append((time.monotonic(), event))
        if "is the best" in getattr(event, "name", ""):
            break
    return seen


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "table.csv", newline="") as file:
        return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def events_of(opening: search.Opening, number: int) -> list[dict[str, Any]]:
    lines = (opening.directory.trial(number) / "events.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def processes(mark: str) -> dict[int, str]:
    """Processes of Ray that have a word in their environment: they have it from whoever started them."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if mark.encode() in (place / "environ").read_bytes() and ("ray::" in command or "/ray/" in command):
                found[int(place.name)] = command
    return found


def gone(mark: str, before: set[int] = frozenset()) -> bool:  # type: ignore[assignment]
    """Whether there are no more of them than before, in the end."""
    until = time.monotonic() + 60
    while (left := set(processes(mark)) - before) and time.monotonic() < until:
        time.sleep(0.2)
    return not left


def test_two_workers_come_to_the_trials_of_one_process_to_the_bit_and_leave_nothing_behind(
    encoder: Path,
    rows: Path,
    cluster: tuple[str, str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = opened(values_of(encoder, rows, tmp_path / "here"))
    tried(here)
    before = set(processes(cluster[1]))
    assert before
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    capfd.readouterr()
    there = opened(values_of(encoder, rows, tmp_path / "there", ray={"address": cluster[0]}))
    seen = tried(there)
    assert capfd.readouterr() == ("", ""), "Ray is silent"
    assert table(here.directory.path) == table(there.directory.path)
    for number in range(6):
        assert events_of(here, number) == events_of(there, number), "every loss and score, to the bit"
        mine, its = (one.directory.trial(number) / "recipe.yaml" for one in (here, there))
        assert mine.read_text() == its.read_text().replace("there", "here")
    results = [there.directory.result(number) or {} for number in range(6)]
    assert len({result["worker"] for result in results}) == 2
    began = {event.number: at for at, event in seen if isinstance(event, Began)}
    ended = {event.line.number: at for at, event in seen if isinstance(event, Ended)}
    assert began[1] < ended[0], "two are out at a time"
    assert {path.name for path in here.directory.path.iterdir()} == {
        path.name for path in there.directory.path.iterdir()
    }
    assert gone(cluster[1], before)
    assert not list((tmp_path / "scratch").iterdir()) and not (Path.home() / "ray_results").exists()


def test_what_fails_falls_behind_or_is_the_same_on_workers_is_a_line_of_the_table(
    encoder: Path, rows: Path, cluster: tuple[str, str], tmp_path: Path
) -> None:
    space = {"train.learning_rate": [1e-6, 3e-2, 1e18]}
    asked = {"space": space, "trials": 9, "pruner": "asha", "startup": 1, "ray": {"address": cluster[0]}}
    values = values_of(encoder, rows, tmp_path, epochs=6, **asked) | {"method": "full"}
    values["train"]["learning_rate"] = 3e-2
    opening = opened(values)
    tried(opening)
    lines = table(opening.directory.path)
    assert len(lines) == 9 and lines[0]["state"] == "complete"
    by_rate = {rate: [line for line in lines if line["train.learning_rate"] == rate] for rate in ("1e-06", "1e+18")}
    assert {line["state"] for line in by_rate["1e+18"]} == {"failed"}
    assert all("not finite" in line["said"] for line in by_rate["1e+18"])
    assert {line["state"] for line in by_rate["1e-06"]} <= {"pruned", "complete"}
    assert sum(line["said"].startswith("the same as trial") for line in lines) == 6


@pytest.mark.slow
def test_a_trial_whose_worker_is_killed_is_run_again(
    encoder: Path, rows: Path, cluster: tuple[str, str], tmp_path: Path
) -> None:
    opening = opened(values_of(encoder, rows, tmp_path, epochs=LONG, trials=2, ray={"address": cluster[0]}))
    warned: list[str] = []
    killed = False
    for event in search.go(opening):
        if isinstance(event, Looked) and not killed:
            killed = True
            for pid, command in processes(cluster[1]).items():
                if command.startswith("ray::") and "Agent" not in command:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        warned += [event.message] if isinstance(event, Warned) else []
        if "is the best" in getattr(event, "name", ""):
            break
    assert any("died, and it is run again" in message for message in warned)
    assert [line["state"] for line in table(opening.directory.path)] == ["complete"] * 2
    here = opened(values_of(encoder, rows, tmp_path / "here", epochs=LONG, trials=2))
    tried(here)
    assert events_of(here, 0) == events_of(opening, 0)


def command(recipe: Path, place: str) -> subprocess.Popen[bytes]:
    """`tunesmith search`, in a group of its own as in a terminal, with a place for what is temporary."""
    code = "import sys; from tunesmith.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, "search", str(recipe)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "TMPDIR": place},
    )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + LIMIT
    while not path.exists():
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.02)


@pytest.fixture
def place() -> Iterator[str]:
    """A folder of a short name."""
    with tempfile.TemporaryDirectory(prefix="t-", ignore_cleanup_errors=True) as made:
        yield made


@pytest.mark.slow
def test_a_driver_that_is_stopped_or_killed_goes_on_without_losing_a_finished_trial(
    encoder: Path, rows: Path, tmp_path: Path, place: str
) -> None:
    asked = {"trials": 4, "ray": {"address": "local", "workers": 2}}
    values = values_of(encoder, rows, tmp_path, epochs=LONG, **asked)
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump(values))
    folder = opened(values).directory.path

    process = command(file, place)
    wait_for(folder / "trials" / "0000", process)
    assert processes(place)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, err
    assert b"goes on with it" in out and b"Traceback" not in err
    assert gone(place) and not list(Path(place).iterdir())
    done = {path: path.stat().st_ino for path in folder.glob("trials/*/result.json")}
    assert 1 <= len(done) < 4

    process = command(file, place)
    until = time.monotonic() + LIMIT
    while not processes(place) and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(3)
    process.kill()
    process.communicate()
    assert gone(place), "the workers of a dead driver end"

    values["search"].pop("ray")
    tried(opened(values))
    assert {path: path.stat().st_ino for path in done} == done, "what had finished was not run again"
    here = opened(values_of(encoder, rows, tmp_path / "here", epochs=LONG, trials=4))
    tried(here)
    assert table(folder) == table(here.directory.path)


def test_where_there_is_no_cluster_the_error_says_how_to_have_one(
    encoder: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    opening = opened(values_of(encoder, rows, tmp_path, ray={"address": "127.0.0.1:1"}))
    with pytest.raises(RunError, match="there is no Ray cluster to join") as caught:
        list(search.go(opening))
    assert "ray start --head" in str(caught.value.hint)
    assert search.so_far(opening)["trials"] == [] or search.so_far(opening)["trials"][0]["state"] == "waiting"
