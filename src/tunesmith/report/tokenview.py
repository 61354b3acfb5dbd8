"""Rows as the model sees them: every token, what becomes of it, and what the task says of it. Knows nothing of screens
and pages; `tokentext.py` and `checkpage.py` draw what is made here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from tunesmith.contracts import Mark, Pixels, Reader, Row, Task, Tokens
from tunesmith.data.rows import spread
from tunesmith.data.tokens import lengths
from tunesmith.doctor.finding import brief
from tunesmith.models.text import TextEncoder
from tunesmith.prepare import Prepared

Kind = Literal["trained", "masked", "cut", "between"]
Role = Literal["text", "special", "unknown"]
MOST = 2000
"""Tokens of a row that are shown."""
_LONG = 400
"""Characters of a piece of text that are shown: one token may stand for very many."""
_NAME = 80
"""Characters of what a task says that are shown."""


@dataclass(frozen=True)
class Token:
    """A token, or text of the row that is none: what stands between two, and what did not fit."""

    text: str
    """What it stands for in the row; its name where that is nothing. Empty for the further tokens of one character."""
    kind: Kind
    """`trained`: learned; `masked`: read only; `cut`: not read; `between`: text that belongs to no token."""
    role: Role = "text"
    """`special`: a sign of the tokenizer's own; `unknown`: characters that its vocabulary does not have."""
    id: int | None = None
    """None for text that is no token."""
    name: str = ""
    """In the vocabulary."""


@dataclass(frozen=True)
class PartView:
    """A sequence of tokens, or an image."""

    name: str
    tokens: tuple[Token, ...] = ()
    marks: tuple[tuple[int, int, Mark], ...] = ()
    """(first, one past the last, what is said) of places in `tokens`, in order."""
    said: tuple[Mark, ...] = ()
    """What is said of all of it."""
    cut: int = 0
    """Tokens that did not fit the model."""
    lost: int = 0
    """Of those, how many were to be learned."""
    hidden: int = 0
    """Tokens that are not shown, because there are too many."""
    image: str = ""
    """The image's path."""


@dataclass(frozen=True)
class ExampleView:
    """What of a row goes through the model at once."""

    parts: tuple[PartView, ...]
    said: tuple[Mark, ...] = ()
    """What is said of all of it."""


@dataclass(frozen=True)
class RowView:
    """A row as the model sees it."""

    place: str
    examples: tuple[ExampleView, ...]
    hidden: int = 0
    """Examples that are not shown, because there are too many."""


def views(prepared: Prepared, count: int, most: int = MOST) -> list[RowView]:
    """Some training rows: the longest, and others from all over them, since files are often sorted by label."""
    return [view(prepared.train_rows[k], prepared.task, prepared.model, most) for k in chosen(prepared, count)]


def chosen(prepared: Prepared, count: int) -> list[int]:
    """The numbers of at most `count` training rows, in order."""
    rows = len(prepared.train_rows)
    if count < 1:
        return []
    longest = int(np.sum(lengths(prepared.examples), 0).argmax())
    numbers = spread(rows, count)
    if longest not in numbers:
        numbers[np.abs(numbers - longest).argmin()] = longest
    return sorted(numbers.tolist())


def view(row: Row, task: Task, reader: Reader, most: int = MOST) -> RowView:
    """A row that is learned from; at most that many of its tokens."""
    examples = task.encode(row, reader, "learn")
    made: list[ExampleView] = []
    for example in examples:
        if most <= 0:
            break
        marks = [replace(mark, label=brief(mark.label, _NAME)) for mark in task.marks(row, example, reader)]
        parts = []
        for name, part in example.parts.items():
            here = [mark for mark in marks if mark.part == name]
            if isinstance(part, Pixels):
                parts.append(PartView(name, said=tuple(here), image=part.path))
            else:
                parts.append(_sequence(name, part, reader.text, here, most))
                most = max(most - len(part.ids), 0)
        made.append(ExampleView(tuple(parts), tuple(mark for mark in marks if mark.part is None)))
    return RowView(row.place, tuple(made), len(examples) - len(made))


def _sequence(name: str, part: Tokens, text: TextEncoder, marks: Sequence[Mark], most: int) -> PartView:
    tokens, places = _tokens(part, text, most)
    spans = []
    for mark in marks:
        if mark.span is not None and mark.span[1] <= len(places):
            spans.append((places[mark.span[0]], places[mark.span[1] - 1] + 1, mark))
    return PartView(
        name,
        tuple(tokens),
        tuple(sorted(spans, key=lambda span: span[:2])),
        tuple(mark for mark in marks if mark.span is None),
        part.cut,
        part.lost,
        len(part.ids) - len(places),
    )


def _tokens(part: Tokens, text: TextEncoder, most: int) -> tuple[list[Token], list[int]]:
    """The first tokens of a sequence with the text between them, and the place of each among those."""
    ids = part.ids[:most]
    names = [str(name) for name in text.tokenizer.convert_ids_to_tokens(list(ids))]
    offsets = part.offsets or ((0, 0),) * len(part.ids)
    trained = part.trained or (False,) * len(part.ids)
    roles = _roles(text)
    written = [k for k, (start, end) in enumerate(offsets) if start < end]
    begins = {a: offsets[b][0] for a, b in pairwise(written)}  # of the next token that stands in the text
    made: list[Token] = []
    places = []
    at = offsets[written[0]][0] if written else 0  # what stands before is of another window
    apart = False
    for k, (number, name) in enumerate(zip(ids, names, strict=True)):
        start, end = offsets[k]
        role = roles.get(number, "text")
        if start < end:
            gap = part.text[at:start] or " " * apart
            shown = part.text[max(start, at) : end]
            role = "text" if role == "special" and shown.strip() != name else role  # a word that was hidden
        else:
            gap = " " * bool(made and name[:2] != "##" and not made[-1].text[-1:].isspace())
            shown = name if role == "special" else _named(text, number, name)
        if gap:
            made.append(Token(_short(gap), "between"))
        at, apart = max(at, end), start >= end
        places.append(len(made))
        made.append(Token(_short(shown), "trained" if trained[k] else "masked", role, number, name))
        if part.cut and start < end:
            rest = part.text[at : begins.get(k)]
            if any(unicodedata.category(sign)[0] not in "CZ" for sign in rest):  # the others may belong to no token
                made.append(Token(_short(rest), "cut"))
                at += len(rest)
    return made, places


def _roles(text: TextEncoder) -> dict[int, Role]:
    """The roles of tokens that are not plain text. Some tokenizers name only few of their own signs as special ones and
    say of the others that they were added as such."""
    tokenizer = text.tokenizer
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    roles: dict[int, Role] = dict.fromkeys((*text.special(), *added), "special")
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id != tokenizer.eos_token_id:
        roles[tokenizer.unk_token_id] = "unknown"
    return roles


def _named(text: TextEncoder, number: int, name: str) -> str:
    """A token that stands nowhere in the row as text; by its name where it is a part of a character."""
    said = str(text.tokenizer.decode([number])).strip()
    return name if not said or "\ufffd" in said else said


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]} … and {len(text) - _LONG:,} more characters"
