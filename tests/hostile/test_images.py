"""Images, folders and tables of images that cannot be used: truncated, vast, empty, no images at all."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from refusals import SKIP, Bad, check

Image = pytest.importorskip("PIL.Image")


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (8, 8), **more: Any) -> bytes:
    """A plain image as the bytes of a file."""
    held = io.BytesIO()
    Image.new(mode, size, 0).save(held, kind, **more)
    return held.getvalue()


def png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG that claims a size and holds these bytes as its pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    """The head of a BMP of a claimed size, and no pixels."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


FILES: dict[str, Bad] = {
    "empty": Bad(
        ("x.png", b""),
        "the image cannot be read: it is none, or its beginning is damaged (x.png)",
        "<here>/rows.jsonl:41",
        SKIP,
    ),
    "a text": Bad(
        ("x.jpg", b"not an image"),
        "the image cannot be read: it is none, or its beginning is damaged (x.jpg)",
        "<here>/rows.jsonl:41",
        SKIP,
        twin="bytes, but of no image",
    ),
    "a page of the web": Bad(
        ("x.webp", b"<html>404</html>"),
        "the image cannot be read: it is none, or its beginning is damaged (x.webp)",
        "<here>/rows.jsonl:41",
        SKIP,
        twin="what a broken download leaves",
    ),
    "a drawing in XML": Bad(
        ("x.gif", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        "the image cannot be read: it is none, or its beginning is damaged (x.gif)",
        "<here>/rows.jsonl:41",
        SKIP,
        twin="an image, but of lines",
    ),
    "only a signature": Bad(
        ("x.png", b"\x89PNG\r\n\x1a\n"),
        "the image cannot be read: it is none, or its beginning is damaged (x.png)",
        "<here>/rows.jsonl:41",
        SKIP,
        twin="it begins rightly",
    ),
    "a PNG cut short": Bad(
        ("x.png", encoded("PNG", size=(64, 64))[:60]),
        "the image cannot be read: image file is truncated (x.png)",
        "<here>/rows.jsonl:41",
        SKIP,
    ),
    "a JPEG cut short": Bad(
        ("x.jpg", encoded("JPEG", size=(64, 64))[:-60]),
        "the image cannot be read: image file is truncated (0 bytes not processed) (x.jpg)",
        "<here>/rows.jsonl:41",
        SKIP,
    ),
    "a GIF cut short": Bad(
        ("x.gif", encoded("GIF", "P")[:20]),
        "the image cannot be read: it is none, or its beginning is damaged (x.gif)",
        "<here>/rows.jsonl:41",
        SKIP,
        twin="damaged, not foreign",
    ),
    "a BMP without pixels": Bad(
        ("x.bmp", bmp(8, 8)),
        "the image cannot be read: image file is truncated (0 bytes not processed) (x.bmp)",
        "<here>/rows.jsonl:41",
        SKIP,
    ),
    "a TIFF cut short": Bad(
        ("x.tif", encoded("TIFF", size=(64, 64))[:40]),
        "the image cannot be read: it is none, or its beginning is damaged (x.tif)",
        "<here>/rows.jsonl:41",
        SKIP,
    ),
    "a WebP cut short": Bad(
        ("x.webp", encoded("WEBP", size=(64, 64), lossless=True)[:20]),
        "the image cannot be read: could not create decoder object (x.webp)",
        "<here>/rows.jsonl:41",
        SKIP,
    ),
    "a PPM without pixels": Bad(
        ("x.ppm", b"P6 8 8 255\n"),
        "the image cannot be read: image file is truncated (0 bytes not processed) (x.ppm)",
        "<here>/rows.jsonl:41",
        SKIP,
    ),
    "a PPM of words": Bad(
        ("x.ppm", b"P6 wide high 255\n"),
        "the image cannot be read: invalid literal for int() with base 10: b'wide' (x.ppm)",
        "<here>/rows.jsonl:41",
        SKIP,
    ),
    "pixels that are no zlib": Bad(
        ("x.png", png(8, 8, b"noise")),
        "the image cannot be read: broken data stream when reading image file (x.png)",
        "<here>/rows.jsonl:41",
        SKIP,
    ),
    "too few pixels": Bad(
        ("x.png", png(8, 8, zlib.compress(b"\0" * 10))),
        "the image cannot be read: image file is truncated (0 bytes not processed) (x.png)",
        "<here>/rows.jsonl:41",
        SKIP,
    ),
    "no width": Bad(
        ("x.png", png(0, 8, zlib.compress(b"\0"))),
        "the image cannot be read: it is none, or its beginning is damaged (x.png)",
        "<here>/rows.jsonl:41",
        SKIP,
        twin="the head lies",
    ),
    "a bomb of a PNG": Bad(
        ("x.png", png(50_000, 50_000, zlib.compress(b"\0" * 10_000_000))),
        "the image is too large to be unpacked (x.png)",
        "<here>/rows.jsonl:41",
        SKIP,
    ),
    "a checksum that is wrong": Bad(
        ("x.png", encoded("PNG").replace(b"IHDR\0\0\0\x08", b"IHDR\0\0\0\x09")),
        "the image cannot be read: it is none, or its beginning is damaged (x.png)",
        "<here>/rows.jsonl:41",
        SKIP,
        twin="one bit is wrong",
    ),
    "a folder": Bad(("x.png", None), "the image cannot be read: Is a directory (x.png)", "<here>/rows.jsonl:41", SKIP),
    "a name that ends in a NUL": Bad(
        ("x.png\0.txt", b""), "column `image` holds a NUL character", "<here>/rows.jsonl:41", SKIP
    ),
    "a file that is gone": Bad(("gone.png", b""), "there is no such image (gone.png)", "<here>/rows.jsonl:41", SKIP),
}
"""(the path that row 41 names, the bytes that are there)."""

TABLES: dict[str, Bad] = {
    "no path": Bad({"image": None, "label": "red"}, "`image` is missing", "<here>/rows.jsonl:41", SKIP),
    "a path that is a number": Bad({"image": 3, "label": "red"}, "`image` is not a path", "<here>/rows.jsonl:41", SKIP),
    "a path of spaces": Bad(
        {"image": "  ", "label": "red"},
        "`image` is not a path",
        "<here>/rows.jsonl:41",
        SKIP,
        twin="a text, but no path",
    ),
    "a URL": Bad(
        {"image": "https://example.org/x.png", "label": "red"},
        "`image` is a URL, and images are read from files",
        "<here>/rows.jsonl:41",
        SKIP,
    ),
    "bytes in the table": Bad(
        {"image": {"bytes": "aGk=", "path": "x.png"}, "label": "red"},
        "`image` is not a path",
        "<here>/rows.jsonl:41",
        SKIP,
        twin="as hubs keep images",
    ),
    "no label": Bad({"image": "0.png", "label": ""}, "`label` is empty", "<here>/rows.jsonl:41", SKIP),
    "several labels": Bad(
        {"image": "0.png", "label": ["red", "blue"]},
        "`label` is a list; this task takes one label a row",
        "<here>/rows.jsonl:41",
        SKIP,
    ),
}
"""Row 41 of a table."""

FOLDERS: dict[str, Bad] = {
    "one label": Bad(
        {"red/0.png": encoded("PNG"), "red/1.png": encoded("PNG")},
        "every training row has the label `red`; two are needed to learn",
        "<here>/images",
    ),
    "a torn image": Bad(
        {"red/0.png": encoded("PNG"), "blue/0.png": b"torn"},
        "the image cannot be read: it is none, or its beginning is damaged (0.png)",
        "<here>/images:1",
        SKIP,
    ),
    "an image a label": Bad(
        {"red/0.png": encoded("PNG"), "blue/0.png": encoded("PNG")},
        "the label `blue` occurs once: a split would leave it either unlearned or unscored",
        "<here>/images:1",
        "add rows of this label, remove it, or name files in `data.validation` and `data.test`",
    ),
    "images without a label": Bad(
        {"0.png": encoded("PNG"), "1.png": encoded("PNG")},
        "the folder holds images and no word on what they show",
        "<here>/images",
        "put them into folders, one a label, or name them in a table with their labels",
    ),
    "only hidden folders": Bad(
        {".red/0.png": encoded("PNG")},
        "the folder has no file of rows",
        "<here>/images",
        "put .csv, .jsonl ... files in it, or `train.*` with `validation.*` and `test.*`",
    ),
}
"""Path -> bytes, in a folder."""


def tried(bad: Bad, place: Path, vision: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--task", "image-classification", "--set", f"run.dir={here / 'runs'}", "--set", "train.steps=1")
    check(bad, capsys, here, "train", str(vision), str(place), *more)


def good_rows(here: Path) -> list[dict[str, Any]]:
    for k in range(40):
        (here / f"{k}.png").write_bytes(encoded("PNG", size=(8, 8 + k)))
    return [{"image": f"{k}.png", "label": ("red", "blue")[k % 2]} for k in range(40)]


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_image_is_refused_with_its_row(
    case: str, vision: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content = FILES[case].given
    rows = [*good_rows(tmp_path), {"image": name, "label": "red"}]
    if content is None:
        (tmp_path / name).mkdir()
    elif content or case == "empty":
        (tmp_path / name).write_bytes(content)
    tried(FILES[case], tiny.write_jsonl(tmp_path / "rows.jsonl", rows), vision, tmp_path, capsys)


@pytest.mark.parametrize("case", TABLES)
def test_a_row_that_names_no_image_is_refused(
    case: str, vision: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*good_rows(tmp_path), TABLES[case].given]
    tried(TABLES[case], tiny.write_jsonl(tmp_path / "rows.jsonl", rows), vision, tmp_path, capsys)


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_of_images_that_cannot_be_learned_is_refused(
    case: str, vision: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in FOLDERS[case].given.items():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(content)
    tried(FOLDERS[case], tmp_path / "images", vision, tmp_path, capsys)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("x.jpg", lambda: encoded("JPEG", "CMYK")),
        ("x.png", lambda: encoded("PNG", "I;16")),
        ("x.png", lambda: encoded("PNG", "1")),
        ("x.gif", lambda: encoded("GIF", "P", save_all=True, append_images=[Image.new("P", (8, 8), 1)])),
        ("x.png", lambda: encoded("PNG", "LA", size=(1, 1))),
        ("x.tif", lambda: encoded("TIFF", "F")),
        ("x.png", lambda: encoded("PNG", size=(1, 3000))),
    ],
    ids=["CMYK", "16 bits", "1 bit", "several pictures", "one pixel", "fractions", "very high"],
)
def test_odd_but_right_images_are_read_in_rgb(name: str, make: Callable[[], bytes], tmp_path: Path) -> None:
    from tunesmith.models.image import open_image

    (tmp_path / name).write_bytes(make())
    image = open_image(tmp_path / name)
    assert image.mode == "RGB" and image.width and image.height
