"""Whose work Tunesmith stands on, and under which licences: every package that it needs, as installed here, and every
model of the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_LONGEST = 60
"""Characters of a licence's name; what is longer is its text."""
_PREFIX = "License :: "


def packages(root: str = "tunesmith") -> list[dict[str, Any]]:
    """Name, version, licence and whether it is needed or of an extra, of all that is installed of what a package asks
    for, and what these ask for."""
    found: dict[str, dict[str, Any]] = {}
    extras = {name for name in distribution(root).metadata.get_all("Provides-Extra") or () if name != "dev"}
    for needed, asked in ((True, set[str]()), (False, extras)):
        for made in _closure(distribution(root), asked):
            name = canonicalize_name(made.name)
            found.setdefault(
                name, {"name": made.name, "version": made.version, "licence": licence_of(made), "needed": needed}
            )
    return [found[name] for name in sorted(found)]


def _closure(root: Distribution, extras: set[str]) -> Iterator[Distribution]:
    """What a distribution needs with some of its extras, itself first; what is not installed is left out."""
    waiting = [(root, frozenset(extras))]
    seen = set()
    while waiting:
        made, asked = waiting.pop()
        key = (canonicalize_name(made.name), asked)
        if key in seen:
            continue
        seen.add(key)
        yield made
        for line in made.requires or ():
            wanted = Requirement(line)
            if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in (asked or {""})):
                continue
            try:
                waiting.append((distribution(wanted.name), frozenset(wanted.extras)))
            except PackageNotFoundError:
                continue


def licence_of(made: Distribution) -> str:
    """What a distribution says of its licence: the expression, else the short name, else the classifiers."""
    about: Message = made.metadata  # type: ignore[assignment]  # which it is
    expression, short = (str(about.get(key) or "").strip() for key in ("License-Expression", "License"))
    if expression:
        return expression
    if short and "\n" not in short and len(short) <= _LONGEST and short.upper() != "UNKNOWN":
        return short
    told = [line.removeprefix(_PREFIX) for line in about.get_all("Classifier") or () if line.startswith(_PREFIX)]
    names = [line.split(" :: ")[-1] for line in told if line != "OSI Approved"]
    if names:
        return ", ".join(names)
    return short.splitlines()[0].strip() if short else "unknown"


def models() -> list[dict[str, Any]]:
    """Name and licence of every model of the catalog."""
    from tunesmith.models.catalog import CATALOG

    return [{"name": entry.name, "licence": entry.licence} for entry in CATALOG]
