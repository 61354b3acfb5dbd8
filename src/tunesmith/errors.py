"""Everything that can go wrong on purpose: what is wrong, where it is, what to try.

    TunesmithError              exit code
      UserError                     2     something the user wrote, or that the user can mend
        RecipeError                       a key, a value or a combination in the recipe
        DataError                         a file or a row
        ModelError                        a model that is missing, unknown or does not fit
        RunError                          a run directory that cannot be used that way
      FaultError                    1     something that happened to the run
        StorageError                      a disk that is full, a file that cannot be written
        NotFinite                         a loss, gradient or weight that is NaN or infinite
        OutOfMemory                       the machine, or a limit, gave no more memory

The command line prints an error, a server would send it; nobody sees a traceback of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches


class TunesmithError(Exception):
    """A problem, the place it was found at, and a hint how to mend it."""

    exit_code = 1

    def __init__(self, problem: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f"\n  at {self.where}" if self.where else ""
        hint = f"\n\nhint: {self.hint}" if self.hint else ""
        return f"{self.problem}{place}{hint}"

    def as_json(self) -> dict[str, str | None]:
        """The same three facts for a program to read."""
        return {
            "kind": type(self).__name__,
            "problem": self.problem,
            "where": self.where,
            "hint": self.hint,
        }


class UserError(TunesmithError):
    """The user can mend it: exit code 2."""

    exit_code = 2


class RecipeError(UserError):
    """A key, a value or a combination of the recipe."""


class DataError(UserError):
    """A file or a row that cannot be used."""


class ModelError(UserError):
    """A model that is missing, unknown or does not fit the task."""


class RunError(UserError):
    """A run directory that cannot be used in the way that was asked."""


class FaultError(TunesmithError):
    """It happened to the run: exit code 1."""


class StorageError(FaultError):
    """The disk is full or the place cannot be written."""


class NotFinite(FaultError):
    """A loss or gradient is NaN or infinite; names the update and the rows in it."""

    def __init__(self, step: int, rows: Sequence[str]) -> None:
        shown = ", ".join(rows[:16]) + (" ..." if len(rows) > 16 else "")
        super().__init__(
            f"the loss or its gradient is not finite in update {step + 1}; the last checkpoint is untouched",
            where=f"rows {shown}",
            hint="lower `train.learning_rate`, or look at these rows",
        )
        self.step = step
        self.rows = list(rows)


class OutOfMemory(FaultError):
    """The machine, a device or a limit gave no more memory."""


_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc")
"""How torch says it: in a RuntimeError."""


@contextmanager
def memory_told() -> Iterator[None]:
    """Turn what says that memory ran out into an OutOfMemory."""
    try:
        yield
    except (MemoryError, RuntimeError) as fault:
        if not isinstance(fault, MemoryError) and not any(word in str(fault) for word in _MEMORY):
            raise
        raise OutOfMemory(
            f"memory ran out: {(str(fault).splitlines() or ['no more can be had'])[0]}",
            hint="free some and `tunesmith resume`, or start a run with a lower `train.memory` or `data.max_tokens`",
        ) from fault


class Stopped(KeyboardInterrupt):
    """A signal ended a command at once; says how to go on. It is no problem that a program may handle."""

    def __init__(self, number: int, hint: str | None = None) -> None:
        super().__init__(number)
        self.number = number
        self.hint = hint


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` did you mean X?`, or the known words where none is close."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return "known: " + ", ".join(f"`{name}`" for name in names)
