"""CSV and TSV that cannot be used: each is refused with its line and a way to mend it."""

import gzip
from pathlib import Path

import pytest

from refusals import SKIP, Bad, check

GOOD = "text,label\n" + "".join(f"row {k} here,{'a' if k % 2 else 'b'}\n" for k in range(40))
TABS = GOOD.replace(",", "\t")
COLUMNS = ("--task", "text-classification", "--set", "data.text=text", "--set", "data.label=label")

CSV: dict[str, Bad] = {
    "empty": Bad(b"", "the file is empty", "<here>/rows.csv"),
    "only a byte-order mark": Bad(b"\xef\xbb\xbf", "the header names no column", "<here>/rows.csv:1"),
    "only a header": Bad(b"text,label\n", "the file has no rows", "<here>/rows.csv"),
    "a header of no names": Bad(
        b",\nhello there,a\n", "the header names no column", "<here>/rows.csv:1", twin="names, but empty ones"
    ),
    "a column twice": Bad(
        b"text,label,text\na,b,c\n",
        "the header has the column `text` more than once",
        "<here>/rows.csv:1",
        "give each column a name of its own",
    ),
    "a header that is a row": Bad(
        GOOD.partition("\n")[2].encode(), "there is no column `text`", "<here>/rows.csv:2", "known: `b`, `row 0 here`"
    ),
    "a misspelt column": Bad(
        GOOD.replace("label", "lable", 1).encode(),
        "there is no column `label`",
        "<here>/rows.csv:2",
        "did you mean `lable`?",
    ),
    "a quote in the header that never ends": Bad(
        b'"text,label\na,b\n', "the header is not valid CSV: a quote is opened and never closed", "<here>/rows.csv:1"
    ),
    "too many fields": Bad(
        GOOD.encode() + b"a,b,c\n",
        "the row has 3 fields, the header has 2",
        "<here>/rows.csv:42",
        "put quotes around fields that hold the separator; " + SKIP,
    ),
    "too few fields": Bad(
        b"text,label\nonly\n" + GOOD.encode(),
        "the row has 1 fields, the header has 2",
        "<here>/rows.csv:2",
        "put quotes around fields that hold the separator; " + SKIP,
    ),
    "a quote that never ends": Bad(
        GOOD.encode() + b'"open,a\nb,c\n',
        "the row is not valid CSV: a quote is opened and never closed",
        "<here>/rows.csv:42",
        SKIP,
    ),
    "letters behind a quote": Bad(
        GOOD.encode() + b'"a"b,c\n', "the row is not valid CSV: ',' expected after '\"'", "<here>/rows.csv:42", SKIP
    ),
    "Latin-1": Bad(
        "text,label\ncafé,a\n".encode("latin-1"),
        "the file is not UTF-8: byte 0xe9",
        "<here>/rows.csv:2",
        "save it as UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8 rows.csv > utf8-rows.csv",
    ),
    "UTF-16 without a mark": Bad(
        GOOD.encode("utf-16-le"),
        "the header holds a NUL character",
        "<here>/rows.csv:1",
        "if the file is UTF-16 without a byte-order mark, save it as UTF-8",
    ),
    "UTF-16 that is cut in two": Bad(
        GOOD.encode("utf-16")[:-1],
        "the file begins as UTF-16 and is not: truncated data",
        "<here>/rows.csv",
        "fetch or save it again",
    ),
    "half of a character": Bad(
        b"text,label\n\xed\xa0\x80 half,a\n",
        "the file is not UTF-8: byte 0xed",
        "<here>/rows.csv:2",
        "save it as UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8 rows.csv > utf8-rows.csv",
    ),
    "a NUL character": Bad(
        GOOD.encode() + b"he\0llo,a\n", "column `text` holds a NUL character", "<here>/rows.csv:42", SKIP
    ),
    "an empty text": Bad(GOOD.encode() + b" ,a\n", "`text` is empty", "<here>/rows.csv:42", SKIP),
    "an empty label": Bad(GOOD.encode() + b"hello,\n", "`label` is empty", "<here>/rows.csv:42", SKIP),
    "one label only": Bad(
        b"text,label\n" + b"x y z,a\n" * 30,
        "every training row has the label `a`; two are needed to learn",
        "<here>/rows.csv",
    ),
    "a label that occurs once": Bad(
        GOOD.encode() + b"rare thing,c\n",
        "the label `c` occurs once: a split would leave it either unlearned or unscored",
        "<here>/rows.csv:42",
        "add rows of this label, remove it, or name files in `data.validation` and `data.test`",
    ),
    "two rows": Bad(
        b"text,label\nx,a\ny,b\n",
        "the label `a` occurs once: a split would leave it either unlearned or unscored",
        "<here>/rows.csv:2",
        "add rows of this label, remove it, or name files in `data.validation` and `data.test`",
    ),
    "a picture": Bad(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01",
        "the file is a PNG image, not text",
        "<here>/rows.csv",
        "write its rows as .csv, .jsonl or .parquet, packed once with gzip or zstandard if at all",
    ),
    "a spreadsheet": Bad(
        b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0bX\xd7\xc0",
        "the file is a ZIP archive or a spreadsheet, not text",
        "<here>/rows.csv",
        "write its rows as .csv, .jsonl or .parquet, packed once with gzip or zstandard if at all",
    ),
    "a page of the web": Bad(
        b"<!DOCTYPE html>\n<html>\n<body>404</body>\n</html>\n",
        "there is no column `text`",
        "<here>/rows.csv:2",
        "known: `<!DOCTYPE html>`",
    ),
    "JSON Lines": Bad(
        b'{"text": "a b c", "label": "x"}\n' * 9,
        "there is no column `text`",
        "<here>/rows.csv:2",
        'known: `"label": "x"}`, `{"text": "a b c"`',
    ),
    "a packed file cut short": Bad(
        gzip.compress(GOOD.encode() * 50)[:-9],
        "the packed file is cut short or damaged: compressed file ended before the end-of-stream marker was reached",
        "<here>/rows.csv",
        "fetch or pack it again; what stands before the damage was not used",
    ),
}
"""The bytes of `rows.csv`."""

