"""Conversations of every form become the same messages; what is learned is what was asked for; tools are told."""

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith.contracts import Row
from tunesmith.models.text import TextEncoder
from tunesmith.tasks.chat import Chat

CALL = {"type": "function", "function": {"name": "track", "arguments": {"parcel": 3}}}


class Reads:
    family = "decoder"

    def __init__(self, folder: Path, template: str | None = None) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = template or tokenizer.chat_template
        self.text = TextEncoder(tokenizer, 500)


def learned(reader: Any, task: Chat, values: dict[str, Any]) -> str:
    assert task.check_row(values, "learn") is None
    (example,) = task.encode(Row(0, task.normalize(values), "f", 1), reader, "learn")
    part = example.parts["text"]
    return str(reader.text.tokenizer.decode([i for i, t in zip(part.ids, part.trained, strict=True) if t]))


def said(*turns: tuple[str, str], **more: Any) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


TURNS = said(("user", "where"), ("assistant", "here"), ("user", "now"), ("assistant", "today"))


@pytest.mark.parametrize(
    "values",
    [
        {"messages": said(("user", "where"), ("assistant", "here"))},
        {"messages": [{"from": "human", "value": "where"}, {"from": "gpt", "value": "here"}]},
        {"prompt": "where", "completion": "here"},
        {"instruction": "where", "input": "", "output": "here"},
    ],
)
def test_every_form_becomes_the_same_messages(values: dict[str, Any]) -> None:
    assert Chat().check_row(values, "learn") is None
    assert Chat().normalize(values) == {"messages": said(("user", "where"), ("assistant", "here"))}


@pytest.mark.parametrize(
    ("train_on", "wanted"),
    [
        ("assistant", "here<|im_end|>\ntoday<|im_end|>\n"),
        ("last", "today<|im_end|>\n"),
        (
            "all",
            "<|im_start|>user\nwhere<|im_end|>\nhere<|im_end|>\n<|im_start|>user\nnow<|im_end|>\ntoday<|im_end|>\n",
        ),
    ],
)
def test_what_is_learned_is_what_was_asked_for(decoder: Path, train_on: Any, wanted: str) -> None:
    assert learned(Reads(decoder), Chat(train_on=train_on), {"messages": TURNS}) == wanted


def test_a_message_that_says_so_is_not_learned(decoder: Path) -> None:
    turns = [TURNS[0], {**TURNS[1], "train": False}, *TURNS[2:]]
    assert learned(Reads(decoder), Chat(), {"messages": turns}) == "today<|im_end|>\n"
    assert "train: 'no'" in str(Chat().check_row({"messages": [TURNS[0], {**TURNS[1], "train": "no"}]}, "learn"))


@pytest.mark.parametrize(
    "call",
    [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "track", "arguments": '{"parcel": 3}'}]},
        {"role": "tool_call", "content": '{"name": "track", "arguments": {"parcel": 3}}'},
        {"from": "function_call", "value": '{"name": "track", "arguments": {"parcel": 3}}'},
    ],
)
def test_calls_of_every_form_are_told_and_learned(decoder: Path, call: dict[str, Any]) -> None:
    tools = [{"name": "track", "description": "finds a parcel"}]
    turns = [*said(("user", "where")), call, *said(("tool", "at the door"), ("assistant", "here"))]
    values = {"messages": turns, "tools": json.dumps(tools)}
    text = learned(Reads(decoder), Chat(), values)
    assert text == (
        '<tool_call>\n{"name": "track", "arguments": {"parcel": 3}}\n</tool_call><|im_end|>\nhere<|im_end|>\n'
    )
    reader = Reads(decoder)
    asked = Chat().encode(Row(0, Chat().normalize(values), "f", 1), reader, "answer")[0].parts["text"].text
    assert "finds a parcel" in asked and asked.startswith("<|im_start|>system\n")
    assert "<|im_start|>tool\nat the door" in asked


def test_a_template_that_knows_tools_gets_them_as_they_are(decoder: Path) -> None:
    template = "{% if tools %}TOOLS {{ tools | tojson }}\n{% endif %}" + tiny.TEMPLATE.replace(
        "message['content'] +", "message['content'] + (message.tool_calls | tojson if message.tool_calls else '') +"
    )
    turns = [*said(("user", "where")), {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    values = {"messages": turns, "tools": [{"name": "track"}]}
    text = learned(Reads(decoder, template), Chat(), values)
    assert '"name": "track"' in text and "<tool_call>" not in text


def test_calls_at_once_are_one_turn(decoder: Path) -> None:
    call = {"role": "tool_call", "content": '{"name": "track", "arguments": {}}'}
    turns = [*said(("user", "where")), call, call, *said(("tool", "a"), ("tool", "b"), ("assistant", "here"))]
    assert Chat().check_row({"messages": turns}, "learn") is None
    made = Chat().normalize({"messages": turns})["messages"]
    assert [message["role"] for message in made] == ["user", "assistant", "tool", "tool", "assistant"]
    assert len(made[1]["tool_calls"]) == 2


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"messages": said(("user", "a"), ("assistant", "b")), "tools": "[{"}, "`tools` is not valid JSON"),
        ({"messages": said(("user", "a"), ("assistant", "b")), "tools": [3]}, "not a list of JSON objects"),
        ({"messages": [*said(("user", "a")), {"role": "tool_call", "content": "{"}]}, "the call is not valid JSON"),
        ({"messages": [*said(("user", "a")), {"role": "tool_call", "content": "{}"}]}, "the call has no `name`"),
    ],
)
def test_broken_tools_and_calls_are_told(values: dict[str, Any], reason: str) -> None:
    assert reason in str(Chat().check_row(values, "learn"))


