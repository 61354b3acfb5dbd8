"""SIGTERM and Ctrl-C in any phase: the work at hand is saved or nothing is begun, and the words say how to go on."""

import importlib
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from faults import kills
from tunesmith import cli, recipefile
from tunesmith.rundir import RunDir, list_runs


@pytest.fixture(scope="session")
def values(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return kills.labels(encoder, tmp_path_factory.mktemp("rows"), save_every=3)


@pytest.fixture(scope="session")
def whole(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> kills.Whole:
    return kills.undisturbed(values, tmp_path_factory.mktemp("whole"))


def command(values: dict[str, Any], out: Path) -> list[str]:
    recipe = out.with_suffix(".yaml")
    recipe.write_text(recipefile.yaml.safe_dump({**values, "run": {"dir": str(out)}}))
    return ["train", str(recipe)]


def signals_itself(place: str, call: int, numbers: list[int]) -> None:
    """From now on, the n-th call of a function is one in which signals come."""
    module, _, name = place.rpartition(".")
    real = getattr(importlib.import_module(module), name)
    calls = [0]

    def disturbed(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            for number in numbers:
                os.kill(os.getpid(), number)
        return real(*given, **named)

    setattr(importlib.import_module(module), name, disturbed)


BEFORE = {
    "load": ("tunesmith.prepare.resolve", 1),
    "read": ("tunesmith.data.splits.load", 1),
    "tokenize": ("tunesmith.prepare.encode_all", 1),
    "measure": ("tunesmith.train.fit.fit", 1),
    "make the run": ("tunesmith.rundir._claim", 1),
}
"""Phase -> the function that is called in it, and its how-manieth call, before there is a run."""
IN = {
    "update": ("tunesmith.train.loop._gradients", 5, 5),
    "evaluate": ("tunesmith.attempt.judge", 1, 9),
    "save": ("tunesmith.train.checkpoint.write_bytes", 3, 4),
    "score": ("tunesmith.judgement.score", 1, 18),
    "save the model": ("tunesmith.models.save._write", 1, 18),
}
"""The same in a run, and the update that the run is saved after."""
SIGNALS = {signal.SIGTERM: 143, signal.SIGINT: 130}


def some(phases: Iterable[str]) -> list[Any]:
    """Every phase with every signal; `make test` looks at a few of the pairs."""
    pairs = list(itertools.product(phases, SIGNALS))
    marks = [() if number % 4 == 1 else pytest.mark.slow for number in range(len(pairs))]
    return [
        pytest.param(phase, number, marks=mark, id=f"{phase}-{number.name}")
        for (phase, number), mark in zip(pairs, marks, strict=True)
    ]


@pytest.mark.parametrize(("phase", "number"), some(BEFORE))
def test_a_signal_before_there_is_a_run_leaves_nothing(
    phase: str, number: signal.Signals, values: dict[str, Any], tmp_path: Path
) -> None:
    def work() -> None:
        signals_itself(*BEFORE[phase], [number])
        cli.main(command(values, tmp_path / "runs"))

    end = kills.in_child(work, tmp_path / "words")
    assert end.code == SIGNALS[number], end.words
    assert "stopped; `tunesmith runs` says whether" in end.words
    assert "Traceback" not in end.words
    assert not (tmp_path / "runs").exists() or list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(("phase", "number"), some(IN))
def test_a_signal_in_a_run_saves_the_work_at_hand_and_says_how_to_go_on(
    phase: str, number: signal.Signals, values: dict[str, Any], whole: kills.Whole, tmp_path: Path
) -> None:
    place, call, step = IN[phase]

    def work() -> None:
        signals_itself(place, call, [number])
        cli.main(command(values, tmp_path / "runs"))

    end = kills.in_child(work, tmp_path / "words")
    assert end.code == SIGNALS[number], end.words
    (directory,) = list_runs(tmp_path / "runs")
    assert f"`tunesmith resume {directory.path}`" in end.words
    assert "Traceback" not in end.words
    assert directory.status()["state"] == "stopped"
    assert kills.committed(directory) == step
    kills.nothing_half_made(directory, whole)
    kills.goes_on_to(directory, whole)


def test_a_signal_while_the_report_is_written_comes_too_late_to_stop_the_run(
    values: dict[str, Any], tmp_path: Path
) -> None:
    def work() -> None:
        signals_itself("tunesmith.report.write.write", 1, [signal.SIGTERM])
        cli.main(command(values, tmp_path / "runs"))

    end = kills.in_child(work, tmp_path / "words")
    assert end.code == 0, end.words
    assert [directory.status()["state"] for directory in list_runs(tmp_path / "runs")] == ["finished"]


@pytest.mark.parametrize("phase", [p if p == "save" else pytest.param(p, marks=pytest.mark.slow) for p in IN])
def test_a_second_signal_stops_at_once_and_loses_no_checkpoint(
    phase: str, values: dict[str, Any], whole: kills.Whole, tmp_path: Path
) -> None:
    def work() -> None:
        signals_itself(*IN[phase][:2], [signal.SIGTERM, signal.SIGTERM])
        cli.main(command(values, tmp_path / "runs"))

    end = kills.in_child(work, tmp_path / "words")
    assert end.code == 143, end.words
    (directory,) = list_runs(tmp_path / "runs")
    assert f"stopped; `tunesmith resume {directory.path}` goes on with it" in end.words
    assert "Traceback" not in end.words
    assert directory.status()["state"] == "stopped"
    kills.nothing_half_made(directory, whole)
    kills.goes_on_to(directory, whole)


def test_a_signal_while_a_run_is_made_again_stops_it_after_the_update_at_hand(
    values: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        cli.main(command(values, tmp_path / "runs"))
    (directory,) = list_runs(tmp_path / "runs")
    second = tmp_path / "second"

    def work() -> None:
        signals_itself("tunesmith.train.loop._gradients", 5, [signal.SIGINT])
        cli.main(["reproduce", str(directory.path), "--keep", str(second)])

    end = kills.in_child(work, tmp_path / "words")
    assert end.code == 130, end.words
    assert f"stopped; nothing was compared; {directory.path} is as it was" in end.words
    assert "Traceback" not in end.words
    assert kills.committed(RunDir(second / directory.path.name)) == 5


def test_signals_at_any_time_end_in_a_clean_stop(
    request: pytest.FixtureRequest, values: dict[str, Any], whole: kills.Whole, tmp_path: Path
) -> None:
    drawn, longest = random.Random(11), 1.5
    stops, wished = 0, 30 if request.config.getoption("--whole") else 2
    for number in range(2 * wished + 6):
        out = tmp_path / f"runs{number}"
        wanted = drawn.choice(list(SIGNALS))
        end = signalled(lambda out=out: cli.main(command(values, out)), drawn.uniform(0.02, longest), wanted, tmp_path)
        assert end.code in (0, SIGNALS[wanted]), end.words
        assert "Traceback" not in end.words
        for directory in list_runs(out):
            assert end.code == 0 or f"tunesmith resume {directory.path}" in end.words or "tunesmith runs" in end.words
            kills.nothing_half_made(directory, whole)
            kills.goes_on_to(RunDir(directory.path), whole)
        assert not out.exists() or [p.name for p in out.iterdir() if p.name[0] == "."] == []
        stops += end.code != 0
        longest *= 1.0 if end.code else 0.8  # the run was done before
        if stops == wished:
            break
    print(f"\n{stops} stops by signals at any time")
    assert stops == wished


def signalled(work: Callable[[], Any], seconds: float, number: int, tmp: Path) -> kills.End:
    """Do some work in a child that is sent a signal after some time."""
    words = tmp / "words"
    words.unlink(missing_ok=True)
    with kills.child(lambda gate: (gate(), work()), words) as (pid, said, opens):
        os.read(said, 1)
        os.write(opens, b"!")
        time.sleep(seconds)
        os.kill(pid, number)
        return kills.ended(pid, words)
