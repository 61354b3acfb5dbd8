"""Spaces: what is written, what is refused, and how points become recipes."""

from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith import recipefile
from tunesmith.errors import RecipeError
from tunesmith.searchspace import Axis, Range, axes_of, corners, grid, lookup, walk, where_is

SPACE: dict[str, Any] = {
    "train.learning_rate": {"from": "1e-5", "to": 1e-3, "log": True, "points": 3},
    "train.batch_size": [8, 16],
    "method": [
        "full",
        {"name": "lora", "rank": {"from": 4, "to": 64, "integer": True, "points": 2}, "alpha": 8},
        {"name": "top-layers", "layers": {"one_of": [1, 2, 3]}},
    ],
}


def recipe(**search: Any) -> Any:
    return recipefile.build({"model": "minilm", "data": "x.csv", "method": "lora", "search": search})


def test_options_of_a_choice_are_picked_only_where_it_is_chosen() -> None:
    axes = axes_of(SPACE)
    asked: list[str] = []

    def pick(name: str, axis: Axis) -> Any:
        asked.append(name)
        return {"method": "lora", "method.lora.rank": 7}.get(name, 8)

    values = walk(axes, pick)
    assert values == {"train.learning_rate": 8, "train.batch_size": 8,
                      "method": {"name": "lora", "rank": 7, "alpha": 8}}  # fmt: skip
    assert asked == ["train.learning_rate", "train.batch_size", "method", "method.lora.rank"]


def test_a_grid_has_every_point_once_and_options_only_of_their_choice() -> None:
    points = grid(axes_of(SPACE))
    assert len(points) == 3 * 2 * (1 + 2 + 3)
    assert len({tuple(sorted(point.items())) for point in points}) == len(points)
    assert {point.get("method.lora.rank") for point in points if point["method"] == "lora"} == {4, 64}
    assert all("method.lora.rank" not in point for point in points if point["method"] != "lora")
    assert sorted({point["train.learning_rate"] for point in points}) == pytest.approx([1e-5, 1e-4, 1e-3])


def test_the_way_from_values_to_parameters_and_back_is_the_same() -> None:
    axes = axes_of(SPACE)
    for point in grid(axes):
        assert where_is(axes, walk(axes, lookup(point))) == point
    assert where_is(axes, {"train.learning_rate": 1.0, "train.batch_size": 8, "method": {"name": "full"}}) is None
    assert where_is(axes, {"train.learning_rate": 1e-4, "train.batch_size": 9, "method": {"name": "full"}}) is None


def test_corners_touch_every_end_and_every_choice() -> None:
    seen = [params for _, params in corners(axes_of(SPACE))]
    assert {p["train.learning_rate"] for p in seen} >= {1e-5, 1e-3}
    assert {p["method"] for p in seen} == {"full", "lora", "top-layers"}
    assert {p.get("method.lora.rank") for p in seen} >= {4, 64}
    assert {p.get("method.top-layers.layers") for p in seen} >= {1, 2, 3}


def test_two_choices_of_one_plugin_have_names_of_their_own() -> None:
    (axis,) = axes_of({"method": ["lora", {"name": "lora", "rank": {"from": 4, "to": 8, "integer": True}}]})
    assert axis.labels == ["lora", "lora #2"]


def test_true_is_not_the_number_one_and_lists_are_choices_of_their_own() -> None:
    axes = axes_of({"train.shuffle": [True, False], "train.freeze": [[], ["*.layer.0.*"]]})
    assert where_is(axes, {"train.shuffle": True, "train.freeze": []}) == {"train.shuffle": True, "train.freeze": "[]"}
    assert where_is(axes, {"train.shuffle": 1, "train.freeze": []}) is None


def test_whole_numbers_of_a_grid_come_once_each() -> None:
    assert Range(1, 3, integer=True, points=9).grid() == [1, 2, 3]


