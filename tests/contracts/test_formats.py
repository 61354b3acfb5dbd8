"""Every format, found by name: rows that were written are the rows that are read, and a broken one is named."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import samples
import tiny
from tunesmith import DataError, plugins, recipefile
from tunesmith.contracts import BadRow
from tunesmith.data.files import raw_rows
from tunesmith.prepare import prepare

ROWS = tiny.label_rows(60)
Write = Callable[[Path, bool], tuple[Path, list[dict[str, Any]], str]]
"""(folder, broken) -> the file, its rows, and where a row broken on purpose would be named."""


def csv_file(folder: Path, broken: bool) -> tuple[Path, list[dict[str, Any]], str]:
    path = tiny.write_csv(folder / "rows.csv", ROWS)
    if broken:
        path.write_text(path.read_text() + '"one cell"\n')
    return path, ROWS, f"{path}:62"


def tsv_file(folder: Path, broken: bool) -> tuple[Path, list[dict[str, Any]], str]:
    path = folder / "rows.tsv"
    lines = ["text\tlabel", *(f"{row['text']}\t{row['label']}" for row in ROWS), *["one cell"] * broken]
    path.write_text("\n".join(lines) + "\n")
    return path, ROWS, f"{path}:62"


def json_file(folder: Path, broken: bool) -> tuple[Path, list[dict[str, Any]], str]:
    path = folder / "rows.json"
    path.write_text(json.dumps([*ROWS, *["no object"] * broken], indent=None).replace("}, ", "},\n"))
    return path, ROWS, f"{path}:61"


def jsonl_file(folder: Path, broken: bool) -> tuple[Path, list[dict[str, Any]], str]:
    path = tiny.write_jsonl(folder / "rows.jsonl", ROWS)
    if broken:
        path.write_text(path.read_text() + '{"text": "cut off\n')
    return path, ROWS, f"{path}:61"


def parquet_file(folder: Path, broken: bool) -> tuple[Path, list[dict[str, Any]], str]:
    import pyarrow
    from pyarrow import parquet

    path = folder / "rows.parquet"
    rows = [*ROWS, *[{"text": None, "label": "billing"}] * broken]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path, ROWS, f"{path}:61"


def conll_file(folder: Path, broken: bool) -> tuple[Path, list[dict[str, Any]], str]:
    path = folder / "rows.conll"
    rows = samples.entity_rows(60)
    sentences = ["\n".join(map("\t".join, zip(row["tokens"], row["tags"], strict=True))) for row in rows]
    path.write_text("\n\n".join([*sentences, *["word"] * broken]) + "\n")
    line = sum(len(row["tokens"]) + 1 for row in rows) + 1
    return path, rows, f"{path}:{line}"


def image_folder(folder: Path, broken: bool) -> tuple[Path, list[dict[str, Any]], str]:
    samples.draw(folder)
    place, rows = folder / "pictures", []
    for row in samples.image_rows():
        target = place / row["label"] / Path(row["image"]).name
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / row["image"]).rename(target)
        rows.append({"image": str(target), "label": row["label"]})
    if broken:
        (place / "red" / "zzz.png").write_bytes(b"no image")
    return place, sorted(rows, key=lambda row: row["image"]), str(place)


def text_file(folder: Path, broken: bool) -> tuple[Path, list[dict[str, Any]], str]:
    path = folder / "rows.txt"
    rows = [{"text": f"the parcel {k} is late\nand the box of it is lost"} for k in range(60)]
    path.write_text("\n\n".join([row["text"] for row in rows] + ["a NUL \0 here"] * broken) + "\n")
    return path, rows, f"{path}:181"


WRITERS: dict[str, Write] = {
    "csv": csv_file,
    "tsv": tsv_file,
    "json": json_file,
    "jsonl": jsonl_file,
    "parquet": parquet_file,
    "conll": conll_file,
    "image-folder": image_folder,
    "text": text_file,
}
"""Format -> how a test writes it. A format without one here does not pass."""


def test_every_format_has_a_writer_here() -> None:
    assert set(WRITERS) == set(plugins.names("formats"))


@pytest.mark.parametrize("name", WRITERS)
def test_what_was_written_is_read_in_order_whatever_the_format_is_called(tmp_path: Path, name: str) -> None:
    path, rows, _ = WRITERS[name](tmp_path, False)
    for said in (None, name):  # by its own name, and as the recipe says
        found = list(raw_rows(path, said))
        assert not [item for item in found if isinstance(item, BadRow)]
        values = [item[1] for item in found if not isinstance(item, BadRow)]
        assert sorted(map(str, values)) == sorted(map(str, rows)) if name == "image-folder" else values == rows


@pytest.mark.parametrize("name", WRITERS)
def test_a_broken_row_of_a_format_stops_the_run_with_its_place_or_is_set_aside(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    path, rows, where = WRITERS[name](tmp_path, True)
    family = {"image-folder": "vision", "text": "decoder"}.get(name, "encoder")
    values = tiny.recipe_values(request.getfixturevalue(family), path, tmp_path)
    with pytest.raises(DataError) as caught:
        prepare(recipefile.build(values))
    assert (caught.value.where or "").startswith(where)
    prepared = prepare(recipefile.build({**values, "data": {**values["data"], "bad_rows": "skip"}}))
    assert sum(map(len, prepared.splits.rows.values())) == len(rows)
    assert sum(map(len, prepared.splits.bad.values())) == 1


PACKED = [name for name in WRITERS if name not in ("parquet", "image-folder")]


def packed(path: Path, ending: str) -> Path:
    import pyarrow

    target = path.with_name(path.name + ending)
    content = path.read_bytes()
    target.write_bytes(
        gzip.compress(content) if ending == ".gz" else pyarrow.Codec("zstd").compress(content).to_pybytes()
    )
    path.unlink()
    return target


def values_of(path: Path, given: str | None = None) -> list[dict[str, Any]]:
    return [item[1] for item in raw_rows(path, given) if not isinstance(item, BadRow)]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("name", PACKED)
def test_packed_files_are_read_as_they_are_written_and_damage_is_an_error(
    tmp_path: Path, name: str, ending: str
) -> None:
    path, rows, where = WRITERS[name](tmp_path, True)
    target = packed(path, ending)
    found = list(raw_rows(target))
    assert [item[1] for item in found if not isinstance(item, BadRow)] == rows
    assert [f"{path}:{item.line}" for item in found if isinstance(item, BadRow)] == [where]
    lying = target.rename(tmp_path / path.name)  # the ending is gone, what it holds is not
    assert values_of(lying) == rows
    content = lying.read_bytes()
    for broken in (content[: len(content) // 2], content[:30] + bytes([content[30] ^ 255]) + content[31:-9]):
        lying.write_bytes(broken)
        with pytest.raises(DataError, match=r"cut short or damaged|not UTF-8|not valid"):
            list(raw_rows(lying))


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("image-folder", "text")])
def test_a_file_whose_name_says_nothing_is_known_by_what_it_holds(tmp_path: Path, name: str) -> None:
    path, rows, _ = WRITERS[name](tmp_path, False)
    assert values_of(path.rename(tmp_path / "rows")) == rows
    if name in ("conll", "jsonl"):
        assert values_of((tmp_path / "rows").rename(tmp_path / "rows.txt")) == rows
    if name == "jsonl":
        assert values_of((tmp_path / "rows.txt").rename(tmp_path / "rows.json")) == rows


def test_what_neither_name_nor_content_tells_is_asked_and_an_explicit_format_wins(tmp_path: Path) -> None:
    path = tmp_path / "rows.dat"
    path.write_text("one two three\nfour five six\n")
    with pytest.raises(DataError, match="neither name nor content") as caught:
        list(raw_rows(path))
    assert "data.format" in (caught.value.hint or "")
    assert values_of(path, "text") == [{"text": "one two three\nfour five six"}]


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "image-folder"])
@given(cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6)), min_size=1, max_size=6), whole=st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_make_a_reader_fail_but_with_an_error_that_names_the_file(
    tmp_path: Path, name: str, cuts: list[tuple[float, bytes]], whole: bool
) -> None:
    path, _, _ = WRITERS[name](tmp_path, False)
    content = b"" if whole else path.read_bytes()
    for place, put in cuts:
        at = int(place * len(content))
        content = content[:at] + put + content[at + len(put) * (len(put) % 2) :]
    path.write_bytes(content)
    assert str(path) in error_of(path, name)


def error_of(path: Path, name: str) -> str:
    """Where the error of a reader is; the path itself where there is none."""
    try:
        for item in raw_rows(path, name):
            assert isinstance(item, BadRow) or (isinstance(item[0], int) and isinstance(item[1], dict))
    except DataError as fault:
        return fault.where or ""
    return str(path)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_packed_table_of_many_rows_is_read_to_its_end(tmp_path: Path, ending: str) -> None:
    rows = [{"text": f"the parcel {k} of {k * 7919 % 100_003} is late", "label": "xy"[k % 2]} for k in range(60_000)]
    assert values_of(packed(tiny.write_csv(tmp_path / "rows.csv", rows), ending)) == rows
