"""Rows that are not files yet: a query's answer and a hub's data set become files in the user's cache, named by what
they hold, and the recipe names those. So a run can be gone on with from the rows that it began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from tunesmith.cache import cache_folder
from tunesmith.data import hub, sql
from tunesmith.errors import DataError, RecipeError
from tunesmith.recipe import Data, Part, Recipe
from tunesmith.rundir import beside, write_pieces

Say = Callable[[str], None]
_KIND = "queries"


def local(recipe: Recipe, say: Say) -> Recipe:
    """The recipe with files in place of URLs. Raises DataError, RecipeError."""
    data = recipe.data
    if isinstance(data.train, str):
        (only,) = data.parts()
        part = _part(only, say)
        update: dict[str, object] = {"train": part.path, "query": part.query}
    elif data.query is not None:
        raise RecipeError(
            "`data.query` is of one database, and `data.train` is a list",
            where="data.query",
            hint="give each source its own: `{path: ..., query: ...}`",
        )
    else:
        update = {"train": [_part(part, say) for part in data.train]}
    for name in ("validation", "test"):
        given = getattr(data, name)
        if given is not None:
            update[name] = fetched(given, None, say)
    made: Data = data.model_copy(update=update)
    return recipe.model_copy(update={"data": made})


def is_url(path: str) -> bool:
    """Whether it names no file."""
    return "://" in path


def _part(part: Part, say: Say) -> Part:
    return part.model_copy(update={"path": fetched(part.path, part.query, say), "query": None})


def fetched(path: str, query: str | None, say: Say) -> str:
    """The path itself, or that of the files that a URL's rows were put into. Raises DataError, RecipeError."""
    if path.startswith(hub.SCHEME):
        return str(hub.fetch(path, say))
    if is_url(path):
        if query is None:
            raise RecipeError(
                "a database needs a query",
                where="data.query",
                hint=f'`data: {{train: "{sql.safe(path)}", query: "SELECT text, label FROM tickets"}}`',
            )
        return str(_answer(path, query, say))
    if query is not None:
        raise RecipeError(
            "a query is asked of a database, and this is a file", where="data.query", hint="leave `query` out"
        )
    return path


def _answer(url: str, query: str, say: Say) -> Path:
    """A file of the query's rows, one that is there already where they are the same. Rows go to disk as they come."""
    try:
        folder = cache_folder(_KIND)
    except OSError as fault:
        raise DataError(
            f"the answer of a query needs a place: {fault.strerror}",
            where=str(fault.filename),
            hint="set TUNESMITH_CACHE",
        ) from None
    digest = hashlib.sha256()
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for row in sql.read_query(url, query):
            line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
            digest.update(line)
            count += 1
            yield line

    draft = beside(folder / "query.jsonl")
    write_pieces(draft, lines())
    if not count:
        draft.unlink()
        raise DataError("the query has no rows", where=sql.safe(url))
    place = folder / f"{digest.hexdigest()[:32]}.jsonl"
    draft.replace(place)
    say(f"{count:,} rows of {sql.safe(url)}: {place}")
    return place
