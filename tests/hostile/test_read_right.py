"""Files that are odd but right, and combinations that are wrong together: read right, or refused with what would do."""

import json
from pathlib import Path

import pytest

import tiny
from refusals import refused
from tunesmith.data.files import raw_rows

GOOD = "text,label\n" + "".join(f"row {k} here,{'a' if k % 2 else 'b'}\n" for k in range(40))


def test_a_missing_column_lists_what_the_file_has(
    encoder: Path, labels_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "train", str(encoder), str(labels_csv), "--set", "data.label=labell")
    assert "there is no column `labell`" in said
    assert "did you mean `label`?" in said


def test_an_encoder_cannot_chat_and_the_error_names_a_model_that_can(
    encoder: Path, chats_jsonl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "train", str(encoder), str(chats_jsonl))
    assert "cannot do chat" in said
    assert "smollm2-135m" in said


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["predict", str(tmp_path), "--text", "a"], ["resume", str(tmp_path)], ["evaluate", str(tmp_path)]):
        assert "not a run directory" in refused(capsys, *command)


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("bom.csv", "\ufefftext,label\na b,x\n".encode(), ["a b"]),
        ("crlf.csv", b"text,label\r\na b,x\r\n", ["a b"]),
        ("utf16.csv", "text,label\na é,x\n".encode("utf-16"), ["a é"]),
        ("semicolon.csv", b"text;label\na, b;x\n", ["a, b"]),
        ("quoted.csv", b'text,label\n"a\nb ""c""",x\n\nd,y\n', ['a\nb "c"', "d"]),
        ("rows.tsv", b"text\tlabel\na, b\tx\n", ["a, b"]),
        ("rows.jsonl", '{"text": "a\u2028b\u0085c"}\n\n{"text": "d"}'.encode(), ["a\u2028b\u0085c", "d"]),
        ("rows.json", b'[{"text": "a"},\n {"text": "b"}]', ["a", "b"]),
        ("data.json", b'{"data": [{"text": "a"}]}', ["a"]),
    ],
)  # fmt: skip
def test_odd_but_right_files_are_read_right(name: str, content: bytes, texts: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    found = [item[1]["text"] for item in raw_rows(tmp_path / name) if isinstance(item, tuple)]
    assert found == texts


def test_parquet_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": ["a", "b"], "label": ["x", "y"]}), tmp_path / "r.parquet")
    assert [item[1]["text"] for item in raw_rows(tmp_path / "r.parquet") if isinstance(item, tuple)] == ["a", "b"]


def test_a_very_long_line_is_read(tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    file.write_text(json.dumps({"text": "x" * 50_000_000, "label": "a"}) + "\n")
    ((_, values),) = [item for item in raw_rows(file) if isinstance(item, tuple)]
    assert len(values["text"]) == 50_000_000


def test_bad_rows_are_set_aside_and_listed_when_the_recipe_says_so(encoder: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(GOOD + "one,two,three\n ,a\n")
    values = tiny.recipe_values(encoder, file, tmp_path / "runs", data__bad_rows="skip", train__epochs=1)
    values["data"] |= {"text": "text", "label": "label"}
    made = tiny.train_to_end({**values, "task": "text-classification"})
    aside = made.json("data")["train"]["set_aside"]
    assert [(row["line"], row["reason"]) for row in aside] == [
        (42, "the row has 3 fields, the header has 2"),
        (43, "`text` is empty"),
    ]
