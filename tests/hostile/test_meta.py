"""The cases themselves: enough of them, of every format, and no two with one cause."""

import importlib
from pathlib import Path

import pytest

from refusals import Bad

FORMATS = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py") if "dict[str, Bad]" in path.read_text())
FORMATS.remove("test_meta")


def cases(module: str) -> list[tuple[str, Bad]]:
    """All bad inputs of a format."""
    tables = [t for t in vars(importlib.import_module(f"hostile.{module}")).values() if isinstance(t, dict)]
    return [(name, bad) for table in tables for name, bad in table.items() if isinstance(bad, Bad)]


def test_there_are_three_hundred_bad_inputs_of_fifteen_formats() -> None:
    assert len(FORMATS) >= 14
    assert sum(len(cases(module)) for module in FORMATS) >= 300


@pytest.mark.parametrize("module", FORMATS)
def test_a_format_has_twenty_bad_inputs_and_no_two_are_told_in_the_same_words_without_a_reason(module: str) -> None:
    found = cases(module)
    assert len(found) >= 20
    said: dict[str, str] = {}
    for name, bad in found:
        assert bad.twin or bad.said not in said, f"{name} is told as {said.get(bad.said)} is"
        said.setdefault(bad.said, name)


@pytest.mark.parametrize("module", FORMATS)
def test_every_case_says_more_than_that_something_is_wrong(module: str) -> None:
    for name, bad in cases(module):
        assert len(bad.problem) > 10 and "Traceback" not in bad.said, name
