"""What a mutant is: a defect that could be written by mistake, and the tests that must see it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A defect to be put into a copy of the sources."""

    name: str
    trap: str
    """The row of the traps it comes from, as `section.row`; empty where it is a promise of our own."""
    promise: str
    """What it breaks, in a sentence for users; mutants that break the same share it."""
    file: str
    """In `src/tunesmith`."""
    edits: tuple[tuple[str, str], ...]
    """(old, new), of which each old stands exactly once in the file."""
    tests: tuple[str, ...]
    """Pytest's names of the tests that must fail, each of them."""

    @property
    def module(self) -> str:
        """The mutated module's name."""
        return "tunesmith." + self.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    def applied(self, text: str) -> str:
        """The file's text with the defect, and with a mark by which the module is known when it was loaded."""
        for old, new in self.edits:
            assert text.count(old) == 1, f"{self.name}: {text.count(old)} times in {self.file}: {old}"
            text = text.replace(old, new)
        return f"{text}\nMUTANT = {self.name!r}\n"


def by_promise(mutants: Iterable[Mutant]) -> dict[str, list[Mutant]]:
    """The mutants of each promise, in the order of the table."""
    found: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        found.setdefault(mutant.promise, []).append(mutant)
    return found
