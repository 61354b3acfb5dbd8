"""What a check looks at: the rows of every split, in the task's own columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tunesmith.contracts import BadRow, Row
from tunesmith.doctor.finding import Finding


@dataclass(frozen=True)
class Case:
    """All that a check may know."""

    rows: Mapping[str, Sequence[Row]]
    """Split -> its rows; ids are positions."""
    bad: Mapping[str, Sequence[BadRow]] = field(default_factory=dict)
    task: str = ""
    """The task's name."""
    seed: int = 0


class Check(Protocol):
    """A check: a module of `checks/` with these two names. One that looks at all rows, however many, and makes few of
    them, says `whole = True` too: the others are given a sample of very many. One whose findings may stop training
    names these in `stopping`: that is what `data.allow` may hold."""

    quick: bool
    """Whether it may be run before every training."""

    def find(self, case: Case) -> list[Finding]:
        """What is wrong, each kind and split once."""


def asked(row: Row) -> dict[str, str]:
    """Column -> the text that the model reads there and is not to predict. Of a chat, all but the assistant's turns; of
    an image, nothing."""
    texts: dict[str, str] = {}
    for name, value in row.values.items():
        if name.startswith(("label", "beside")) or name.endswith("_sha256") or f"{name}_sha256" in row.values:
            continue
        if isinstance(value, str):
            texts[name] = value
        elif _is_chat(value):
            texts[name] = "\n".join(words for role, words in turns(value) if role != "assistant")
    return texts


def answered(row: Row) -> list[str]:
    """The texts that are to be predicted: labels, references, answers, the assistant's turns."""
    texts: list[str] = []
    for name, value in row.values.items():
        if _is_chat(value):
            said = [message for message in value if not message.get("tool_calls")]  # a call has no words
            texts += [words for role, words in turns(said) if role == "assistant"]
        elif name.startswith("label") and name not in ("label_type", "label_mended"):
            texts += _leaves(value)
    return texts


def turns(messages: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(role, words) of each message."""
    return [(str(m.get("role", "")), c if isinstance(c := m.get("content"), str) else "") for m in messages]


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(m, Mapping) and "role" in m for m in value)


def _leaves(value: Any) -> Iterator[str]:
    """The texts in a label, however it is made."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        if isinstance(value.get("text"), str):
            yield value["text"]
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)
