"""Updates that are not finite are left out where the recipe says so, with their rows; losses that jump are told."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunesmith import recipefile, run
from tunesmith.errors import NotFinite
from tunesmith.events import Event, Saved, Updated, Warned
from tunesmith.models.model import Model
from tunesmith.rundir import RunDir
from tunesmith.tasks.text_classification import TextClassification
from tunesmith.train import checkpoint
from tunesmith.train.average import averaged
from tunesmith.train.spikes import Spikes


def values_of(encoder: Path, rows: Path, out: Path, **more: Any) -> dict[str, Any]:
    values = tiny.recipe_values(encoder, rows, out, evaluate__compare=False, train__learning_rate=1e-3, **more)
    return {**values, "model": {"name": str(encoder), "dropout": 0.1}}


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row's loss is infinite whenever it comes, as of a row whose numbers overflow."""
    real = TextClassification.loss

    def loss(task: TextClassification, model: Model, examples: Any) -> Any:
        made = real(task, model, examples)
        if any(example.row_id == 3 for example in examples):
            made = {k: type(v)(v.total * float("inf"), v.weight) for k, v in made.items()}
        return made

    monkeypatch.setattr(TextClassification, "loss", loss)


def followed(directory: RunDir, prepared: Any, stop_at: int = 10**6) -> list[Event]:
    seen = [0]
    events = []
    for event in run.go(directory, prepared, lambda: seen[0] >= stop_at):
        seen[0] = event.step if isinstance(event, Updated) else seen[0]
        events.append(event)
    return events


def test_an_update_that_is_not_finite_stops_the_run_unless_it_is_to_be_left_out(
    encoder: Path, labels_csv: Path, tmp_path: Path, poisoned: None
) -> None:
    with pytest.raises(NotFinite):
        tiny.train_to_end(values_of(encoder, labels_csv, tmp_path / "a"))
    made = values_of(encoder, labels_csv, tmp_path / "b", train__not_finite="skip", train__ema=0.9)
    directory, prepared = run.begin(recipefile.build(made), None, [])
    events = followed(directory, prepared)
    lost = [e for e in events if isinstance(e, Updated) and e.left_out]
    assert [e.step - 1 for e in lost] == [
        step for step in range(prepared.schedule().steps) if 3 in prepared.plan().at(step)
    ]
    assert len(lost) == 2  # of two epochs
    assert all(math.isfinite(sum(e.losses.values())) for e in events if isinstance(e, Updated))
    place = prepared.train_rows[3].place
    told = [e.message for e in events if isinstance(e, Warned) and "was left out" in e.message]
    assert len(told) == 2
    assert all(place in message for message in told)
    state, beside = checkpoint.read(directory.checkpoints / "last")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in (*state.values(), *beside.values()))
    steps = {int(value) for name, value in beside.items() if name.endswith("/step")}
    assert steps == {prepared.schedule().steps - 2}
    report = directory.json("report/report")
    assert "2 updates were left out: their loss or gradient was not finite" in report["notes"]


def test_an_update_that_is_left_out_changes_no_weight(
    encoder: Path, labels_csv: Path, tmp_path: Path, poisoned: None
) -> None:
    made = values_of(encoder, labels_csv, tmp_path, train__not_finite="skip", train__shuffle=False)
    directory, prepared = run.begin(recipefile.build(made), None, [])
    start = {name: tensor.clone() for name, tensor in prepared.model.state().items()}
    for event in run.go(directory, prepared):
        if isinstance(event, Updated):
            same = all(torch.equal(start[name], tensor) for name, tensor in prepared.model.state().items())
            assert event.left_out == same == (event.step == 1)
            if event.step == 2:
                break


