"""Splits and samples are functions of content."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import samples
from tunesmith.contracts import BadRow, Row
from tunesmith.data.content import place
from tunesmith.data.rows import RowWriter, contents, open_rows
from tunesmith.data.split import intervals, sample, sampled, split_by_time, split_rows
from tunesmith.errors import DataError

SHARES = {"validation": 0.1, "test": 0.1}
BOUNDS = intervals(SHARES)


def rows_of(texts: list[str], labels: str = "ab") -> list[Row]:
    return [Row(k, {"text": t, "label": labels[k % len(labels)]}, "f.csv", k + 2) for k, t in enumerate(texts)]


def sides(parts: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    return {row["text"]: name for name, part in parts.items() for row in part}


def test_shares_are_within_binomial_bounds_and_every_label_is_in_every_part() -> None:
    parts = split_rows(rows_of([f"text {k}" for k in range(2000)], "abcd"), BOUNDS)
    for name in SHARES:
        assert abs(len(parts[name]) - 200) < 4 * (2000 * 0.09) ** 0.5
    assert all({row["label"] for row in part} == set("abcd") for part in parts.values())
    assert sum(map(len, parts.values())) == 2000


def test_the_order_of_the_file_does_not_move_a_row() -> None:
    rows = rows_of([f"text {k}" for k in range(300)])
    assert sides(split_rows(rows, BOUNDS)) == sides(split_rows(rows[::-1], BOUNDS))


def test_rows_added_later_move_no_old_row() -> None:
    rows = rows_of([f"text {k}" for k in range(400)])
    before = sides(split_rows(rows[:200], BOUNDS))
    after = sides(split_rows(rows, BOUNDS))
    assert {text: after[text] for text in before} == before


def test_exact_duplicates_are_on_one_side_whatever_their_label() -> None:
    rows = rows_of([f"text {k // 3}" for k in range(600)], "abcde")
    parts = split_rows(rows, BOUNDS)
    texts = [{row["text"] for row in part} for part in parts.values()]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]


@settings(max_examples=50)
@given(st.integers(4, 12), st.integers(2, 5))
def test_small_labels_are_learned_and_scored(each: int, labels: int) -> None:
    names = "abcde"[:labels]
    parts = split_rows(rows_of([f"word {k}" for k in range(each * labels)], names), BOUNDS)
    for part in parts.values():
        assert {row["label"] for row in part} == set(names)


def test_a_label_with_one_row_is_refused_with_its_place() -> None:
    rows = [*rows_of([f"t {k}" for k in range(20)]), Row(20, {"text": "x", "label": "rare"}, "f.csv", 22)]
    with pytest.raises(DataError, match="`rare` occurs once") as caught:
        split_rows(rows, BOUNDS)
    assert caught.value.where == "f.csv:22"


@given(st.integers(1, 100), st.integers(1, 100))
def test_a_sample_keeps_shares_and_order_and_a_smaller_one_is_part_of_a_larger(a: int, b: int) -> None:
    rows = rows_of([f"t {k}" for k in range(100)], "aaab")
    small, large = sorted((a, b))
    first = sampled(rows, small).tolist()
    second = sampled(rows, large).tolist()
    assert first == sorted(first)
    assert len(first) == small
    assert set(first) <= set(second)
    count = sum(rows[k]["label"] == "b" for k in first)
    assert abs(count - small / 4) <= 1


def test_a_file_that_a_row_names_is_known_by_its_bytes_wherever_it_lies(tmp_path: Path) -> None:
    from tunesmith.data.content import content
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


def by_words(rows: Sequence[Row], shares: Mapping[str, float]) -> dict[float, str]:
    """Place -> part, in the words of decision 0003: thresholds within each label, then the nearest place for a part
    that has none, which moves no place of an earlier label."""
    groups: dict[object, set[float]] = defaultdict(set)
    for row in rows:
        groups[row.values.get("label")].add(place(row))
    side: dict[float, str] = {}
    for mine in groups.values():
        edge, bounds = 0.0, []
        for name, share in shares.items():
            edge += share
            bounds.append((edge, name))
        here = {at: next((name for bound, name in bounds if at < bound), "train") for at in sorted(mine)}
        here |= {at: side[at] for at in mine if at in side}
        free = [at for at in sorted(mine) if at not in side]
        for name in ("train", *shares):
            counts = {part: list(here.values()).count(part) for part in ("train", *shares)}
            if counts[name] or (len(free) <= len(shares) and name != "train"):
                continue
            donor = max(counts, key=lambda part: counts[part])
            spare = [at for at in free if here[at] == donor]
            if counts[donor] > 1 and spare:
                here[spare[-1] if name == "train" else spare[0]] = name
        side |= here
    return side


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abcd")), min_size=6, max_size=90),
    st.sampled_from([{"validation": 0.1, "test": 0.1}, {"validation": 0.3}, {"validation": 0.05, "test": 0.4}]),
)
@settings(max_examples=200, deadline=None)
def test_a_split_is_what_its_words_say(said: list[tuple[int, str]], shares: dict[str, float]) -> None:
    rows = [Row(k, {"text": f"t {text}", "label": label}, "f.csv", k) for k, (text, label) in enumerate(said)]
    wanted = by_words(rows, shares)
    try:
        parts = split_rows(rows, intervals(shares))
    except DataError:
        labels = [row["label"] for row in rows]
        alone = any(labels.count(label) == 1 for label in labels)
        assert alone or {"train", *shares} - set(wanted.values())
        return
    assert {place(row): name for name, part in parts.items() for row in part} == wanted
    assert all([row.id for row in part] == list(range(len(part))) for part in parts.values())


@given(st.integers(2, 7), st.integers(60, 200))
@settings(max_examples=20, deadline=None)
def test_every_row_is_test_in_exactly_one_fold(folds: int, count: int) -> None:
    rows = [Row(k, {"text": f"text {k}"}, "f.csv", k) for k in range(count)]
    seen: list[str] = []
    for fold in range(folds):
        parts = split_rows(rows, intervals(SHARES, (fold, folds)))
        texts = {name: {row["text"] for row in part} for name, part in parts.items()}
        assert sum(map(len, texts.values())) == count == len(set().union(*texts.values()))
        assert texts["validation"]
        seen += texts["test"]
    assert sorted(seen) == sorted(row["text"] for row in rows)


def test_a_group_is_on_one_side_and_new_rows_of_it_follow() -> None:
    rows = [
        Row(k, {"text": f"text {k}", "label": "ab"[k % 2], "beside_group": f"user {k // 7}"}, "f.csv", k)
        for k in range(700)
    ]
    before = split_rows(rows[:350], BOUNDS)
    parts = split_rows(rows, BOUNDS)
    users = {name: {row["beside_group"] for row in part} for name, part in parts.items()}
    assert not users["train"] & users["test"] and not users["train"] & users["validation"]
    assert not users["validation"] & users["test"]
    assert abs(len(users["test"]) - 10) < 4 * 9**0.5
    then, now = sides(before), sides(parts)
    assert {text: now[text] for text in then} == then


@pytest.mark.parametrize(
    "write",
    [
        lambda k: 1000 + k,
        lambda k: f"{1000 + k}",
        lambda k: f"2024-01-{1 + k // 24:02d}T{k % 24:02d}:00:00",
        lambda k: f"2024-01-{1 + k // 24:02d} {k % 24:02d}:00:00+00:00",
    ],
)
def test_a_split_by_time_sets_the_last_rows_aside_in_order(write: Any) -> None:
    rows = [Row(k, {"text": f"t {k}", "beside_time": write(k * 7 % 100)}, "f.csv", k) for k in range(100)]
    parts, begin = split_by_time(rows, SHARES, {})
    last = {name: sorted(int(row["text"][2:]) * 7 % 100 for row in part) for name, part in parts.items()}
    assert last == {"train": [*range(80)], "validation": [*range(80, 90)], "test": [*range(90, 100)]}
    assert begin["validation"] < begin["test"]


def test_times_that_are_given_are_where_the_parts_begin_and_equal_times_stay_together() -> None:
    rows = [Row(k, {"text": f"t {k}", "beside_time": f"2024-0{1 + k // 10}-01"}, "f.csv", k) for k in range(60)]
    parts, _ = split_by_time(rows, SHARES, {"validation": "2024-03-01", "test": "2024-05-01"})
    assert [len(parts[name]) for name in ("train", "validation", "test")] == [20, 20, 20]
    parts, _ = split_by_time(rows, SHARES, {})
    months = [{row["beside_time"] for row in part} for part in parts.values()]
    assert not months[0] & months[1] and not months[1] & months[2]


@pytest.mark.parametrize("value", [None, "", "last week", True])
def test_a_row_without_a_time_is_named(value: Any) -> None:
    rows = [Row(k, {"text": f"t {k}", "beside_time": 5 if k else value}, "f.csv", k + 2) for k in range(9)]
    with pytest.raises(DataError, match="time") as caught:
        split_by_time(rows, SHARES, {})
    assert caught.value.where == "f.csv:2"


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["a", "b", None])), min_size=12, max_size=60),
    st.integers(1, 20),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_rows_on_disk_are_split_and_sampled_as_rows_in_memory(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[int, str | None]], limit: int, grouped: bool
) -> None:
    rows = [
        Row(
            k,
            {"text": f"t é {n}", **labelled(label), **({"beside_group": n % 5} if grouped else {})},
            f"{k % 2}.csv",
            k,
        )
        for k, (n, label) in enumerate(said)
    ]
    folder = tmp_path_factory.mktemp("rows")
    writer = RowWriter(folder / "a")
    for row in rows:
        writer.append(row)
    writer.close([BadRow("f.csv", 7, "why")])
    found = open_rows(folder / "a")
    assert found is not None and found[1] == (BadRow("f.csv", 7, "why"),)
    assert list(found[0]) == rows
    assert contents(found[0]).tolist() == contents(rows).tolist()
    assert list(sample(found[0], limit)) == list(sample(rows, limit))
    assert told(found[0]) == told(rows)


def labelled(label: str | None) -> dict[str, str]:
    return {} if label is None else {"label": label}


def told(rows: Sequence[Row]) -> dict[str, list[Row]] | str:
    """The split of some rows, or why there is none."""
    try:
        return {name: list(part) for name, part in split_rows(rows, BOUNDS).items()}
    except DataError as fault:
        return str(fault)
