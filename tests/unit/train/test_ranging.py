"""The learning rate that is measured: what it leaves, whether it is the same, and whether it learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from tunesmith import recipefile, run
from tunesmith.errors import RecipeError
from tunesmith.events import Updated
from tunesmith.models.model import Model
from tunesmith.prepare import Prepared, prepare
from tunesmith.rundir import list_runs
from tunesmith.search.shared import Shared
from tunesmith.search.trial import run_trial
from tunesmith.train import ranging
from tunesmith.train.ranging import REACH, Ranged, chosen, end_of, smoothed


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_csv(tmp_path_factory.mktemp("rows") / "rows.csv", tiny.label_rows(60))


def values_of(encoder: Path, rows: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return tiny.recipe_values(
        encoder, rows, out, train={"epochs": 2, "batch_size": 8, "learning_rate": "auto"},
        evaluate={"compare": False, "verify": False}, **changes,
    )  # fmt: skip


def found_by(prepared: Prepared) -> Ranged:
    own, _ = prepared.rates()
    keys = prepared.recipe.train
    return ranging.find(
        prepared.model, prepared.task, prepared.batches(512), keys, own, prepared.head_rate, prepared.share_of
    )


def all_of(model: Model) -> dict[str, torch.Tensor]:
    """Every tensor of a net, masters included."""
    return {**{k: v.clone() for k, v in model.net.state_dict().items()},
            **{f"master {k}": v.detach().clone() for k, v in model.masters.items()}}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "full", "train": {"batch_size": 8, "learning_rate": "auto", "l2_sp": 0.1, "noise": 5.0}},
        {"method": {"name": "lora", "dropout": 0.2, "init": "pissa"}},
        {"method": "full", "train": {"batch_size": 8, "learning_rate": "auto", "precision": "bf16"}},
    ],
    ids=["full", "adapters", "half precision"],
)
def test_measuring_leaves_no_trace_and_finds_the_same_twice(
    changes: dict[str, Any], encoder: Path, rows: Path, tmp_path: Path
) -> None:
    prepared = prepare(recipefile.build({**values_of(encoder, rows, tmp_path), **changes}))
    model = prepared.model
    before, generator, training = all_of(model), torch.get_rng_state(), model.net.training
    first = found_by(prepared)
    after = all_of(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(torch.get_rng_state(), generator)
    assert model.net.training == training and model.fillers == 0
    assert all(parameter.grad is None for _, parameter in (*model.trained(), *model.masters.items()))
    assert len(first.losses) > 10, "it really trained"
    assert found_by(prepared) == first


def test_a_run_with_a_measured_rate_also_when_it_was_stopped_is_the_run_with_that_rate_to_the_bit(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    values = values_of(encoder, rows, tmp_path / "auto", method="lora")
    values["train"]["epochs"] = 1
    bits = tiny.last_bits(values, stop_at=3)
    (directory,) = list_runs(tmp_path / "auto")
    plan = directory.json("plan")
    assert plan["ranged"]["updates"] == len(plan["ranged"]["losses"]) > 10
    values["train"]["learning_rate"] = plan["learning_rate"]
    told, other = run.begin(recipefile.build(values), None, [])
    assert "ranged" not in told.json("plan")
    assert [event.losses for event in run.go(told, other) if isinstance(event, Updated)] == [
        event.losses for _, event in sorted(directory.updates().items())
    ]
    assert (told.checkpoints / "last" / "trained.safetensors").read_bytes() == bits


def test_check_tells_the_rate_that_a_run_would_take(encoder: Path, rows: Path, tmp_path: Path) -> None:
    from tunesmith import checkup

    recipe = recipefile.build(values_of(encoder, rows, tmp_path, method="lora"))
    told = checkup.check(recipe, lambda _: None).value["plan"]["learning_rate"]
    prepared = prepare(recipe)
    assert told == run.plan_of(prepared)["learning_rate"] == prepared.rates()[0]


@pytest.fixture(scope="module")
def told_apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which the words say the label."""
    words = {"billing": "bill invoice card", "shipping": "parcel box late", "login": "login password account"}
    made = [{"text": f"{words[label]} {words[label]} {k}", "label": label} for k in range(40) for label in words]
    return tiny.write_csv(tmp_path_factory.mktemp("rows") / "rows.csv", made)


