"""Put defects in, one at a time, and expect red: `python tests/mutants/run.py [NAME ...]`.

Every mutant has a copy of the sources and a process of its own. It counts as red only where the process loaded the
mutated module from that copy, each named test failed by an assertion or by an error of the product, and the same tests
pass without the defect. The exit status is 1 when any is not red. `--page` writes the table of docs/trust.md instead.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from mutants.mutant import Mutant  # noqa: E402
from mutants.page import write_page  # noqa: E402
from mutants.table import MUTANTS  # noqa: E402
from mutants.witness import PASSED, SEEN, SKIPPED, Witness  # noqa: E402

_PARTS = ("src", "tests", "examples", "docs", "README.md", "pyproject.toml")
"""Of the project, what tests read."""
_LIMIT = 300
"""Seconds of a process: a defect may make a loop endless."""


@dataclass(frozen=True)
class Session:
    """What a process reported."""

    loaded: bool = False
    ends: dict[str, str] = field(default_factory=dict)
    """Test -> how it ended."""
    seconds: float = 0.0

    def of(self, test: str) -> dict[str, str]:
        """How a named test ended, with each of its parameters."""
        return {name: end for name, end in self.ends.items() if name == test or name.startswith(f"{test}[")}


def copy_of(place: Path) -> Path:
    """A copy of what tests read."""
    for name in _PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, place / name)
    return place


def session(copy: Path, tests: Sequence[str], mutant: Mutant | None, limit: float = _LIMIT) -> Session:
    """Run tests in a process of their own over a copy of the sources."""
    out, began = copy / "witness.json", time.perf_counter()
    sys.stdout.flush()
    process = os.fork()  # the libraries are loaded already, Tunesmith is not
    if process == 0:
        try:
            _child(copy, tests, mutant, out)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if time.perf_counter() - began > limit:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            break
        time.sleep(0.02)
    said = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    return Session(**said, seconds=time.perf_counter() - began)


def _child(copy: Path, tests: Sequence[str], mutant: Mutant | None, out: Path) -> None:
    import pytest

    os.setsid()
    log = os.open(copy / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(copy)
    # Processes that tests start read the same sources; what is kept of one mutant is not read by another.
    os.environ |= {"PYTHONPATH": str(copy / "src"), "TUNESMITH_CACHE": str(copy / "cache")}
    ours = (str(ROOT / "src"), str(ROOT / "tests"))  # an environment may lie in the root too
    sys.path[:] = [str(copy / "src"), *(path for path in sys.path if not path.startswith(ours))]
    for name in [name for name in sys.modules if name.partition(".")[0] == "mutants"]:
        del sys.modules[name]
    told = (mutant.module, mutant.name) if mutant else (None, None)
    plugin = Witness(out, copy / "src", *told)
    options = ["--rootdir", str(copy), "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    pytest.main([*options, *tests], plugins=[plugin])


def verdict(mutant: Mutant, plain: Session, found: Session) -> tuple[str, str]:
    """(what a mutant came to, the first test that says it)."""
    for test in mutant.tests:
        ends = plain.of(test) if plain.loaded else {}
        if PASSED not in ends.values() or not set(ends.values()) <= {PASSED, SKIPPED}:
            return "no baseline", test
    if not found.loaded:
        return "not loaded", ""
    for test in mutant.tests:
        ends = found.of(test)
        if not set(ends.values()) & set(SEEN):
            odd = sorted(set(ends.values()) - {PASSED, SKIPPED})
            return ("broken" if odd else "GREEN"), f"{test} {', '.join(odd)}"
    return "red", next(name for name, end in found.ends.items() if end in SEEN)


def load_libraries() -> None:
    """What takes most of a process's start, loaded once: every process is a fork of this one."""
    import torch
    import transformers

    for name in (
        "hypothesis",
        "huggingface_hub",
        "pydantic",
        "rich.progress",
        "safetensors.torch",
        "sklearn.linear_model",
    ):
        importlib.import_module(name)
    for name in ("AutoModel", "AutoTokenizer", "BertForSequenceClassification", "LlamaForCausalLM"):
        getattr(transformers, name)
    torch.set_num_threads(1)


def run(mutants: Sequence[Mutant], place: Path) -> list[str]:
    """Print a line a mutant; returns the names of those that are not red."""
    load_libraries()
    base = copy_of(place / "base")
    tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    plain = session(base, tests, None, _LIMIT + 10 * len(tests))
    print(f"without a defect: {len(plain.ends)} tests, {plain.seconds:.0f} s", flush=True)
    odd = []
    for mutant in mutants:
        copy = Path(shutil.copytree(base, place / mutant.name, ignore=shutil.ignore_patterns("witness.json", "cache")))
        file = copy / "src" / "tunesmith" / mutant.file
        file.write_text(mutant.applied(file.read_text(encoding="utf-8")), encoding="utf-8")
        found = session(copy, mutant.tests, mutant)
        word, test = verdict(mutant, plain, found)
        print(f"{mutant.name:<44} {mutant.trap:<5} {word:<11} {found.seconds:5.1f} s  {test}", flush=True)
        if word != "red":
            odd.append(mutant.name)
            print(_end_of((base if word == "no baseline" else copy) / "log.txt"), flush=True)
        shutil.rmtree(copy)
    return odd


def _end_of(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"    | {line}" for line in lines[-12:])


def chosen(names: Iterable[str]) -> list[Mutant]:
    """The mutants of these names, or of these rows of the traps; all where none is named."""
    wanted = set(names)
    found = [mutant for mutant in MUTANTS if not wanted or {mutant.name, mutant.trap} & wanted]
    known = {word for mutant in found for word in (mutant.name, mutant.trap)}
    if wanted - known:
        sys.exit(f"there is no mutant `{sorted(wanted - known)[0]}`")
    return found


def main() -> int:
    """Run mutants, and say by the exit status whether all were seen."""
    parser = argparse.ArgumentParser(description="Defects that the tests must see.")
    parser.add_argument("names", nargs="*", help="mutants, or rows of the traps; all where none is named")
    parser.add_argument("--page", action="store_true", help="write the table of docs/trust.md")
    asked = parser.parse_args()
    if asked.page:
        write_page(ROOT / "docs" / "trust.md", MUTANTS)
        return 0
    mutants, began = chosen(asked.names), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        odd = run(mutants, Path(folder).resolve())
    print(f"{len(mutants)} mutants, {len(mutants) - len(odd)} red, {time.perf_counter() - began:.0f} s")
    if odd:
        print("not red: " + ", ".join(odd))
    return 1 if odd else 0


if __name__ == "__main__":
    sys.exit(main())