TSV: dict[str, Bad] = {
    "tabs that are spaces": Bad(
        GOOD.replace(",", "    ").encode(), "there is no column `text`", "<here>/rows.tsv:2", "known: `text    label`"
    ),
    "a tab too many": Bad(
        TABS.encode() + b"a\tb\tc\n",
        "the row has 3 fields, the header has 2",
        "<here>/rows.tsv:42",
        "put quotes around fields that hold the separator; " + SKIP,
    ),
    "commas": Bad(GOOD.encode(), "there is no column `text`", "<here>/rows.tsv:2", "known: `text,label`"),
    "a quote before a tab": Bad(
        TABS.encode() + b'say "no"\ta\n"well\tb\n',
        "the row is not valid CSV: a quote is opened and never closed",
        "<here>/rows.tsv:43",
        SKIP,
    ),
}
"""The bytes of `rows.tsv`."""


@pytest.mark.parametrize("case", CSV)
def test_a_csv_that_cannot_be_used_is_refused_with_its_line(
    case: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_bytes(CSV[case].given)
    place = ("--set", f"run.dir={tmp_path / 'runs'}")
    check(CSV[case], capsys, tmp_path, "train", str(encoder), str(tmp_path / "rows.csv"), *COLUMNS, *place)


@pytest.mark.parametrize("case", TSV)
def test_a_tsv_that_cannot_be_used_is_refused_with_its_line(
    case: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.tsv").write_bytes(TSV[case].given)
    place = ("--set", f"run.dir={tmp_path / 'runs'}")
    check(TSV[case], capsys, tmp_path, "train", str(encoder), str(tmp_path / "rows.tsv"), *COLUMNS, *place)
