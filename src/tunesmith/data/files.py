"""From a path to what its files hold: which format, which split, every row before any column is looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith import plugins
from tunesmith.contracts import BadRow
from tunesmith.data.formats.image_folder import holds_images
from tunesmith.errors import DataError, did_you_mean

SPLITS = ("train", "validation", "test")
_OTHER_NAMES = {"valid": "validation", "val": "validation", "dev": "validation"}
_HALF = re.compile("[\ud800-\udfff]")


def format_of(path: Path, given: str | None = None) -> Any:
    """The format module for a file. Raises DataError when its name does not tell."""
    if given is not None:
        return plugins.load("formats", given)
    if path.is_dir():
        return plugins.load("formats", "image-folder")
    suffix = path.suffix.lower()
    for name in plugins.names("formats"):
        module = plugins.load("formats", name)
        if suffix in module.suffixes:
            return module
    raise DataError(
        f"the name does not say what kind of file it is: `{path.name}`",
        where=str(path),
        hint="set `data.format` to one of " + ", ".join(plugins.names("formats")),
    )


def find_files(path: Path) -> dict[str, list[Path]]:
    """Split -> files, for a file (all of it is `train`) or a folder laid out by split. Raises DataError."""
    if path.is_file():
        return {"train": [path]}
    if holds_images(path) and not any(_split(entry) in SPLITS for entry in path.iterdir()):
        return {"train": [path]}
    if not path.exists():
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError("there is no such file", where=str(path), hint=did_you_mean(path.name, near) if near else None)
    if not path.is_dir():
        raise DataError("this is neither a file nor a folder", where=str(path))
    found: dict[str, list[Path]] = {}
    for entry in sorted(path.iterdir()):
        split = _split(entry)
        if split not in SPLITS or entry.name.startswith("."):
            continue
        inside = entry.is_dir() and not holds_images(entry)
        files = sorted(p for p in entry.iterdir() if p.is_file()) if inside else [entry]
        if split in found:
            raise DataError(
                f"the folder has two sources for `{split}`: {found[split][0].name} and {entry.name}",
                where=str(path),
                hint="name the files in `data.train`, `data.validation` and `data.test`",
            )
        if files:
            found[split] = files
    if "train" not in found:
        raise DataError(
            "the folder has no training rows",
            where=str(path),
            hint="it needs `train.*`, and may have `validation.*` and `test.*`, or folders of these names",
        )
    return found


def _split(entry: Path) -> str:
    """The split that a file or folder is called by."""
    return _OTHER_NAMES.get(entry.stem.lower(), entry.stem.lower())


def raw_rows(path: Path, given: str | None = None) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """What a file holds, before any column is looked at. A row that holds a NUL character comes as a BadRow."""
    if not path.is_file() and not holds_images(path):
        find_files(path)
        raise DataError("a file was expected, this is a folder", where=str(path))
    for item in format_of(path, given).read(path):
        if not isinstance(item, BadRow):
            broken = next(((k, why) for k, v in item[1].items() if (why := unusable(v))), None)
            if broken is not None:
                yield BadRow(str(path), item[0], f"column `{broken[0]}` holds {broken[1]}")
                continue
        yield item


def unusable(value: Any) -> str:
    """What no tokenizer takes, in words, in a value or in what it is made of; else nothing."""
    if isinstance(value, str):
        if "\0" in value:
            return "a NUL character"
        if _HALF.search(value):
            return "half of a character (a lone surrogate), as texts have that were cut between two halves"
        return ""
    if isinstance(value, dict):
        return next((why for part in (*value, *value.values()) if (why := unusable(part))), "")
    if isinstance(value, list):
        return next((why for part in value if (why := unusable(part))), "")
    return ""
