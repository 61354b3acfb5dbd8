"""Every token of a row is shown once, in order, as what becomes of it; what the task says stands where it belongs."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import samples
import tiny
from tunesmith import plugins, recipefile
from tunesmith.contracts import Row
from tunesmith.models.text import TextEncoder
from tunesmith.prepare import Prepared, prepare
from tunesmith.report import tokentext
from tunesmith.report.pagetext import visible
from tunesmith.report.tokenview import PartView, RowView, chosen, view, views
from tunesmith.tasks.question_answering import QuestionAnswering
from tunesmith.tasks.text_classification import TextClassification
from tunesmith.tasks.text_generation import TextGeneration
from tunesmith.tasks.token_classification import TokenClassification

PAIRS = [
    (task, family)
    for task in plugins.names("tasks")
    for family in ("encoder", "decoder", "encoder-decoder")
    if family in plugins.load("tasks", task).families
]


@dataclass(frozen=True)
class Reads:
    """How a model reads, without the model."""

    text: TextEncoder
    family: str


def encoder_of(folder: Path, most: int = 64) -> Reads:
    from transformers import AutoTokenizer

    return Reads(TextEncoder(AutoTokenizer.from_pretrained(folder), most), "encoder")


def prepared_for(request: pytest.FixtureRequest, folder: Path, name: str, family: str, **changes: Any) -> Prepared:
    model = request.getfixturevalue(family.replace("-", "_"))
    values = tiny.recipe_values(model, samples.write(name, folder), folder, **{"task": name, **changes})
    return prepare(recipefile.build(values))


def parts_of(seen: RowView) -> Iterator[PartView]:
    for example in seen.examples:
        yield from example.parts


@pytest.mark.parametrize(("task", "family"), PAIRS)
def test_every_token_is_shown_once_in_order_as_learned_or_read(
    request: pytest.FixtureRequest, tmp_path: Path, task: str, family: str
) -> None:
    prepared = prepared_for(request, tmp_path, task, family)
    text = prepared.model.text
    for row in prepared.train_rows[:20]:
        examples = prepared.task.encode(row, prepared.model, "learn")
        seen = view(row, prepared.task, prepared.model, 10**6)
        parts = [part for example in examples for part in example.parts.values()]
        for part, shown in zip(parts, parts_of(seen), strict=True):
            tokens = [token for token in shown.tokens if token.id is not None]
            assert [token.id for token in tokens] == list(part.ids)
            assert [token.kind == "trained" for token in tokens] == [*(part.trained or (False,) * len(part.ids))]
            assert {token.kind for token in tokens} <= {"trained", "masked"}
            written = [part.text[start:end].strip() for start, end in part.offsets]
            for token, own in zip(tokens, written, strict=True):
                sign = token.id in text.special() and own in ("", token.name)  # a hidden word is no sign
                assert (token.role == "special") == sign
                assert token.text.strip() == own if own else token.text
                assert token.text == token.name or not sign
            assert shown.hidden == 0 and shown.cut == part.cut
        assert seen.place == row.place


@pytest.mark.parametrize("most", [None, 10])
def test_each_word_carries_its_tag_on_all_its_tokens_and_the_first_is_learned(
    request: pytest.FixtureRequest, tmp_path: Path, most: int | None
) -> None:
    options = {"task": {"name": "token-classification", "stride": 4}, "data__max_tokens": most} if most else {}
    prepared = prepared_for(request, tmp_path, "token-classification", "encoder", **options)
    raw = samples.entity_rows()
    for row in prepared.train_rows:
        found: dict[str, list[str]] = {}
        for part in parts_of(view(row, prepared.task, prepared.model)):
            for first, after, mark in part.marks:
                word = "".join(token.text for token in part.tokens[first:after])
                found.setdefault(word, []).append(mark.label)
                kinds = [token.kind for token in part.tokens[first:after]]
                assert kinds == ["trained", *["masked"] * (after - first - 1)]
                assert mark.usual == (mark.label == "O")
        wanted: dict[str, list[str]] = {}
        for word, tag in zip(raw[row.line - 1]["tokens"], raw[row.line - 1]["tags"], strict=True):
            wanted.setdefault(word, []).append(tag)
        if most is None:
            assert found == wanted
        else:  # a word is told in one window, and windows that share it come in another order
            assert {word: sorted(tags) for word, tags in found.items()} == {w: sorted(t) for w, t in wanted.items()}


def test_a_word_of_several_tokens_has_one_tag_on_all_of_them(encoder: Path) -> None:
    task = TokenClassification(types=("WHO",))
    said = {"tokens": ["zorb", "quux", "is", "he're"], "tags": ["B-WHO", "I-WHO", "O", "O"]}
    (part,) = parts_of(view(Row(0, task.normalize(said), "f", 1), task, encoder_of(encoder)))
    marked = [["".join(t.text for t in part.tokens[first:after]), mark.label] for first, after, mark in part.marks]
    assert marked == [["zorb", "B-WHO"], ["quux", "I-WHO"], ["is", "O"], ["he're", "O"]]
    assert [token.text for token in part.tokens if token.kind == "trained"] == ["z", "q", "is", "h"]


@pytest.mark.parametrize("most", [None, 12])
def test_the_marked_tokens_of_a_question_spell_its_answer_in_every_window_that_has_it(
    request: pytest.FixtureRequest, tmp_path: Path, most: int | None
) -> None:
    options = {"task": {"name": "question-answering", "stride": 3}, "data__max_tokens": most} if most else {}
    prepared = prepared_for(request, tmp_path, "question-answering", "encoder", **options)
    seen_many = False
    for row in prepared.train_rows:
        answers = [found["text"] for found in row["label_answers"]]
        seen = view(row, prepared.task, prepared.model)
        seen_many |= len(seen.examples) > 1
        told = []
        for part in parts_of(seen):
            ((first, after, mark),) = part.marks
            spelled = "".join(token.text for token in part.tokens[first:after])
            learned = "".join(token.text for token in part.tokens if token.kind == "trained")
            assert spelled == learned
            told.append((mark.label, spelled))
            here = "".join(token.text for token in part.tokens).partition("[SEP]")[2]
            assert (mark.label == "answer") == bool(answers and answers[0] in here)
        assert {spelled for label, spelled in told if label == "answer"} == set(answers[:1])
        assert {spelled for label, spelled in told if label != "answer"} <= {"[CLS]"}
    assert seen_many == (most is not None)


def test_an_answer_of_several_words_is_marked_from_its_first_to_its_last_token(encoder: Path) -> None:
    task = QuestionAnswering()
    said = {"question": "where is it?", "context": "the parcel is at the red door.", "answers": ["at the red door"]}
    row = Row(0, task.normalize(said), "f", 1)
    (part,) = parts_of(view(row, task, encoder_of(encoder)))
    ((first, after, mark),) = part.marks
    assert ("".join(token.text for token in part.tokens[first:after]), mark.label) == ("at the red door", "answer")


def test_learned_turns_of_a_chat_are_named_and_are_the_learned_tokens(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    prepared = prepared_for(request, tmp_path, "chat", "decoder", task={"name": "chat", "train_on": "last"})
    for row in prepared.train_rows:
        (example,) = view(row, prepared.task, prepared.model).examples
        count = len(row["messages"])
        assert [mark.label for mark in example.said if not mark.usual] == [f"{count} assistant, learned"]
        assert len(example.said) == count
        learned = "".join(token.text for token in example.parts[0].tokens if token.kind == "trained")
        assert learned == f"{row['messages'][-1]['content']}<|im_end|>\n"


def test_labels_numbers_relevance_and_sides_are_said(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    wanted = {
        ("text-classification", "encoder"): "label: ",
        ("text-regression", "encoder"): "number: ",
        ("multi-label-classification", "encoder"): "label: |no label",
        ("retrieval", "encoder"): "query+relevant",
        ("reranking", "encoder"): "relevant+not relevant",
        ("summarization", "encoder-decoder"): "source+target",
        ("image-classification", "vision"): "label: ",
    }
    for (task, family), begins in wanted.items():
        prepared = prepared_for(request, tmp_path, task, family)
        for seen in views(prepared, 5):
            for example in seen.examples:
                said = [mark.label for mark in example.said] or [m.label for part in example.parts for m in part.said]
                if "+" in begins:
                    assert said[:2] == begins.split("+")
                else:
                    assert all(label.startswith(tuple(begins.split("|"))) for label in said) and said
                    assert len(example.said) == len(said)


def test_a_hidden_token_says_what_is_read_in_its_place(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    prepared = prepared_for(request, tmp_path, "fill-mask", "encoder")
    row = prepared.train_rows[0]
    (part,) = parts_of(view(row, prepared.task, prepared.model))
    assert "".join(token.text for token in part.tokens[1:-1]).strip() == row["text"]
    hidden = [place for place, token in enumerate(part.tokens) if token.kind == "trained"]
    assert [first for first, _, _ in part.marks] == hidden
    assert {token.role for token in part.tokens[1:-1]} == {"text"}
    assert all(mark.label == f"read as {part.tokens[first].name}" for first, _, mark in part.marks)


WORDS = st.lists(st.sampled_from([*tiny.WORDS, "😀", "中文", "مرحبا", "zzz", "\u202e", "\t"]), min_size=1, max_size=40)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WORDS, st.integers(8, 40))
def test_tokens_and_the_text_between_them_are_the_text_with_what_was_cut(
    encoder: Path, words: list[str], most: int
) -> None:
    text = " ".join(words)
    task = TextClassification(labels=("a", "b"))
    row = Row(0, {"text": text, "label": "a"}, "f", 1)
    reader = encoder_of(encoder, most)
    (part,) = parts_of(view(row, task, reader))
    assert part.tokens[0].text == "[CLS]" and part.tokens[-1].text == "[SEP]"
    inner = "".join(token.text for token in part.tokens[1:-1])
    assert inner.split() == text.split() or (inner.strip() in text and not part.cut)
    cut = "".join(token.text for token in part.tokens if token.kind == "cut")
    assert bool(cut) == bool(part.cut)
    assert text.endswith(cut)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1, max_size=60).filter(str.strip))
def test_characters_of_several_tokens_are_shown_once(decoder: Path, text: str) -> None:
    reader = encoder_of(decoder, 10**4)
    task = TextGeneration()
    (part,) = parts_of(view(Row(0, {"text": text}, "f", 1), task, reader))
    shown = "".join(token.text for token in part.tokens[:-1])
    assert part.tokens[-1].text == "<|im_end|>" and shown in (text, f"{text} ")
    ids = reader.text.document(text)[0].ids
    assert tuple(token.id for token in part.tokens if token.id is not None) == ids


def test_of_two_texts_the_one_that_is_cut_shows_where(encoder: Path) -> None:
    reader = encoder_of(encoder, 16)
    values = {"text": " ".join(tiny.WORDS[:20]), "second": "thanks hello", "label": "a"}
    task = TextClassification(labels=("a", "b"))
    (part,) = parts_of(view(Row(0, values, "f", 1), task, reader))
    (cut,) = [k for k, token in enumerate(part.tokens) if token.kind == "cut"]
    assert part.cut == 9 and len(part.tokens[cut].text.split()) == 9
    assert [token.text for token in part.tokens[cut + 1 :] if token.id is not None] == [
        "[SEP]", "thanks", "hello", "[SEP]",
    ]  # fmt: skip


def test_characters_that_the_vocabulary_lacks_are_called_unknown(encoder: Path) -> None:
    task = TextClassification(labels=("a", "b"))
    row = Row(0, {"text": "the 中 box", "label": "a"}, "f", 1)
    (part,) = parts_of(view(row, task, encoder_of(encoder)))
    assert [(token.text, token.name) for token in part.tokens if token.role == "unknown"] == [("中", "[UNK]")]


def test_long_rows_are_cut_with_a_note_of_how_much(encoder: Path) -> None:
    task = TextClassification(labels=("a", "b"))
    row = Row(0, {"text": "the box " * 6250, "label": "l" * 50_000}, "f", 1)
    seen = view(row, task, encoder_of(encoder, 64), 40)
    (part,) = parts_of(seen)
    assert part.hidden == 24 and part.cut == 12_438
    assert tokentext.note_of(part) == "12,438 tokens did not fit; 24 further tokens are not shown"
    assert len(seen.examples[0].said[0].label) == 80
    word = Row(0, {"text": "x" * 50_000, "label": "a"}, "f", 1)
    (part,) = parts_of(view(word, task, encoder_of(encoder)))
    assert max(len(token.text) for token in part.tokens) < 450
    assert [token.text[399:] for token in part.tokens if token.role == "unknown"] == ["x … and 49,600 more characters"]


def test_a_row_of_many_windows_says_how_many_are_not_shown(encoder: Path) -> None:
    task = QuestionAnswering(stride=2)
    said = {"question": "what is it", "context": "the red box " * 60, "answers": ["red"]}
    seen = view(Row(0, task.normalize(said), "f", 1), task, encoder_of(encoder, 16), 30)
    assert len(seen.examples) == 2 and seen.hidden > 10


def test_the_longest_row_is_among_those_shown_and_none_is_twice(encoder: Path, tmp_path: Path) -> None:
    rows = tiny.label_rows(90)
    rows[37]["text"] = " ".join([*["good"] * 40, "37"])
    file = tiny.write_csv(tmp_path / "rows.csv", rows)
    prepared = prepare(recipefile.build(tiny.recipe_values(encoder, file, tmp_path)))
    for count in (1, 2, 3, 20, 1000):
        found = chosen(prepared, count)
        assert len(set(found)) == len(found) == min(count, len(prepared.train_rows))
        assert found == sorted(found)
        assert "good good good" in " ".join(prepared.train_rows[k]["text"] for k in found)
    assert chosen(prepared, 0) == []


@given(st.text())
def test_what_is_visible_has_nothing_that_moves_or_hides_what_stands_around_it(text: str) -> None:
    kept = {"\n", "\t", "\u200c", "\u200d"}
    made = visible(text + "\u202e\x1b\ud800")
    assert not [c for c in made if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in kept]
    assert made.endswith("⟨U+202E⟩⟨U+001B⟩⟨U+D800⟩")
    made.encode()


def test_off_a_terminal_learned_and_cut_stand_in_brackets_tags_behind_a_slash_and_signs_by_their_name(
    request: pytest.FixtureRequest, tmp_path: Path, encoder: Path
) -> None:
    prepared = prepared_for(request, tmp_path, "token-classification", "encoder")
    rows = prepared.train_rows
    found = ((row, entity) for row in rows for entity in row["label_entities"] if entity[1] - entity[0] == 2)
    row, (first, after, _) = next(found)
    words = row["text"].split()
    lines = [str(line) for line in tokentext.lines(view(row, prepared.task, prepared.model), colours=False)]
    assert lines[0] == row.place
    assert lines[1].startswith("[CLS] [[") and lines[1].endswith("]] [SEP]")
    assert lines[1].count("[[") == lines[1].count("]]") == 1
    assert f"{words[first]}/B-THING {words[after - 1]}/I-THING" in lines[1] and "/O" not in lines[1]
    task = TextClassification(labels=("a", "b"))
    long = Row(0, {"text": " ".join(tiny.WORDS[:20]), "label": "a"}, "f", 1)
    said = [str(line) for line in tokentext.lines(view(long, task, encoder_of(encoder, 8)), colours=False)]
    assert said[1] == "label: a"
    assert said[2].startswith("[CLS] the a my your parcel box{{ order bill") and said[2].endswith("}} [SEP]")
    assert said[3] == "(14 tokens did not fit)"
    coloured = list(tokentext.lines(view(long, task, encoder_of(encoder, 8)), colours=True))
    assert "{{" not in coloured[2].plain and any("strike" in str(span.style) for span in coloured[2].spans)
