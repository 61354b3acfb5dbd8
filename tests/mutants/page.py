"""The table of docs/trust.md: what is promised, the tests that hold it, the mutants that were shown to break it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mutants.mutant import Mutant, by_promise

MARK = "<!-- promises -->"


def rows(mutants: Sequence[Mutant]) -> list[str]:
    """The lines of the table."""
    made = ["", "| What is promised | The test that holds it | The defects it was shown to see |", "|---|---|---|"]
    for promise, own in by_promise(mutants).items():
        tests = dict.fromkeys(test.partition("[")[0] for mutant in own for test in mutant.tests)
        names = ", ".join(f"`{mutant.name}`" for mutant in own)
        made.append(f"| {promise} | {'; '.join(map(_link, tests))} | {names} |")
    return [*made, ""]


def _link(test: str) -> str:
    path, _, name = test.partition("::")
    return f"[{name.removeprefix('test_').replace('_', ' ')}](../{path})"


def with_table(text: str, mutants: Sequence[Mutant]) -> str:
    """A page with the table between its two marks."""
    before, _, after = text.split(MARK)
    return MARK.join([before, "\n".join(rows(mutants)), after])


def write_page(page: Path, mutants: Sequence[Mutant]) -> None:
    """Write the table anew."""
    page.write_text(with_table(page.read_text(encoding="utf-8"), mutants), encoding="utf-8")
