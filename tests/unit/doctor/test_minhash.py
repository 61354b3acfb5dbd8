"""Pairs of like texts: what is compared is what it is said to be, and rows behind a prompt are no copies."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.contracts import Row
from tunesmith.doctor import minhash
from tunesmith.doctor.pairing import partners, superfluous


def texts(count: int, seed: int, words: int = 12) -> list[str]:
    """Of made-up words, so that no two share one but by chance."""
    rng = random.Random(seed)
    made = ["".join(rng.choice("abcdefghijklmnoprstuvw") for _ in range(rng.randrange(4, 10))) for _ in range(500)]
    return [" ".join(rng.choice(made) for _ in range(words)) for _ in range(count)]


def grams(text: str) -> set[str]:
    padded = f" {text} ".ljust(4, "\0")
    return {padded[k : k + 4] for k in range(len(padded) - 3)}


@given(st.lists(st.text(max_size=30), min_size=2, max_size=8))
def test_similarity_is_that_of_the_sets_of_n_grams(some: list[str]) -> None:
    some = [text.replace("\0", "") for text in some]
    sets = minhash.sets_of(some)
    left, right = np.triu_indices(len(some), 1)
    alike, apart = minhash.compare(sets, left.astype(np.int64), right.astype(np.int64))
    for k, (a, b) in enumerate(zip(left, right, strict=True)):
        first, second = grams(some[a]), grams(some[b])
        assert alike[k] == pytest.approx(len(first & second) / len(first | second))
        assert apart[k] == len(first ^ second)


def test_texts_that_are_longer_than_what_is_kept_are_compared_by_a_fair_sample() -> None:
    whole = " ".join(texts(30, 0, 40))
    parts = [whole, whole[: int(len(whole) * 0.8)], whole[int(len(whole) * 0.5) :], " ".join(texts(30, 5, 40))]
    left, right = np.array([0, 0, 0]), np.array([1, 2, 3])
    alike, _ = minhash.compare(minhash.sets_of(parts), left, right)
    for k in range(3):
        first, second = grams(parts[0]), grams(parts[k + 1])
        assert len(first) > 2 * minhash._KEPT
        assert alike[k] == pytest.approx(len(first & second) / len(first | second), abs=0.06)


@given(st.integers(0, 10**6))
def test_signatures_agree_as_often_as_sets_are_alike(seed: int) -> None:
    some = texts(2, seed, 20)
    half = " ".join((*some[0].split()[:14], *some[1].split()[14:]))
    sets = minhash.sets_of([some[0], half])
    signed = minhash.signatures(sets)
    wanted = minhash.compare(sets, np.array([0]), np.array([1]))[0][0]
    assert abs(float((signed[0] == signed[1]).mean()) - wanted) < 0.2  # five deviations of 128 draws


PROMPT = (
    "you are a careful reader of letters to a shop decide whether the writer is content with what was sent answer with "
    "one word and nothing else take irony into account here is the letter"
)


@pytest.mark.parametrize(
    "prompts", [[PROMPT], [f"{PROMPT[k * 40 :]} {PROMPT[: k * 40]} variant {k}" for k in range(4)]]
)
def test_good_rows_behind_a_prompt_are_no_copies_and_copies_behind_it_are_found(prompts: list[str]) -> None:
    rng = random.Random(1)
    said = [f"{prompts[k % len(prompts)]} {text}" for k, text in enumerate(texts(400, 2, 8))]
    short = [f"{prompts[k % len(prompts)]} {text}" for k, text in enumerate(texts(100, 3, 1))]
    short = list(dict.fromkeys(short))
    assert len(minhash.pairs([*said, *short], 0.65).left) <= 3  # one word behind two variants is a letter apart
    chosen = rng.sample(range(len(said)), 40)
    copies = [said[k][:-3] + "x" + said[k][-2:] if k % 2 else said[k] + " now" for k in chosen]
    found = minhash.pairs([*said, *short, *copies], 0.65)
    wanted = {(k, len(said) + len(short) + number) for number, k in enumerate(chosen)}
    pairs = set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    assert len(pairs & wanted) >= 38 and len(pairs - wanted) <= 2


def test_good_rows_behind_a_prompt_of_many_pages_are_no_copies_and_copies_are_found() -> None:
    prompt = texts(1, 0, 1500)[0]
    said = [f"{prompt} {text}" for text in texts(80, 5, 6)]
    copies = [f"{said[k][:-2]}zz" for k in range(0, 40, 2)]
    found = minhash.pairs([*said, *copies], 0.65)
    pairs = set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    wanted = {(k, 80 + number) for number, k in enumerate(range(0, 40, 2))}
    assert not pairs - wanted and len(wanted & pairs) >= 17


def test_of_a_chain_whose_ends_are_unlike_both_ends_stay() -> None:
    before = partners([0, 1, 2, 7], [1, 2, 3, 5])
    assert before == {1: [0], 2: [1], 3: [2], 7: [5]}
    assert superfluous(before) == {1, 3, 7}


def test_rows_of_a_chain_are_not_removed_for_what_they_are_not_like() -> None:
    from tunesmith import plugins
    from tunesmith.doctor.case import Case

    words = texts(1, 4, 20)[0].split()
    chain = [" ".join((*words[: 20 - 2 * k], *texts(1, 90, 20)[0].split()[20 - 2 * k :])) for k in range(8)]
    rows = [Row(k, {"text": text, "label": "a"}, "f", k + 1) for k, text in enumerate([*texts(60, 8, 20), *chain])]
    (finding,) = plugins.load("checks", "near-duplicates").find(Case({"train": rows}))
    stays = [row for row in rows if row.id not in finding.remove]
    assert {k for _, k in finding.rows} == set(range(61, 68)) and len(stays) >= 62
    sets = minhash.sets_of([minhash.plain(row["text"]) for row in rows])
    kept = np.array([row.id for row in stays])
    for k in finding.remove:  # each is like one that stays
        alike, _ = minhash.compare(sets, np.full(len(kept), k), kept)
        assert alike.max() >= 0.65
