"""The table of encoded rows gives back what was put in, is found again only by all it depends on, and heals."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from tunesmith import encoding, recipefile
from tunesmith.cache import cache_folder, prune
from tunesmith.contracts import Example, Row, Tokens
from tunesmith.data.tokens import Refused, Table, Writer, open_table, sequences
from tunesmith.errors import DataError, StorageError
from tunesmith.models.model import Model
from tunesmith.prepare import prepare
from tunesmith.tasks.text_classification import TextClassification

targets = st.none() | st.integers(-1, 99) | st.lists(st.integers(0, 9), max_size=4)


@st.composite
def tokens(draw: Any) -> Tokens:
    ids = tuple(draw(st.lists(st.integers(0, 2**31 - 1), max_size=6)))
    trained = tuple(draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))))
    types = tuple(draw(st.lists(st.integers(0, 3), min_size=len(ids), max_size=len(ids))))
    counts = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    return Tokens(ids, trained if draw(st.booleans()) else (), *counts, types=types if draw(st.booleans()) else ())


parts = st.dictionaries(st.sampled_from(["text", "source", "target"]), tokens(), min_size=1)
rows = st.lists(st.lists(st.tuples(parts, targets), max_size=3), max_size=8)


@given(rows, st.integers(1, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_is_put_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory, rows: Any, chunk: int, joined: bool
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    made = [[Example(k, part, target) for part, target in row] for k, row in enumerate(rows)]
    given: list[list[Example] | Refused] = [row or Refused(-1, "empty", None) for row in made]
    writer = Writer(folder / "a")
    for at in range(0, len(given), chunk):
        writer.add(given[at : at + chunk])
    writer.close()
    if joined:  # what two processes made, end to end
        table = open_table(folder / "a")
        assert table is not None
        writer = Writer(folder / "b")
        writer.add([[Example(0, {"other": Tokens((1,))}, None)]])
        writer.join(table)
        writer.close()
    found = open_table(folder / ("b" if joined else "a"))
    assert found is not None
    whole = [[Example(0, {"other": Tokens((1,))}, None)], *made] if joined else made
    wanted = [[Example(k, e.parts, e.target) for e in row] for k, row in enumerate(whole)]
    assert list(found) == wanted
    assert [row.row for row in found.refused] == [k for k, row in enumerate(wanted) if not row]
    kept = found.without_refused()
    assert [[e.parts for e in row] for row in kept] == [[e.parts for e in row] for row in wanted if row]
    assert [sequences(found).tolist(), sequences(kept).tolist()] == [
        sequences(list(of)).tolist() for of in (found, kept)
    ]
    assert [e.row_id for row in kept for e in row] == [k for k, row in enumerate(r for r in wanted if r) for _ in row]


@pytest.fixture(scope="module")
def model(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("rows")
    labels = tiny.write_csv(folder / "rows.csv", tiny.label_rows())
    return prepare(recipefile.build(tiny.recipe_values(encoder, labels, folder))).model


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every table is kept, in a cache of its own."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(encoding, "_KEPT_SECONDS", 0.0)
    monkeypatch.setattr(encoding, "_TRIED", 2)
    return tmp_path / "cache" / "tokens"


TASK = TextClassification(labels=("a", "b"))
ROWS = [
    Row(k, {"text": f"the parcel {k} é🙂 is late", "label": "ab"[k % 2], "label_type": "str"}, "f", k)
    for k in range(30)
]


def plain(examples: Any) -> list[Any]:
    return [[(e.row_id, e.parts["text"].ids, e.parts["text"].trained, e.target) for e in row] for row in examples]


def test_a_kept_table_equals_encoding_and_is_read_the_second_time(
    model: Model, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = plain(TASK.encode(row, model, "learn") for row in ROWS)
    first, refused = encoding.encode("text-classification", TASK, ROWS, model)
    assert isinstance(first, Table) and plain(first) == direct and refused == ()
    monkeypatch.setattr(Writer, "__init__", lambda *_: pytest.fail("it was made again"))
    assert plain(encoding.encode("text-classification", TASK, ROWS, model)[0]) == direct


def test_other_processes_make_the_same_table(model: Model, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_APART_SECONDS", 1e-9)
    monkeypatch.setattr(encoding.os, "sched_getaffinity", lambda _: {0, 1, 2})
    started = []
    popen = encoding.subprocess.Popen
    monkeypatch.setattr(encoding.subprocess, "Popen", lambda *a, **k: (started.append(a), popen(*a, **k))[1])
    found, _ = encoding.encode("text-classification", TASK, ROWS, model)
    assert len(started) > 1
    assert plain(found) == plain(TASK.encode(row, model, "learn") for row in ROWS)
    assert [path.name for path in kept.iterdir()] == [next(kept.iterdir()).name]  # nothing else is left


def test_anything_it_depends_on_makes_another_table(model: Model, kept: Path) -> None:
    from dataclasses import replace

    key = encoding.key_of("text-classification", TASK, ROWS, model, "learn")
    changed = [*ROWS[:-1], replace(ROWS[-1], values={**ROWS[-1].values, "text": ROWS[-1]["text"] + "."})]
    shorter = replace(model, reads=replace(model.text, max_tokens=model.text.max_tokens - 1))
    others = [
        encoding.key_of("text-classification", replace(TASK, labels=("a", "b", "c")), ROWS, model, "learn"),
        encoding.key_of("text-classification", TASK, changed, model, "learn"),
        encoding.key_of("text-classification", TASK, ROWS, model, "answer"),
        encoding.key_of("text-classification", TASK, ROWS, shorter, "learn"),
    ]
    assert len({key, *others}) == 5
    assert key == encoding.key_of("text-classification", TASK, ROWS, model, "learn")


@pytest.mark.parametrize("harm", ["cut short", "one bit", "a column gone", "no count"])
def test_a_torn_table_is_noticed_and_made_anew(model: Model, kept: Path, harm: str) -> None:
    direct = plain(encoding.encode("text-classification", TASK, ROWS, model)[0])
    (place,) = kept.iterdir()
    content = (place / "ids").read_bytes()
    if harm == "cut short":
        (place / "ids").write_bytes(content[:-4])
    elif harm == "one bit":
        (place / "ids").write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif harm == "a column gone":
        (place / "trained").unlink()
    else:
        (place / "table.json").write_text("{}")
    assert open_table(place) is None
    assert plain(encoding.encode("text-classification", TASK, ROWS, model)[0]) == direct
    assert open_table(place) is not None


def test_rows_that_are_refused_are_told_and_left_out(model: Model, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = TextClassification.encode

    def picky(self: Any, row: Row, reader: Any, purpose: Any) -> Any:
        if row.id % 7 == 3:
            raise DataError(f"row {row.id} is odd", hint="even it")
        return encode(self, row, reader, purpose)

    monkeypatch.setattr(TextClassification, "encode", picky)
    table, refused = encoding.encode("text-classification", TASK, ROWS, model)
    monkeypatch.setattr(encoding, "_KEPT_SECONDS", 1e9)
    plain_rows, plain_refused = encoding.encode("text-classification", TASK, ROWS, model)
    assert refused == plain_refused == tuple(Refused(k, f"row {k} is odd", "even it") for k in (3, 10, 17, 24))
    assert plain(table) == plain(plain_rows)
    left = plain(encoding.without_refused(table))
    assert left == plain(encoding.without_refused(plain_rows)) and len(left) == 26 and left[3][0][0] == 3


def test_a_full_disk_is_said_and_leaves_nothing(model: Model, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoding.os, "fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        encoding.encode("text-classification", TASK, ROWS, model)
    assert not list(kept.iterdir())


def test_without_a_cache_rows_are_encoded_all_the_same(
    model: Model, tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "file"))
    found, _ = encoding.encode("text-classification", TASK, ROWS, model)
    assert plain(found) == plain(TASK.encode(row, model, "learn") for row in ROWS)


def test_folders_that_nobody_uses_are_removed(kept: Path) -> None:
    import os
    import time

    folder = cache_folder("tokens")
    for name, days in (("old", 31), ("new", 29), (".half.1.tmp", 2), (".now.2.tmp", 0)):
        (folder / name).mkdir()
        os.utime(folder / name, (0, time.time() - days * 86_400))
    prune(folder)
    assert sorted(path.name for path in folder.iterdir()) == [".now.2.tmp", "new"]
    shutil.rmtree(folder)
