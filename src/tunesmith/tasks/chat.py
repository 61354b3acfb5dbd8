"""Conversations: the assistant's turns are learned, and written in use.

Rows come as `messages` (with `tools`, if any), as ShareGPT's `conversations`, as `prompt` and `completion`, or as
`instruction`, `input` and `output`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Answer, Column, Example, Mark, Metric, Purpose, Reader, Row, Shown, Sums, Vector
from tunesmith.data.formats.jsonl import no_constant, words_of
from tunesmith.errors import DataError
from tunesmith.metrics import overlap
from tunesmith.written import Written, check_text

ROLES = ("system", "user", "assistant", "tool")
_OTHER_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "observation": "tool",
                "function": "tool", "developer": "system"}  # fmt: skip
_CALLS = ("tool_call", "function_call")
"""Roles of a message that is a call of a tool by the assistant."""


@dataclass(frozen=True)
class Chat(Written):
    """The assistant's turns of conversations, by a decoder with a chat template."""

    columns: ClassVar[Mapping[str, Column]] = {
        "messages": Column(
            "a list of {role, content}", required=False, names=("conversations", "conversation", "chat")
        ),
        "tools": Column("a list of tools as JSON objects", required=False, names=("functions",)),
        "system": Column("what stands before the first turn, may be empty", required=False, names=("system_prompt",)),
        "prompt": Column("a text", required=False),
        "completion": Column("a text", required=False, names=("response",), target=True),
        "instruction": Column("a text", required=False),
        "input": Column("a text, may be empty", required=False),
        "output": Column("a text", required=False, target=True),
    }
    headline: ClassVar[Metric] = Metric("mean_token_loss", higher_is_better=False)
    families: ClassVar[tuple[str, ...]] = ("decoder",)

    train_on: Literal["assistant", "last", "all"] = "assistant"
    """Turns that are learned: the assistant's, only its last, or every message; never one with `train: false`."""

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """Roles must be known and in an order that has something to learn; the last turn is the assistant's."""
        messages = _messages(values)
        if isinstance(messages, str):
            return messages
        tools = _tools(values.get("tools"))
        return tools if isinstance(tools, str) else _order(messages, learn=purpose == "learn")

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """One form for all: `messages`, and `tools` where there are any."""
        messages, tools = _messages(values), _tools(values.get("tools"))
        assert not isinstance(messages, str) and not isinstance(tools, str)
        return {"messages": messages} | ({"tools": tools} if tools else {})

    def learn(self, rows: Iterable[Row]) -> Self:
        """How long answers are."""
        from tunesmith.models import writing

        said = [_said(m) for row in rows for m in row["messages"] if m["role"] == "assistant"]
        return replace(self, long_answer=writing.long_one(said))

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """To learn, the whole conversation; to answer, what stands before its last assistant turn.

        Raises DataError for a row of which no trained token survives the model's context.
        """
        messages, tools = row["messages"], row.values.get("tools", [])
        if purpose == "answer":
            asked = messages[:-1] if messages[-1]["role"] == "assistant" else messages
            return [Example(row.id, {"text": reader.text.prompt(asked, tools)})]
        tokens = reader.text.chat(messages, self._learned(messages), tools)
        if not any(tokens.trained):
            if tokens.lost:
                lost, most = tokens.lost, reader.text.max_tokens
                why = f"can be learned: all {lost} tokens of its answers lie beyond the {most} that are read"
            elif any(self._learned(messages)):
                why = "is to be learned: the model's chat template leaves its answers out"
            else:
                why = "is to be learned: every turn says `train: false`"
            hint = "shorten the conversation, or raise `data.max_tokens`" if tokens.lost else None
            raise DataError(f"nothing of the row {why}", where=row.place, hint=hint)
        return [Example(row.id, {"text": tokens})]

    def marks(self, row: Row, example: Example, reader: Reader) -> Sequence[Mark]:
        """The turns, and which of them are learned."""
        turns = zip(row["messages"], self._learned(row["messages"]), strict=True)
        return [
            Mark(f"{k} {turn['role']}{', learned' if learned else ''}", usual=not learned)
            for k, (turn, learned) in enumerate(turns, 1)
        ]

    def _learned(self, messages: Sequence[Mapping[str, Any]]) -> list[bool]:
        mine = [message["role"] == "assistant" for message in messages]
        last = len(mine) - 1 - mine[::-1].index(True)
        chosen = {"assistant": mine, "last": [k == last for k in range(len(mine))], "all": [True] * len(mine)}
        return [
            wanted and message.get("train", True)
            for wanted, message in zip(chosen[self.train_on], messages, strict=True)
        ]

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """The answer to the training question that shares the most words with what is asked, by TF-IDF."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        pairs = [
            (_said(a), _said(b)) for row in train for a, b in pairwise(row["messages"]) if b["role"] == "assistant"
        ]
        asked = [_said(row["messages"][-2]) if len(row["messages"]) > 1 else "" for row in rows]
        words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
        try:
            known = words.fit_transform([question for question, _ in pairs])
        except ValueError:  # no question has a word in it
            return {}
        nearest = (words.transform(asked) @ known.T).argmax(1)
        return {"nearest_answer": [{"answer": pairs[int(k)][1]} for k in np.asarray(nearest).ravel()]}

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """Whether the answer is the reference to the letter, how many words they share, whether it ended by itself."""
        reference = _said(row["messages"][-1]).strip()
        exact = float(answer["answer"].strip() == reference)
        return super().measure(row, answer) | {"exact": exact, "rouge": overlap.rouge(answer["answer"], [reference])}

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """mean_token_loss and token_perplexity over trained tokens; means of exact match and ROUGE F1 over answers."""
        made = super().reduce(sums)
        if "answers" in sums:
            rows = sums["answers"][..., 0]
            made["answer_exact_match"] = sums["exact"][..., 0] / rows
            made |= {f"answer_{kind}_f1": sums["rouge"][..., k] / rows for k, kind in enumerate(overlap.KINDS)}
        return made

    def show(self, row: Row, answer: Answer | None) -> Shown:
        """The message before the last turn, that turn, the answer."""
        messages = row["messages"]
        asked = _said(messages[-2]) if len(messages) > 1 else ""
        return Shown(asked, _said(messages[-1]), answer["answer"] if answer else "")


def _said(message: Mapping[str, Any]) -> str:
    """A message's text, calls of tools included."""
    from tunesmith.models.tools import in_text

    text: str = in_text([message], [])[0]["content"]
    return text


