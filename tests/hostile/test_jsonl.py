"""JSON Lines that cannot be used: line 700 of a file is named, and what is wrong with it."""

import gzip
import json
from pathlib import Path

import pytest

from refusals import SKIP, Bad, check

GOOD = "".join(json.dumps({"text": f"row {k} here", "label": "ab"[k % 2]}) + "\n" for k in range(699))
MIXED = b"".join(json.dumps({"text": f"row {k}", "label": 1 if k % 2 else "1"}).encode() + b"\n" for k in range(20))
COLUMNS = ("--task", "text-classification", "--set", "data.text=text", "--set", "data.label=label")

LINES: dict[str, Bad] = {
    "half an object": Bad(
        b'{"text": "a", "label": ',
        "the line is not valid JSON: Expecting value (column 23)",
        "<here>/rows.jsonl:700",
        SKIP,
    ),
    "a list": Bad(b"[1, 2]", "the line holds a list, not an object with columns", "<here>/rows.jsonl:700", SKIP),
    "a bare word": Bad(
        b"hello", "the line is not valid JSON: Expecting value (column 1)", "<here>/rows.jsonl:700", SKIP
    ),
    "a text in quotes": Bad(
        b'"hello"', "the line holds a text, not an object with columns", "<here>/rows.jsonl:700", SKIP
    ),
    "null": Bad(b"null", "the line holds null, not an object with columns", "<here>/rows.jsonl:700", SKIP),
    "NaN": Bad(
        b'{"text": "a", "label": NaN}', "the line is not valid JSON: NaN is not JSON", "<here>/rows.jsonl:700", SKIP
    ),
    "infinity": Bad(
        b'{"text": "a", "label": -Infinity}',
        "the line is not valid JSON: -Infinity is not JSON",
        "<here>/rows.jsonl:700",
        SKIP,
    ),
    "a key twice": Bad(
        b'{"text": "a", "text": "b", "label": "c"}',
        "the line is not valid JSON: the key `text` stands twice",
        "<here>/rows.jsonl:700",
        SKIP,
    ),
    "single quotes": Bad(
        b"{'text': 'a', 'label': 'b'}",
        "the line is not valid JSON: Expecting property name enclosed in double quotes (column 2)",
        "<here>/rows.jsonl:700",
        SKIP,
    ),
    "a comma at the end": Bad(
        b'{"text": "a", "label": "b",}',
        "the line is not valid JSON: Expecting property name enclosed in double quotes (column 28)",
        "<here>/rows.jsonl:700",
        SKIP,
    ),
    "two objects": Bad(
        b'{"text": "a", "label": "b"}{"text": "c", "label": "b"}',
        "the line is not valid JSON: Extra data (column 28)",
        "<here>/rows.jsonl:700",
        SKIP,
    ),
    "a line break in a text": Bad(
        b'{"text": "a\nb", "label": "b"}',
        "the line is not valid JSON: Unterminated string starting at (column 10)",
        "<here>/rows.jsonl:700\n  also <here>/rows.jsonl:701: the line is not valid JSON: Expecting value (column 1)",
        SKIP,
    ),
    "a tab in a text": Bad(
        b'{"text": "a\tb", "label": "b"}',
        "the line is not valid JSON: Invalid control character at (column 12)",
        "<here>/rows.jsonl:700",
        SKIP,
    ),
    "deep lists": Bad(
        b"[" * 100_000, "the line is not valid JSON: it is nested too deeply", "<here>/rows.jsonl:700", SKIP
    ),
    "deep objects": Bad(
        b'{"a":' * 100_000,
        "the line is not valid JSON: it is nested too deeply",
        "<here>/rows.jsonl:700",
        SKIP,
        twin="another branch of the parser",
    ),
    "a number of ten thousand digits": Bad(
        b'{"text": "a", "label": ' + b"9" * 10_000 + b"}",
        "the line is not valid JSON: a number has thousands of digits",
        "<here>/rows.jsonl:700",
        SKIP,
    ),
    "a text that is a list": Bad(
        b'{"text": ["a"], "label": "c"}', "`text` is a list, not a text", "<here>/rows.jsonl:700", SKIP
    ),
    "a text that is an object": Bad(
        b'{"text": {"en": "a"}, "label": "c"}', "`text` is an object, not a text", "<here>/rows.jsonl:700", SKIP
    ),
    "a missing text": Bad(b'{"label": "a"}', "`text` is missing", "<here>/rows.jsonl:700", SKIP),
    "a text of spaces": Bad(b'{"text": " \\t\\u00a0", "label": "a"}', "`text` is empty", "<here>/rows.jsonl:700", SKIP),
    "a null label": Bad(b'{"text": "a", "label": null}', "`label` is empty", "<here>/rows.jsonl:700", SKIP),
    "several labels": Bad(
        b'{"text": "a", "label": ["a", "b"]}',
        "`label` is a list; this task takes one label a row",
        "<here>/rows.jsonl:700",
        SKIP,
    ),
    "a number with a point for a label": Bad(
        b'{"text": "a", "label": 1.5}',
        "`label` is a number; labels are strings or whole numbers",
        "<here>/rows.jsonl:700",
        SKIP,
    ),
    "a label that is an object": Bad(
        b'{"text": "a", "label": {"is": 1}}',
        "`label` is an object; labels are strings or whole numbers",
        "<here>/rows.jsonl:700",
        SKIP,
    ),
    "a NUL that is escaped": Bad(
        b'{"text": "a\\u0000b", "label": "a"}', "column `text` holds a NUL character", "<here>/rows.jsonl:700", SKIP
    ),
    "a NUL that is not": Bad(
        b'{"text": "a\0b", "label": "a"}',
        "the line is not valid JSON: Invalid control character at (column 12)",
        "<here>/rows.jsonl:700",
        SKIP,
        twin="another character, and one that ends texts in C",
    ),
    "half of a character": Bad(
        b'{"text": "a \\ud83d b", "label": "a"}',
        "column `text` holds half of a character (a lone surrogate), as texts have that were cut between two halves",
        "<here>/rows.jsonl:700",
        SKIP,
    ),
    "a byte that is no UTF-8": Bad(
        b'{"text": "caf\xe9", "label": "a"}',
        "the file is not UTF-8: byte 0xe9",
        "<here>/rows.jsonl:700",
        "save it as UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8 rows.jsonl > utf8-rows.jsonl",
    ),
}
"""The bytes of line 700."""

