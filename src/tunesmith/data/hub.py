"""Data sets of a hub, by `hf://org/name`: their files of rows are fetched into the user's cache, nothing else is.

`hf://org/name/folder` is a part of one (a configuration), `hf://org/name@revision` a version. Loading scripts are never
fetched, so none can run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from tunesmith.data.card import CARD, Card, read_card
from tunesmith.data.files import find_files, parts
from tunesmith.errors import DataError

SCHEME = "hf://"
_NAME = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+?))?(?:/(?P<part>[^@]+))?$")
_KINDS = ("csv", "tsv", "json", "jsonl", "parquet", "txt", "conll")
_FILES = [f"*.{kind}{packed}" for kind in _KINDS for packed in ("", ".gz", ".zst") if kind != "parquet" or not packed]


def fetch(address: str, say: Callable[[str], None]) -> Path:
    """The folder of a data set's rows. Raises DataError."""
    from huggingface_hub import errors, snapshot_download

    match = _NAME.match(address)
    if match is None:
        raise DataError("this names no data set of a hub", where=address, hint="write `hf://org/name`")
    name, part = match["name"], (match["part"] or "").rstrip("/")
    if part and {"", ".", ".."} & set(part.split("/")):
        raise DataError(
            "this names no data set of a hub, nor a part of one", where=address, hint="`hf://org/name/folder`"
        )
    say(f"looking for {name} on the hub of data sets")
    problem, hint = f"the hub has no data set `{name}`", "check the name; a private one needs HF_TOKEN"

    def have(patterns: list[str]) -> Path:
        return Path(snapshot_download(name, repo_type="dataset", revision=match["revision"], allow_patterns=patterns,
                                      etag_timeout=5))  # fmt: skip

    try:
        card = read_card(have([CARD]))
        if not part and card.parts and card.default is None:
            raise _several(list(card.parts), address)
        folder = have(_wanted(card, part))
    except errors.GatedRepoError:
        raise DataError(f"`{name}` is gated", where=address, hint="accept its terms, then set HF_TOKEN") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise DataError(problem, where=address, hint=hint) from None
    except errors.HFValidationError:
        raise DataError("this names no data set of a hub", where=address, hint="write `hf://org/name`") from None
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as fault:
        raise DataError(
            f"`{name}` cannot be fetched: {str(fault).splitlines()[0]}",
            where=address,
            hint="is there a network? A file or folder on disk works without one",
        ) from None
    return _part_of(folder / part if part else folder, address)


def _wanted(card: Card, part: str) -> list[str]:
    """The patterns of the files to fetch: those that the card names, else all below a part; of rows only."""
    chosen = card.parts.get(part or card.default or "")
    if chosen is None:
        if _holds_rows(part):
            return [part]
        return [f"{part}/{pattern}" for pattern in _FILES] if part else list(_FILES)
    said = [pattern for patterns in chosen.values() for pattern in patterns]
    wanted = [pattern for pattern in said if _holds_rows(pattern)]
    return wanted + [pattern + kind[1:] for pattern in said if not _holds_rows(pattern) for kind in _FILES]


def _holds_rows(name: str) -> bool:
    """Whether a file's name, or a pattern, ends as files of rows do."""
    return any(fnmatch(name, pattern) for pattern in _FILES)


def _several(parts: Sequence[str], address: str) -> DataError:
    return DataError(
        f"the data set has several parts: {', '.join(parts[:20])}",
        where=address,
        hint=f"name one, such as `{address}/{parts[0]}`",
    )


def _part_of(place: Path, address: str) -> Path:
    """The folder, where it holds the rows of one configuration. Raises DataError that names those of several."""
    named = place.name in read_card(place.parent).parts
    if not named and not place.is_file() and not any(p.is_file() and p.name != CARD for p in place.rglob("*")):
        raise DataError(
            "the data set has no file of rows there",
            where=address,
            hint="files of rows are " + ", ".join(_KINDS) + "; a data set that only a script can load cannot be read",
        )
    if inside := parts(place):
        raise _several(inside, address)
    find_files(place)
    return place
