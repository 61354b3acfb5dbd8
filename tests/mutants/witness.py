"""What a pytest session saw: whether the mutated module was loaded from the copy, and how each test ended."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

PASSED, SKIPPED, ASSERTED, REFUSED = "passed", "skipped", "asserted", "refused"
SEEN = (ASSERTED, REFUSED)
"""How a test ends that saw a defect: by an assertion of its own, or by an error of the product not asked for."""


class Witness:
    """A plugin that writes a JSON file at the session's end."""

    def __init__(self, out: Path, source: Path, module: str | None, name: str | None) -> None:
        self.out, self.source, self.module, self.name = out, source, module, name
        self.ends: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.skipped:
            self.ends[item.nodeid] = SKIPPED
        elif report.when == "call" and report.passed:
            self.ends[item.nodeid] = PASSED
        elif report.failed and call.excinfo is not None:
            kind = kind_of(call.excinfo.value)
            self.ends[item.nodeid] = kind if report.when == "call" else f"{report.when}: {kind}"
        return report

    def pytest_sessionfinish(self) -> None:
        loaded = sys.modules.get(self.module or "tunesmith")
        place = Path(getattr(loaded, "__file__", None) or "/")
        said = {
            "loaded": place.is_relative_to(self.source) and getattr(loaded, "MUTANT", None) == self.name,
            "ends": self.ends,
        }
        self.out.write_text(json.dumps(said), encoding="utf-8")


def kind_of(fault: BaseException) -> str:
    """How a test ended that failed: by an assertion, by an error of the product, or by what says nothing."""
    if isinstance(fault, BaseExceptionGroup):
        kinds = {kind_of(inner) for inner in fault.exceptions}
        return ASSERTED if kinds == {ASSERTED} else ", ".join(sorted(kinds))
    failed: Any = pytest.fail.Exception
    if isinstance(fault, AssertionError) or (isinstance(fault, failed) and not str(fault).startswith("Timeout")):
        return ASSERTED
    if any(kind.__name__ == "TunesmithError" for kind in type(fault).__mro__):
        return REFUSED
    return type(fault).__name__