FILES: dict[str, Bad] = {
    "empty": Bad(b"", "the file is empty", "<here>/rows.jsonl"),
    "only empty lines": Bad(b"\n \n\n", "the file has no rows", "<here>/rows.jsonl"),
    "labels of two types": Bad(
        MIXED,
        "labels are of two types: str at <here>/rows.jsonl:1 and int at <here>/rows.jsonl:2",
        "<here>/rows.jsonl:2",
        "write all of them as strings",
    ),
    "UTF-16": Bad(
        GOOD.encode("utf-16"),
        "the file is UTF-16, and JSON Lines are UTF-8",
        "<here>/rows.jsonl",
        "iconv -f utf-16 -t utf-8 rows.jsonl > utf8-rows.jsonl",
    ),
    "packed, with a wrong sum": Bad(
        gzip.compress(GOOD.encode())[:-8] + bytes(8),
        "the packed file is cut short or damaged: CRC check failed 0x0 != 0xdedf17fb",
        "<here>/rows.jsonl",
        "fetch or pack it again; what stands before the damage was not used",
    ),
    "packed in an unknown way": Bad(
        b"\x1f\x8b\x07\x00" + bytes(20),
        "the packed file is cut short or damaged: unknown compression method",
        "<here>/rows.jsonl",
        "fetch or pack it again; what stands before the damage was not used",
    ),
    "a database": Bad(
        b"SQLite format 3\0" + bytes(100),
        "the file is an SQLite database, not text",
        "<here>/rows.jsonl",
        "write its rows as .csv, .jsonl or .parquet, packed once with gzip or zstandard if at all",
    ),
}
"""The bytes of the whole file."""


@pytest.mark.parametrize("case", LINES)
def test_line_700_of_a_jsonl_is_named(
    case: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(GOOD.encode() + LINES[case].given + b"\n")
    place = ("--set", f"run.dir={tmp_path / 'runs'}")
    check(LINES[case], capsys, tmp_path, "train", str(encoder), str(tmp_path / "rows.jsonl"), *COLUMNS, *place)


@pytest.mark.parametrize("case", FILES)
def test_a_jsonl_of_which_no_line_can_be_used_is_refused(
    case: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(FILES[case].given)
    check(FILES[case], capsys, tmp_path, "check", str(encoder), str(tmp_path / "rows.jsonl"), *COLUMNS)
