"""The doctor finds what was planted; inference guesses right or asks."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith import recipefile
from tunesmith.contracts import Row
from tunesmith.data import infer
from tunesmith.doctor.case import Case
from tunesmith.doctor.examine import examine
from tunesmith.errors import DataError
from tunesmith.prepare import prepare


def row(number: int, text: str, label: str = "a") -> Row:
    return Row(number, {"text": text, "label": label, "label_type": "str"}, "f.csv", number + 2)


def test_planted_defects_are_counted_with_their_lines() -> None:
    train = [row(k, f"text {k}", "ab"[k % 2]) for k in range(20)]
    train += [row(20, "text 3", "b"), row(21, "text 4", "b")]
    test = [row(0, "text 5", "b"), row(1, "new", "c")]
    found = {(f.kind, f.split): f for f in examine(Case({"train": train, "test": test}), quick=True)}
    assert found["duplicate", "train"].count == 2
    assert found["duplicate", "train"].examples[0].place == "f.csv:22"
    assert found["contradiction", "train"].count == 2
    assert found["leak", "train/test"].examples[0].place == "f.csv:2"
    assert found["unseen-label", "test"].examples[0].place == "f.csv:3"


def test_clean_rows_have_no_finding() -> None:
    rows = {name: [row(k, f"{name} {k}", "ab"[k % 2]) for k in range(20)] for name in ("train", "test")}
    assert examine(Case(rows), quick=True) == []


BANKING = Path(__file__).parents[4] / "shared" / "data" / "banking77"


@pytest.mark.skipif(not BANKING.exists(), reason="the shared data sets are not beside the project")
def test_the_six_texts_that_banking77s_test_shares_with_its_training_rows_are_found() -> None:
    from tunesmith.data.splits import load
    from tunesmith.recipefile import build
    from tunesmith.tasks.text_classification import TextClassification

    found = load(build({"model": "minilm", "data": str(BANKING)}), TextClassification())
    test_leaks = [
        f for f in examine(Case(found.rows, found.bad), quick=True) if f.kind == "leak" and f.split.endswith("/test")
    ]
    assert sum(f.count for f in test_leaks if f.split == "train/test") + sum(
        f.count for f in test_leaks if f.split == "validation/test"
    ) >= 6  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ([{"text": f"a b {k}", "label": "xy"[k % 2]} for k in range(20)], {"text": "text", "label": "label"}),
        ([{"message": f"a b {k}", "team": "xy"[k % 2]} for k in range(20)], {"text": "message", "label": "team"}),
        ([{"id": k, "note": f"a b c {k}", "kind": "xy"[k % 2]} for k in range(20)], {"text": "note", "label": "kind"}),
        (
            [
                {"title": f"big news {k} now", "description": f"it was {k} then", "class": "xy"[k % 2]}
                for k in range(20)
            ],
            {"text": ["title", "description"], "label": "class"},
        ),
    ],
)
def test_text_and_label_are_found_by_name_or_by_what_they_hold(
    rows: list[dict[str, Any]], columns: dict[str, Any], tmp_path: Path
) -> None:
    guess = infer.infer(tiny.write_jsonl(tmp_path / "r.jsonl", rows), {})
    assert guess.task == "text-classification"
    assert guess.columns == columns


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "a"}]},
        {"prompt": "a", "completion": "b"},
        {"instruction": "a", "input": "", "output": "b"},
        {"instruction": "a", "context": "c", "response": "b", "category": "qa"},
    ],
)
def test_conversations_are_recognised(row: dict[str, Any], tmp_path: Path) -> None:
    assert infer.infer(tiny.write_jsonl(tmp_path / "r.jsonl", [row] * 3), {}).task == "chat"


@pytest.mark.parametrize(
    "rows",
    [
        [{"question": f"what is {k} then", "answer": k} for k in range(20)],
        [{"input": f"what is {k} then", "target": f"it is {k} of course"} for k in range(20)],
        [{"a": "xy"[k % 2], "b": "pq"[k % 2], "c": f"some words here {k}"} for k in range(20)],
        [{"value": k} for k in range(20)],
    ],
)
def test_what_cannot_be_told_is_asked(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which column is the"):
        infer.infer(tiny.write_jsonl(tmp_path / "r.jsonl", rows), {})


def test_questions_with_texts_for_answers_and_nothing_to_find_them_in_are_a_chat(tmp_path: Path) -> None:
    rows = [{"question": f"what is {k} then", "answer": f"it is {k} of course"} for k in range(20)]
    guess = infer.infer(tiny.write_jsonl(tmp_path / "r.jsonl", rows), {})
    assert (guess.task, guess.columns) == ("chat", {"prompt": "question", "completion": "answer"})


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": "a b c", "chosen": "good", "rejected": "bad"}, "better and a worse"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "label": False},
            "good",
        ),
    ],
)
def test_preferences_are_not_learned_as_chats_in_silence(row: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        infer.infer(tiny.write_jsonl(tmp_path / "r.jsonl", [row] * 9), {})
    assert "--task" in (caught.value.hint or "")


SHARED = BANKING.parent
SETS = {
    "ag_news": ("text-classification", {"text": ["title", "description"], "label": "label"}),
    "alpaca": ("chat", {}),
    "banking77": ("text-classification", {"text": "text", "label": "label"}),
    "cifar10": ("image-classification", {}),
    "davidson_hate": ("text-classification", {"text": "text", "label": "label"}),
    "dialogsum": ("summarization", {"document": "document", "summary": "summary"}),
    "dolly_mini": ("chat", {"instruction": "instruction", "output": "response", "input": "context"}),
    "dpo_mix": "a better and a worse answer",
    "e2e_nlg": "which column is the",
    "fashion_mnist_sprite": ("image-classification", {}),
    "germeval14": ("token-classification", {"tokens": "tokens", "tags": "ner_tags"}),
    "goemotions": ("multi-label-classification", {"text": "text", "labels": "labels"}),
    "gsm8k": ("chat", {"prompt": "question", "completion": "answer"}),
    "identity_templates": "no training rows",
    "kto_mix": "says which answers are good",
    "multi30k": "from which language to which",
    "sign_digits": ("image-classification", {}),
    "sms_spam": ("text-classification", {"text": "text", "label": "label"}),
    "squad_v1": ("question-answering", {"question": "question", "context": "context", "answers": "answers"}),
    "squad_v2": ("question-answering", {"question": "question", "context": "context", "answers": "answers"}),
    "sst2": ("text-classification", {"text": "text", "label": "label"}),
    "toolcall_en": ("chat", {"messages": "messages"}),
    "umsab_multilingual": ("text-classification", {"text": "text", "label": "label"}),
    "wikigold": ("token-classification", {"tokens": "tokens", "tags": "ner_tags"}),
    "wnut17": ("token-classification", {"tokens": "tokens", "tags": "ner_tags"}),
}
"""Data set -> what it is taken for, or what is asked."""


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data sets are not beside the project")
@pytest.mark.parametrize("name", SETS)
def test_real_data_sets_are_taken_for_what_they_are_or_asked_about(name: str) -> None:
    wanted = SETS[name]
    if isinstance(wanted, str):
        with pytest.raises(DataError, match=wanted):
            infer.infer(SHARED / name, {})
    else:
        guess = infer.infer(SHARED / name, {})
        assert (guess.task, guess.columns) == wanted


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data sets are not beside the project")
def test_every_shared_data_set_is_in_the_table() -> None:
    assert {folder.name for folder in SHARED.iterdir() if folder.is_dir()} == set(SETS)


@pytest.mark.parametrize(
    ("row", "task"),
    [
        ({"tokens": ["a", "b"], "ner_tags": ["O", "B-X"]}, "token-classification"),
        ({"text": "a b", "entities": [{"start": 0, "end": 1, "label": "X"}]}, "token-classification"),
        (
            {"question": "who is it", "context": "it is you", "answers": {"text": ["you"], "answer_start": [6]}},
            "question-answering",
        ),
        ({"dialogue": "a: hello you\nb: hello", "summary": "they met"}, "summarization"),
        ({"text": "they are late", "labels": ["a", "b"]}, "multi-label-classification"),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, "chat"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "chat"),
    ],
)
def test_the_task_is_taken_from_the_columns(tmp_path: Path, row: dict[str, Any], task: str) -> None:

    assert infer.infer(tiny.write_jsonl(tmp_path / "rows.jsonl", [row] * 9), {}).task == task


def test_of_two_languages_the_direction_is_asked(tmp_path: Path) -> None:

    file = tiny.write_jsonl(
        tmp_path / "rows.jsonl", [{"en": f"this is {n}", "de": f"das ist nun {n}"} for n in range(9)]
    )
    with pytest.raises(DataError, match="from which language") as caught:
        infer.infer(file, {})
    assert "source_language: en" in (caught.value.hint or "")
    found = infer.infer(file, {}, "translation", None, {"source_language": "de", "target_language": "en"})
    assert found.columns == {"source": "de", "target": "en"}


def test_pairs_with_a_label_are_not_taken_for_search_and_pairs_without_are(tmp_path: Path) -> None:
    from tunesmith.data.infer import infer

    rows = [{"query": f"where is box {n}", "passage": f"the box {n} is in the hall"} for n in range(20)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert infer(path, {}).task == "retrieval"
    path.write_text("".join(json.dumps({**row, "label": n % 2}) + "\n" for n, row in enumerate(rows)))
    assert infer(path, {}).task == "text-classification"


@pytest.mark.parametrize(
    ("row", "problem", "hint"),
    [
        ({"question": "which is it of these", "choices": ["a", "b"], "answer": 1}, "choose from (`choices`)", "chat"),
        ({"question": "which", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "A"}, "choose from", "chat"),
        ({"question": "which", "A": "x", "B": "y", "C": "z", "D": "w", "answer": "A"}, "choose from (`A, B, C`)", ""),
        ({"ctx": "he went", "endings": ["a", "b"], "label": 0}, "choose from (`endings`)", ""),
        ({"prompt": "a", "response": "b", "label": 1}, "`label` says which answers are good", "--task chat"),
        ({"prompt": "a", "completion": "b", "is_correct": "true"}, "`is_correct` says which", "--task chat"),
        ({"instruction": "a", "output": "b", "feedback": "down"}, "`feedback` says which", "--task chat"),
        (
            {"prompt": "a", "chosen": [{"role": "user", "content": "a"}], "rejected": []},
            "a better and a worse",
            "--task chat --set data.columns.messages=chosen",
        ),
        ({"question": "a", "chosen": "good", "rejected": "bad"}, "a better", "data.columns.prompt=question"),
        ({"chosen": "Human: a", "rejected": "Human: b"}, "a better", "--task text-generation --set data.columns.text="),
    ],
)
def test_rows_whose_plain_reading_would_be_wrong_are_asked_about(
    row: dict[str, Any], problem: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=re.escape(problem)) as caught:
        infer.infer(tiny.write_jsonl(tmp_path / "r.jsonl", [row] * 9), {})
    assert hint in (caught.value.hint or "")


def test_a_column_that_the_first_row_lacks_is_seen(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"the box {k} is late", "label": "xy"[k % 2]} for k in range(20)]
    del rows[0]["label"]
    rows.append({"text": "one more of them", "label": None})
    assert infer.infer(tiny.write_jsonl(tmp_path / "r.jsonl", rows), {}).task == "text-classification"
    rows = [{"tokens": ["a", "b"], "ner_tags": ["O", "O"]}] * 5
    late = [{"id": 1}, *rows]
    assert infer.infer(tiny.write_jsonl(tmp_path / "r.jsonl", late), {}).task == "token-classification"


def test_the_hint_for_pairs_of_answers_works_as_it_is_typed(tmp_path: Path, decoder: Path) -> None:
    talks = [
        [{"role": "user", "content": f"hello {k}"}, {"role": "assistant", "content": "good morning"}] for k in range(60)
    ]
    rows = [{"prompt": f"hello {k}", "chosen": talk, "rejected": talk[:1]} for k, talk in enumerate(talks)]
    file = tiny.write_jsonl(tmp_path / "r.jsonl", rows)
    with pytest.raises(DataError) as caught:
        infer.infer(file, {})
    assert caught.value.hint is not None
    typed = shlex.split(caught.value.hint.partition("`")[2].rstrip("`"))
    task, changes = typed[1], [typed[k + 1] for k, word in enumerate(typed) if word == "--set"]
    values = tiny.recipe_values(decoder, file, tmp_path, task=task)
    assert prepare(recipefile.build(values, changes)).splits.rows["train"]
