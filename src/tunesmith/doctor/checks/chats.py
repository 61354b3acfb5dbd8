"""Turns of a chat in an order that no chat has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tunesmith.doctor.case import Case, turns
from tunesmith.doctor.finding import EXAMPLES, Finding, about

quick = True
_CALL = re.compile(r"tool_call|function_call|[\[{<]")
"""What words that call a tool have, in whatever form: brackets of some kind."""
_WHY = "the model learns to answer, and not to answer, in places where it will not be asked"


def find(case: Case) -> list[Finding]:
    """`role-order`, of rows with messages."""
    found = []
    for split, rows in case.rows.items():
        wrong = [(row, fault) for row in rows if (fault := _fault(row.values.get("messages")))]
        if wrong:
            counts = Counter(fault for _, fault in wrong)
            said = ", ".join(f"{fault} ({count:,})" for fault, count in counts.most_common())
            shown = [fault for _, fault in wrong[:EXAMPLES]]
            chosen = [row for row, _ in wrong]
            hint = "let turns of user and assistant alternate, the system's first and the assistant's last"
            found.append(about("role-order", split, chosen, len(rows), f"{said}: {_WHY}", hint, shown=shown))
    return found


def _fault(messages: object) -> str:
    """What is odd in the order of a chat's roles; else nothing."""
    if not isinstance(messages, list) or not messages:
        return ""
    if _uncalled(messages):
        return "a tool answers that was not called"
    roles = [role for role, _ in turns(messages)]
    talk = [role for role in roles if role not in ("system", "developer")]
    if any(role in ("system", "developer") for role in roles[len(roles) - len(talk) :]):
        return "a system message that is not first"
    if talk and talk[0] != "user":
        return f"the first turn is the {talk[0]}'s"
    for before, after in pairwise(talk):
        if before == after == "user":
            return "two turns of the user in a row"
        if before == after == "assistant":
            return "two turns of the assistant in a row"
    if talk and talk[-1] == "user":
        return "the last turn is the user's, which nothing answers"
    if any(role == "user" and not words.strip() for role, words in turns(messages)):
        return "a turn of the user is empty"
    return ""


def _uncalled(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a tool's turn follows none in which the assistant calls one, as such or in its words."""
    calls = False
    for message, (role, words) in zip(messages, turns(messages), strict=True):
        if role == "tool" and not calls:
            return True
        if role != "tool":
            calls = role == "assistant" and (bool(message.get("tool_calls")) or bool(_CALL.search(words)))
    return False
