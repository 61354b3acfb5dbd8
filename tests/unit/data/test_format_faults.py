"""Faults of files that their readers must see: rows without an end, rows that would be lost, what is no text."""

import gzip
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith import DataError
from tunesmith.contracts import BadRow
from tunesmith.data import textfile
from tunesmith.data.files import raw_rows, unusable
from tunesmith.data.formats import json as json_format

BOMBS = {
    "rows.csv": (b"text,label\na,b\n" + b"0" * 5000, 3),
    "rows.tsv": (b"text\tlabel\na\tb\n" + b"0" * 5000, 3),
    "rows.jsonl": (b'{"text": "a"}\n' + b"0" * 5000, 2),
    "rows.json": (b'[{"text": "a"},\n{"text": "' + b"0" * 5000, 2),
    "rows.txt": (b"a\n\n" + b"0\n" * 2500, 3),
    "rows.conll": (b"a O\n\n" + b"0" * 5000, 3),
}
"""A good row, then, from a line on, one that does not end: a packed file of a few bytes unpacks to as much."""


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("name", BOMBS)
def test_no_more_of_a_file_is_held_than_a_row_of_any_text_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, ending: str
) -> None:
    monkeypatch.setattr(textfile, "LONGEST", 1000)
    monkeypatch.setattr(json_format, "_CHUNK", 100)
    content, line = BOMBS[name]
    path = tmp_path / (name + ending)
    path.write_bytes(gzip.compress(content) if ending else content)
    with pytest.raises(DataError, match=r"the (line|row|document) has more than 1,000 characters") as caught:
        list(raw_rows(path))
    assert caught.value.where == f"{path}:{line}"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    rows=st.lists(st.dictionaries(st.text(max_size=5), JSON_VALUES, min_size=1, max_size=3), max_size=6),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 0, 3]),
    ascii_only=st.booleans(),
    wrapped=st.booleans(),
)
def test_json_is_read_alike_wherever_what_is_read_at_once_ends(
    rows: list[dict[str, Any]], chunk: int, indent: int | None, ascii_only: bool, wrapped: bool
) -> None:
    rows = [row for row in rows if not any(unusable(value) for value in (row, *row.values()))]
    whole: Any = {"version": 1.5, "about": {"data": [1, 2]}, "rows": rows, "behind": [3]} if wrapped else rows
    text = json.dumps(whole, indent=indent, ensure_ascii=ascii_only)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_format, "_CHUNK", chunk)
        path = Path(folder) / "rows.json"
        path.write_text(text, encoding="utf-8", newline="")
        found = [item for item in json_format.read(path) if not isinstance(item, BadRow)]
    assert [values for _, values in found] == rows
    for line, values in found:
        key = json.dumps(next(iter(values)), ensure_ascii=ascii_only)
        assert key in "\n".join(text.split("\n")[line - 1 : line + 1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"data": [{"text": "a"}], "more": [{"text": "b"}]}', "two lists of rows: `data` and `more`"),
        ('{"more": [{"text": "b"}], "rows": [{"text": "a"}]}', "two lists of rows: `rows` and `more`"),
        ('{"data": [{"text": "a"}], "rows": [{"text": "b"}]}', "two lists of rows: `data` and `rows`"),
        ('{"train": [{"text": "a"}], "test": [{"text": "b"}]}', "it has `train`, `test`, of which none is called"),
        ('[{"text": "a"}] [{"text": "b"}]', "something stands behind its end"),
        ('[{"text": "a"}', "the list of rows does not end"),
        ('{"data": [{"text": "a"}]', "the object does not end"),
        ('{"text": {"0": "a", "1": "b"}}', "does not hold a list of rows"),
        ('{data: [{"text": "a"}]}', "a name in quotes"),
        ('{"data" [{"text": "a"}]}', "a colon"),
        ('[{"text": "a", "text": "b"}]', "stands twice"),
        ('[{"text": NaN}]', "NaN is not JSON"),
        ('[{"text": "a"} {"text": "b"}]', "the list of rows does not end"),
        ('[{"text": "a}]', "Unterminated string"),
    ],
)
def test_rows_that_would_be_lost_from_json_are_an_error(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(said)):
        list(raw_rows(path))


def test_a_row_of_parquet_that_is_no_text_is_named_fine_times_are_read_and_twin_columns_refused(
    tmp_path: Path,
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    offsets = pyarrow.py_buffer(np.array([0, 2, 4, 8], np.int32).tobytes())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 3, [None, offsets, pyarrow.py_buffer(b"ok\xff\xfefine")])
    kinds = {"when": pyarrow.timestamp("ns"), "long": pyarrow.duration("ns"), "hour": pyarrow.time64("ns")}
    fine = {name: pyarrow.array([1, 2500, None], kind) for name, kind in kinds.items()}
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": text, **fine}), path)
    first, second, third = raw_rows(path)
    assert isinstance(second, BadRow) and second.line == 2 and "utf-8" in second.reason
    assert not isinstance(first, BadRow) and not isinstance(third, BadRow)
    assert first[1]["text"] == "ok" and first[1]["when"].microsecond == 0 and third[1] == {
        "text": "fine", "when": None, "long": None, "hour": None
    }  # fmt: skip
    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    parquet.write_table(twice, path)
    with pytest.raises(DataError, match="the column `text` more than once"):
        list(raw_rows(path))


def test_a_line_of_other_columns_sets_its_sentence_aside_and_changes_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("1\tAnna\tB-PER\tO\n2\tin\tO\tO\n\n1\tO\n\n1\tRom\tB-LOC\tO\n2\tist\tO\n\n1\tUlm\tB-LOC\tO\n")
    first, short, torn, last = raw_rows(path)
    assert not isinstance(first, BadRow) and first[1]["tags"] == ["B-PER", "O"] and first[1]["tokens"][0] == "Anna"
    assert isinstance(short, BadRow) and short.reason == "line 4 has 2 columns, nearly all others have 4"
    assert isinstance(torn, BadRow) and torn.line == 6 and "line 7 has 3" in torn.reason
    assert not isinstance(last, BadRow) and last[0] == 9
    path.write_text("10\u00a0000 B-NUM\nrows O\n\n10 000 B-NUM\nand O\n\nmore O\n")
    whole, wide, more = raw_rows(path)
    assert not isinstance(whole, BadRow) and whole[1]["tokens"][0] == "10\u00a0000"
    assert isinstance(wide, BadRow) and "line 4 has 3 columns" in wide.reason and not isinstance(more, BadRow)


def test_dates_beyond_what_python_has_are_bad_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    far = pyarrow.array([0, 10**8, 5], pyarrow.int32()).cast(pyarrow.date32())
    parquet.write_table(pyarrow.table({"text": ["a", "b", "c"], "day": far}), path)
    assert [isinstance(item, BadRow) for item in raw_rows(path)] == [False, True, False]


@pytest.mark.parametrize(
    ("name", "content", "count"),
    [
        ("t.txt", "#happy day today\n\n#sad one\n\n#third thing here\n", 3),
        ("r.json", json.dumps({"text": "x" * 100_000}) + "\n" + json.dumps({"text": "b"}) + "\n", 2),
        ("r.json", '{"text": "one\u2028two"}\n{"text": "b"}\n', 2),
    ],
)
def test_a_file_is_known_whatever_its_first_lines_are(tmp_path: Path, name: str, content: str, count: int) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert sum(not isinstance(item, BadRow) for item in raw_rows(path)) == count
