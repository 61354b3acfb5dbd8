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


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=4),
    st.lists(st.sampled_from([0.1, 0.25, 0.5, 1.0, 1.7, 3.0]), min_size=4, max_size=4),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_weighted_sources_come_as_often_as_they_weigh_and_their_rows_equally_often(
    counts: list[int], weights: list[float], shuffle: bool
) -> None:
    groups = tuple(g for g, count in enumerate(counts) for _ in range(count))
    plan = Plan(len(groups), 4, 3, shuffle, groups, tuple(weights[: len(counts)]))
    epochs = 7
    seen = [k for step in range(epochs * plan.per_epoch) for k in plan.at(step)]
    assert len(seen) == epochs * plan.length
    for group, count in enumerate(counts):
        times = [seen.count(k) for k in range(len(groups)) if groups[k] == group]
        assert max(times) - min(times) <= 1
        assert sum(times) == epochs * max(round(weights[group] * count), 1)
    again = Plan(len(groups), 4, 3, shuffle, groups, tuple(weights[: len(counts)]))
    assert again.at(3 * plan.per_epoch) == seen[3 * plan.length : 3 * plan.length + len(again.at(3 * plan.per_epoch))]
