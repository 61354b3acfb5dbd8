"""Scores of order over replicates are the libraries' scores of the rows that were drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.metrics import ranking


@given(st.integers(0, 10_000), st.integers(8, 40))
@settings(max_examples=60, deadline=None)
def test_replicates_equal_the_library_on_the_rows_that_were_drawn(seed: int, rows: int) -> None:
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 5, rows) / 4, rng.normal(size=rows)  # with ties and without
    truth = rng.random(rows) < 0.5
    truth[:2] = [True, False]
    counts = rng.multinomial(rows, np.full(rows, 1 / rows), size=3).astype(float)
    counts[:, :2] += 1
    found = ranking.auc(a, truth, counts), ranking.spearman(a, b, counts)
    plain = ranking.correlation(np.tile(a, (3, 1)), np.tile(b, (3, 1)), counts)
    for k, drawn in enumerate(counts.astype(int)):
        x, y, t = (np.repeat(values, drawn) for values in (a, b, truth))
        assert found[0][k] == pytest.approx(roc_auc_score(t, x))
        if x.std() and y.std():
            assert found[1][k] == pytest.approx(spearmanr(x, y).statistic)
            assert plain[k] == pytest.approx(pearsonr(x, y).statistic)


def test_a_replicate_with_one_kind_of_row_has_no_area() -> None:
    found = ranking.auc(np.array([0.1, 0.2]), np.array([True, False]), np.array([[2.0, 0.0], [1.0, 1.0]]))
    assert np.isnan(found[0]) and found[1] == 0.0
