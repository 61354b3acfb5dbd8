"""How a run went and what it took, from its events and clocks."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tunesmith.events import Updated
from tunesmith.evidence import cost, curves


def updated(step: int, loss: float, scores: dict[str, float] | None = None, **changes: Any) -> Updated:
    values: dict[str, Any] = {
        "step": step, "losses": {"loss": loss}, "grad_norm": 1.0, "tokens": 10, "padded": 0, "labels": 2,
        "seconds": 0.1, "budget": 100, "scores": scores, "learning_rate": 1e-3,
    }  # fmt: skip
    return Updated(**{key: value for key, value in (values | changes).items() if key in Updated.__dataclass_fields__})


def test_of_few_updates_every_loss_is_told_and_of_many_the_means_of_neighbours() -> None:
    few = curves.look({k: updated(k, float(k)) for k in (3, 1, 2)}, "macro_f1")
    assert (few["steps"], few["losses"]) == ([1, 2, 3], [1.0, 2.0, 3.0])
    many = curves.look({k: updated(k, float(k)) for k in range(1, 2502)}, "macro_f1")
    assert many["steps"][:2] == [3, 6] and many["steps"][-1] == 2501
    assert many["losses"][:2] == [2.0, 5.0] and len(many["losses"]) <= 1000
    assert sum(many["losses"][:-1]) * 3 + many["losses"][-1] * (2501 - 3 * 833) == pytest.approx(2501 * 2502 / 2)


def test_losses_of_several_names_are_summed_and_updates_that_were_left_out_are_not_told() -> None:
    two = Updated(**{**vars(updated(1, 1.0)), "losses": {"a": 1.0, "b": 2.0}})
    out = Updated(**{**vars(updated(2, math.nan)), "left_out": True})
    made = curves.look({1: two, 2: out}, "loss")
    assert (made["steps"], made["losses"]) == ([1], [3.0])
    assert curves.look({2: out}, "loss")["losses"] == curves.look({}, "loss")["losses"] == []


def test_scores_that_are_no_finite_number_are_left_out_of_a_look() -> None:
    made = curves.look({1: updated(1, 1.0, {"pearson": math.nan, "perplexity": math.inf, "mae": 0.5})}, "pearson")
    assert made["looks"] == [{"step": 1, "scores": {"mae": 0.5}}]
    json.dumps(made, allow_nan=False)


def taken(folder: Path, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "seconds": {"train": 100.0, "evaluate": 20.0}, "tokens": {"real": 5000, "padded": 0, "label": 10},
        "unit": "tokens", "peak": 2**30, "folders": {"model": folder}, "machine": (4, 0), "rate": None,
        "answered": (40, 20.0),
    }  # fmt: skip
    return cost.look(**(values | changes))


def test_energy_and_money_are_those_of_the_time_by_what_is_assumed(tmp_path: Path) -> None:
    made = taken(tmp_path, rate=9.0)
    assert made["watt_hours"] == pytest.approx(4 * 8.0 * 120 / 3600)
    assert made["money"] == pytest.approx(9.0 * 120 / 3600)
    assert made["tokens_per_second"] == 50.0
    assert made["energy"] == "assumed, not measured: 4 threads at 8 W for 120 s"
    board = taken(tmp_path, machine=(4, 2))
    assert board["watt_hours"] == pytest.approx((4 * 8.0 + 2 * 350.0) * 120 / 3600)
    assert taken(tmp_path)["money"] is None


def test_speed_is_told_of_rows_that_were_answered_and_of_no_others(tmp_path: Path) -> None:
    made = taken(tmp_path)
    assert (made["rows_per_second"], made["per_1000_rows"]) == (2.0, 500.0)
    none = taken(tmp_path, answered=(0, 20.0))
    assert none["rows_per_second"] is none["per_1000_rows"] is None
    assert taken(tmp_path, answered=(40, 0.0))["rows_per_second"] is None
    assert taken(tmp_path, seconds={"evaluate": 1.0})["tokens_per_second"] == 0.0


def test_what_lies_on_the_disk_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "step_1").mkdir()
    (tmp_path / "step_1" / "a").write_bytes(b"x" * 70)
    (tmp_path / "b").write_bytes(b"y" * 30)
    (tmp_path / "best").symlink_to("step_1")
    (tmp_path / "c").symlink_to("b")
    assert cost.size(tmp_path) == 100
    assert cost.size(tmp_path / "none") == 0
