"""Kill the trainer at every step that it takes on disk, and at any time; go on, and see that nothing was lost.

A trainer is a child forked from a process that has imported all: a kill costs a fraction of a second. strace, attached
to the waiting child, kills it as it enters its n-th call that changes a disk; random times need no strace.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny
from tunesmith import listings, recipefile, run
from tunesmith.console import Screen
from tunesmith.events import Saved, Started, Updated
from tunesmith.rundir import RunDir, list_runs

CHANGING = (
    "write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,symlink,symlinkat,link,linkat,"
    "mkdir,mkdirat,unlink,unlinkat,rmdir,truncate,ftruncate,fallocate"
)
"""The calls that change a disk."""
Gate = Callable[[], None]
"""A child calls it where kills are to begin; it returns when strace is there."""
PATIENCE = 60


@dataclass(frozen=True)
class End:
    """How a child ended."""

    killed: bool
    code: int
    words: str


@contextmanager
def child(work: Callable[[Gate], Any], words: Path) -> Iterator[tuple[int, int, int]]:
    """A forked process that does some work: its pid, where it says that it waits at its gate, and what opens that. What
    it prints goes to the file `words`."""
    said, says = os.pipe()
    opened, opens = os.pipe()
    pid = os.fork()
    if pid == 0:
        _as_child(work, words, says, opened)
    os.close(says), os.close(opened)
    try:
        yield pid, said, opens
    finally:
        os.close(said), os.close(opens)


def _as_child(work: Callable[[Gate], Any], words: Path, says: int, opened: int) -> None:
    """Never returns: what a test's process would do at its end is not a child's to do."""
    code = 70
    try:
        out = open(words, "a", buffering=1)  # noqa: SIM115
        sys.stdout = sys.stderr = out  # a test's own may be captured
        os.dup2(out.fileno(), 1), os.dup2(out.fileno(), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell

        def gate() -> None:
            os.write(says, b"!")
            os.read(opened, 1)

        code = work(gate) or 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        with open(words, "a") as file:
            traceback.print_exc(file=file)
    finally:
        os._exit(code)


def ended(pid: int, words: Path) -> End:
    """Wait for a child."""
    _, status = os.waitpid(pid, 0)
    said = words.read_text(errors="replace") if words.exists() else ""
    return End(
        os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, os.waitstatus_to_exitcode(status), said
    )


def in_child(work: Callable[[], Any], words: Path) -> End:
    """Do some work in a child, to its end."""
    with child(lambda gate: work(), words) as (pid, _, _):
        return ended(pid, words)


def traced(work: Callable[[Gate], Any], options: list[str], words: Path) -> End:
    """Do some work in a child that strace watches from its gate on."""
    with child(work, words) as (pid, said, opens):
        if not select.select([said], [], [], PATIENCE)[0] or not os.read(said, 1):
            raise AssertionError(f"the child never came to its gate: {ended(pid, words)}")
        strace = subprocess.Popen(["strace", "-f", "-p", str(pid), *options], stderr=subprocess.PIPE, text=True)
        assert strace.stderr is not None
        word = strace.stderr.readline()
        assert "attached" in word, word
        os.write(opens, b"!")
        end = ended(pid, words)
        strace.communicate(timeout=PATIENCE)
    return end


def calls_of(work: Callable[[Gate], Any], words: Path) -> Counter[str]:
    """How often some work makes each call that changes a disk, when it is left alone."""
    log = words.with_suffix(".strace")
    end = traced(work, ["-o", str(log), "-e", f"trace={CHANGING}"], words)
    assert end.code == 0, end.words
    return Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(errors="replace"), re.MULTILINE))


def killed_at_call(work: Callable[[Gate], Any], call: str, number: int, words: Path) -> End:
    """Do some work in a child that dies as it enters the n-th call of a kind after its gate."""
    inject = f"inject={call}:signal=SIGKILL:when={number}"
    return traced(work, ["-o", os.devnull, "-e", f"trace={call}", "-e", inject], words)


def killed_after(work: Callable[[Gate], Any], seconds: float, words: Path, meanwhile: Callable[[], None]) -> End:
    """Do some work in a child that is killed after some time, if it is not done by then."""
    deadline = time.monotonic() + seconds
    with child(work, words) as (pid, _, _):
        meanwhile()
        time.sleep(max(deadline - time.monotonic(), 0))
        os.kill(pid, signal.SIGKILL)  # a child that is done waits for its parent as a zombie: its pid is its own
        return ended(pid, words)


def can_strace() -> bool:
    """Whether strace is here and may attach to a child."""
    if shutil.which("strace") is None:
        return False
    probe = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    return probe.returncode == 0


def committed(directory: RunDir) -> int:
    """The newest update whose checkpoint is whole by its own manifest; 0 where there is none."""
    whole = [path for path in directory.checkpoints.glob("step_*") if is_whole(path)]
    return max((int(folder.name.removeprefix("step_")) for folder in whole), default=0)


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint has all that its manifest says."""
    try:
        sums = json.loads((checkpoint / "manifest.json").read_text())
        return all(hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() == sums[name] for name in sums)
    except (OSError, ValueError):
        return False


