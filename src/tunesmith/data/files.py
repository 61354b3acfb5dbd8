"""From a path to what its files hold: which format, which split, every row before any column is looked at."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tunesmith import plugins
from tunesmith.contracts import BadRow
from tunesmith.data.card import CARD, Card, files_of, read_card
from tunesmith.data.formats import Format
from tunesmith.data.formats.image_folder import IMAGES, holds_images
from tunesmith.data.textfile import LONGEST, bare, open_bytes
from tunesmith.errors import DataError, did_you_mean

SPLITS = ("train", "validation", "test")
_OTHER_NAMES = {"valid": "validation", "val": "validation", "dev": "validation"}
_SHARD = re.compile(r"[-_.]?\d+(?:-of-\d+)?(?:-[0-9a-f]{6,})?$")
_NUMBERED = re.compile(r"(.*?)(\d+)-of-(\d+)")
_BETWEEN = re.compile(r"[-_. ]+")
_ABOUT = re.compile(
    r"[._]|(?:readme|license|licence|source|labels|notice|changelog|dataset_infos?)(?:\.|$)|.*\.md$", re.I
)
_TAGGED = re.compile(r"^\S+(?:[ \t]+\S+)*[ \t](?:O|[BIESLU]-\S+)\s*$")
_HEAD = 2**16
_LINES = 40
_DEEPEST = 100
"""Lists and objects inside each other: what is nested deeper is no row of anyone's."""
_HALF = re.compile("[\ud800-\udfff]")


def format_of(path: Path, given: str | None = None) -> Format:
    """The format module for a file: by its ending, else by what it holds. Raises DataError when neither tells."""
    named = given or ("image-folder" if path.is_dir() else _by_suffix(path))
    if named is not None and (given or named not in ("text", "json")):
        return _load(named)
    seen = sniff(path, 2 if named == "json" else 1)
    if named is None or (named, seen) in (("text", "conll"), ("text", "jsonl"), ("json", "jsonl")):
        named = seen
    if named is None:
        raise DataError(
            f"neither name nor content says what kind of file it is: `{path.name}`",
            where=str(path),
            hint="set `data.format` to one of " + ", ".join(plugins.names("formats")),
        )
    return _load(named)


def _load(name: str) -> Format:
    found: Format = plugins.load("formats", name)
    return found


def _by_suffix(path: Path) -> str | None:
    suffix = bare(path).suffix.lower()
    for name in plugins.names("formats"):
        if suffix in plugins.load("formats", name).suffixes:
            return name
    return None


def sniff(path: Path, rows: int = 1) -> str | None:
    """The format of a file by its first bytes; None where they do not tell. JSON Lines are told
    by `rows` lines at least. Raises DataError for a file that cannot be read."""
    with open_bytes(path) as file:
        head = file.read(_HEAD)
        if head.lstrip()[:1] == b"{" and b"\n" not in head:  # a long first row
            head += file.readline(LONGEST) + file.readline(LONGEST)
    if head[:4] == b"PAR1":
        return "parquet"
    text = head.decode("utf-8-sig", errors="replace")
    lines = [line for line in re.split(r"\r\n|[\r\n]", text)[: _LINES + 1] if line.strip()]
    whole = lines[: max(1, len(lines) - (len(head) == _HEAD))]  # the last may be cut
    if not whole:
        return None
    if text.lstrip()[:1] == "[":
        return "json"
    if whole[0].lstrip()[:1] == "{":
        return "jsonl" if len(whole) >= rows and all(map(_is_row, whole[:2])) else "json"
    said = [line for line in whole if not line.startswith(("#", "-DOCSTART-"))]
    if len(said) >= 3 and all(map(_TAGGED.search, said)):
        return "conll"
    for mark, name in (("\t", "tsv"), (",", "csv"), (";", "csv")):
        counts = [line.count(mark) for line in whole[:5]]
        if counts[0] and len(whole) > 1 and sum(count >= counts[0] for count in counts) >= 0.8 * len(counts):
            return name
    return None


def _is_row(line: str) -> bool:
    """Whether a line is an object that holds no list of rows itself."""
    try:
        value = json.loads(line)
    except ValueError:
        return False
    return isinstance(value, dict) and not any(isinstance(value.get(name), list) for name in ("data", "rows"))


