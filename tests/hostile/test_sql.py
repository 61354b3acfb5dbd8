"""Databases and queries that give no rows to learn from, or would do more than read."""

import sqlite3
from pathlib import Path

import pytest

import tiny
from refusals import SKIP, Bad, check

pytest.importorskip("sqlalchemy")

SHOP, ALL = "sqlite:///<here>/shop.db", "SELECT body AS text, team AS label FROM tickets"

SQL: dict[str, Bad] = {
    "no query": Bad(
        (SHOP, None),
        "a database needs a query",
        "data.query",
        '`data: {train: "sqlite:///<here>/shop.db", query: "SELECT text, label FROM tickets"}`',
    ),
    "an empty query": Bad(
        (SHOP, " "),
        "the query is not one SELECT",
        "data.query",
        "rows are only read: write one `SELECT ...`; a column that is called like a command needs quotes",
        twin="nothing is no SELECT either",
    ),
    "a deletion": Bad(
        (SHOP, "DELETE FROM tickets"),
        "the query is not one SELECT",
        "data.query",
        "rows are only read: write one `SELECT ...`; a column that is called like a command needs quotes",
        twin="one word is enough",
    ),
    "a deletion behind a name": Bad(
        (SHOP, "WITH gone AS (SELECT 1) DELETE FROM tickets"),
        "the query is not one SELECT",
        "data.query",
        "rows are only read: write one `SELECT ...`; a column that is called like a command needs quotes",
        twin="it begins as a query",
    ),
    "two statements": Bad(
        (SHOP, "SELECT 1; DROP TABLE tickets"),
        "the query is not one SELECT",
        "data.query",
        "rows are only read: write one `SELECT ...`; a column that is called like a command needs quotes",
        twin="the first is a SELECT",
    ),
    "a setting": Bad(
        (SHOP, "PRAGMA user_version = 3"),
        "the query is not one SELECT",
        "data.query",
        "rows are only read: write one `SELECT ...`; a column that is called like a command needs quotes",
        twin="a word of SQLite's own",
    ),
    "another database": Bad(
        (SHOP, "ATTACH 'other.db' AS other"),
        "the query is not one SELECT",
        "data.query",
        "rows are only read: write one `SELECT ...`; a column that is called like a command needs quotes",
        twin="it would make a file",
    ),
    "a table that is not there": Bad(
        (SHOP, "SELECT body FROM nowhere"), "the database refused: no such table: nowhere", "sqlite:///<here>/shop.db"
    ),
    "a column that is not there": Bad(
        (SHOP, "SELECT missing FROM tickets"),
        "the database refused: no such column: missing",
        "sqlite:///<here>/shop.db",
    ),
    "a function that is not there": Bad(
        (SHOP, "SELECT nofunc(body) AS text FROM tickets"),
        "the database refused: no such function: nofunc",
        "sqlite:///<here>/shop.db",
    ),
    "a function that loads code": Bad(
        (SHOP, "SELECT load_extension('/tmp/x.so') AS text"),
        "the database refused: not authorized",
        "sqlite:///<here>/shop.db",
    ),
    "a quote that never ends": Bad(
        (SHOP, "SELECT 'a AS text FROM tickets"),
        'the database refused: unrecognized token: "\'a AS text FROM tickets"',
        "sqlite:///<here>/shop.db",
    ),
    "half a statement": Bad(
        (SHOP, "SELECT body AS text FROM"), "the database refused: incomplete input", "sqlite:///<here>/shop.db"
    ),
    "a column twice": Bad(
        (SHOP, "SELECT id, id FROM tickets"),
        "the query has the column `id` more than once",
        "data.query",
        "name each column: `SELECT a.id AS first, b.id AS second`",
    ),
    "no rows": Bad((SHOP, ALL + " WHERE id < 0"), "the query has no rows", "sqlite:///<here>/shop.db"),
    "bytes": Bad(
        (SHOP, "SELECT raw AS text, team AS label FROM tickets"),
        "column `text` holds bytes, not text",
        "sqlite:///<here>/shop.db row 1",
        "leave it out of the query, or cast it to text in it",
    ),
    "a text that is null": Bad(
        (SHOP, "SELECT NULL AS text, team AS label FROM tickets LIMIT 1"),
        "`text` is missing",
        "<cache>/queries/f70c76d92f19dabf212abfccd6126a7b.jsonl:1",
        SKIP,
    ),
    "other columns": Bad(
        (SHOP, "SELECT body, team FROM tickets"),
        "there is no column `text`",
        "<cache>/queries/240bdebe83085f85607ce9d859ab0497.jsonl:1",
        "known: `body`, `team`",
    ),
    "one label": Bad(
        (SHOP, ALL + " WHERE team = 'login'"),
        "every training row has the label `login`; two are needed to learn",
        "<cache>/queries/668acf4f48fa704d030d80e7018be745.jsonl",
    ),
    "a text that holds a NUL": Bad(
        (SHOP, "SELECT 'a' || char(0) || 'b' AS text, team AS label FROM tickets LIMIT 1"),
        "column `text` holds a NUL character",
        "<cache>/queries/14e3d42e62d18b39aec10faf705d1830.jsonl:1",
        SKIP,
    ),
    "a number without an end": Bad(
        (SHOP, "SELECT 9e999 AS text, team AS label FROM tickets LIMIT 1"),
        "column `text` holds inf, which is no number",
        "sqlite:///<here>/shop.db row 1",
        "leave such rows out in the query",
    ),
    "a database that is not there": Bad(
        ("sqlite:///<here>/none.db", ALL), "there is no such database", "sqlite:///<here>/none.db"
    ),
    "a folder": Bad(
        ("sqlite:///<here>", ALL), "the database refused: unable to open database file", "sqlite:///<here>"
    ),
    "a file that is none": Bad(
        ("sqlite:///<here>/rows.txt", ALL), "the database refused: file is not a database", "sqlite:///<here>/rows.txt"
    ),
    "a database that is torn": Bad(
        ("sqlite:///<here>/torn.db", ALL),
        "the database refused: database disk image is malformed",
        "sqlite:///<here>/torn.db",
    ),
    "a kind that is unknown": Bad(
        ("nosuch://me:hunter2@nowhere/x", ALL),
        "this is no database URL: Can't load plugin: sqlalchemy.dialects:nosuch",
        "nosuch://me:***@nowhere/x",
        "such as sqlite:///shop.db",
    ),
    "no address": Bad(
        ("://", ALL),
        "this is no database URL: Could not parse SQLAlchemy URL from given URL string",
        "://",
        "such as sqlite:///shop.db",
    ),
    "a port that is a word": Bad(
        ("postgresql://me:hunter2@nowhere:port/x", ALL),
        "this is no database URL: its port is no number",
        "postgresql://me:***@nowhere:port/x",
    ),
    "a query of a file": Bad(
        ("<here>/rows.txt", ALL),
        "a query is asked of a database, and this is a file",
        "data.query",
        "leave `query` out",
    ),
}
"""(where the rows are, the query)."""