def test_a_decoder_without_a_chat_template_learns_question_line_answer_end(decoder: Path) -> None:
    reader = Reads(decoder)
    reader.text.tokenizer.chat_template = None
    part = reader.text.exchange("where is it", "at the door")
    trained = [i for i, t in zip(part.ids, part.trained, strict=True) if t]
    assert reader.text.tokenizer.decode(trained) == "at the door<|im_end|>"
    asked = reader.text.asked("where is it")
    assert part.ids[: len(asked.ids)] == asked.ids


def test_a_conversation_that_leaves_no_room_for_an_answer_is_not_asked_and_ends_no_run(
    decoder: Path, tmp_path: Path
) -> None:
    from tunesmith import recipefile
    from tunesmith.prepare import prepare
    from tunesmith.train.evaluate import judge

    rows = tiny.chat_rows(30)
    for row in rows[::2]:
        long = ("user", "where is my parcel " * 40)
        row["messages"] = said(("user", "no"), ("assistant", "here"), long, ("assistant", "yes"))
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    values = tiny.recipe_values(decoder, file, tmp_path, task={"name": "chat", "max_new_tokens": 4})
    values["data"] |= {"max_tokens": 150, "bad_rows": "skip"}
    prepared = prepare(recipefile.build(values))
    short = [Row(k, {"messages": row["messages"]}, "f", k) for k, row in enumerate(rows[1:5])]
    assert len(judge(prepared.model, prepared.task, short, answers=9).answers) == 2


def test_the_nearest_training_question_lends_its_answer() -> None:
    task = Chat()
    train = [
        Row(0, task.normalize({"messages": said(("user", "where is my parcel"), ("assistant", "here"))}), "f", 1),
        Row(1, task.normalize({"messages": said(("user", "reset my login"), ("assistant", "done"))}), "f", 2),
    ]
    asked = Row(0, task.normalize({"messages": said(("user", "my LOGIN fails"), ("assistant", "x"))}), "g", 1)
    nobody: Any = None  # this one reads words, not tokens
    assert task.baselines(train, [asked], nobody) == {"nearest_answer": [{"answer": "done"}]}
    silent = Row(0, task.normalize({"messages": said(("user", "?"), ("assistant", "x"))}), "g", 1)
    assert task.baselines([silent], [asked], nobody) == {}


def test_a_baseline_is_scored_on_the_rows_that_the_tuned_model_answered(decoder: Path, tmp_path: Path) -> None:
    from tunesmith import recipefile, run

    rows = tiny.write_jsonl(tmp_path / "rows.jsonl", tiny.chat_rows(60))
    values = tiny.recipe_values(decoder, rows, tmp_path / "runs", evaluate__answers=2, train__epochs=1)
    report = run.train_recipe(recipefile.build(values)).json("report/report")
    tuned, cheap = report["scores"]["test"], report["baselines"]["nearest_answer"]["test"]
    assert tuned["answer_rouge1_f1"]["n"] == cheap["answer_rouge1_f1"]["n"] == 2
    assert report["win_rate"]["n"] == tuned["mean_token_loss"]["n"] > 2


def test_what_stands_before_a_conversation_is_read_from_its_own_column() -> None:
    task = Chat()
    for row in (
        {"conversations": None, "messages": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]},
        {"prompt": None, "instruction": "hi", "input": "", "output": "yes"},
        {"prompt": "hi", "completion": "yes"},
    ):
        told = {**row, "system": "you help"}
        assert task.check_row(told, "learn") is None
        messages = task.normalize(told)["messages"]
        assert [m["role"] for m in messages] == ["system", "user", "assistant"] and messages[0]["content"] == "you help"
        assert len(task.normalize({**row, "system": " "})["messages"]) == 2
    twice = {"messages": said(("system", "a"), ("user", "b"), ("assistant", "c")), "system": "d"}
    assert "keep one" in str(task.check_row(twice, "learn"))


def test_older_calls_and_calls_behind_a_text_are_one_turn() -> None:
    task = Chat()
    call = {"name": "find", "arguments": '{"x": 1}'}
    older = [
        {"role": "user", "content": "find x"},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "find", "content": "2"},
        {"role": "assistant", "content": "it is 2"},
    ]
    assert task.check_row({"messages": older}, "learn") is None
    made = task.normalize({"messages": older})["messages"]
    assert made[1]["tool_calls"][0]["function"] == {"name": "find", "arguments": {"x": 1}}
    sharegpt = [
        {"from": "human", "value": "find x"},
        {"from": "gpt", "value": "let me look"},
        {"from": "function_call", "value": json.dumps(call)},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "it is 2"},
    ]
    assert task.check_row({"messages": sharegpt}, "learn") is None
    made = task.normalize({"messages": sharegpt})["messages"]
    assert made[1]["content"] == "let me look" and len(made[1]["tool_calls"]) == 1 and len(made) == 4


def test_an_answer_has_as_much_room_as_long_ones_in_training_take_in_any_script(decoder: Path) -> None:
    from transformers import AutoTokenizer

    from tunesmith.models import writing
    from tunesmith.models.text import TextEncoder

    text = TextEncoder(AutoTokenizer.from_pretrained(decoder), 1000)

    class Reader:
        family = "decoder"

        def __init__(self) -> None:
            self.text = text

    for texts in (["where is it"] * 99 + ["the box is here now " * 4], ["今天天气很好" * 9] * 100):
        long = writing.long_one(texts)
        tokens = max(len(text.backend.encode(one, add_special_tokens=False).ids) for one in sorted(texts, key=len)[:99])
        assert writing.room_for(Reader(), None, long) >= tokens + 1
    assert writing.room_for(Reader(), None, "") == 16 and writing.room_for(Reader(), 7, "") == 7
