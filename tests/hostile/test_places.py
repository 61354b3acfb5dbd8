"""Places that hold no rows, or rows that can be taken in two ways: folders, shards, patterns, packed files, cards."""

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refusals import SKIP, Bad, check

ROWS = "text,label\n" + "".join(f"row {k} here,{'ab'[k % 2]}\n" for k in range(40))
CARD = "---\nconfigs:\n{}\n---\n# A set\n"
Make = Callable[[Path], Any]


def files(*names: str, card: str | None = None) -> Make:
    """A folder of files of good rows, with a card."""

    def make(place: Path) -> None:
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(ROWS)
        place.mkdir(exist_ok=True)
        if card is not None:
            (place / "README.md").write_text(CARD.format(card))

    return make


def archive(kind: str) -> Make:
    """An archive that would write outside of its folder."""

    def make(place: Path) -> None:
        if kind == "zip":
            with zipfile.ZipFile(place, "w") as packed:
                packed.writestr("../../outside.csv", ROWS)
        else:
            with tarfile.open(place, f"w:{kind}") as tarred:
                about = tarfile.TarInfo("../../outside.csv")
                about.size = len(ROWS)
                tarred.addfile(about, io.BytesIO(ROWS.encode()))

    return make


def written(content: bytes) -> Make:
    return lambda place: place.write_bytes(content)


PLACES: dict[str, Bad] = {
    "nothing": Bad(("none.csv", lambda place: None), "there is no such file", "<here>/none.csv"),
    "an empty folder": Bad(
        ("rows", files()),
        "the folder has no file of rows",
        "<here>/rows",
        "put .csv, .jsonl ... files in it, or `train.*` with `validation.*` and `test.*`",
    ),
    "a folder of other things": Bad(
        ("rows", files("a/b/c/rows.csv")),
        "the folder has no file of rows",
        "<here>/rows",
        "put .csv, .jsonl ... files in it, or `train.*` with `validation.*` and `test.*`",
        twin="rows, but too far down",
    ),
    "only test rows": Bad(
        ("rows", files("test.csv")),
        "the folder has no training rows",
        "<here>/rows",
        "it needs `train.*`, and may have `validation.*` and `test.*`, or folders of these names",
    ),
    "two sources of training rows": Bad(
        ("rows", files("train.csv", "train.tsv")),
        "the folder has two sources for `train`: train.csv and train.tsv",
        "<here>/rows",
        "name the files in `data.train`, `data.validation` and `data.test`",
    ),
    "two formats": Bad(
        ("rows", files("a.csv", "b.tsv")),
        "the folder has files of several formats: a.csv and b.tsv",
        "<here>/rows",
        "name those that are meant with a pattern, such as `rows/*.jsonl`",
    ),
    "a shard that is missing": Bad(
        ("rows", files("train-00000-of-00003.csv", "train-00002-of-00003.csv")),
        "of the 3 files train-*, 1 are missing, the first is number 1",
        "<here>/rows",
        "fetch it again; to use only those that are there, name them in a list or by a pattern",
    ),
    "a number of shards from nowhere": Bad(
        ("rows", files("rows-3-of-30000000000000.csv")),
        "of the 30000000000000 files rows-*, 29999999999999 are missing, the first is number 1",
        "<here>/rows",
        "fetch it again; to use only those that are there, name them in a list or by a pattern",
    ),
    "a name that says test": Bad(
        ("rows", files("a_train.csv", "b_test.csv")),
        "are the rows of b_test.csv to be learned from? Its name says `test`",
        "<here>/rows",
        (
            "name the files in `data.train`, `data.validation` and `data.test`; a pattern, such "
            "as `<here>/rows/*.csv`, takes all for training"
        ),
    ),
    "a name that says nothing": Bad(
        ("rows", files("x_train.csv", "x_test.csv", "y_train.csv", "z.csv")),
        "which split is y_train.csv of? x_test.csv and others are told by their names, it is not",
        "<here>/rows",
        "name the files in `data.train`, `data.validation` and `data.test`",
    ),
    "parts with splits of their own": Bad(
        ("rows", files("en/train.csv", "de/train.csv")),
        "the folder has several parts, each with splits of its own: de, en",
        "<here>/rows",
        "name one, such as `<here>/rows/de`, or all in a list",
    ),
    "a pattern of no file": Bad(("*.rows", lambda place: None), "no file is called like this pattern", "<here>/*.rows"),
    "a pipe": Bad(("rows.csv", os.mkfifo), "this is neither a file nor a folder", "<here>/rows.csv"),
    "a link to itself": Bad(
        ("rows.csv", lambda place: place.symlink_to(place)),
        "this is a link to something that is not there",
        "<here>/rows.csv",
        twin="it leads nowhere",
    ),
    "a link to nothing": Bad(
        ("rows.csv", lambda place: place.symlink_to("gone.csv")),
        "this is a link to something that is not there",
        "<here>/rows.csv",
        twin="what it leads to was moved",
    ),
    "a folder called as a file": Bad(
        ("rows.csv", files("readme.md")),
        "the folder has no file of rows",
        "<here>/rows.csv",
        "put .csv, .jsonl ... files in it, or `train.*` with `validation.*` and `test.*`",
        twin="what is in it is about it",
    ),
    "no name and no content that tells": Bad(
        ("rows", written(b"\x01\x02\x03")),
        "neither name nor content says what kind of file it is: `rows`",
        "<here>/rows",
        "set `data.format` to one of conll, csv, image-folder, json, jsonl, parquet, text, tsv",
    ),
    "a name that is unknown": Bad(
        ("rows.xyz", written(b"some words\n")),
        "neither name nor content says what kind of file it is: `rows.xyz`",
        "<here>/rows.xyz",
        "set `data.format` to one of conll, csv, image-folder, json, jsonl, parquet, text, tsv",
    ),
    "an archive": Bad(
        ("rows.zip", archive("zip")),
        "the file is a ZIP archive or a spreadsheet, not text",
        "<here>/rows.zip",
        "write its rows as .csv, .jsonl or .parquet, packed once with gzip or zstandard if at all",
    ),
    "a tar": Bad(
        ("rows.tar", archive("")),
        "the file is a tar archive, not text",
        "<here>/rows.tar",
        "write its rows as .csv, .jsonl or .parquet, packed once with gzip or zstandard if at all",
    ),
    "a packed tar": Bad(
        ("rows.tar.gz", archive("gz")),
        "the file is a tar archive, not text",
        "<here>/rows.tar.gz",
        "write its rows as .csv, .jsonl or .parquet, packed once with gzip or zstandard if at all",
    ),
    "packed twice": Bad(
        ("rows.csv.gz", written(gzip.compress(gzip.compress(ROWS.encode())))),
        "the file is packed twice, not text",
        "<here>/rows.csv.gz",
        "write its rows as .csv, .jsonl or .parquet, packed once with gzip or zstandard if at all",
    ),
    "bzip2": Bad(
        ("rows.csv.bz2", written(b"BZh91AY&SY" + bytes(20))),
        "the file is packed with bzip2, not text",
        "<here>/rows.csv.bz2",
        "write its rows as .csv, .jsonl or .parquet, packed once with gzip or zstandard if at all",
    ),
    "zstandard that is torn": Bad(
        ("rows.csv.zst", written(b"\x28\xb5\x2f\xfd\x04\x00" + b"\xff" * 20)),
        "the packed file is cut short or damaged: ZSTD decompress failed: Data corruption detected",
        "<here>/rows.csv.zst",
        "fetch or pack it again; what stands before the damage was not used",
    ),
    "a card that leads outside": Bad(
        ("rows", files("a.csv", card="- config_name: a\n  data_files: ../../shop/*.csv")),
        "the card names files outside of its folder: `../../shop/*.csv`",
        "<here>/rows/README.md",
    ),
    "a card that names the root": Bad(
        ("rows", files("a.csv", card="- config_name: a\n  data_files: /etc/*.csv")),
        "the card names files outside of its folder: `/etc/*.csv`",
        "<here>/rows/README.md",
    ),
    "a card of files that are gone": Bad(
        ("rows", files("a.csv", card="- config_name: a\n  data_files: gone.csv")),
        "the card names files that are not there: `gone.csv`",
        "<here>/rows/README.md",
    ),
    "a card without training rows": Bad(
        ("rows", files("a.csv", card="- config_name: a\n  data_files:\n  - {split: exam, path: a.csv}")),
        "the card names no split `train`, but `exam`",
        "<here>/rows/README.md",
        "name the files in `data.train`, `data.validation` and `data.test`",
    ),
    "a card of several parts": Bad(
        ("rows", files("a.csv", card="- {config_name: a, data_files: a.csv}\n- {config_name: b, data_files: a.csv}")),
        "the folder has several parts, each with splits of its own: a, b",
        "<here>/rows",
        "name one, such as `<here>/rows/a`, or all in a list",
    ),
}
"""(the name, what makes it there)."""

