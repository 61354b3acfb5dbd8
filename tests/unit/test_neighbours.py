"""Guesses from neighbours are a distribution over all tokens, and the one that the formula says."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.metrics.neighbours import Neighbours, count

SIZE = 7
TEXTS = st.lists(st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=12), min_size=1, max_size=8)
BESIDE = st.one_of(st.none(), st.integers(0, SIZE - 1))


def plainly(texts: list[list[int]], left: int | None, right: int | None) -> np.ndarray:  # type: ignore[type-arg]
    """The same by its definition, over the whole vocabulary."""
    counts = np.ones(SIZE)
    pairs = np.zeros((SIZE, SIZE))
    for text in texts:
        for token in text:
            counts[token] += 1
        for a, b in pairwise(text):
            pairs[a, b] += 1
    share = counts / counts.sum()
    found = share.copy()
    for line in ([] if left is None else [pairs[left]]) + ([] if right is None else [pairs[:, right]]):
        kinds = max(int((line > 0).sum()), 1)
        found = found * (line + kinds * share) / (line.sum() + kinds) / share
    return found / found.sum()


@given(TEXTS, BESIDE, BESIDE)
def test_probabilities_are_those_of_the_formula_and_the_guess_is_the_likeliest(
    texts: list[list[int]], left: int | None, right: int | None
) -> None:
    counted: Neighbours = count(texts, SIZE)
    expected = plainly(texts, left, right)
    guesses = [counted.guess(left, right, token) for token in range(SIZE)]
    assert np.allclose(np.exp([log for log, _ in guesses]), expected, rtol=1e-9)
    assert {best for _, best in guesses} == {guesses[0][1]}
    assert np.isclose(expected[guesses[0][1]], expected.max())


def test_special_tokens_are_beside_others_and_never_told() -> None:
    counted = count([[0, 5, 1]] * 50, SIZE, special=(0, 1))
    assert counted.guess(None, None, 0)[0] < np.log(0.05)
    for beside in ((5, None), (None, 5), (5, 5)):
        assert all(counted.guess(*beside, special)[0] < np.log(0.05) for special in (0, 1))
        assert counted.guess(*beside, 0)[1] not in (0, 1)
    assert counted.guess(0, 1, 5)[0] > np.log(0.9)