def listed(parent: Path) -> dict[str, dict[str, Any]]:
    """What `tunesmith runs --json` says of a folder: name -> line."""
    out = io.StringIO()
    with redirect_stdout(out):
        assert listings.runs(Screen(as_json=True), parent) == 0
    return {Path(line["run"]).name: line for line in json.loads(out.getvalue())["runs"]}


@dataclass(frozen=True)
class Whole:
    """What a run that nobody disturbed ends with."""

    model: dict[str, bytes]
    losses: dict[int, float]
    scores: dict[str, Any]

    @classmethod
    def of(cls, directory: RunDir) -> Whole:
        """The end of a finished run."""
        report = directory.json("report/report")
        told = ("scores", "base", "baselines", "verdict", "tokens", "compared", "changed", "labels", "confusion",
                "calibration", "slices", "kept", "overfitting", "curves", "advice")  # fmt: skip
        return cls(weights(directory), losses(directory), {name: report[name] for name in told})


def weights(directory: RunDir) -> dict[str, bytes]:
    """The bytes of the saved model's tensors."""
    return {path.name: path.read_bytes() for path in sorted(directory.model.rglob("*.safetensors"))}


def losses(directory: RunDir) -> dict[int, float]:
    """Update -> loss, as it was last done."""
    return {e.step: e.losses["loss"] for e in directory.events() if isinstance(e, Updated)}


def nothing_half_made(directory: RunDir, whole: Whole) -> None:
    """After a death: what is there under its name is whole."""
    line = listed(directory.path.parent)[directory.path.name]
    assert line["state"] in ("interrupted", "stopped", "failed", "finished"), line
    assert all(is_whole(path) for path in directory.checkpoints.glob("step_*"))
    saved = [event.step for event in directory.events() if isinstance(event, Saved)]
    assert max(saved, default=0) <= committed(directory)
    if directory.model.exists():
        assert weights(directory) == whole.model
        assert {"README.md", "task.json", "config.json"} & {path.name for path in directory.model.iterdir()}
    if (directory.report / "report.json").exists():
        assert directory.model.exists()
        assert (directory.report / "report.md").stat().st_size and (directory.report / "curves.png").stat().st_size
        assert directory.json("report/report")["scores"] == whole.scores["scores"]
    if line["state"] == "finished":
        assert (directory.report / "report.json").exists()


def goes_on_to(directory: RunDir, whole: Whole) -> None:
    """Resume a run: from its newest whole checkpoint, to the same bits as one that nobody disturbed."""
    newest = committed(directory)
    again, prepared = run.resume(directory.path)
    if prepared is not None:
        started = [event for event in run.go(again, prepared) if isinstance(event, Started)]
        assert [event.step for event in started] == [newest]
    assert Whole.of(directory) == whole
    assert directory.status()["state"] == "finished"
    left = [p.name for folder in (directory.path, directory.checkpoints) for p in folder.iterdir() if p.name[0] == "."]
    assert left == []


def labels(encoder: Path, folder: Path, save_every: int) -> dict[str, Any]:
    """The recipe of a classifier that is tuned whole, with its rows in a folder."""
    rows = tiny.write_csv(folder / "rows.csv", tiny.label_rows())
    made = tiny.recipe_values(
        encoder, rows, folder, task="text-classification", method="full", evaluate__answers=0, evaluate__compare=False
    )
    made["train"] |= {"save_every": save_every, "learning_rate": 3e-3}
    return made


def undisturbed(values: dict[str, Any], out: Path) -> Whole:
    """The end of a run that is left alone."""
    return Whole.of(run.train_recipe(recipefile.build({**values, "run": {"dir": str(out)}})))


def stopped_after(values: dict[str, Any], out: Path, step: int) -> RunDir:
    """A run that was left as soon as a checkpoint of some update was there."""
    directory, prepared = run.begin(recipefile.build({**values, "run": {"dir": str(out)}}), None, [])
    for event in run.go(directory, prepared):
        if isinstance(event, Saved) and event.step >= step:
            break
    return directory


