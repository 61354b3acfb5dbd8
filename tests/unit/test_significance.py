"""Intervals hold what they say, and tests are wrong as often as they say: by sums over all outcomes, or simulated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy.integrate import quad
from scipy.stats import binom, binomtest

from tunesmith import significance


@pytest.mark.parametrize("n", [200, 500, 1000])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.9, 0.95, 0.98])
def test_the_interval_of_a_share_holds_it_93_to_97_times_in_a_hundred(n: int, share: float) -> None:
    hits = np.arange(n + 1)
    low, high = significance.share_interval(hits, n)
    holds = binom.pmf(hits, n, share)[(low <= share) & (share <= high)].sum()
    assert 0.93 <= holds <= 0.97


def test_the_interval_of_a_share_has_a_width_where_every_row_is_right_or_none() -> None:
    low, high = significance.share_interval([20, 0], 20)
    assert (high[0], low[1]) == (1.0, 0.0)
    below, _ = quad(lambda x: x**19.5 * (1 - x) ** -0.5 / special.beta(20.5, 0.5), 0, float(low[0]))
    assert below == pytest.approx(0.025, abs=1e-6)
    assert high[1] == pytest.approx(1 - low[0])


@pytest.mark.parametrize("n", [200, 1000])
@pytest.mark.parametrize("apart", [0.1, 0.3])
def test_mcnemars_test_is_wrong_four_to_six_times_in_a_hundred(n: int, apart: float) -> None:
    rng = np.random.default_rng(7)
    differing = rng.binomial(n, apart, 200_000)
    first = rng.binomial(differing, 0.5)
    wrong = float((significance.mcnemar(first, differing - first) < 0.05).mean())
    assert 0.04 <= wrong <= 0.06


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemars_mid_p_is_the_exact_p_less_half_of_what_was_seen(first: int, second: int) -> None:
    p = float(significance.mcnemar(first, second))
    assert p == float(significance.mcnemar(second, first))
    if first == second:
        assert p == 1.0
    else:
        exact = binomtest(first, first + second, 0.5).pvalue
        assert p == pytest.approx(exact - binom.pmf(first, first + second, 0.5), abs=1e-12)


def test_the_difference_of_two_shares_is_held_and_has_a_width_where_all_rows_are_right() -> None:
    rng = np.random.default_rng(3)
    found = []
    for a, b in zip(rng.binomial(200, 0.9, 2000), rng.binomial(60, 0.8, 2000), strict=True):
        low, high, _ = significance.share_difference((float(a), 200), (float(b), 60))
        found.append(low <= 0.1 <= high)
    assert 0.93 <= np.mean(found) <= 0.97
    low, high, p = significance.share_difference((30.0, 30), (300.0, 300))
    assert low < 0 < high and p > 0.05


def test_many_tests_are_corrected_as_holm_did() -> None:
    assert significance.corrected([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.corrected([0.5, 0.9]) == [1.0, 1.0]
    assert significance.corrected([]) == []


def test_the_rows_needed_would_tell_the_difference_four_times_out_of_five() -> None:
    difference, error, n = 0.02, 0.02, 300
    needed = significance.rows_needed(n, difference, error)
    assert needed is not None
    rng = np.random.default_rng(1)
    there = rng.normal(difference, error * np.sqrt(n / needed), 100_000)
    seen = np.abs(there) / (error * np.sqrt(n / needed)) > significance.SURE
    assert seen.mean() == pytest.approx(0.8, abs=0.01)
    assert significance.rows_needed(n, 0.0, error) is None
    assert significance.rows_needed(n, difference, 0.0) is None


def test_a_difference_without_an_error_is_sure_and_none_is_none() -> None:
    assert significance.normal_p(0.0, 0.0) == 1.0
    assert significance.normal_p(0.1, 0.0) == 0.0
    assert significance.normal_p(1.96, 1.0) == pytest.approx(0.05, abs=1e-4)


def test_signs_that_are_drawn_at_random_tell_what_mcnemar_tells_of_single_rows() -> None:
    for fixed, broken in ((9, 2), (4, 3), (12, 0)):
        exact = float(significance.mcnemar(fixed, broken))
        assert significance.flipped([1] * fixed + [-1] * broken + [0] * 5) == pytest.approx(exact, abs=0.02)
    assert significance.flipped([]) == significance.flipped([0, 0]) == significance.flipped([2, -2]) == 1.0
    assert significance.flipped([100]) > 0.4  # one group tells nothing, however large


def test_rows_that_stand_for_themselves_are_worth_what_they_are_and_copies_what_one_is() -> None:
    rng = np.random.default_rng(0)
    right = (rng.random(60) < 0.7).astype(float)
    assert significance.effective(right, None) == (right.sum(), 60.0)
    hits, rows = significance.effective(right, np.arange(60))
    assert (hits, rows) == (pytest.approx(right.sum()), 60.0)
    hits, rows = significance.effective(np.repeat(right, 4), np.repeat(np.arange(60), 4))
    assert rows == pytest.approx(60, rel=0.06) and hits / rows == pytest.approx(right.mean())
    assert significance.effective(np.ones(40), np.repeat(np.arange(8), 5)) == (
        8.0,
        8.0,
    )  # groups that are all right tell one each
    assert significance.effective(np.array([1.0, 0.0]), np.array([3, 3])) == (0.5, 1.0)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_rows_in_groups_are_worth_no_more_than_they_are(pairs: list[tuple[bool, int]]) -> None:
    right, groups = np.array([float(hit) for hit, _ in pairs]), np.array([group for _, group in pairs])
    hits, rows = significance.effective(right, groups)
    assert 0 < rows <= len(pairs) + 1e-9 and 0 <= hits <= rows + 1e-9
    low, high = significance.share_interval(hits, rows)
    assert 0 <= low <= right.mean() + 1e-9 and right.mean() - 1e-9 <= high <= 1