def test_an_average_of_the_weights_does_not_count_an_update_that_is_left_out(
    encoder: Path, labels_csv: Path, tmp_path: Path, poisoned: None
) -> None:
    made = values_of(encoder, labels_csv, tmp_path, train__not_finite="skip", train__ema=0.9, train__save_every=1)
    directory, prepared = run.begin(recipefile.build(made), None, [])
    means, lost = {}, []
    for event in run.go(directory, prepared):
        if isinstance(event, Updated) and event.left_out:
            lost.append(event.step)
        if isinstance(event, Saved):
            means[event.step] = averaged(checkpoint.read(directory.checkpoints / "last")[1])
    assert lost[-1] > 2
    for step in range(3, max(means) + 1):
        same = all(torch.equal(tensor, means[step - 1][name]) for name, tensor in means[step].items())
        assert same == (step in lost)


def test_a_run_that_leaves_updates_out_is_resumed_to_the_same_bits(
    encoder: Path, labels_csv: Path, tmp_path: Path, poisoned: None
) -> None:
    whole = tiny.train_to_end(values_of(encoder, labels_csv, tmp_path / "a", train__not_finite="skip"))
    steps = whole.json("plan")["steps"]
    for stop_at in (2, steps - 2):
        made = values_of(encoder, labels_csv, tmp_path / f"b{stop_at}", train__not_finite="skip")
        directory, prepared = run.begin(recipefile.build(made), None, [])
        followed(directory, prepared, stop_at)
        again, prepared_again = run.resume(directory.path)
        followed(again, prepared_again)
        first, second = (checkpoint.read(r.checkpoints / "last")[0] for r in (whole, again))
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert again.json("report/report")["notes"] == whole.json("report/report")["notes"]


def test_weights_that_are_gone_stop_the_run_although_updates_are_left_out(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    made = values_of(encoder, labels_csv, tmp_path, train__not_finite="skip", train__epochs=6,
                     train__save_every=1000, evaluate__every=1000)  # fmt: skip
    directory, prepared = run.begin(recipefile.build(made), None, [])
    seen = []

    def broken() -> None:
        for event in run.go(directory, prepared):
            seen.append(event)
            if isinstance(event, Updated) and event.step == 2:
                with torch.no_grad():
                    prepared.model.trained()[0][1].fill_(float("nan"))

    with pytest.raises(NotFinite):
        broken()
    assert sum(isinstance(event, Updated) and event.left_out for event in seen) == 9


def test_a_spike_is_told_with_its_rows_and_again_after_a_resume(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    made = values_of(encoder, labels_csv, tmp_path, train__epochs=12, train__save_every=1, train__batch_size=4)
    directory, prepared = run.begin(recipefile.build(made), None, [])
    told: list[str] = []

    def disturbed(directory: RunDir, prepared: Any, at: int) -> None:
        """Turn the head around before an update, and back after it."""
        head = dict(prepared.model.net.named_parameters())["head.weight"]
        for event in run.go(directory, prepared):
            if isinstance(event, Updated) and event.step in (at, at + 1):
                with torch.no_grad():
                    head.mul_(-100 if event.step == at else -0.01)
            if isinstance(event, Warned) and "is usual" in event.message:
                told.append(event.message)
                return

    disturbed(directory, prepared, 24)
    assert told[0].startswith("the loss of update 25 is ")
    assert prepared.train_rows[prepared.plan().at(24)[0]].place in told[0]
    again, prepared_again = run.resume(directory.path)
    disturbed(again, prepared_again, 1000)  # what was saved after update 24 is the turned head
    assert told == [told[0]] * 2


def test_what_is_a_spike_and_what_is_not() -> None:
    usual = [1.0, 1.1, 0.9, 1.05, 0.95] * 4  # the median is 1, the median distance from it .05: deviation .07413
    assert Spikes(usual[:-1]).see(50.0) is None  # too few to tell
    assert Spikes(usual).see(2.01) == pytest.approx(1.0)
    assert Spikes(usual).see(1.99) is None  # less than twice what is usual
    wide = [1.0, 1.5, 0.5, 1.25, 0.75] * 4  # deviation .37065
    assert Spikes(wide).see(4.7) is None
    assert Spikes(wide).see(4.8) == pytest.approx(1.0)
    falling = Spikes([3.0 * 0.97**k for k in range(60)])
    assert falling.see(3.0 * 0.97**60) is None
    many = Spikes(usual)
    assert sum(many.see(9.0) is not None for _ in range(40)) == 20  # and none became usual
