"""Rows that are not one file: folders, shards, patterns, databases, data sets of a hub, several sources at once."""

import decimal
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith import run
from tunesmith.asked import read_recipe
from tunesmith.console import Screen
from tunesmith.data import hub, sources, sql
from tunesmith.data.files import find_files
from tunesmith.data.splits import load
from tunesmith.errors import DataError, RecipeError
from tunesmith.recipefile import build
from tunesmith.recipefile import load as load_recipe
from tunesmith.tasks.text_classification import TextClassification


def shown(folder: Path) -> dict[str, list[str]]:
    return {name: [str(f.relative_to(folder)) for f in files] for name, files in find_files(folder).items()}


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["b.csv", "a.csv", "README.md", "labels.txt", ".hidden.csv"], {"train": ["a.csv", "b.csv"]}),
        (["train.jsonl.gz", "val.jsonl.gz"], {"train": ["train.jsonl.gz"], "validation": ["val.jsonl.gz"]}),
        (
            ["train-00001-of-00002.parquet", "train-00000-of-00002.parquet", "test-00000-of-00001.parquet"],
            {
                "train": ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
                "test": ["test-00000-of-00001.parquet"],
            },
        ),
        (
            ["data/train-0.jsonl", "data/dev-0.jsonl", "README.md"],
            {"train": ["data/train-0.jsonl"], "validation": ["data/dev-0.jsonl"]},
        ),
        (
            ["train/x.csv", "train/y.csv", "test/z.csv"],
            {"train": ["train/x.csv", "train/y.csv"], "test": ["test/z.csv"]},
        ),
        (["may/1.jsonl", "june/2.jsonl"], {"train": ["june/2.jsonl", "may/1.jsonl"]}),
        (["essay one.txt", "essay two.txt"], {"train": ["essay one.txt", "essay two.txt"]}),
        (["train.csv", "notes.json", "rubbish.bin"], {"train": ["train.csv"]}),
        (
            ["squad-train-v1.1.json", "squad-dev-v1.1.json", "more.json"],
            {"train": ["squad-train-v1.1.json"], "validation": ["squad-dev-v1.1.json"]},
        ),
        (
            ["tickets_train-00000-of-00001.csv", "tickets_test.csv"],
            {"train": ["tickets_train-00000-of-00001.csv"], "test": ["tickets_test.csv"]},
        ),
        (["a long journey.txt", "train journey.txt"], {"train": ["a long journey.txt", "train journey.txt"]}),
        (["part-1-of-2.csv", "part-2-of-2.csv"], {"train": ["part-1-of-2.csv", "part-2-of-2.csv"]}),
    ],
)
def test_a_folder_is_read_by_the_names_in_it(tmp_path: Path, names: list[str], wanted: dict[str, list[str]]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert shown(tmp_path) == wanted


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["train.csv", "train.jsonl"], "two sources for `train`"),
        (["a.csv", "b.jsonl"], "several formats"),
        (["README.md"], "no file of rows"),
        (["test.csv"], "no training rows"),
        (["a-train.csv", "a-test.csv", "b_train.csv", "b_test.csv"], "two sources for `t"),
        (["train-00000-of-00003.csv", "train-00002-of-00003.csv"], "of the 3 files train-.*, 1 are missing.*number 1"),
        (["rows-1-of-3.csv", "rows-2-of-3.csv"], "the first is number 3"),
        (["data/train-00001-of-00002.jsonl"], "the first is number 0|number 2"),
        (["rows-3-of-30000000000000.csv"], "are missing, the first is number 1"),
        (["train_en.csv", "test_de.csv"], "are the rows of test_de.csv to be learned from"),
        (["mnli-train.csv", "mnli-dev-matched.csv", "mnli-dev-mismatched.csv"], "to be learned from"),
        (["x_train.csv", "x_test.csv", "y_train.csv", "z.csv"], "which split is y_train.csv of"),
    ],
)
def test_a_folder_that_can_be_read_in_two_ways_or_in_none_is_refused(
    tmp_path: Path, names: list[str], problem: str
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=problem):
        find_files(tmp_path)