def begins(values: dict[str, Any]) -> Callable[[Path], Callable[[Gate], None]]:
    """Work in a folder: make a run directory, from nothing."""

    def in_folder(out: Path) -> Callable[[Gate], None]:
        def work(gate: Gate) -> None:
            recipe = recipefile.build({**values, "run": {"dir": str(out)}})
            gate()
            run.begin(recipe, None, [])

        return work

    return in_folder


def saves(step: int) -> Callable[[Path], Callable[[Gate], None]]:
    """Work in a folder of one run that has come close to an update: the save of that update's checkpoint."""

    def in_folder(out: Path) -> Callable[[Gate], None]:
        def work(gate: Gate) -> None:
            directory, prepared = run.resume(list_runs(out)[0].path)
            assert prepared is not None
            for event in run.go(directory, prepared):
                if isinstance(event, Updated) and event.step == step:
                    gate()
                if isinstance(event, Saved) and event.step == step:
                    return

        return work

    return in_folder


def concludes(out: Path) -> Callable[[Gate], None]:
    """Work in a folder of one run that has done its last update: all that is left, scores, model and report."""

    def work(gate: Gate) -> None:
        directory, prepared = run.resume(list_runs(out)[0].path)
        assert prepared is not None
        gate()
        for _ in run.go(directory, prepared):
            pass

    return work


def sweep(
    template: Path, work_of: Callable[[Path], Callable[[Gate], None]], whole: Whole, tmp: Path, every: int = 1
) -> tuple[int, int]:
    """Kill some work in every n-th call that changes a disk, each time in a fresh copy of a folder of runs; all of them
    go on well. Returns the kills, and the calls that the work makes."""
    tmp.mkdir()
    shutil.copytree(template, tmp / "counted", symlinks=True)
    calls = sorted(calls_of(work_of(tmp / "counted"), tmp / "counted.txt").items())
    chosen = [(call, number) for call, count in calls for number in range(1, count + 1)][::every]
    for call, number in chosen:
        copy = tmp / f"{call}-{number}"
        shutil.copytree(template, copy, symlinks=True)
        before = [committed(directory) for directory in list_runs(copy)]
        end = killed_at_call(work_of(copy), call, number, tmp / f"{call}-{number}.txt")
        assert end.killed, f"{call} {number}: {end}"
        listed(copy)
        found = list_runs(copy)
        assert all(committed(run) >= step for run, step in zip(found, before, strict=False)), (call, number)
        for directory in found:
            nothing_half_made(directory, whole)
            goes_on_to(directory, whole)
        shutil.rmtree(copy)
    return len(chosen), sum(count for _, count in calls)


@dataclass(frozen=True)
class Random:
    """What random kills did."""

    kills: int
    runs: int
    lost: int
    """Updates that were done twice."""


def at_random(values: dict[str, Any], whole: Whole, tmp: Path, kills: int, seed: int, longest: float) -> Random:
    """Kill and go on, at random times up to `longest` seconds, in run after run, until so many kills were survived."""
    tmp.mkdir()
    drawn = random.Random(seed)
    done = finished = again = 0
    while done < kills:
        out = tmp / f"runs{finished}"
        disturbed = _one_run(values, whole, out, tmp, drawn, longest, kills - done)
        done += disturbed
        (directory,) = list_runs(out)
        goes_on_to(directory, whole)
        updates = [event.step for event in directory.events() if isinstance(event, Updated)]
        again += len(updates) - len(set(updates))
        finished += 1
        shutil.rmtree(out)
    return Random(done, finished, again)


def _one_run(
    values: dict[str, Any], whole: Whole, out: Path, tmp: Path, drawn: random.Random, longest: float, most: int
) -> int:
    """Disturb one run until it is finished, or for so many kills; returns the kills. There is one run in the end."""
    recipe = recipefile.build({**values, "run": {"dir": str(out)}})

    def work(gate: Gate) -> None:
        found = list_runs(out)
        directory, prepared = run.resume(found[0].path) if found else run.begin(recipe, None, [])
        for _ in run.go(directory, prepared) if prepared is not None else ():
            pass

    kills, before = 0, 0
    while kills < most or not list_runs(out):
        end = killed_after(work, drawn.uniform(0.01, longest), tmp / "words.txt", lambda: listed(out))
        kills += end.killed
        assert end.killed or end.code == 0, end.words
        found = list_runs(out)
        assert len(found) <= 1
        if found:
            now = committed(found[0])
            assert now >= before, "a committed checkpoint is gone"
            before = now
            nothing_half_made(found[0], whole)
        if not end.killed:
            break
    return kills
