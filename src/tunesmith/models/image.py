"""Images to pixels: what a camera or a scanner wrote, varied in training, prepared as the model was made for.

Knows nothing of nets. Pillow does the reading; the model's own processor resizes and normalizes.
"""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith.contracts import Blend, Change, Pixels
from tunesmith.errors import DataError

_MOST_PIXELS = 2**28
"""Larger images are refused before they are unpacked: a file of a few bytes may claim any size."""


@dataclass(frozen=True)
class ImageReader:
    """A processor of Transformers."""

    processor: Any

    def pixels(self, pixels: Pixels) -> Tensor:
        """[channels, height, width] of one image. Raises DataError for a file that is no image."""
        image = open_image(Path(pixels.path))
        if pixels.change is not None:
            image = changed(image, pixels.change, np.random.default_rng(pixels.seed))
        made = torch.from_numpy(
            np.asarray(self.processor(image, return_tensors="np")["pixel_values"][0], dtype=np.float32)
        )
        return made if pixels.blend is None else blended(made, self.pixels(pixels.blend.other), pixels.blend)


def blended(image: Tensor, other: Tensor, blend: Blend) -> Tensor:
    """[channels, height, width] of two: a mean of both (mixup, Zhang et al. 2018, arXiv:1710.09412), or the first with
    a box of the second (CutMix, Yun et al. 2019, arXiv:1905.04899)."""
    if blend.box is None:
        return image * blend.share + other * (1 - blend.share)
    height, width = image.shape[1:]
    left, top, right, bottom = blend.box
    rows = slice(round(top * height / 16), round(bottom * height / 16))
    columns = slice(round(left * width / 16), round(right * width / 16))
    made = image.clone()
    made[:, rows, columns] = other[:, rows, columns]
    return made


def open_image(path: Path) -> Any:
    """An image in RGB, upright: the first picture of several, 16 bits brought to 8, transparency on white.

    Raises DataError for what cannot be read.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as file:  # of what it goes on without
            if file.width * file.height > _MOST_PIXELS:
                raise DataError(f"the image has {file.width} x {file.height} pixels", where=str(path), hint="shrink it")
            file.seek(0)
            image = ImageOps.exif_transpose(file)
            image.load()
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError("there is no such image", where=str(path)) from None
    except Image.DecompressionBombError:
        raise DataError("the image is too large to be unpacked", where=str(path), hint="shrink it") from None
    except UnidentifiedImageError:
        raise DataError("the image cannot be read: it is none, or its beginning is damaged", where=str(path)) from None
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, struct.error) as fault:
        said = getattr(fault, "strerror", None) or (str(fault).splitlines() or [type(fault).__name__])[0]
        raise DataError(f"the image cannot be read: {said}", where=str(path)) from None
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return Image.fromarray(_to_bytes(np.asarray(image, dtype=np.float64), image.mode)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _to_bytes(values: Any, mode: str) -> Any:
    """Numbers of 16 bits or more as bytes; an image that uses no more than a byte stays as it is, and fractions go from
    0 to 1."""
    most = values.max(initial=0)
    scale = 1 / 255 if mode == "F" and most <= 1 else 1.0 if most <= 255 else 257.0 if most <= 65_535 else most / 255
    return np.clip(values / scale, 0, 255).round().astype(np.uint8)


def changed(image: Any, change: Change, rng: np.random.Generator) -> Any:
    """The image as one epoch sees it: cropped, mirrored, in other colours."""
    from PIL import Image, ImageEnhance

    if change.crop < 1:
        share = rng.uniform(change.crop, 1.0)
        stretch = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        width = min(max(round(image.width * np.sqrt(share * stretch)), 1), image.width)
        height = min(max(round(image.height * np.sqrt(share / stretch)), 1), image.height)
        left, top = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
        box = (int(left), int(top), int(left) + width, int(top) + height)
        image = image.resize(image.size, Image.Resampling.BILINEAR, box)
    if change.flip and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if change.colour:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhance(image).enhance(float(rng.uniform(1 - change.colour, 1 + change.colour)))
    return image
