"""A folder of folders of images: each folder's name is the label of what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.contracts import BadRow
from tunesmith.errors import DataError

suffixes: tuple[str, ...] = ()
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """(number, {image, label}) of each image, by folder and name. Raises DataError for a folder without any."""
    if not path.is_dir():
        raise DataError("an image folder was expected, this is a file", where=str(path))
    number = 0
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in IMAGES and not file.name.startswith("."):
                number += 1
                yield number, {"image": str(file.absolute()), "label": folder.name}
    if not number:
        raise DataError(
            "the folder has no folders with images in them", where=str(path), hint="a folder a label, images inside"
        )


def holds_images(path: Path) -> bool:
    """Whether a folder has a folder with an image in it."""
    return path.is_dir() and any(
        file.suffix.lower() in IMAGES
        for folder in path.iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
        for file in folder.iterdir()
    )
