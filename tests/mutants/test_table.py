"""The table of mutants is whole: every trap is in it, every defect still fits the sources, every test is there."""

import ast
from functools import cache
from pathlib import Path

import pytest

from mutants.mutant import Mutant
from mutants.page import with_table
from mutants.table import MUTANTS, TRAPS

ROOT = Path(__file__).parents[2]


@cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_trap_has_a_defect_that_a_test_sees() -> None:
    assert {mutant.trap for mutant in MUTANTS} - {""} == TRAPS.keys()
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_defect_fits_the_sources_and_its_tests_are_there(mutant: Mutant) -> None:
    text = (ROOT / "src" / "tunesmith" / mutant.file).read_text(encoding="utf-8")
    assert mutant.edits and mutant.tests
    made = mutant.applied(text)
    assert ast.dump(ast.parse(made)) != ast.dump(ast.parse(f"{text}\nMUTANT = {mutant.name!r}\n"))
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert name.partition("[")[0] in functions_of(path), test


def test_the_page_of_promises_is_that_of_the_table() -> None:
    page = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
    assert with_table(page, MUTANTS) == page, "run `python tests/mutants/run.py --page`"
