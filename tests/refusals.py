"""Bad inputs and what is said of them: a case holds the input and the whole message, and is checked by one function."""

import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tunesmith import cli
from tunesmith.errors import UserError

SKIP = "to leave such rows out, and have them listed, set `data.bad_rows: skip`"
"""The hint that every row which cannot be used has."""
LONGEST = 10.0
"""Seconds that any refusal may take."""
ROOM = 4 * 2**30
"""Bytes that it may take beside what the tests hold already."""


@dataclass(frozen=True)
class Bad:
    """One bad input and all that is said of it; `<here>` stands for the test's own folder."""

    given: Any
    """How the input is made: each table says what it takes."""
    problem: str
    at: str | None = None
    hint: str | None = None
    twin: str = ""
    """Why another case of the same table may be told in the very same words."""

    @property
    def said(self) -> str:
        """The whole message."""
        return str(UserError(self.problem, where=self.at, hint=self.hint))


class TooLong(BaseException):
    """No `except` of the product takes it for a fault of the input."""


@contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    """Break off what hangs or takes all memory."""

    def ring(number: int, frame: Any) -> None:
        raise TooLong(f"it took more than {seconds} s")

    limits = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ROOM, limits[1]))
    old = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command line; it must fail as a user error. Returns what it printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught, no_longer_than(LONGEST):
        cli.main(list(arguments))
    out = capsys.readouterr()
    assert caught.value.code == 2, out
    assert "Traceback" not in out.err
    assert out.err.startswith("error: ")
    return out.err


def check(
    bad: Bad,
    capsys: pytest.CaptureFixture[str],
    here: Path,
    *arguments: str,
    known: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Run the command line on a bad input: it says exactly what it should, and leaves the folder as it was. What a
    machine decides, such as the folder of a cache, is `known` by another name."""
    before = _files(here)
    said = refused(capsys, *arguments)
    for name, other in (*known.items(), (str(here), "<here>")):
        said = said.replace(name, other)
    assert said == f"error: {bad.said}\n"
    assert _files(here) == before


def check_raised(bad: Bad, here: Path, call: Callable[[], Any]) -> None:
    """As `check`, of a function that the command line adds nothing to."""
    before = _files(here)
    with pytest.raises(UserError) as caught, no_longer_than(LONGEST):
        call()
    assert str(caught.value).replace(str(here), "<here>") == bad.said
    assert _files(here) == before


def _files(here: Path) -> dict[str, int]:
    """Every path below a folder, and its size."""
    return {str(path): path.lstat().st_size for path in here.rglob("*") if not path.is_dir() or path.is_symlink()}