def find_files(given: str | Path) -> dict[str, list[Path]]:
    """Split -> files: of a file, a pattern or a folder of files all are `train`; of a folder laid out by split, by its
    card or by the names in it, each split's, in one file, several shards or a folder. A part that the card of a folder
    names is found below the folder's path. Raises DataError."""
    path = Path(given)
    if path.is_file():
        return {"train": [path]}
    if not path.exists():
        card = read_card(path.parent)
        return _by_card(path.parent, card, path.name) if path.name in card.parts else {"train": _matching(path)}
    if not path.is_dir():
        raise DataError("this is neither a file nor a folder", where=str(path))
    if (card := read_card(path)).parts:
        return _by_card(path, card, card.default)
    if holds_images(path) and not _has_splits(path):
        return {"train": [path]}
    if _has_splits(path):
        return _by_split(path)
    if _has_splits(path / "data"):
        return find_files(path / "data")
    if inside := parts(path):
        raise _several(path, inside)
    files = _alike(path)
    if odd := next((entry for entry in files if any(split != "train" for split in _said(entry))), None):
        raise DataError(
            f"are the rows of {odd.name} to be learned from? Its name says `{_said(odd)[0]}`",
            where=str(path),
            hint=f"name the files in `data.train`, `data.validation` and `data.test`; a pattern, such as "
            f"`{path / '*'}{odd.suffix}`, takes all for training",
        )
    return {"train": files}


def parts(path: Path) -> list[str]:
    """The names of the folders in a folder that have splits of their own, where it has none itself; of a folder with a
    card that names several parts, and none as its default, these."""
    if not path.is_dir():
        return []
    if (card := read_card(path)).parts:
        return [] if card.default is not None else list(card.parts)
    if _has_splits(path) or _has_splits(path / "data"):
        return []
    return [entry.name for entry in _entries(path) if _has_splits(entry)]


def _several(path: Path, inside: Sequence[str]) -> DataError:
    return DataError(
        f"the folder has several parts, each with splits of its own: {', '.join(inside[:20])}",
        where=str(path),
        hint=f"name one, such as `{path / inside[0]}`, or all in a list",
    )


def _by_card(folder: Path, card: Card, part: str | None) -> dict[str, list[Path]]:
    if part is None:
        raise _several(folder, list(card.parts))
    patterns: dict[str, tuple[str, ...]] = {}
    for name, said in card.parts[part].items():
        split = _called(name)
        if split in SPLITS:
            patterns[split] = (*patterns.get(split, ()), *said)
    if "train" not in patterns:
        raise DataError(
            f"the card names no split `train`, but {', '.join(f'`{name}`' for name in card.parts[part])}",
            where=str(folder / CARD),
            hint="name the files in `data.train`, `data.validation` and `data.test`",
        )
    return {split: files_of(folder, said) for split, said in patterns.items()}


def _has_splits(folder: Path) -> bool:
    return folder.is_dir() and bool(_splits(folder))


