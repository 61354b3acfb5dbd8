"""Simple shapes in many sizes, places and colours, for what a vision net still tells apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_EACH = 8
_SIDE = 128
_SEED = 20_261_127
Box = tuple[float, float, float, float]


def draw(folder: Path) -> list[tuple[Path, str]]:
    """Write them; each with the name of its shape. The same on every machine."""
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(_SEED)
    made = []
    for name, shape in _SHAPES.items():
        for number in range(_EACH):
            ground, ink = rng.integers(160, 256, 3), rng.integers(0, 110, 3)
            size = rng.uniform(50, 100)
            left, top = rng.uniform(8, _SIDE - 8 - size, 2)
            image = Image.new("RGB", (_SIDE, _SIDE), tuple(int(c) for c in ground))
            pen = ImageDraw.Draw(image)
            shape(pen, (left, top, left + size, top + size), tuple(int(c) for c in ink))
            path = folder / f"{name}_{number}.png"
            image.save(path)
            made.append((path, name))
    return made


def _ring(pen: Any, box: Box, ink: tuple[int, ...]) -> None:
    pen.ellipse(box, outline=ink, width=9)


def _disc(pen: Any, box: Box, ink: tuple[int, ...]) -> None:
    pen.ellipse(box, fill=ink)


def _square(pen: Any, box: Box, ink: tuple[int, ...]) -> None:
    pen.rectangle(box, fill=ink)


def _triangle(pen: Any, box: Box, ink: tuple[int, ...]) -> None:
    left, top, right, bottom = box
    pen.polygon([(left, bottom), (right, bottom), ((left + right) / 2, top)], fill=ink)


def _cross(pen: Any, box: Box, ink: tuple[int, ...]) -> None:
    left, top, right, bottom = box
    pen.line([(left, top), (right, bottom)], fill=ink, width=12)
    pen.line([(left, bottom), (right, top)], fill=ink, width=12)


def _stripes(pen: Any, box: Box, ink: tuple[int, ...]) -> None:
    left, top, right, bottom = box
    for k in range(4):
        x = left + (right - left) * k / 3
        pen.line([(x, top), (x, bottom)], fill=ink, width=7)


_SHAPES: dict[str, Callable[[Any, Box, tuple[int, ...]], None]] = {
    "ring": _ring,
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "stripes": _stripes,
}
