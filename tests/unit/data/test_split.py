"""Splits and samples are functions of content."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import samples
from tunesmith.contracts import Row
from tunesmith.data.split import sample, split_rows
from tunesmith.errors import DataError

SHARES = {"validation": 0.1, "test": 0.1}


def rows_of(texts: list[str], labels: str = "ab") -> list[Row]:
    return [Row(k, {"text": t, "label": labels[k % len(labels)]}, "f.csv", k + 2) for k, t in enumerate(texts)]


def sides(parts: dict[str, list[Row]]) -> dict[str, str]:
    return {row["text"]: name for name, part in parts.items() for row in part}


def test_shares_are_within_binomial_bounds_and_every_label_is_in_every_part() -> None:
    parts = split_rows(rows_of([f"text {k}" for k in range(2000)], "abcd"), SHARES)
    for name in SHARES:
        assert abs(len(parts[name]) - 200) < 4 * (2000 * 0.09) ** 0.5
    assert all({row["label"] for row in part} == set("abcd") for part in parts.values())
    assert sum(map(len, parts.values())) == 2000


def test_the_order_of_the_file_does_not_move_a_row() -> None:
    rows = rows_of([f"text {k}" for k in range(300)])
    assert sides(split_rows(rows, SHARES)) == sides(split_rows(rows[::-1], SHARES))


def test_rows_added_later_move_no_old_row() -> None:
    rows = rows_of([f"text {k}" for k in range(400)])
    before = sides(split_rows(rows[:200], SHARES))
    after = sides(split_rows(rows, SHARES))
    assert {text: after[text] for text in before} == before


def test_exact_duplicates_are_on_one_side_whatever_their_label() -> None:
    rows = rows_of([f"text {k // 3}" for k in range(600)], "abcde")
    parts = split_rows(rows, SHARES)
    texts = [{row["text"] for row in part} for part in parts.values()]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]


@settings(max_examples=50)
@given(st.integers(4, 12), st.integers(2, 5))
def test_small_labels_are_learned_and_scored(each: int, labels: int) -> None:
    names = "abcde"[:labels]
    parts = split_rows(rows_of([f"word {k}" for k in range(each * labels)], names), SHARES)
    for part in parts.values():
        assert {row["label"] for row in part} == set(names)


def test_a_label_with_one_row_is_refused_with_its_place() -> None:
    rows = [*rows_of([f"t {k}" for k in range(20)]), Row(20, {"text": "x", "label": "rare"}, "f.csv", 22)]
    with pytest.raises(DataError, match="`rare` occurs once") as caught:
        split_rows(rows, SHARES)
    assert caught.value.where == "f.csv:22"


@given(st.integers(1, 100), st.integers(1, 100))
def test_a_sample_keeps_shares_and_order_and_a_smaller_one_is_part_of_a_larger(a: int, b: int) -> None:
    rows = rows_of([f"t {k}" for k in range(100)], "aaab")
    small, large = sorted((a, b))
    first = [row.id for row in sample(rows, small)]
    second = [row.id for row in sample(rows, large)]
    assert first == sorted(first)
    assert len(first) == small
    assert set(first) <= set(second)
    count = sum(rows[k]["label"] == "b" for k in first)
    assert abs(count - small / 4) <= 1


def test_a_file_that_a_row_names_is_known_by_its_bytes_wherever_it_lies(tmp_path: Path) -> None:
    from tunesmith.data.split import content, place
    from tunesmith.tasks.image_classification import ImageClassification

    places = []
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        samples.draw(folder)
        values = ImageClassification().normalize({"image": str(folder / "images" / "1.png"), "label": "red"})
        places.append(Row(0, values, "f.csv", 2))
    assert place(places[0]) == place(places[1])
    other = ImageClassification().normalize({"image": str(tmp_path / "here" / "images" / "2.png"), "label": "red"})
    assert content(Row(0, other, "f.csv", 2)) != content(places[0])