def test_a_pattern_names_files_and_one_without_any_is_an_error(tmp_path: Path) -> None:
    for name in ("b1.jsonl", "b2.jsonl", "c.csv"):
        (tmp_path / name).write_text("{}")
    assert [f.name for f in find_files(str(tmp_path / "b*.jsonl"))["train"]] == ["b1.jsonl", "b2.jsonl"]
    with pytest.raises(DataError, match="no file is called"):
        find_files(str(tmp_path / "x*.csv"))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "shop.db"
    with sqlite3.connect(place) as base:
        base.execute("CREATE TABLE tickets (id INTEGER, body TEXT, team TEXT, price DECIMAL(9,2), seen DATE, raw BLOB)")
        rows = [(k, row["text"], row["label"], 1.5, "2024-05-31", b"\0") for k, row in enumerate(tiny.label_rows(90))]
        base.executemany("INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?)", rows)
    return place


QUERY = "SELECT body AS text, team AS label FROM tickets ORDER BY id"


def test_a_database_is_trained_from_and_the_run_goes_on_from_its_own_rows(
    encoder: Path, shop: Path, tmp_path: Path
) -> None:
    values = tiny.recipe_values(encoder, shop, tmp_path, train__epochs=1)
    values["data"] = {"train": f"sqlite:///{shop}", "query": QUERY}
    made = run.train_recipe(build(values))
    (file,) = made.json("data")["train"]["files"]
    assert [json.loads(line) for line in Path(file["path"]).read_text().splitlines()] == tiny.label_rows(90)
    with sqlite3.connect(shop) as base:
        base.execute("DELETE FROM tickets")
    assert run.resume(made.path)[1] is None
    from tunesmith import load as load_run

    assert load_run(made.path).evaluate()["scores"]["test"]["accuracy"]["n"] > 0


def test_a_password_is_in_no_file_of_a_run(encoder: Path, shop: Path, tmp_path: Path) -> None:
    values = tiny.recipe_values(encoder, shop, tmp_path, train__epochs=1)
    values["data"] = {"train": f"sqlite:///{shop}", "query": QUERY}
    text = "# was postgresql://me:hunter2@host/shop\n" + json.dumps(values)
    made, _ = run.begin(build(values), text, ["tunesmith", "--set", "data.train=mysql://me:hunter2@host/shop"])
    assert not [path for path in made.path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert "postgresql://me:***@host/shop" in (made.path / "recipe.yaml").read_text()


def test_the_same_answer_is_the_same_file_and_another_is_another(shop: Path) -> None:
    said: list[str] = []
    recipe = build({"model": "minilm", "data": {"train": f"sqlite:///{shop}", "query": QUERY}})
    first, again = (sources.local(recipe, said.append).data.train for _ in range(2))
    assert first == again and first.endswith(".jsonl") and "90 rows" in said[0]
    with sqlite3.connect(shop) as base:
        base.execute("DELETE FROM tickets WHERE id = 3")
    assert sources.local(recipe, said.append).data.train != first


def test_values_of_a_database_become_plain_ones(shop: Path) -> None:
    found = list(sql.read_query(f"sqlite:///{shop}", "SELECT id, price, seen, NULL AS no FROM tickets LIMIT 1"))
    assert found == [{"id": 0, "price": 1.5, "seen": "2024-05-31", "no": None}]
    assert sql._plain(decimal.Decimal("2.50"), "a", 1, "") == 2.5 and sql._plain(decimal.Decimal("3"), "a", 1, "") == 3
    with pytest.raises(DataError, match="`raw` holds bytes"):
        list(sql.read_query(f"sqlite:///{shop}", "SELECT raw FROM tickets"))


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM tickets",
        "SELECT 1; DROP TABLE tickets",
        "UPDATE tickets SET id = 1",
        "",
        "PRAGMA user_version = 3",
        "WITH gone AS (SELECT 1) DELETE FROM tickets",
        "SELECT * INTO copy FROM tickets",
        "SELECT ';' FROM tickets; SELECT 1",
        "SELECT 1 /* ; */ ; -- '\nDROP TABLE tickets",
    ],
)
def test_anything_but_one_select_is_refused_and_changes_nothing(shop: Path, query: str) -> None:
    before = shop.read_bytes()
    with pytest.raises(DataError, match="not one SELECT"):
        list(sql.read_query(f"sqlite:///{shop}", query))
    assert shop.read_bytes() == before


