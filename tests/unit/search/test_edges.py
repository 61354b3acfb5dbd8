"""Whether the best trial lies at the edge of what was searched: what is told, what is not, and the change it gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tunesmith import recipefile
from tunesmith.report.sections import nested
from tunesmith.search import edges
from tunesmith.search.space import Space
from tunesmith.search.study import Line
from tunesmith.searchspace import Range, axes_of, lookup, walk

WRITTEN: dict[str, Any] = {
    "train.learning_rate": {"from": 1e-5, "to": 1e-3, "log": True},
    "train.batch_size": [8, 16],
    "method": ["full", {"name": "lora", "rank": {"from": 4, "to": 64, "log": True, "integer": True}, "dropout": 0.1}],
}
SPACE = Space(axes_of(WRITTEN), None)


def line(number: int, rate: float, value: float | None, state: str = "complete", **params: Any) -> Line:
    tried = {"train.learning_rate": rate, "train.batch_size": 8, "method": "full", **params}
    return Line(number, state, number == 0, tried, value, 1.0, 1.0, "", f"{number}", 1)


def climbing(count: int = 10, **params: Any) -> list[Line]:
    """Trials over the whole range of the rate, the better the higher it is, up to its end."""
    return [line(k, 10 ** (-5 + 2 * k / (count - 1)), 0.5 + 0.03 * k, **params) for k in range(count)]


def always(axes: Any, params: Mapping[str, Any]) -> bool:
    return True


def told(
    lines: list[Line],
    *,
    higher: bool = True,
    importances: Mapping[str, float] | None = None,
    takes: Callable[[Any, Mapping[str, Any]], bool] = always,
    auto: bool = False,
    space: Space = SPACE,
) -> list[dict[str, Any]]:
    complete = [one for one in lines if one.state == "complete" and one.value is not None]
    best = (max if higher else min)(complete, key=lambda one: one.value or 0.0)
    return edges.advice(space, auto, best, lines, importances or {}, higher, takes)


def test_a_best_rate_at_the_upper_end_is_told_with_a_range_that_goes_on() -> None:
    (found,) = told(climbing())
    assert found["change"] == {"search.space.train.learning_rate": {"from": 1e-5, "to": 1e-2, "log": True}}
    assert "train.learning_rate 0.001 at the upper end of 1e-05 to 0.001" in found["sign"]


def test_a_best_rate_at_the_lower_end_is_told_whichever_direction_is_better() -> None:
    for higher, sign in ((True, -1), (False, 1)):
        lines = [line(k, 10 ** (-5 + 2 * k / 9), sign * (0.5 + 0.03 * k)) for k in range(10)]
        (found,) = told(lines, higher=higher)
        assert found["change"] == {"search.space.train.learning_rate": {"from": 1e-6, "to": 1e-3, "log": True}}
        assert "lower end" in found["sign"]


def test_the_change_as_it_is_shown_is_taken_by_the_recipe() -> None:
    recipe = {"model": "minilm", "task": "text-classification", "data": "x.csv", "search": {"space": WRITTEN}}
    (found,) = told(climbing())
    said = tuple(f"{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in found["change"].items())
    made = recipefile.build(json.loads(json.dumps(recipe)), said)
    shown = yaml.safe_load(yaml.safe_dump(nested(found["change"])))
    assert made.search is not None and isinstance(made.search.space, dict)
    assert made.search.space == {**WRITTEN, **shown["search"]["space"]}
    assert axes_of(made.search.space)[0].range == Range(1e-5, 1e-2, log=True)


def test_a_best_inside_the_range_is_not_told() -> None:
    middle = [line(k, 10 ** (-5 + 2 * k / 9), 0.9 - 0.05 * abs(k - 5)) for k in range(10)]
    assert told(middle) == []
    near = [line(k, 10 ** (-5 + 2 * k / 9), 0.9 - 0.05 * abs(k - 8)) for k in range(10)]  # eight ninths of the way
    assert told(near) == []


def test_a_lucky_trial_at_the_end_is_not_told_where_the_next_best_lie_on_the_other_side() -> None:
    lucky = [line(k, 10 ** (-5 + 2 * k / 9), 0.9 - 0.05 * k) for k in range(9)] + [line(9, 1e-3, 0.95)]
    assert told(lucky) == []


def test_those_that_share_the_third_place_are_asked_too() -> None:
    tied = [*climbing(), line(10, 1.1e-5, climbing()[7].value)]
    assert told(tied) == []


def test_fewer_than_eight_trials_tell_nothing_and_eight_do() -> None:
    assert told(climbing(edges.FEWEST - 1)) == []
    assert told(climbing(edges.FEWEST)) != []
    failed = [*climbing(edges.FEWEST - 1), line(99, 1e-4, None, "failed")]
    assert told(failed) == []


def test_pruned_trials_count_but_are_never_among_the_best() -> None:
    lines = climbing(8)
    pruned = [line(20 + k, 2e-5, 0.99, "pruned") for k in range(4)]  # high when they fell behind, and at the other end
    assert told([*lines, *pruned]) == told(lines) != []


def test_a_parameter_that_is_known_to_matter_little_is_not_told() -> None:
    little = {"train.learning_rate": 0.1, "train.batch_size": 0.45, "method": 0.45}
    assert told(climbing(), importances=little) == []
    assert told(climbing(), importances={**little, "train.learning_rate": 0.2}) != []


def test_trials_that_all_scored_alike_tell_nothing() -> None:
    assert told([line(k, 10 ** (-5 + 2 * k / 9), 0.5) for k in range(9, -1, -1)]) == []


def test_an_option_of_a_choice_is_told_by_the_whole_choice_and_nothing_else_of_it_is_changed() -> None:
    lines = [
        line(k, 1e-4, 0.5 + 0.03 * k, **{"method": "lora", "method.lora.rank": rank})
        for k, rank in enumerate((4, 5, 8, 11, 16, 23, 32, 45, 64))
    ] + [line(20, 5e-5, 0.1), line(21, 2e-4, 0.1)]
    (found,) = told(lines)
    (changed,) = found["change"].values()
    assert list(found["change"]) == ["search.space.method"] and changed[0] == "full"
    assert changed[1] == {**WRITTEN["method"][1], "rank": {"from": 4, "to": 260, "log": True, "integer": True}}


def test_a_space_that_was_left_to_be_found_is_written_out_whole() -> None:
    (found,) = told(climbing(), auto=True)
    (whole,) = found["change"].values()
    assert list(found["change"]) == ["search.space"]
    assert whole == {**WRITTEN, "train.learning_rate": {"from": 1e-5, "to": 1e-2, "log": True}}


def test_a_range_goes_on_only_as_far_as_the_recipe_takes_it_and_where_it_takes_nothing_is_not_told() -> None:
    space = Space(axes_of({"method.layers": {"from": 1, "to": 4, "integer": True}}), None)
    lines = [Line(k, "complete", False, {"method.layers": 1 + k // 3}, 0.5 + 0.03 * k, 1.0, 1.0, "", f"{k}", 1)
             for k in range(12)]  # fmt: skip
    asked = []

    def depth(most: int) -> Callable[[Any, Mapping[str, Any]], bool]:
        def takes(axes: Any, params: Mapping[str, Any]) -> bool:
            asked.append(walk(axes, lookup(params))["method.layers"])
            return bool(asked[-1] <= most)

        return takes

    ends = {most: told(lines, space=space, takes=depth(most)) for most in (12, 5, 4)}
    assert ends[12][0]["change"] == {"search.space.method.layers": {"from": 1, "to": 6, "integer": True}}
    assert ends[5][0]["change"] == {"search.space.method.layers": {"from": 1, "to": 5, "integer": True}}
    assert ends[4] == [] and min(asked) > 4


def test_what_begins_at_zero_has_nothing_below() -> None:
    assert edges.wider(Range(0.0, 0.5), False, 0.5) is None
    assert edges.wider(Range(0.1, 0.5), False, 0.5) == Range(0.0, 0.5)
    assert edges.wider(Range(1, 8, log=True, integer=True), False, 0.5) is None


@given(
    st.floats(1e-8, 1e3),
    st.floats(1.5, 1e5),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.5, 0.125]),
)
def test_a_wider_range_holds_the_old_one_and_keeps_its_other_end(
    low: float, ratio: float, log: bool, integer: bool, upper: bool, part: float
) -> None:
    if integer:
        low = max(round(low), 1)
    high = max(round(low * ratio), low + 1) if integer else low * ratio
    old = Range(low, high, log, integer, points=5)
    made = edges.wider(old, upper, part)
    if made is None:
        assert not upper
        return
    assert (made.low == low and made.high > high) if upper else (made.high == high and made.low < low)
    assert made.low >= 0 and (not log or made.low > 0) and (made.log, made.integer, made.points) == (log, integer, 5)


@pytest.mark.parametrize(
    "written",
    [
        WRITTEN,
        {
            "train.batch_size": {"from": 4, "to": 64, "integer": True, "points": 3},
            "train.schedule": ["cosine", "linear"],
        },
        {"method": [{"name": "top-layers", "layers": {"one_of": [1, 2, 4]}}, {"name": "lora", "rank": 8}, "head"]},
        {"train.betas": [[0.9, 0.99], [0.9, 0.999]], "train.ema": [None, 0.99], "train.x": [True, False]},
    ],
)
def test_axes_are_written_as_they_are_read(written: dict[str, Any]) -> None:
    axes = axes_of(written)
    again = edges.as_written(axes)
    assert axes_of(yaml.safe_load(yaml.safe_dump(again, sort_keys=False))) == axes
    assert again == written
