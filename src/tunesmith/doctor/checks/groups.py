"""Groups on two sides of a split: rows that differ, of one document, one source sentence, one user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tunesmith.contracts import Row
from tunesmith.data.content import GROUP, content
from tunesmith.doctor.case import Case, asked
from tunesmith.doctor.finding import EXAMPLES, Finding, about, brief

quick = True
_SHORTEST = 20
"""Characters: shorter values (a language, an instruction) are no documents."""
_MOST = 0.02
"""Of all rows: a value that more of them have is a prompt, not a document."""


def find(case: Case) -> list[Finding]:
    """`group-leak`, for each column of rows that have several, and for the group that the recipe names."""
    names = [name for name, rows in case.rows.items() if rows]
    columns: dict[str, None] = {}
    for name in names:
        for row in case.rows[name][:100]:
            columns |= dict.fromkeys(_values(row))
    found = []
    for column in columns:
        held = {name: [_values(row).get(column, "") for row in case.rows[name]] for name in names}
        found += _leaks(case, column, held, names)
    return found


def _values(row: Row) -> dict[str, str]:
    """Column -> value of what may be a group: the parts of a row that has several, and the named group."""
    texts = asked(row)
    values = texts if len(texts) > 1 or "messages" in row.values else {}
    named = row.values.get(GROUP)
    return values if named is None else {**values, GROUP: str(named)}


def _leaks(case: Case, column: str, held: dict[str, list[str]], names: Sequence[str]) -> list[Finding]:
    counts = Counter(value for values in held.values() for value in values)
    total = sum(map(len, held.values()))

    def is_group(value: str) -> bool:
        return column == GROUP or (len(value) >= _SHORTEST and counts[value] <= max(2, _MOST * total))

    found = []
    for at, first in enumerate(names):
        there = {value for value in held[first] if value and is_group(value)}
        whole = {content(row) for row in case.rows[first]} if there else set()
        for second in names[at + 1 :]:
            torn = [
                (row, value)
                for row, value in zip(case.rows[second], held[second], strict=True)
                if value in there and content(row) not in whole
            ]
            if not torn:
                continue
            said = "group" if column == GROUP else f"`{column}`"
            option = "" if column == GROUP else f"; `data.split.group: {column}` keeps each on one side"
            found.append(
                about(
                    "group-leak",
                    f"{first}/{second}",
                    [row for row, _ in torn],
                    len(case.rows[second]),
                    f"these rows of {second} share their {said} with rows of {first}, so that a score flatters",
                    f"put all rows of a {said} on one side{option}",
                    shown=[brief(value) for _, value in torn[:EXAMPLES]],
                    side=second,
                )
            )
    return found
