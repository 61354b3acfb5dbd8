"""The rows of a query to a database, by an SQLAlchemy URL. A row's "line" is its number in the answer, from 1."""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Iterator
from typing import Any

from tunesmith.data.content import plain
from tunesmith.errors import DataError

_ONE = re.compile(r"\s*(?:select|with)\b[^;]*;?\s*$", re.I | re.S)
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/", re.S)
"""Texts, names in quotes and remarks: what stands in them is no part of the statement."""
_WRITES = re.compile(r"\b(?:insert|update|delete|merge|into)\b", re.I)


def read_query(url: str, query: str) -> Iterator[dict[str, Any]]:
    """The values of each row, as they come. Raises DataError; a password in the URL is never shown."""
    try:
        import sqlalchemy
        from sqlalchemy import exc
    except ImportError:
        raise DataError("databases need the package sqlalchemy", hint="pip install 'tunesmith[sql]'") from None
    shown = safe(url)
    bare = _QUOTED.sub(" ", query)
    if not _ONE.match(bare) or _WRITES.search(bare):
        raise DataError(
            "the query is not one SELECT",
            where="data.query",
            hint="rows are only read: write one `SELECT ...`; a column that is called like a command needs quotes",
        )
    try:
        engine = sqlalchemy.create_engine(url)
        _there(engine.url, shown)
        options = {"stream_results": True, "yield_per": 1000, "postgresql_readonly": True}
        with engine.connect().execution_options(**options) as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA query_only = ON")
            answer = connection.exec_driver_sql(query)
            names = list(answer.keys())
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise DataError(f"the query has the column `{twice}` more than once", where="data.query",
                                hint="name each column: `SELECT a.id AS first, b.id AS second`")  # fmt: skip
            for number, row in enumerate(answer, 1):
                yield {name: _plain(value, name, number, shown) for name, value in zip(names, row, strict=True)}
        engine.dispose()
    except ValueError:
        raise DataError("this is no database URL: its port is no number", where=shown) from None
    except (exc.ArgumentError, exc.NoSuchModuleError) as fault:
        raise DataError(
            f"this is no database URL: {_short(fault)}", where=shown, hint="such as sqlite:///shop.db"
        ) from None
    except exc.SQLAlchemyError as fault:
        raise DataError(f"the database refused: {_short(fault)}", where=shown) from None
    except ImportError as fault:
        raise DataError(f"the database's own driver is missing: {fault.name}", where=shown) from None


def safe(url: str) -> str:
    """A URL, or a text with URLs in it, without their passwords."""
    masked = re.sub(r"(://[^:/@\s]*):[^/\s]*@", r"\1:***@", url)
    return re.sub(r"(?i)([?&](?:password|passwd|pwd|sslpassword|token)=)[^&\s]*", r"\1***", masked)


def _there(url: Any, shown: str) -> None:
    """Refuse an SQLite file that is not there: connecting would make it."""
    from pathlib import Path

    name = url.database
    if url.get_backend_name() == "sqlite" and name not in (None, "", ":memory:") and not Path(name).exists():
        raise DataError("there is no such database", where=shown)


def _short(fault: Exception) -> str:
    """The driver's own words, without the statement and its help page."""
    said = str(getattr(fault, "orig", None) or fault)
    return safe(said.splitlines()[0])


def _plain(value: Any, name: str, number: int, shown: str) -> Any:
    if isinstance(value, decimal.Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes | memoryview):
        raise DataError(f"column `{name}` holds bytes, not text", where=f"{shown} row {number}",
                        hint="leave it out of the query, or cast it to text in it")  # fmt: skip
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"column `{name}` holds {value}, which is no number", where=f"{shown} row {number}",
                        hint="leave such rows out in the query")  # fmt: skip
    return plain(value)
