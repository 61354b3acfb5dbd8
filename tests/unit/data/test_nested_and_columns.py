"""SQuAD's nested JSON and CoNLL's columns: rows, lines, and what is broken in them."""

import json
from pathlib import Path

import pytest

import tiny
from tunesmith import recipefile
from tunesmith.contracts import BadRow
from tunesmith.data.files import raw_rows
from tunesmith.prepare import prepare

ARTICLE = {
    "title": "Boxes",
    "paragraphs": [
        {
            "context": "the red box is here",
            "qas": [
                {"id": "1", "question": "what is red?", "answers": [{"text": "box", "answer_start": 8}]},
                {
                    "id": "2",
                    "question": "who?",
                    "answers": [],
                    "is_impossible": True,
                    "plausible_answers": [{"text": "x"}],
                },
            ],
        }
    ],
}


@pytest.mark.parametrize(
    "wrapped",
    [
        {"data": [ARTICLE], "version": "1.1"},
        {"version": "v2.0", "data": [ARTICLE]},
        {"version": 2.0, "data": [ARTICLE]},
    ],
)
def test_a_question_of_squad_is_a_row_in_either_order_of_the_file(tmp_path: Path, wrapped: dict) -> None:  # type: ignore[type-arg]
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(wrapped, indent=1))
    rows = [item[1] for item in raw_rows(path) if not isinstance(item, BadRow)]
    assert [row["id"] for row in rows] == ["1", "2"]
    assert rows[0]["context"] == "the red box is here" and rows[0]["title"] == "Boxes"
    assert "plausible_answers" not in rows[1]


def test_squad_as_published_trains_an_encoder(encoder: Path, tmp_path: Path) -> None:
    texts = [f"the {a} box {n} is {b} now" for n, (a, b) in enumerate([("red", "lost"), ("late", "here")] * 30)]
    paragraphs = [
        {"context": text, "qas": [{"id": str(k), "question": "what is it?",
                                   "answers": [{"text": "box", "answer_start": text.index("box")}]}]}
        for k, text in enumerate(texts)
    ]  # fmt: skip
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "a", "paragraphs": paragraphs}]}))
    prepared = prepare(recipefile.build(tiny.recipe_values(encoder, path, tmp_path, task="question-answering")))
    assert sum(map(len, prepared.splits.rows.values())) == 60


def test_a_broken_paragraph_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "squad.json"
    broken = {"title": "b", "paragraphs": [{"context": 3, "qas": []}, "x", {"context": "a", "qas": ["q"]}]}
    path.write_text(json.dumps({"data": [broken, ARTICLE]}, indent=1))
    found = list(raw_rows(path))
    assert [type(item) is BadRow for item in found] == [True, True, True, False, False]
    assert all(item.line == 3 for item in found if isinstance(item, BadRow))


CONLL = """-DOCSTART- -X- O O

# sent_id = 1
EU NNP B-ORG
rejects VBZ O

Peter\tNNP\tB-PER
Blackburn\tNNP\tI-PER
"""


def test_sentences_of_columns_have_the_first_as_word_and_the_last_as_tag(tmp_path: Path) -> None:
    for ends in ("\n", "\r\n"):
        path = tmp_path / "a.conll"
        path.write_bytes(CONLL.replace("\n", ends).encode())
        assert list(raw_rows(path)) == [
            (4, {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}),
            (7, {"tokens": ["Peter", "Blackburn"], "tags": ["B-PER", "I-PER"]}),
        ]


def test_a_hash_that_is_a_word_is_kept_and_rows_with_paragraphs_of_their_own_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("# O\nTGIF O\n\n#tag\nyes O\n")
    assert [item[1]["tokens"] for item in raw_rows(path) if not isinstance(item, BadRow)] == [["#", "TGIF"], ["yes"]]
    other = tmp_path / "a.json"
    rows = [{"text": "a", "paragraphs": ["one", "two"]}]
    other.write_text(json.dumps(rows))
    assert [item[1] for item in raw_rows(other) if not isinstance(item, BadRow)] == rows


def test_a_word_without_a_tag_names_its_line_and_sets_its_sentence_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.bio"
    path.write_text("a O\nb\nc O\n\nd O\n")
    broken, whole = list(raw_rows(path))
    assert isinstance(broken, BadRow) and broken.line == 1 and broken.reason == "line 2 has a word without a tag"
    assert whole == (5, {"tokens": ["d"], "tags": ["O"]})


def test_a_file_of_columns_is_taken_for_entities(encoder: Path, tmp_path: Path) -> None:
    lines = [f"the O\n{word} B-THING\n{n} O\n" for n, word in enumerate(tiny.WORDS[:60])]
    path = tmp_path / "rows.conll"
    path.write_text("\n".join(lines))
    prepared = prepare(recipefile.build(tiny.recipe_values(encoder, path, tmp_path)))
    assert prepared.recipe.task is not None and prepared.recipe.task.name == "token-classification"
