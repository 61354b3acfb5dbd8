"""The card of a data set as hubs keep it: `README.md`, which may say which files are of which split, and of which part
(configuration) of the set."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tunesmith.errors import DataError

CARD = "README.md"
_LONGEST = 2**20
_NOTHING = ("", "~", "null")
Patterns = Mapping[str, tuple[str, ...]]
"""Split -> the patterns of its files, from the card's folder."""


@dataclass(frozen=True)
class Card:
    """What a card says of files; no parts where it says nothing."""

    parts: Mapping[str, Patterns] = field(default_factory=dict)
    default: str | None = None
    """The part that is meant where none is named."""


def read_card(folder: Path) -> Card:
    """The card of a folder. Raises DataError for a pattern that leads out of the folder."""
    try:
        with open(folder / CARD, encoding="utf-8") as file:
            said = _front_matter(file.read(_LONGEST))
    except (OSError, UnicodeDecodeError):
        return Card()
    configs = said.get("configs") if isinstance(said, dict) else None
    parts: dict[str, Patterns] = {}
    default = None
    for config in configs if isinstance(configs, list) else []:
        if not isinstance(config, dict) or "data_files" not in config:
            return Card()
        name = config.get("config_name", "default")
        if not isinstance(name, str):
            return Card()
        below = config.get("data_dir")
        parts[name] = {
            split: tuple(f"{below}/{pattern}" if isinstance(below, str) else pattern for pattern in patterns)
            for split, patterns in _patterns(config["data_files"]).items()
        }
        if not all(parts[name].values()) or not parts[name]:
            return Card()
        if config.get("default") == "true" or name == "default":
            default = name
    for pattern in (one for splits in parts.values() for patterns in splits.values() for one in patterns):
        if PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
            raise DataError(f"the card names files outside of its folder: `{pattern}`", where=str(folder / CARD))
    return Card(parts, next(iter(parts)) if len(parts) == 1 else default)


def files_of(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    """The files of patterns, each once, in order. Raises DataError where a pattern has none."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        names = sorted(glob.glob(pattern, root_dir=folder, recursive=True))
        paths = [folder / name for name in names if (folder / name).is_file()]
        if not paths:
            raise DataError(f"the card names files that are not there: `{pattern}`", where=str(folder / CARD))
        found |= dict.fromkeys(paths)
    return list(found)


def _front_matter(text: str) -> Any:
    """The YAML between two lines of dashes that a card begins with."""
    import yaml

    head, _, rest = text.partition("\n")
    said, mark, _ = rest.partition("\n---")
    try:
        if not mark or head.strip() != "---":
            return None
        return yaml.BaseLoader(said).get_single_data()  # texts and what is made of them: no dates, no objects
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _patterns(said: Any) -> Patterns:
    """Of `data_files`, which is a pattern, a list of them, or splits with theirs, in a list or by name."""
    found: dict[str, tuple[str, ...]] = {}
    if isinstance(said, dict) and not {"path", "split"} & said.keys():
        said = [{"split": split, "path": path} for split, path in said.items()]
    for item in said if isinstance(said, list) else [said]:
        split, path = (item.get("split", "train"), item.get("path")) if isinstance(item, dict) else ("train", item)
        if not isinstance(split, str):
            continue
        paths = path if isinstance(path, list) else [path]
        found[split] = (
            *found.get(split, ()),
            *(one for one in paths if isinstance(one, str) and one not in _NOTHING),
        )
    return found
