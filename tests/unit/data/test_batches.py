"""Balanced epochs: every group equally often, every row of a small group before any comes again."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.batches import Plan

GROUPS = st.lists(st.integers(0, 3), min_size=4, max_size=60).filter(lambda groups: len(set(groups)) > 1)


@given(GROUPS, st.integers(0, 5), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_an_epoch_draws_all_groups_equally_often_and_as_many_rows_as_there_are(
    groups: list[int], seed: int, batch: int
) -> None:
    plan = Plan(len(groups), batch, seed, True, tuple(groups))
    drawn = [k for step in range(plan.per_epoch) for k in plan.at(step)]
    assert len(drawn) == len(groups)
    counts = Counter(groups[k] for k in drawn)
    shares = [counts[name] for name in set(groups)]
    assert max(shares) - min(shares) <= 1
    times = Counter(drawn)
    for name in set(groups):
        rows = [times[k] for k, group in enumerate(groups) if group == name]
        assert max(rows) - min(rows) <= 1


def test_epochs_differ_and_the_same_epoch_is_the_same() -> None:
    groups = (0,) * 30 + (1,) * 6
    plan = Plan(36, 36, 7, True, groups)
    assert plan.at(0) != plan.at(1)
    assert plan.at(1) == Plan(36, 36, 7, True, groups).at(1)
    large = [{k for k in plan.at(epoch) if k < 30} for epoch in range(4)]
    assert len(set.union(*large)) > len(large[0])  # other rows of the large group come in other epochs