def _messages(values: Mapping[str, Any]) -> list[dict[str, Any]] | str:
    """The row as messages, with what stands before them, or in words why it has none."""
    system = values.get("system")
    if system is not None and not isinstance(system, str):
        return "`system` is not a text"
    made = _checked(values["messages"]) if values.get("messages") is not None else _exchange(values)
    if isinstance(made, str) or not (system and system.strip()):
        return made
    if made[0]["role"] == "system":
        return "the row has a `system` column and a system message; keep one"
    return [{"role": "system", "content": system}, *made]


def _exchange(values: Mapping[str, Any]) -> list[dict[str, Any]] | str:
    """A question and its answer, from the columns that files have for them."""
    for asked, more, answered in (("prompt", None, "completion"), ("instruction", "input", "output")):
        if values.get(asked) is None:
            continue
        for name in (asked, answered):
            if name in values and (wrong := check_text(name, values)):
                return wrong
        extra = values.get(more) if more else None
        if extra is not None and not isinstance(extra, str):
            return f"`{more}` is not a text"
        question = f"{values[asked]}\n\n{extra}" if extra and extra.strip() else values[asked]
        made = [{"role": "user", "content": question}]
        if answered in values:
            made.append({"role": "assistant", "content": values[answered]})
        return made
    return "the row has neither `messages`, nor `prompt` and `completion`, nor `instruction` and `output`"


