"""Tags and spans of every scheme say the same entities; scores are seqeval's strict ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.contracts import BadRow, Row
from tunesmith.data import spans
from tunesmith.data.formats import conll
from tunesmith.data.infer import infer
from tunesmith.tasks.token_classification import TokenClassification

KINDS = ["PER", "LOC-part"]


@st.composite
def entities(draw: Any) -> tuple[list[spans.Entity], int]:
    found, at = [], 0
    for _ in range(draw(st.integers(0, 4))):
        first = at + draw(st.integers(0, 2))
        at = first + draw(st.integers(1, 3))
        found.append((first, at, draw(st.sampled_from(KINDS))))
    return found, at + draw(st.integers(0, 2))


def bilou(found: list[spans.Entity], words: int, last: str, alone: str) -> list[str]:
    tags = ["O"] * words
    for first, after, kind in found:
        tags[first:after] = [f"B-{kind}", *[f"I-{kind}"] * (after - first - 2), f"{last}-{kind}"][: after - first]
        if after - first == 1:
            tags[first] = f"{alone}-{kind}"
    return tags


@given(entities())
@settings(max_examples=200, deadline=None)
def test_every_scheme_says_the_same_entities(given: tuple[list[spans.Entity], int]) -> None:
    found, words = given
    assert spans.from_tags(spans.to_tags(found, words)) == (found, 0)
    assert spans.from_tags(bilou(found, words, "L", "U")) == (found, 0)
    assert spans.from_tags(bilou(found, words, "E", "S")) == (found, 0)


def test_an_inside_tag_that_continues_nothing_begins_an_entity_and_is_counted() -> None:
    assert spans.from_tags(["I-PER", "I-PER", "O", "B-LOC", "I-PER"]) == (
        [(0, 2, "PER"), (3, 4, "LOC"), (4, 5, "PER")],
        2,
    )
    assert spans.from_tags(["PER", "PER", "O", "LOC"]) == ([(0, 2, "PER"), (3, 4, "LOC")], 0)


tag = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])


@given(st.lists(st.tuples(tag, tag), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_scores_are_those_of_seqeval_strict(pairs: list[tuple[str, str]]) -> None:
    import warnings

    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    gold, said = ([list(side)] for side in zip(*pairs, strict=True))
    gold = [spans.to_tags(spans.from_tags(tags)[0], len(tags)) for tags in gold]
    said = [spans.to_tags(spans.from_tags(tags)[0], len(tags)) for tags in said]
    task = TokenClassification(types=("LOC", "PER"))
    words = [(2 * k, 2 * k + 1) for k in range(len(pairs))]
    row = Row(0, {"text": "x " * len(pairs), "words": words, "label_entities": spans.from_tags(gold[0])[0]}, "f", 1)
    sums = {name: np.atleast_1d(value) for name, value in task.measure(row, {"tags": said[0]}).items()}
    found = task.reduce(sums)
    strict = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found["entity_micro_f1"] == pytest.approx(f1_score(gold, said, **strict))
        assert found["entity_micro_precision"] == pytest.approx(precision_score(gold, said, **strict))
        assert found["entity_micro_recall"] == pytest.approx(recall_score(gold, said, **strict))


def test_spans_of_characters_become_words_and_cut_words_are_widened() -> None:
    text = "Anna Smith-Jones lives in New York."
    words = spans.words_of(text)
    given = [(0, 16, "PER"), (26, 34, "LOC"), (17, 20, "X")]
    found, mended = spans.from_characters(given, words)
    assert [text[words[a][0] : words[b - 1][1]] for a, b, _ in found] == ["Anna Smith-Jones", "lives", "New York"]
    assert mended == 1
    assert spans.from_characters([(4, 5, "X")], words) == ([], 1)  # only a space


def test_of_nested_entities_the_outer_is_kept() -> None:
    nested = [(0, 3, "ORG"), (1, 2, "LOC"), (4, 5, "PER")]
    assert spans.overlap(nested) and not spans.overlap(spans.outer(nested))
    assert spans.outer(nested) == [(0, 3, "ORG"), (4, 5, "PER")]


@given(st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_the_likeliest_path_is_the_best_of_all_allowed_ones(words: int, seed: int) -> None:
    from itertools import product

    logs = np.log(np.random.default_rng(seed).dirichlet(np.ones(5), words))
    allowed = [
        path
        for path in product(range(5), repeat=words)
        if all(now not in (2, 4) or before in (now - 1, now) for before, now in zip((0, *path), path, strict=False))
    ]
    best = max(allowed, key=lambda path: sum(logs[k, label] for k, label in enumerate(path)))
    assert tuple(spans.likeliest(logs)) == best


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "2 words and 1 tags"),
        ({"tokens": ["a"], "tags": [3]}, "numbers"),
        ({"tokens": "a b", "tags": ["O"]}, "not a list of words"),
        ({"tokens": ["a"]}, "`tags` is missing"),
        ({"tokens": ["a"], "tags": [" "]}, "tag 1 is empty"),
        ({"text": "abc", "spans": [{"start": 1, "end": 9, "label": "X"}]}, "(1, 9); its text has 3 characters"),
        ({"text": "abc", "spans": [[2, 2, "X"]]}, "(2, 2)"),
        ({"text": "abc", "spans": [{"start": "0", "end": 2, "label": "X"}]}, "whole numbers"),
        ({"text": "a b c", "spans": [[0, 3, "X"], [2, 5, "Y"]]}, "overlap"),
        ({"text": "abc"}, "no `spans`"),
        ({"tags": ["O"]}, "neither `tokens` nor a `text`"),
    ],
)
def test_rows_that_cannot_be_used_are_told_why(values: dict[str, Any], reason: str) -> None:
    found = TokenClassification().check_row(values, "learn")
    assert found is not None and reason in found
    assert (
        TokenClassification(nested="outer").check_row({"text": "a b c", "spans": [[0, 3, "X"], [2, 5, "Y"]]}, "learn")
        is None
    )


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (["b-per", "i-per", "o"], "written small"),
        (["B-PER", "o"], "written small"),
        (["PER", "B-LOC"], "`PER` has no prefix and others have"),
        (["PER", "O", "LOC"], None),
        (["e-mail", "O", "name"], None),
        (["B-PER", "I-PER", "O", "U-LOC"], None),
    ],
)
def test_tags_that_can_be_read_in_two_ways_are_refused(tags: list[str], said: str | None) -> None:
    found = TokenClassification().check_row({"tokens": ["a"] * len(tags), "tags": tags}, "learn")
    assert (found is None) if said is None else (found is not None and said in found)


def test_tokens_of_a_marking_tool_beside_a_text_are_not_its_words() -> None:
    row = {
        "text": "a red box",
        "tokens": [{"text": "a", "start": 0, "end": 1}, {"text": "red", "start": 2, "end": 5}],
        "spans": [{"start": 2, "end": 9, "label": "THING"}],
    }
    task = TokenClassification()
    assert task.check_row(row, "learn") is None
    assert task.normalize(row)["label_entities"] == [[1, 3, "THING"]]


def test_columns_that_count_words_are_no_words(tmp_path: Path) -> None:
    lines = ["# from a newspaper\t[1]", "1\tBerlin\tB-LOC\tO", "2\tUni\tI-LOC\tB-ORG", "", "1\tja\tO\tO", ""]
    file = tmp_path / "rows.conll"
    file.write_text("\n".join(lines), encoding="utf-8")
    rows = [item[1] for item in conll.read(file) if not isinstance(item, BadRow)]
    assert rows[0] == {"tokens": ["Berlin", "Uni"], "tags": ["B-LOC", "I-LOC"], "tags_2": ["O", "B-ORG"]}
    assert rows[1] == {"tokens": ["ja"], "tags": ["O"], "tags_2": ["O"]}
    assert "`tags_2` is not read" in infer(file, {}).why


@pytest.mark.parametrize(
    ("text", "tokens", "tags"),
    [
        ("1 CD I-NP O\n\nBerlin NNP I-NP B-LOC\nja X O O\n", [["1"], ["Berlin", "ja"]], [["O"], ["B-LOC", "O"]]),
        ("1\tWir\twir\tO\n2\tsind\tsein\tO\n", [["Wir", "sind"]], [["O", "O"]]),
    ],
)
def test_a_sentence_that_is_a_number_does_not_count_words_and_lemmas_are_no_tags(
    tmp_path: Path, text: str, tokens: list[list[str]], tags: list[list[str]]
) -> None:
    file = tmp_path / "rows.conll"
    file.write_text(text, encoding="utf-8")
    rows = [item[1] for item in conll.read(file) if not isinstance(item, BadRow)]
    assert [row["tokens"] for row in rows] == tokens and [row["tags"] for row in rows] == tags