def test_the_rate_that_is_found_learns_and_lies_within_reach(encoder: Path, told_apart: Path, tmp_path: Path) -> None:
    values = values_of(encoder, told_apart, tmp_path, method="full")
    values["train"]["epochs"] = 6
    prepared = prepare(recipefile.build(values))
    own, _ = prepared.rates()
    rate = found_by(prepared).rate
    assert own / REACH < rate < own * REACH

    def last_loss(learning_rate: float) -> float:
        values["train"]["learning_rate"] = learning_rate
        events = run_trial(recipefile.build(values), shared)
        seen = [sum(event.losses.values()) for event in events if isinstance(event, Updated)]
        return sum(seen[-6:]) / 6

    shared = Shared()
    assert last_loss(rate) < min(last_loss(own / REACH), last_loss(own * REACH)) - 0.05


RATES = [10 ** (-5 + k / 20) for k in range(80)]


def test_the_steepest_fall_before_the_least_is_taken() -> None:
    falls = [0.5 + 1.5 / (1 + 10 ** ((k - 30) / 4)) + (0.5 * (k - 60) if k > 60 else 0) for k in range(80)]
    assert RATES[28] <= chosen(RATES, falls, 1e-3) <= RATES[40]


def test_where_the_loss_only_scatters_the_methods_own_rate_is_taken() -> None:
    scatter = np.random.default_rng(0).standard_normal(80) * 0.1
    assert chosen(RATES, (1.0 + scatter).tolist(), 1e-3) == 1e-3


def test_where_the_loss_only_rises_the_rate_stays_below_the_rise() -> None:
    rises = [1.0 + 0.01 * (k % 2) + max(k - 20, 0) * 0.2 for k in range(80)]
    assert RATES[0] <= chosen(RATES, rises, 1.0) <= RATES[24] / 10 * 1.000001


def whole_test(losses: list[float]) -> tuple[dict[str, Any], float]:
    """What a whole range test around a rate of 1e-3 saw, and the rate that it chose."""
    low, count = 1e-3 / REACH, len(losses)
    rates = [low * REACH ** (2 * k / (count - 1)) for k in range(count)]
    rate = chosen(rates, losses, 1e-3)
    return Ranged(rate, tuple(rates), tuple(smoothed(losses))).as_json(), rate


def test_a_rate_that_the_end_of_the_test_held_down_is_at_the_upper_end() -> None:
    falls = [2.0 - 1.5 * (k / 99) ** 6 + 0.001 * (k % 2) for k in range(100)]
    seen, rate = whole_test(falls)
    assert rate == pytest.approx(seen["to"] / 10) and end_of(seen, rate) == "upper"


def test_a_rate_in_the_lowest_tenth_is_at_the_lower_end() -> None:
    rises = [1.0 + 0.01 * (k % 2) + max(k - 20, 0) * 0.2 for k in range(80)]
    seen, rate = whole_test(rises)
    assert rate < seen["from"] * 1.9 and end_of(seen, rate) == "lower"


def test_a_rate_inside_what_was_tried_is_at_no_end() -> None:
    early = [0.5 + 1.5 / (1 + 10 ** ((k - 45) / 4)) - 0.0005 * k for k in range(100)]  # steepest inside
    risen = [0.5 + 1.5 / (1 + 10 ** ((k - 45) / 4)) + (0.5 * (k - 75) if k > 75 else 0) for k in range(100)]
    scatter = (1.0 + np.random.default_rng(0).standard_normal(100) * 0.1).tolist()
    for losses in (early, risen, scatter):
        seen, rate = whole_test(losses)
        assert seen["from"] * 2 < rate < seen["to"] / 10 and end_of(seen, rate) is None
    seen, rate = whole_test(risen)
    assert end_of({**seen, "losses": seen["losses"][:8]}, rate) is None, "too few updates tell nothing"


@pytest.mark.parametrize("value", ["autoo", 0, -1, True])
def test_a_rate_that_is_none_is_refused(value: Any, encoder: Path, rows: Path, tmp_path: Path) -> None:
    values = values_of(encoder, rows, tmp_path)
    values["train"]["learning_rate"] = value
    with pytest.raises(RecipeError, match="learning_rate"):
        recipefile.build(values)