def _checked(messages: Any) -> list[dict[str, Any]] | str:
    if not isinstance(messages, list) or not messages:
        return "`messages` is not a list with a message in it"
    made: list[dict[str, Any]] = []
    for number, message in enumerate(messages, 1):
        found = _message(message, number)
        if isinstance(found, str):
            return found
        calls = found.get("tool_calls")
        if calls and not found["content"] and made and made[-1]["role"] == "assistant":
            made[-1].setdefault("tool_calls", []).extend(calls)  # several calls at once, or one behind a text
        else:
            made.append(found)
    return made


def _message(message: Any, number: int) -> dict[str, Any] | str:
    """One message, or in words why it cannot be used."""
    form = f"message {number} is not {{role, content}} with a text"
    if not isinstance(message, Mapping):
        return form
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    given = message.get("tool_calls") or message.get("function_call") or []
    if role in _CALLS:
        role, given, content = "assistant", [content], ""
    role = _OTHER_ROLES.get(role, role) if isinstance(role, str) else role
    content = "" if content is None and given else content
    if not isinstance(content, str):
        return form
    if role is None:
        return f"message {number} has no role; roles are {', '.join(ROLES)}"
    if role not in ROLES:
        return f"message {number} has the role {role!r}; roles are {', '.join(ROLES)}"
    calls = []
    for call in given if isinstance(given, list) else [given]:
        found = _call(call)
        if isinstance(found, str):
            return f"message {number} calls a tool, but {found}"
        calls.append(found)
    if role == "assistant" and not content.strip() and not calls:
        return f"message {number}, the assistant's, is empty"
    made: dict[str, Any] = {"role": role, "content": content}
    if calls:
        made["tool_calls"] = calls
    if message.get("train") is not None:
        if not isinstance(message["train"], bool):
            return f"message {number} has `train: {message['train']!r}`, which is neither true nor false"
        made["train"] = message["train"]
    return made


def _call(call: Any) -> dict[str, Any] | str:
    """A call as {type, function: {name, arguments}}, or in words why it is none."""
    try:
        call = _parsed(call) if isinstance(call, str) else call
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            return "the call has no `name`"
        arguments = function.get("arguments", {})
        arguments = _parsed(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError) as fault:
        return f"the call is not valid JSON: {words_of(fault)}"
    return {"type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _parsed(text: str) -> Any:
    return json.loads(text, parse_constant=no_constant)


def _tools(given: Any) -> list[Any] | str:
    """The tools of a row, or in words why they cannot be read."""
    if given in (None, ""):
        return []
    if isinstance(given, str):
        try:
            given = _parsed(given)
        except (ValueError, RecursionError) as fault:
            return f"`tools` is not valid JSON: {words_of(fault)}"
    if not isinstance(given, list) or not all(isinstance(tool, Mapping) for tool in given):
        return "`tools` is not a list of JSON objects"
    return [dict(tool) for tool in given]


def _order(messages: Sequence[Mapping[str, str]], *, learn: bool) -> str | None:
    roles = [message["role"] for message in messages]
    if "system" in roles[1:]:
        return f"message {roles.index('system', 1) + 1} is a system message, which can only be the first"
    turns = [role for role in roles if role != "system"]
    if not turns:
        return "the conversation has only a system message"
    if turns[0] != "user":
        return f"the conversation begins with the {turns[0]}; it must begin with the user"
    twice = next((k for k in range(1, len(turns)) if turns[k] == turns[k - 1] and turns[k] != "tool"), None)
    if twice is not None:
        return f"two messages of the {turns[twice]} follow each other"
    if learn and turns[-1] != "assistant":
        return f"the conversation ends with the {turns[-1]}; there is no answer to learn from"
    return None


plugin = Chat
