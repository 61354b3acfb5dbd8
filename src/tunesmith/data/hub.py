"""Data sets of a hub, by `hf://org/name`: their files of rows are fetched into the user's cache, nothing else is.

`hf://org/name/folder` is a part of one (a configuration), `hf://org/name@revision` a version. Loading scripts are never
fetched, so none can run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

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
    wanted = [f"{part}/{pattern}" for pattern in _FILES] if part else list(_FILES)
    wanted += [part] if any(fnmatch(part, pattern) for pattern in _FILES) else []
    try:
        folder = Path(snapshot_download(name, repo_type="dataset", revision=match["revision"], allow_patterns=wanted,
                                        etag_timeout=5))  # fmt: skip
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


def _part_of(place: Path, address: str) -> Path:
    """The folder, where it holds the rows of one configuration. Raises DataError that names those of several."""
    if not place.exists() or (place.is_dir() and not any(p.is_file() for p in place.rglob("*"))):
        raise DataError(
            "the data set has no file of rows there",
            where=address,
            hint="files of rows are " + ", ".join(_KINDS) + "; a data set that only a script can load cannot be read",
        )
    if inside := parts(place):
        raise DataError(
            f"the data set has several parts: {', '.join(inside[:20])}",
            where=address,
            hint=f"name one, such as `{address}/{inside[0]}`",
        )
    find_files(place)
    return place