def test_a_semicolon_or_a_command_in_a_text_a_name_or_a_remark_is_none(shop: Path) -> None:
    query = """SELECT 'a; delete' AS "update", body AS [into] /* drop; */ FROM tickets -- ;
               WHERE body <> 'it''s; ' LIMIT 1;"""
    (row,) = sql.read_query(f"sqlite:///{shop}", query)
    assert row == {"update": "a; delete", "into": tiny.label_rows(1)[0]["text"]}


@pytest.mark.parametrize(
    ("url", "query", "problem"),
    [
        ("sqlite:///{folder}/none.db", QUERY, "no such database"),
        ("sqlite:///{shop}", "SELECT missing FROM nowhere", "no such table"),
        ("sqlite:///{shop}", "SELECT id, id FROM tickets", "more than once"),
        ("sqlite:///{shop}", "SELECT id FROM tickets WHERE id < 0", "no rows"),
        ("postgresql://me:hunter2@nowhere/x", QUERY, "driver is missing|refused"),
        ("nosuch://me:hunter2@nowhere/x", QUERY, "no database URL"),
        ("postgresql://me:hunter2@host:abc/x", QUERY, "no database URL"),
    ],
)
def test_what_is_wrong_with_a_database_is_said_without_its_password(
    shop: Path, tmp_path: Path, url: str, query: str, problem: str
) -> None:
    recipe = build({"model": "minilm", "data": {"train": url.format(folder=tmp_path, shop=shop), "query": query}})
    with pytest.raises(DataError, match=problem) as caught:
        sources.local(recipe, lambda _: None)
    assert "hunter2" not in f"{caught.value} {caught.value.where} {caught.value.hint}"
    assert not list((tmp_path / "cache" / "queries").glob("*")) and not (tmp_path / "none.db").exists()


def test_a_query_without_a_database_and_a_database_without_a_query_are_refused(tmp_path: Path) -> None:
    file = tiny.write_csv(tmp_path / "rows.csv", tiny.label_rows(9))
    with pytest.raises(RecipeError, match="this is a file"):
        sources.local(build({"model": "minilm", "data": {"train": str(file), "query": QUERY}}), lambda _: None)
    with pytest.raises(RecipeError, match="needs a query"):
        sources.local(build({"model": "minilm", "data": "sqlite:///shop.db"}), lambda _: None)


def test_a_database_in_a_recipe_file_is_named_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("model: minilm\ndata: {train: 'sqlite:///shop.db', query: 'SELECT 1'}\n")
    assert load_recipe(tmp_path / "r.yaml").recipe.data.train == f"sqlite:///{tmp_path / 'shop.db'}"
    (tmp_path / "r.yaml").write_text("model: minilm\ndata: [a.csv, {path: b.csv, weight: 2}, 'hf://org/name']\n")
    parts = load_recipe(tmp_path / "r.yaml").recipe.data.parts()
    assert [part.path for part in parts] == [str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "hf://org/name"]


def fake_hub(monkeypatch: pytest.MonkeyPatch, folder: Path, files: list[str], card: str = "") -> list[dict[str, Any]]:
    """A hub whose one data set has these files and a card; returns what it was asked."""
    import fnmatch

    import huggingface_hub

    asked: list[dict[str, Any]] = []

    def snapshot(name: str, **more: Any) -> str:
        asked.append({"name": name, **more})
        for file in files:
            if any(fnmatch.fnmatch(file, pattern) for pattern in more["allow_patterns"]):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                tiny.write_jsonl(folder / file, tiny.label_rows(60))
        if "README.md" in more["allow_patterns"]:
            (folder / "README.md").write_text(card)
        return str(folder)

    folder.mkdir()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return asked


def test_a_data_set_of_a_hub_is_read_by_its_splits_and_nothing_but_rows_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ["data/train-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl", "load.py", "data/x.pkl"]
    asked = fake_hub(monkeypatch, tmp_path / "set", files)
    recipe = sources.local(build({"model": "minilm", "data": "hf://org/tickets@v2"}), lambda _: None)
    assert asked[0]["name"] == "org/tickets" and asked[0]["revision"] == "v2" and asked[0]["repo_type"] == "dataset"
    found = load(recipe, TextClassification())
    assert set(found.rows) == {"train", "validation", "test"} and found.made == ("validation",)
    assert sorted(p.suffix for p in (tmp_path / "set").rglob("*") if p.is_file()) == [".jsonl", ".jsonl", ".md"]


