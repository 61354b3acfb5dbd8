"""How much data is enough: what is foretold is what comes, within its interval, and the verdict does not overstate."""

from pathlib import Path

import numpy as np
import pytest

import tiny
from tunesmith import scaling
from tunesmith.errors import DataError
from tunesmith.prepare import prepare
from tunesmith.recipefile import build

SIZES = np.array([250, 500, 1000, 2000])


def drawn(level: float, slope: float, power: float, noise: float, seed: int) -> scaling.Curve:
    """A curve measured with noise on a true a + b n^-c; replicates spread as the noise does."""
    rng = np.random.default_rng(seed)
    true = level + slope * SIZES.astype(float) ** -power
    means = true + noise * rng.normal(size=4)
    draws = means[:, None] + noise * rng.normal(size=(4, 400))
    return scaling.fitted("accuracy", True, "", SIZES, means, draws)


def test_a_power_law_without_noise_is_foretold_exactly() -> None:
    curve = drawn(0.9, -3.0, 0.5, 0.0, 0)
    assert [point.rows for point in curve.more] == [4000, 8000]
    for point in curve.more:
        assert point.value == pytest.approx(0.9 - 3.0 * point.rows**-0.5, abs=1e-6)
    assert curve.gain[0] == pytest.approx(3.0 * (2000**-0.5 - 4000**-0.5), abs=1e-6)
    assert curve.verdict.startswith("more rows like these would help")


def test_the_interval_of_what_twice_the_rows_bring_holds_the_truth_nine_times_in_ten() -> None:
    held = 0
    for seed in range(60):
        curve = drawn(0.9, -3.0, 0.5, 0.004, seed)
        held += curve.gain[1] <= 3.0 * (2000**-0.5 - 4000**-0.5) <= curve.gain[2]
    assert held >= 52


def test_a_flat_curve_is_not_said_to_rise() -> None:
    said = [drawn(0.9, 0.0, 0.5, 0.004, seed).verdict for seed in range(40)]
    assert sum(verdict.startswith("more rows like these would help") for verdict in said) <= 3


def test_scores_between_none_and_all_stay_there() -> None:
    means = np.array([0.6, 0.8, 0.95, 0.999])
    curve = scaling.fitted("accuracy", True, "", SIZES, means, np.tile(means[:, None], 50))
    assert all(point.value <= 1 and point.high <= 1 for point in curve.more)


def test_a_loss_that_falls_is_a_gain() -> None:
    means = 1.0 + 40.0 * SIZES.astype(float) ** -0.7
    curve = scaling.fitted("mean_token_loss", False, "", SIZES, means, np.tile(means[:, None], 50))
    assert curve.gain[0] > 0 and curve.more[0].value < means[-1]


def test_parts_of_the_rows_are_scored_by_a_probe_and_the_run_is_left_as_it_was(encoder: Path, tmp_path: Path) -> None:
    rows = tiny.label_rows(300)
    for k, row in enumerate(rows):
        row["text"] += f" {k}"
    prepared = prepare(build(tiny.recipe_values(encoder, tiny.write_csv(tmp_path / "r.csv", rows), tmp_path)))
    before = {name: tensor.clone() for name, tensor in prepared.model.net.state_dict().items()}
    said: list[str] = []
    curve = scaling.measure(prepared, said.append)
    total = len(prepared.train_rows)
    assert [point.rows for point in curve.points] == [round(share * total) for share in (0.125, 0.25, 0.5, 1.0)]
    assert all(point.low <= point.value <= point.high for point in curve.points)
    assert curve.how == "a linear probe on the frozen model" and len(said) == 10
    assert all(bool((before[name] == tensor).all()) for name, tensor in prepared.model.net.state_dict().items())
    assert curve == scaling.measure(prepared, lambda _: None)


def test_a_task_without_a_probe_is_tuned_for_one_pass_on_each_part(decoder: Path, tmp_path: Path) -> None:
    file = tiny.write_jsonl(tmp_path / "chats.jsonl", tiny.chat_rows(80))
    values = tiny.recipe_values(decoder, file, tmp_path, task="chat", method="lora", train__epochs=1)
    curve = scaling.measure(prepare(build(values)), lambda _: None)
    assert curve.metric == "mean_token_loss" and curve.how == "lora, one pass"
    assert curve.points[-1].value < curve.points[0].value
    assert not (tmp_path / "runs").exists()


def test_too_few_rows_are_refused(encoder: Path, tmp_path: Path) -> None:
    file = tiny.write_csv(tmp_path / "r.csv", tiny.label_rows(36))
    prepared = prepare(build(tiny.recipe_values(encoder, file, tmp_path)))
    with pytest.raises(DataError, match="too few"):
        scaling.measure(prepared, lambda _: None)