@pytest.mark.parametrize(
    ("search", "problem"),
    [
        ({"trails": 3}, "there is no key `search.trails`"),
        ({"space": {"train.learning_rat": {"from": 1, "to": 2}}}, "there is no key `train.learning_rat`"),
        ({"space": {"train.learning_rate": {"from": 1e-5, "to": 1e-3, "lgo": True}}}, "did you mean `log`?"),
        ({"space": {"train.learning_rate": {"from": 1e-3, "to": 1e-5}}}, "must be below"),
        ({"space": {"train.learning_rate": {"from": 0, "to": 1e-5, "log": True}}}, "no logarithm"),
        ({"space": {"train.learning_rate": {"from": 1e-5}}}, "a range has two numbers"),
        ({"space": {"train.learning_rate": 1e-5}}, "write a list of choices, or a range"),
        ({"space": {"train.batch_size": {"from": 1, "to": 8}}}, "`train.batch_size` is"),
        ({"space": {"train.batch_size": [8]}}, "one alone belongs under"),
        ({"space": {"train.batch_size": [8, 8]}}, "twice"),
        ({"space": {"train.batch_size": [0, 8]}}, "greater than or equal to 1"),
        ({"space": {"method": ["lora", "fulll"]}}, "there is no method `fulll`"),
        ({"space": {"method": ["full", {"name": "lora", "rnk": {"from": 1, "to": 2}}]}}, "has no option `rnk`"),
        ({"space": {"method": ["full", "lora"], "method.rank": [1, 2]}}, "into a choice of the first"),
        ({"space": {"data.limit": [10, 20]}}, "the rows are what all trials are judged by"),
        ({"space": {"train.seed": [1, 2]}}, "luck"),
        ({"space": {"evaluate.every": [1, 2]}}, "alike for all"),
        ({"space": {"train.steps": [5, 6], "train.epochs": [1, 2]}}, "contradict"),
        ({"space": {"train.warmup": {"from": 0, "to": 0.1}}, "sampler": "grid"}, "add `points: 5`"),
        ({"space": {}}, "is empty"),
        ({"sampler": "tpee"}, "should be 'tpe'"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_the_key_and_what_to_write(
    search: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(**search)
    assert problem in str(caught.value)
    assert "search" in str(caught.value)


def test_a_typo_in_a_space_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("model: minilm\ndata: x.csv\nsearch:\n  space:\n    train.batch_siz: [8, 16]\n")
    with pytest.raises(RecipeError) as caught:
        recipefile.load(file)
    assert str(caught.value.where).endswith("r.yaml:5")
    assert caught.value.hint == "did you mean `batch_size`?"


def test_a_recipe_with_a_search_is_read_again_from_its_own_json_and_yaml() -> None:
    made = recipe(space=SPACE, trials=3)
    assert recipefile.build(made.model_dump(mode="json")) == made
    assert "train.learning_rate" in recipefile.dump(made)
    assert recipefile.changed(made, {}).search is None


def test_a_recipe_without_a_search_keeps_the_hash_that_it_had(encoder: Path, tmp_path: Path) -> None:
    made = recipefile.build(tiny.recipe_values(encoder, tmp_path / "x.csv", tmp_path))
    assert "search" not in made.model_dump(mode="json", exclude={"search"})
    searched = recipefile.build({**tiny.recipe_values(encoder, tmp_path / "x.csv", tmp_path), "search": "auto"})
    assert recipefile.fingerprint(made) == recipefile.fingerprint(searched)
    assert recipefile.digest(made) != recipefile.digest(searched)


def test_a_space_is_changed_from_the_command_line_and_its_folders_lie_beside_the_recipe(
    encoder: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").symlink_to(encoder)
    file = tmp_path / "r.yaml"
    file.write_text("model: mine\ndata: x.csv\nsearch:\n  dir: out\n  space:\n    model: [mine, minilm]\n")
    read = recipefile.load(file, ("search.space.train.batch_size=[4, 8]",)).recipe
    assert read.search is not None
    assert read.search.space == {"model": [str(encoder.resolve()), "minilm"], "train.batch_size": [4, 8]}
    assert read.search.dir == str(tmp_path / "out")
    file.write_text("model: mine\ndata: x.csv\nsearch: auto\n")
    for change, wanted in (
        ("search.space.train.batch_size=[4, 8]", {"train.batch_size": [4, 8]}),
        ("search.trials=7", "auto"),
    ):
        found = recipefile.load(file, (change,)).recipe.search
        assert found is not None and found.space == wanted