def test_several_configurations_are_asked_and_one_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ["en/train.jsonl", "en/test.jsonl", "de/train.jsonl", "de/test.jsonl"]
    fake_hub(monkeypatch, tmp_path / "set", files)
    with pytest.raises(DataError, match="several parts: de, en") as caught:
        hub.fetch("hf://org/tickets", lambda _: None)
    assert "hf://org/tickets/de" in (caught.value.hint or "")
    place = hub.fetch("hf://org/tickets/en", lambda _: None)
    assert {name: [f.name for f in found] for name, found in find_files(place).items()} == {
        "train": ["train.jsonl"], "test": ["test.jsonl"],
    }  # fmt: skip


CARD = """---
license: mit
configs:
- config_name: en
  data_files:
  - split: train
    path: ["english/a.jsonl", "english/b-*"]
  - split: dev
    path: english/held.jsonl
- config_name: de
  data_dir: german
  data_files: "*.jsonl"
---
# Tickets
"""
CARDED = ["english/a.jsonl", "english/b-1.jsonl", "english/b-2.py", "english/held.jsonl", "german/c.jsonl", "old.jsonl"]


@pytest.mark.parametrize("local", [False, True])
def test_the_files_of_a_part_are_those_that_the_card_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: bool
) -> None:
    fake_hub(monkeypatch, tmp_path / "set", CARDED, CARD)
    name = str(tmp_path / "set") if local else "hf://org/tickets"
    if local:
        hub.fetch("hf://org/tickets/en", lambda _: None)
        hub.fetch("hf://org/tickets/de", lambda _: None)

    def found(address: str) -> dict[str, list[str]]:
        place = Path(address) if local else hub.fetch(address, lambda _: None)
        return {
            split: [str(f.relative_to(tmp_path / "set")) for f in files] for split, files in find_files(place).items()
        }

    with pytest.raises(DataError, match=r"several parts.*: en, de") as caught:
        found(name)
    assert f"{name}/en" in (caught.value.hint or "")
    assert found(f"{name}/en") == {
        "train": ["english/a.jsonl", "english/b-1.jsonl"], "validation": ["english/held.jsonl"]
    }  # fmt: skip
    assert found(f"{name}/de") == {"train": ["german/c.jsonl"]}
    there = {str(f.relative_to(tmp_path / "set")) for f in (tmp_path / "set").rglob("*") if f.is_file()}
    assert there == {*CARDED, "README.md"} - {"english/b-2.py", "old.jsonl"}


@pytest.mark.parametrize(
    ("card", "problem"),
    [
        ("configs:\n- {config_name: a, data_files: ../../etc/*}", "outside of its folder"),
        ("configs:\n- {config_name: a, data_files: /etc/passwd}", "outside of its folder"),
        ("configs:\n- {config_name: a, data_dir: .., data_files: x.jsonl}", "outside of its folder"),
        ("configs:\n- {config_name: a, data_files: [{split: train_sft, path: a.jsonl}]}", "no split `train`"),
        ("configs:\n- {config_name: a, data_files: gone.jsonl}", "not there: `gone.jsonl`"),
        ("configs:\n- {config_name: a, data_files: {train: gone.jsonl}}", "not there: `gone.jsonl`"),
    ],
)
def test_a_card_that_leads_nowhere_or_outside_is_refused(tmp_path: Path, card: str, problem: str) -> None:
    tiny.write_jsonl(tmp_path / "a.jsonl", tiny.label_rows(9))
    (tmp_path / "README.md").write_text(f"---\n{card}\n---\n")
    with pytest.raises(DataError, match=problem):
        find_files(tmp_path)


@pytest.mark.parametrize(
    "card",
    [
        "# Words",
        "---\nlicense: mit\n---\n",
        "---\n{not: [yaml\n---\n",
        "---\nconfigs: 3\n---\n",
        "---\n",
        "---\nreleased: 2024-02-30\n---\n",
        f"---\na: {'[' * 3000}\n---\n",
        "---\nconfigs:\n- {data_files: null}\n---\n",
        "---\nconfigs:\n- {data_files: [{split: train, path: 5}, {split: test}]}\n---\n",
    ],
)
def test_a_card_that_names_no_files_changes_nothing(tmp_path: Path, card: str) -> None:
    tiny.write_jsonl(tmp_path / "a.jsonl", tiny.label_rows(9))
    (tmp_path / "README.md").write_text(card)
    assert shown(tmp_path) == {"train": ["a.jsonl"]}


