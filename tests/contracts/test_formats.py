"""Every format, found by name: rows that were written are the rows that are read, and a broken one is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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


WRITERS: dict[str, Write] = {
    "csv": csv_file,
    "tsv": tsv_file,
    "json": json_file,
    "jsonl": jsonl_file,
    "parquet": parquet_file,
    "conll": conll_file,
    "image-folder": image_folder,
}
"""Format -> how a test writes it. A format without one here does not pass."""


def test_every_format_has_a_writer_here() -> None:
    assert set(WRITERS) == set(plugins.names("formats"))


@pytest.mark.parametrize("name", WRITERS)
def test_what_was_written_is_read_in_order_whatever_the_format_is_called(tmp_path: Path, name: str) -> None:
    path, rows, _ = WRITERS[name](tmp_path, False)
    for given in (None, name):  # by its own name, and as the recipe says
        found = list(raw_rows(path, given))
        assert not [item for item in found if isinstance(item, BadRow)]
        values = [item[1] for item in found if not isinstance(item, BadRow)]
        assert sorted(map(str, values)) == sorted(map(str, rows)) if name == "image-folder" else values == rows


@pytest.mark.parametrize("name", WRITERS)
def test_a_broken_row_of_a_format_stops_the_run_with_its_place_or_is_set_aside(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    path, rows, where = WRITERS[name](tmp_path, True)
    family = "vision" if name == "image-folder" else "encoder"
    values = tiny.recipe_values(request.getfixturevalue(family), path, tmp_path)
    with pytest.raises(DataError) as caught:
        prepare(recipefile.build(values))
    assert (caught.value.where or "").startswith(where)
    prepared = prepare(recipefile.build({**values, "data": {**values["data"], "bad_rows": "skip"}}))
    assert sum(map(len, prepared.splits.rows.values())) == len(rows)
    assert sum(map(len, prepared.splits.bad.values())) == 1
