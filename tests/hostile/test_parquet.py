"""Parquet files that cannot be used: row 41, counted in the file, is named where a row is at fault."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refusals import SKIP, Bad, check

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

COLUMNS = ("--task", "text-classification", "--set", "data.text=text", "--set", "data.label=label")
TEXTS, LABELS = [f"row {k} here" for k in range(40)], ["ab"[k % 2] for k in range(40)]
Write = Callable[[Path], None]


def table(texts: Any, labels: Any, **more: Any) -> Write:
    """The 40 good rows of texts and labels, then those given; or whole columns, where arrays are given."""
    text = texts if isinstance(texts, pyarrow.Array) else pyarrow.array([*TEXTS, *texts])
    label = labels if isinstance(labels, pyarrow.Array) else pyarrow.array([*LABELS, *labels])
    return lambda path: parquet.write_table(pyarrow.table({"text": text, "label": label, **more}), path)


def damaged(change: Callable[[bytes], bytes]) -> Write:
    """A good file, its bytes changed."""

    def write(path: Path) -> None:
        table([], [])(path)
        path.write_bytes(change(path.read_bytes()))

    return write


def _no_text() -> Any:
    """A column of texts of which the last is no UTF-8."""
    made = b"".join(text.encode() for text in TEXTS) + b"\xff\xfe"
    ends = np.cumsum([0, *map(len, TEXTS), 2]).astype(np.int32)
    return pyarrow.Array.from_buffers(pyarrow.string(), 41, [None, *map(pyarrow.py_buffer, (ends.tobytes(), made))])


def _twins(path: Path) -> None:
    twice = pyarrow.Table.from_arrays([pyarrow.array(TEXTS), pyarrow.array(LABELS)], names=["text", "text"])
    parquet.write_table(twice, path)


ONE = pyarrow.array(["one"])
FAR = pyarrow.array([*range(40), 10**8], pyarrow.int32()).cast(pyarrow.date32())
MAPS = pyarrow.array([[("a", 1)]], pyarrow.map_(pyarrow.string(), pyarrow.int64()))

PARQUET: dict[str, Bad] = {
    "a column whose name is no UTF-8": Bad(
        damaged(lambda content: content.replace(b"text", b"te\xe8t")),
        (
            "the file is not readable Parquet: 'utf-8' codec can't decode byte 0xe8 in position 2: "
            "invalid continuation byte"
        ),
        "<here>/rows.parquet",
    ),
    "empty": Bad(lambda path: path.write_bytes(b""), "the file is empty", "<here>/rows.parquet"),
    "no Parquet at all": Bad(
        lambda path: path.write_bytes(b"text,label\na,b\n"),
        (
            "the file is not readable Parquet: Parquet magic bytes not found in footer. Either "
            "the file is corrupted or this is not a parquet file"
        ),
        "<here>/rows.parquet",
    ),
    "nothing but the marks": Bad(
        lambda path: path.write_bytes(b"PAR1" + bytes(4) + b"PAR1"),
        "the file is not readable Parquet: Couldn't deserialize thrift: No more data to read",
        "<here>/rows.parquet",
    ),
    "cut short": Bad(
        damaged(lambda content: content[:-20]),
        (
            "the file is not readable Parquet: Parquet magic bytes not found in footer. Either "
            "the file is corrupted or this is not a parquet file"
        ),
        "<here>/rows.parquet",
        twin="its beginning is right",
    ),
    "a footer longer than the file": Bad(
        lambda path: path.write_bytes(b"PAR1" + bytes(50) + b"\xff\xff\xff\x7fPAR1"),
        (
            "the file is not readable Parquet: Parquet file size is 62 bytes, smaller than the "
            "size reported by footer's (2147483647bytes)"
        ),
        "<here>/rows.parquet",
    ),
    "locked": Bad(
        damaged(lambda c: b"PARE" + c[4:-4] + b"PARE"),
        (
            "the file is not readable Parquet: Could not read encrypted metadata, no decryption "
            "found in reader's properties"
        ),
        "<here>/rows.parquet",
    ),
    "no rows": Bad(
        lambda path: parquet.write_table(pyarrow.table({"text": [], "label": []}), path),
        "the file has no rows",
        "<here>/rows.parquet",
    ),
    "no columns": Bad(
        lambda path: parquet.write_table(pyarrow.table({}), path),
        "the file has no rows",
        "<here>/rows.parquet",
        twin="nor columns",
    ),
    "a column twice": Bad(_twins, "the file has the column `text` more than once", "<here>/rows.parquet"),
    "other columns": Bad(
        lambda path: parquet.write_table(pyarrow.table({"body": TEXTS, "label": LABELS}), path),
        "there is no column `text`",
        "<here>/rows.parquet:1",
        "known: `body`, `label`",
    ),
    "a text that is null": Bad(table([None], ["a"]), "`text` is missing", "<here>/rows.parquet:41", SKIP),
    "a text that is empty": Bad(table([""], ["a"]), "`text` is empty", "<here>/rows.parquet:41", SKIP),
    "a NUL": Bad(table(["a\0b"], ["a"]), "column `text` holds a NUL character", "<here>/rows.parquet:41", SKIP),
    "a text that is no UTF-8": Bad(
        table(_no_text(), ["a"]),
        "the row's values cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        "<here>/rows.parquet:41",
        SKIP,
    ),
    "texts that are bytes": Bad(
        table(pyarrow.array([b"a b"]), ONE), "`text` is bytes, not a text", "<here>/rows.parquet:1", SKIP
    ),
    "texts that are lists": Bad(
        table(pyarrow.array([["a"]]), ONE), "`text` is a list, not a text", "<here>/rows.parquet:1", SKIP
    ),
    "texts that are dates": Bad(
        table(pyarrow.array([datetime.date(2024, 1, 1)]), ONE),
        "`text` is a date, not a text",
        "<here>/rows.parquet:1",
        SKIP,
    ),
    "texts that are true": Bad(
        table(pyarrow.array([True]), ONE), "`text` is true or false, not a text", "<here>/rows.parquet:1", SKIP
    ),
    "a label that is null": Bad(table(["one more"], [None]), "`label` is empty", "<here>/rows.parquet:41", SKIP),
    "labels with a point": Bad(
        table(ONE, pyarrow.array([0.5])),
        "`label` is a number; labels are strings or whole numbers",
        "<here>/rows.parquet:1",
        SKIP,
    ),
    "labels that are times": Bad(
        table(ONE, pyarrow.array([datetime.time(1, 2)])),
        "`label` is a time; labels are strings or whole numbers",
        "<here>/rows.parquet:1",
        SKIP,
    ),
    "labels that are maps": Bad(
        table(ONE, MAPS), "`label` is a list; this task takes one label a row", "<here>/rows.parquet:1", SKIP
    ),
    "a date that Python has not": Bad(
        table(["one more"], ["a"], day=FAR),
        "the row's values cannot be read: date value out of range",
        "<here>/rows.parquet:41",
        SKIP,
    ),
}
"""What writes the file."""


@pytest.mark.parametrize("case", PARQUET)
def test_a_parquet_file_that_cannot_be_used_is_refused_with_its_row(
    case: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PARQUET[case].given(tmp_path / "rows.parquet")
    place = ("--set", f"run.dir={tmp_path / 'runs'}", "--set", "train.steps=1")
    check(PARQUET[case], capsys, tmp_path, "train", str(encoder), str(tmp_path / "rows.parquet"), *COLUMNS, *place)