def test_splits_of_a_card_may_be_named(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        tiny.write_jsonl(tmp_path / name, tiny.label_rows(9))
    (tmp_path / "README.md").write_text("---\nconfigs:\n- data_files: {train: a.jsonl, test: [b.jsonl]}\n---\n")
    assert shown(tmp_path) == {"train": ["a.jsonl"], "test": ["b.jsonl"]}


def test_of_several_parts_the_default_is_meant(tmp_path: Path) -> None:
    tiny.write_jsonl(tmp_path / "a.jsonl", tiny.label_rows(9))
    parts = "- {config_name: x, data_files: b.jsonl}\n- {config_name: y, default: true, data_files: a.jsonl}"
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{parts}\n---\n")
    assert shown(tmp_path) == {"train": ["a.jsonl"]}


def test_a_file_that_holds_no_rows_is_never_fetched_though_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub(monkeypatch, tmp_path / "set", ["weights.pkl", "load.py", "data/rows.jsonl"])
    for name in ("weights.pkl", "load.py"):
        with pytest.raises(DataError, match="no file of rows"):
            hub.fetch(f"hf://org/tickets/{name}", lambda _: None)
    assert [path.name for path in (tmp_path / "set").rglob("*") if path.is_file()] == ["README.md"]
    assert hub.fetch("hf://org/tickets/data/rows.jsonl", lambda _: None).name == "rows.jsonl"


@pytest.mark.parametrize(
    "address",
    ["hf://", "hf://only", "hf://a/b@", "hf://../../etc", "hf://a/b/../../../etc", "hf://a/b/x/../..", "hf://a/b//etc"],
)
def test_what_names_no_data_set_is_refused_before_anything_is_fetched(address: str) -> None:
    with pytest.raises(DataError, match="names no data set"):
        hub.fetch(address, lambda _: None)


def test_a_run_is_scored_on_a_pattern_of_packed_files(encoder: Path, tmp_path: Path) -> None:
    import gzip

    file = tiny.write_csv(tmp_path / "rows.csv", tiny.label_rows(90))
    made = run.train_recipe(build(tiny.recipe_values(encoder, file, tmp_path, train__epochs=1)))
    for k in range(2):
        rows = "".join(json.dumps(row) + "\n" for row in tiny.label_rows(20))
        (tmp_path / f"more{k}.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    from tunesmith import load as load_run

    scores = load_run(made.path).evaluate(tmp_path / "more*.jsonl.gz")["scores"]["data"]
    assert scores["accuracy"]["n"] == 40


def test_sources_are_mixed_each_with_its_columns_limit_and_weight(encoder: Path, tmp_path: Path) -> None:
    rows = tiny.label_rows(120)
    first = tiny.write_jsonl(tmp_path / "a.jsonl", rows[:90])
    second = tiny.write_csv(tmp_path / "b.csv", [{"body": r["text"], "label": r["label"]} for r in rows[90:]])
    values = tiny.recipe_values(encoder, first, tmp_path)
    parts = [
        {"path": str(first), "limit": 40, "weight": 0.5},
        {"path": str(second), "columns": {"text": "body"}, "weight": 3},
    ]
    values["data"] = {**values["data"], "train": parts}
    from tunesmith.prepare import prepare

    prepared = prepare(build(values))
    sources_of = [row["beside_source"] for row in prepared.train_rows]
    assert sources_of.count(0) == 40
    plan = prepared.plan()
    seen = [sources_of[k] for step in range(plan.per_epoch) for k in plan.at(step)]
    assert (seen.count(0), seen.count(1)) == (20, 3 * sources_of.count(1))


def test_a_database_without_a_model_is_asked_once(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def counted(url: str, query: str) -> Iterator[dict[str, Any]]:
        nonlocal count
        count += 1
        yield from tiny.label_rows(60)

    monkeypatch.setattr(sql, "read_query", counted)
    changes = (f"data.query={QUERY}",)
    recipe, _ = read_recipe(Screen(as_json=True), (f"sqlite:///{shop}",), None, None, changes, lone_file=True)
    assert recipe.model.name == "minilm" and sources.local(recipe, lambda _: None) == recipe
    assert count == 1
