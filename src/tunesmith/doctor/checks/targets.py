"""Answers that teach nothing: empty, of a single word among longer ones, or copies of what was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tunesmith.contracts import Row
from tunesmith.doctor.case import Case, answered, asked, turns
from tunesmith.doctor.finding import EXAMPLES, Finding, about, brief

quick = True
_LONG = 5
"""Words of the median answer, from which on an answer of one word is odd."""
_USUAL = 0.02
"""Of the rows; where more answers are one word, that is how such questions are answered."""
_FEWEST = 20
_CONSTANT = 0.3
"""Of the rows; an answer that more of them share is one that is learned by heart."""


def find(case: Case) -> list[Finding]:
    """`empty-target`, `one-word-target`, `copied-target` and `constant-target`, of tasks whose answers are texts."""
    found: list[Finding] = []
    for split, rows in case.rows.items():
        if rows and (_written(rows[0]) or "messages" in rows[0].values):
            found += _of_split(split, rows, case.task == "translation")
    return found


def _written(row: Row) -> bool:
    """Whether the row's label is texts that are to be written."""
    return isinstance(row.values.get("label_references"), list | tuple)


def _of_split(split: str, rows: Sequence[Row], translated: bool) -> list[Finding]:
    answers = [answered(row) for row in rows]
    last = [said[-1] if said else "" for said in answers]
    words = [len(text.split()) for text in last]
    spoken = sorted(count for count in words if count) or [0]  # a call of a tool has no words
    middle = spoken[len(spoken) // 2]
    empty = [k for k, said in enumerate(answers) if any(not _says(text) for text in said)]
    short = [k for k, count in enumerate(words) if count == 1 and _says(last[k]) and middle >= _LONG]
    copied = [k for k, text in enumerate(last) if len(text) > 1 and text.strip() in _questions(rows[k])]
    if translated:  # said as `untranslated`
        copied = []
    text, count = (Counter(filter(None, map(str.strip, last))).most_common(1) or [("", 0)])[0]
    same = [k for k, said in enumerate(last) if said.strip() == text] if count > _CONSTANT * len(rows) else []
    if len(rows) < _FEWEST:
        short, same = [], []
    if len(short) > _USUAL * len(rows):  # questions that ask for a word
        short = []
    said = (
        (
            "empty-target",
            empty,
            "nothing is learned of an empty answer but to say nothing",
            "write it, or remove the row",
        ),
        ("one-word-target", short, f"these answers are one word; half of all have {middle} words or more", "read them"),
        ("copied-target", copied, "the answer is the question again", "write an answer, or remove the row"),
        ("constant-target", same, f"{count:,} rows have one and the same answer", "is it an answer? vary it"),
    )
    return [
        about(kind, split, [rows[k] for k in chosen], len(rows), why, hint,
              shown=[f"{brief(_question(rows[k]), 70)} -> {brief(last[k], 70)}" for k in chosen[:EXAMPLES]],
              remove=[rows[k].id for k in chosen] if split == "train" and kind == "empty-target" else ())
        for kind, chosen, why, hint in said
        if chosen
    ]  # fmt: skip


def _says(text: str) -> bool:
    """Whether there is a letter, a digit or a sign of its own (an emoji) in a text."""
    return any(not character.isspace() and character not in ".,;:!?-_*#\"'`()[]{}<>/\\|~" for character in text)


def _question(row: Row) -> str:
    return "\n".join(asked(row).values()).strip()


def _questions(row: Row) -> set[str]:
    """What an answer may be a copy of: all that was asked, a column of it, or a chat's last question, whatever the
    system said before."""
    found = {_question(row), *map(str.strip, asked(row).values())}
    if isinstance(messages := row.values.get("messages"), list):
        found |= {words.strip() for role, words in turns(messages) if role == "user"}
    return found
