"""Conversations, calls of tools and instructions that cannot be learned: line 17 of a file is named."""

from pathlib import Path
from typing import Any

import pytest

import tiny
from refusals import SKIP, Bad, check

ASKED, ANSWERED = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
CALL = {"name": "weather", "arguments": {"city": "Rome"}}

NEST: Any = []
for _ in range(600):
    NEST = [NEST]


def turns(*messages: Any, **beside: Any) -> dict[str, Any]:
    return {"messages": list(messages), **beside}


def calling(call: Any) -> dict[str, Any]:
    return turns(ASKED, {"role": "assistant", "content": "", "tool_calls": [call]})


CHATS: dict[str, Bad] = {
    "ends with the user": Bad(
        turns(ASKED),
        "the conversation ends with the user; there is no answer to learn from",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "ends with a tool": Bad(
        turns(ASKED, {"role": "tool", "content": "3"}),
        "the conversation ends with the tool; there is no answer to learn from",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "begins with the assistant": Bad(
        turns(ANSWERED),
        "the conversation begins with the assistant; it must begin with the user",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "begins with a tool": Bad(
        turns({"role": "tool", "content": "3"}, ANSWERED),
        "the conversation begins with the tool; it must begin with the user",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "an unknown role": Bad(
        turns({"role": "bot", "content": "hi"}),
        "message 1 has the role 'bot'; roles are system, user, assistant, tool",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "a role that is a number": Bad(
        turns({"role": 1, "content": "hi"}),
        "message 1 has the role 1; roles are system, user, assistant, tool",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "a role that is a list": Bad(
        turns({"role": ["user"], "content": "hi"}),
        "message 1 has the role ['user']; roles are system, user, assistant, tool",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "a role that is missing": Bad(
        turns({"content": "hi"}),
        "message 1 has no role; roles are system, user, assistant, tool",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "no content": Bad(
        turns({"role": "user"}), "message 1 is not {role, content} with a text", "<here>/chats.jsonl:17", SKIP
    ),
    "a content of parts": Bad(
        turns(ASKED, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}),
        "message 2 is not {role, content} with a text",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "a message that is a text": Bad(
        turns(ASKED, ANSWERED, "bye"), "message 3 is not {role, content} with a text", "<here>/chats.jsonl:17", SKIP
    ),
    "no message": Bad(turns(), "`messages` is not a list with a message in it", "<here>/chats.jsonl:17", SKIP),
    "messages that are a text": Bad(
        {"messages": "hi"},
        "`messages` is not a list with a message in it",
        "<here>/chats.jsonl:17",
        SKIP,
        twin="the form is wrong, not the length",
    ),
    "messages that are null": Bad(
        {"messages": None},
        "the row has neither `messages`, nor `prompt` and `completion`, nor `instruction` and `output`",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "an empty answer": Bad(
        turns(ASKED, {"role": "assistant", "content": " "}),
        "message 2, the assistant's, is empty",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "two users in a row": Bad(
        turns(ASKED, ASKED, ANSWERED), "two messages of the user follow each other", "<here>/chats.jsonl:17", SKIP
    ),
    "two assistants in a row": Bad(
        turns(ASKED, ANSWERED, ANSWERED),
        "two messages of the assistant follow each other",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "a late system message": Bad(
        turns(ASKED, {"role": "system", "content": "b"}, ANSWERED),
        "message 2 is a system message, which can only be the first",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "only a system message": Bad(
        turns({"role": "system", "content": "b"}),
        "the conversation has only a system message",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "two things that stand before": Bad(
        turns({"role": "system", "content": "a"}, ASKED, ANSWERED, system="b"),
        "the row has a `system` column and a system message; keep one",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "a system column of numbers": Bad(
        turns(ASKED, ANSWERED, system=3), "`system` is not a text", "<here>/chats.jsonl:17", SKIP
    ),
    "an answer beyond the context": Bad(
        turns({"role": "user", "content": "parcel " * 400}, ANSWERED),
        "nothing of the row can be learned: all 5 tokens of its answers lie beyond the 256 that are read",
        "<here>/chats.jsonl:17",
        "shorten the conversation, or raise `data.max_tokens`; " + SKIP,
    ),
    "nothing to be learned": Bad(
        turns(ASKED, {**ANSWERED, "train": False}),
        "nothing of the row is to be learned: every turn says `train: false`",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "a mark that is neither true nor false": Bad(
        turns(ASKED, {**ANSWERED, "train": "no"}),
        "message 2 has `train: 'no'`, which is neither true nor false",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "a NUL inside": Bad(
        turns(ASKED, {"role": "assistant", "content": "a\0b"}),
        "column `messages` holds a NUL character",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "half of a character inside": Bad(
        turns(ASKED, {"role": "assistant", "content": "a \ud83d"}),
        (
            "column `messages` holds half of a character (a lone surrogate), as texts have that "
            "were cut between two halves"
        ),
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "a call without a name": Bad(
        calling({"arguments": {}}), "message 2 calls a tool, but the call has no `name`", "<here>/chats.jsonl:17", SKIP
    ),
    "a call that is a number": Bad(
        calling(3),
        "message 2 calls a tool, but the call has no `name`",
        "<here>/chats.jsonl:17",
        SKIP,
        twin="it is no object at all",
    ),
    "a call that is no JSON": Bad(
        calling('{"name": '),
        "message 2 calls a tool, but the call is not valid JSON: Expecting value",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "a call nested deeply": Bad(
        calling("[" * 100_000),
        "message 2 calls a tool, but the call is not valid JSON: it is nested too deeply",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "objects nested deeply": Bad(
        turns(ASKED, {**ANSWERED, "more": NEST}),
        "column `messages` holds lists or objects that are nested more than 100 deep",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "arguments that are no JSON": Bad(
        calling({**CALL, "arguments": "{city: Rome}"}),
        "message 2 calls a tool, but the call is not valid JSON: Expecting property name enclosed in double quotes",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "arguments that hold NaN": Bad(
        calling({**CALL, "arguments": '{"a": NaN}'}),
        "message 2 calls a tool, but the call is not valid JSON: NaN is not JSON",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "tools that are no JSON": Bad(
        turns(ASKED, ANSWERED, tools="[{]"),
        "`tools` is not valid JSON: Expecting property name enclosed in double quotes",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "tools nested deeply": Bad(
        turns(ASKED, ANSWERED, tools="[" * 100_000),
        "`tools` is not valid JSON: it is nested too deeply",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "tools that are an object": Bad(
        turns(ASKED, ANSWERED, tools={"name": "weather"}),
        "`tools` is not a list of JSON objects",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "tools that are names": Bad(
        turns(ASKED, ANSWERED, tools=["weather"]),
        "`tools` is not a list of JSON objects",
        "<here>/chats.jsonl:17",
        SKIP,
        twin="a list, but of texts",
    ),
}
"""Line 17 of a file of messages."""

SHAREGPT: dict[str, Bad] = {
    "a role of its own": Bad(
        [{"from": "alice", "value": "hi"}],
        "message 1 has the role 'alice'; roles are system, user, assistant, tool",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
    "a question that is a list": Bad(
        [{"from": "human", "value": ["a"]}],
        "message 1 is not {role, content} with a text",
        "<here>/chats.jsonl:17",
        SKIP,
        twin="told by another key",
    ),
    "a call that is no object": Bad(
        [{"from": "human", "value": "a"}, {"from": "function_call", "value": "[]"}],
        "message 2 calls a tool, but the call has no `name`",
        "<here>/chats.jsonl:17",
        SKIP,
        twin="ShareGPT's form of it",
    ),
}
"""The conversation of line 17 of a file of `conversations`."""

ALPACA: dict[str, Bad] = {
    "no output": Bad({"instruction": "say it", "input": ""}, "`output` is missing", "<here>/chats.jsonl:17", SKIP),
    "an output of spaces": Bad(
        {"instruction": "say it", "input": "", "output": " \n"}, "`output` is empty", "<here>/chats.jsonl:17", SKIP
    ),
    "an instruction of spaces": Bad(
        {"instruction": "  ", "input": "", "output": "it"}, "`instruction` is empty", "<here>/chats.jsonl:17", SKIP
    ),
    "an instruction that is a number": Bad(
        {"instruction": 3, "input": "", "output": "it"}, "`instruction` is not a text", "<here>/chats.jsonl:17", SKIP
    ),
    "an input that is a list": Bad(
        {"instruction": "say it", "input": ["a"], "output": "it"},
        "`input` is not a text",
        "<here>/chats.jsonl:17",
        SKIP,
    ),
}
"""Line 17 of a file of instructions."""


def tried(bad: Bad, rows: list[Any], decoder: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny.write_jsonl(here / "chats.jsonl", rows)
    place = ("--task", "chat", "--set", f"run.dir={here / 'runs'}", "--set", "train.steps=1")
    check(bad, capsys, here, "train", str(decoder), str(file), *place)


@pytest.mark.parametrize("case", CHATS)
def test_a_broken_conversation_is_refused_with_its_line(
    case: str, decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried(CHATS[case], [*tiny.chat_rows(16), CHATS[case].given], decoder, tmp_path, capsys)


@pytest.mark.parametrize("case", SHAREGPT)
def test_a_broken_conversation_in_the_form_of_sharegpt_is_refused_with_its_line(
    case: str, decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [{"from": "human", "value": "where is it"}, {"from": "gpt", "value": "here"}]
    rows = [{"conversations": good} for _ in range(16)]
    tried(SHAREGPT[case], [*rows, {"conversations": SHAREGPT[case].given}], decoder, tmp_path, capsys)


@pytest.mark.parametrize("case", ALPACA)
def test_a_broken_instruction_is_refused_with_its_line(
    case: str, decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"instruction": f"say {k}", "input": "", "output": f"it is {k}"} for k in range(16)]
    tried(ALPACA[case], [*rows, ALPACA[case].given], decoder, tmp_path, capsys)
