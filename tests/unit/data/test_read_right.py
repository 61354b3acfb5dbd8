"""A file is read as it was written, or the line that cannot be is named; a recipe's keys are those that there are."""

from pathlib import Path
from typing import Any

import pytest

from tunesmith import recipefile
from tunesmith.contracts import BadRow, Row
from tunesmith.data.files import raw_rows
from tunesmith.data.read import read_rows
from tunesmith.errors import DataError, RecipeError
from tunesmith.tasks.text_classification import TextClassification

READ: dict[str, tuple[bytes, list[str]]] = {
    "mark.csv": ("\ufefftext,label\na b,x\n".encode(), ["a b"]),
    "wide.csv": ("text,label\na é,x\n".encode("utf-16"), ["a é"]),
    "returns.csv": (b"text,label\r\na b,x\r\n", ["a b"]),
    "quoted.csv": (b'text,label\n"a\nb ""c""",x\n\nd,y\n', ['a\nb "c"', "d"]),
    "separators.jsonl": ('{"text": "a\u2028b\u0085c"}\n\n{"text": "d"}'.encode(), ["a\u2028b\u0085c", "d"]),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_marks_quotes_and_separators_are_read_as_they_were_meant(name: str, tmp_path: Path) -> None:
    content, texts = READ[name]
    (tmp_path / name).write_bytes(content)
    found = [None if isinstance(item, BadRow) else item[1].get("text") for item in raw_rows(tmp_path / name)]
    assert found == texts


NAMED: dict[str, tuple[str, bytes, int]] = {
    "bytes of another encoding": ("rows.csv", "text,label\na,b\ncafé,a\n".encode("latin-1"), 3),
    "a NUL character": ("rows.csv", b"text,label\na,b\nhe\0llo,a\n", 3),
    "a column twice": ("rows.csv", b"text,label,text\na,b,c\n", 1),
    "a field too many": ("rows.csv", b"text,label\na,b\na,b,c\n", 3),
    "a field too few": ("rows.csv", b"text,label\na,b\nonly\n", 3),
    "half an object": ("rows.jsonl", b'{"text": "a"}\n{"text": "b"}\n{"text": "c", \n', 3),
    "a key twice": ("rows.jsonl", b'{"text": "a"}\n{"text": "b", "text": "c"}\n', 2),
    "a number that JSON has not": ("rows.jsonl", b'{"text": "a"}\n{"text": NaN}\n', 2),
}


@pytest.mark.parametrize("case", NAMED)
def test_a_line_that_cannot_be_read_is_named(case: str, tmp_path: Path) -> None:
    name, content, line = NAMED[case]
    (tmp_path / name).write_bytes(content)
    try:
        places = [f"{item.file}:{item.line}" for item in raw_rows(tmp_path / name) if isinstance(item, BadRow)]
    except DataError as fault:
        places = [str(fault.where)]
    assert places == [f"{tmp_path / name}:{line}"]


def test_rows_that_cannot_be_used_are_listed_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\na b,x\n ,x\nc d,y\ne,f,g\n")
    found = read_rows([file], TextClassification(), {})
    assert [row["text"] for row in found.rows] == ["a b", "c d"]
    assert [(row.file, row.line) for row in found.bad] == [(str(file), 3), (str(file), 5)]


def test_a_number_and_its_text_are_not_one_label() -> None:
    task = TextClassification()
    rows = [Row(k, task.normalize({"text": "a", "label": label}), "f", k) for k, label in enumerate([1, "1", 2, "2"])]
    with pytest.raises(DataError, match="labels are of two types"):
        task.learn(rows)
    assert task.learn(rows[1::2]).labels == ("1", "2")


TYPOS: dict[str, tuple[dict[str, Any], str]] = {
    "a key": ({"train": {"epoch": 3}}, "`epochs`"),
    "a section": ({"evaluat": {"limit": 3}}, "`evaluate`"),
    "an option": ({"method": {"name": "lora", "rnk": 4}}, "`rank`"),
    "a task": ({"task": "text-clasification"}, "`text-classification`"),
}


@pytest.mark.parametrize("case", TYPOS)
def test_a_mistyped_key_is_refused_with_the_one_that_was_meant(case: str) -> None:
    wrong, meant = TYPOS[case]
    with pytest.raises(RecipeError) as caught:
        recipefile.build({"model": "m", "data": "x.csv", **wrong})
    assert f"did you mean {meant}?" in str(caught.value.hint)


def test_a_key_that_is_written_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    for text, line in (("model: m\ndata: x.csv\nmodel: n\n", 3), ("model: m\ndata: {train: x.csv, train: y.csv}\n", 2)):
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(RecipeError, match="twice") as caught:
            recipefile.load(tmp_path / "r.yaml")
        assert str(caught.value.where).endswith(f"r.yaml:{line}")