def _matching(pattern: Path) -> list[Path]:
    """The files that a pattern such as `rows/*.jsonl` names, in order."""
    if pattern.is_symlink():
        raise DataError("this is a link to something that is not there", where=str(pattern))
    if not any(mark in str(pattern) for mark in "*?["):
        near = [p.name for p in pattern.parent.iterdir()] if pattern.parent.is_dir() else []
        hint = did_you_mean(pattern.name, near) if near else None
        raise DataError("there is no such file", where=str(pattern), hint=hint)
    found = sorted(Path(name) for name in glob.glob(str(pattern), recursive=True))
    files = [path for path in found if path.is_file() and not path.name.startswith(".")]
    if not files:
        raise DataError("no file is called like this pattern", where=str(pattern))
    return files


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, but for what is hidden or about it rather than of it."""
    return [entry for entry in sorted(folder.iterdir()) if not _ABOUT.match(entry.name)]


def _by_split(path: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for entry, split in _splits(path).items():
        inside = entry.is_dir() and not holds_images(entry)
        files = _alike(entry) if inside and _entries(entry) else [] if inside else [entry]
        if split in found and not (_shard(entry) and all(_shard(other) for other in found[split])):
            raise DataError(
                f"the folder has two sources for `{split}`: {found[split][0].name} and {entry.name}",
                where=str(path),
                hint="name the files in `data.train`, `data.validation` and `data.test`",
            )
        if files:
            found.setdefault(split, []).extend(files)
    for files in found.values():
        _refuse_gaps(files)
    if "train" not in found:
        raise DataError(
            "the folder has no training rows",
            where=str(path),
            hint="it needs `train.*`, and may have `validation.*` and `test.*`, or folders of these names",
        )
    return found


def _alike(folder: Path) -> list[Path]:
    """The data files of a folder, or of its folders where it has none itself: of one format."""
    inside = [entry for entry in _entries(folder) if entry.is_file()]
    files = inside or [
        entry for below in _entries(folder) if below.is_dir() for entry in _entries(below) if entry.is_file()
    ]
    kinds = {path: _by_suffix(path) for path in files}
    known = [path for path in files if kinds[path] is not None] or files
    if not known:
        raise DataError(
            "the folder has no file of rows",
            where=str(folder),
            hint="put .csv, .jsonl ... files in it, or `train.*` with `validation.*` and `test.*`",
        )
    if all(path.suffix.lower() in IMAGES for path in known):
        raise DataError(
            "the folder holds images and no word on what they show",
            where=str(folder),
            hint="put them into folders, one a label, or name them in a table with their labels",
        )
    other = next((path for path in known if kinds[path] != kinds[known[0]]), None)
    if other is not None:
        raise DataError(
            f"the folder has files of several formats: {known[0].name} and {other.name}",
            where=str(folder),
            hint="name those that are meant with a pattern, such as `rows/*.jsonl`",
        )
    _refuse_gaps(known)
    return known


def _splits(folder: Path) -> dict[Path, str]:
    """The files and folders in a folder that are called by a split: `train.csv.gz`, `valid`,
    `test-00000-of-00002.parquet`. Where none is, files that are called alike but for it: `squad-train.json` and
    `squad-dev.json`."""
    entries = _entries(folder)
    exact = {entry: split for entry in entries if (split := _called(_name(entry))) in SPLITS}
    if exact:
        return exact
    found: dict[str, dict[Path, str]] = {}
    for entry in entries:
        said = _said(entry)
        if len(said) == 1:
            others = " ".join(word for word in _BETWEEN.split(_name(entry)) if _called(word) not in SPLITS)
            found.setdefault(others, {})[entry] = said[0]
    alike = {e: split for group in found.values() if len(set(group.values())) > 1 for e, split in group.items()}
    if alike and (left := next((entry for entry in entries if _said(entry) and entry not in alike), None)):
        raise DataError(
            f"which split is {left.name} of? {next(iter(alike)).name} and others are told by their names, it is not",
            where=str(folder),
            hint="name the files in `data.train`, `data.validation` and `data.test`",
        )
    return alike


def _said(entry: Path) -> list[str]:
    """The splits that the words of a file's name say."""
    return (
        [_called(word) for word in _BETWEEN.split(_name(entry)) if _called(word) in SPLITS] if entry.is_file() else []
    )


def _name(entry: Path) -> str:
    """A file's or folder's name without endings, numbers of shards and case."""
    return _SHARD.sub("", (entry.name if entry.is_dir() else bare(entry).stem).lower())


def _called(name: str) -> str:
    return _OTHER_NAMES.get(name, name)


def _refuse_gaps(files: Sequence[Path]) -> None:
    """Raise DataError where one of `rows-00000-of-00003.parquet` and so on is missing."""
    numbers: dict[tuple[str, int], set[int]] = {}
    for path in files:
        if match := _NUMBERED.match(path.name):
            numbers.setdefault((match[1], int(match[3])), set()).add(int(match[2]))
    for (name, count), found in numbers.items():
        first = min(found | {1})  # they count from 0 or from 1
        there = sum(first <= number < first + count for number in found)
        if there < count:
            gap = next(number for number in range(first, first + count) if number not in found)
            raise DataError(
                f"of the {count} files {name}*, {count - there} are missing, the first is number {gap}",
                where=str(files[0].parent),
                hint="fetch it again; to use only those that are there, name them in a list or by a pattern",
            )


def _shard(entry: Path) -> bool:
    return entry.is_file() and _SHARD.search(bare(entry).stem) is not None


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


def unusable(value: Any, depth: int = 0) -> str:
    """What no tokenizer takes, in words, in a value or in what it is made of; else nothing."""
    if isinstance(value, str):
        if "\0" in value:
            return "a NUL character"
        if _HALF.search(value):
            return "half of a character (a lone surrogate), as texts have that were cut between two halves"
        return ""
    if not isinstance(value, dict | list):
        return ""
    if depth == _DEEPEST:
        return f"lists or objects that are nested more than {_DEEPEST} deep"
    parts = (*value, *value.values()) if isinstance(value, dict) else value
    return next((why for part in parts if (why := unusable(part, depth + 1))), "")
