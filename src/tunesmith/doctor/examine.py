"""All checks, found by name: each is a module of `checks/`."""

from __future__ import annotations

from tunesmith import plugins
from tunesmith.doctor.case import Case, Check
from tunesmith.doctor.finding import Finding


def examine(case: Case, *, quick: bool = False) -> list[Finding]:
    """What is wrong with the rows, the gravest first; `quick` leaves out what takes long."""
    found: list[Finding] = []
    for name in plugins.names("checks"):
        check: Check = plugins.load("checks", name)
        if check.quick or not quick:
            found += check.find(case)
    return sorted(found, key=lambda finding: not finding.stops)