TEXT: dict[str, Bad] = {
    "empty": Bad(b"", "the file is empty", "<here>/rows.txt"),
    "only line ends": Bad(b"\n \n\n", "the file has no rows", "<here>/rows.txt"),
    "Latin-1": Bad(
        "a b c\n\ncafé\n".encode("latin-1"),
        "the file is not UTF-8: byte 0xe9",
        "<here>/rows.txt:3",
        "save it as UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8 rows.txt > utf8-rows.txt",
    ),
    "a NUL": Bad(b"a b c\n\nd\0e\n\nf g\n", "column `text` holds a NUL character", "<here>/rows.txt:3", SKIP),
    "one document": Bad(
        b"a b c\nd e f\n",
        "1 rows are too few to set some aside for `train`",
        "<here>/rows.txt",
        "add rows, or name files in `data.validation` and `data.test`",
    ),
    "a PDF": Bad(
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "the file is a PDF, not text",
        "<here>/rows.txt",
        "write its rows as .csv, .jsonl or .parquet, packed once with gzip or zstandard if at all",
    ),
}
"""The bytes of `rows.txt`."""


@pytest.mark.parametrize("case", PLACES)
def test_a_place_that_holds_no_rows_or_too_many_is_refused(
    case: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, make = PLACES[case].given
    make(tmp_path / name)
    columns = ("--task", "text-classification", "--set", "data.text=text", "--set", "data.label=label")
    place = ("--set", f"run.dir={tmp_path / 'runs'}", "--set", "train.steps=1")
    check(PLACES[case], capsys, tmp_path, "train", str(encoder), str(tmp_path / name), *columns, *place)


@pytest.mark.parametrize("case", TEXT)
def test_plain_text_that_cannot_be_used_is_refused_with_its_line(
    case: str, decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.txt").write_bytes(TEXT[case].given)
    place = ("--task", "text-generation", "--set", f"run.dir={tmp_path / 'runs'}", "--set", "train.steps=1")
    check(TEXT[case], capsys, tmp_path, "train", str(decoder), str(tmp_path / "rows.txt"), *place)