@pytest.mark.parametrize("case", SQL)
def test_a_query_that_gives_no_rows_to_learn_from_is_refused_and_changes_nothing(
    case: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], own_cache: Path
) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as base:
        base.execute("CREATE TABLE tickets (id INTEGER, body TEXT, team TEXT, raw BLOB)")
        rows = [(k, row["text"], row["label"], b"\0") for k, row in enumerate(tiny.label_rows(60))]
        base.executemany("INSERT INTO tickets VALUES (?, ?, ?, ?)", rows)
    base.close()
    (tmp_path / "torn.db").write_bytes((tmp_path / "shop.db").read_bytes()[:4096] + b"\xff" * 4096)
    (tmp_path / "rows.txt").write_text("no database")
    whole = (tmp_path / "shop.db").read_bytes()
    url, query = (None if said is None else said.replace("<here>", str(tmp_path)) for said in SQL[case].given)
    asked = () if query is None else ("--set", f"data.query={query!r}")
    columns = ("--task", "text-classification", "--set", "data.text=text", "--set", "data.label=label")
    check(
        SQL[case],
        capsys,
        tmp_path,
        "train",
        str(encoder),
        str(url),
        *columns,
        *asked,
        "--set",
        "train.steps=1",
        known={str(own_cache): "<cache>"},
    )
    assert (tmp_path / "shop.db").read_bytes() == whole
    assert not [path for path in own_cache.rglob("*") if path.name.startswith(".")]
