"""What a model knew before: a net that was damaged has lost it, an untouched one has kept it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import judged
import samples
import tiny
from tunesmith import recipefile
from tunesmith.contracts import Row
from tunesmith.evidence import kept
from tunesmith.evidence.drawings import draw
from tunesmith.evidence.kept import Probe
from tunesmith.models.model import Model
from tunesmith.prepare import prepare
from tunesmith.tasks.token_classification import TokenClassification

FAMILIES = {"encoder": "text-classification", "decoder": "chat", "vision": "image-classification"}


def model_of(model: Any, family: str, folder: Path) -> Model:
    rows = samples.write(FAMILIES[family], folder)
    values = tiny.recipe_values(model, rows, folder / "runs", task=FAMILIES[family], method="full")
    return prepare(recipefile.build(values)).model


@torch.no_grad()
def damage(model: Model, by: float = 1.0) -> None:
    """Noise as large as the weights."""
    generator = torch.Generator().manual_seed(0)
    for weights in model.net.parameters():
        weights += by * torch.randn(weights.shape, generator=generator) * weights.std(correction=0)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_an_untouched_net_has_kept_all_to_the_last_item(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = model_of(request.getfixturevalue(family), family, tmp_path)
    before = kept.measure(model)
    assert set(before) == {
        "encoder": {"alike"}, "decoder": {"general text", "refusal", "format"}, "vision": {"drawings"},
    }[family]  # fmt: skip
    for one in kept.compared(before, kept.measure(model)):
        assert (one["outcome"], one["difference"], one["low"], one["high"]) == ("kept", 0.0, 0.0, 0.0)
        assert one["before"] == one["after"] and one["n"] >= 10


def test_a_decoder_that_was_damaged_has_lost_general_text(decoder: Path, tmp_path: Path) -> None:
    model = model_of(decoder, "decoder", tmp_path)
    before = kept.measure(model)
    damage(model)
    found = {one["name"]: one for one in kept.compared(before, kept.measure(model))}
    text = found["general text"]
    assert text["outcome"] == "lost" and not text["higher_is_better"]
    assert 0.05 < text["low"] < text["difference"] < text["high"]
    assert text["difference"] == pytest.approx(text["after"] - text["before"])


@pytest.mark.network
@pytest.mark.parametrize(("name", "family"), [("minilm", "encoder"), ("efficientnet-lite0", "vision")])
def test_a_pretrained_net_that_was_damaged_has_lost_what_it_told_apart(name: str, family: str, tmp_path: Path) -> None:
    model = model_of(name, family, tmp_path)
    before = kept.measure(model)
    damage(model)
    (found,) = kept.compared(before, kept.measure(model))
    assert found["outcome"] == "lost" and found["high"] < -0.05


def of(right: list[float], higher: bool = True, weights: list[float] | None = None) -> Probe:
    return Probe("what", np.array(right), np.array(weights or [1.0] * len(right)), higher)


def outcome(before: Probe, after: Probe) -> str:
    (found,) = kept.compared({"it": before}, {"it": after})
    assert found["low"] <= found["difference"] <= found["high"]
    assert all(math.isfinite(found[name]) for name in ("before", "after", "low", "high"))
    return str(found["outcome"])


def test_what_was_lost_kept_gained_or_cannot_be_told() -> None:
    ones, half = [1.0] * 100, [1.0, 0.0] * 50
    assert outcome(of(ones), of(half)) == "lost"
    assert outcome(of(half), of(ones)) == "gained"
    assert outcome(of(half), of(half)) == "kept"
    assert outcome(of(ones), of([0.0] * 4 + [1.0] * 96)) == "unclear"
    assert outcome(of(ones[:10]), of([0.0, *ones[:9]])) == "unclear"  # one of ten
    low, high = [2.0] * 50, [2.3] * 50
    assert outcome(of(low, False), of(high, False)) == "lost"  # a loss is lost by rising
    assert outcome(of(high, False), of(low, False)) == "gained"
    assert outcome(of(low, False), of([2.01] * 50, False)) == "kept"


def test_a_loss_a_token_is_of_all_tokens_together() -> None:
    (found,) = kept.compared({"it": of([10.0, 1.0], False, [10.0, 1.0])}, {"it": of([20.0, 1.0], False, [10.0, 1.0])})
    assert (found["before"], found["after"]) == (1.0, pytest.approx(21 / 11))


def test_a_probe_that_was_not_measured_before_says_nothing() -> None:
    assert kept.compared({}, {"it": of([1.0])}) == []
    assert kept.compared({"it": of([1.0])}, {}) == []


def tagged() -> tuple[TokenClassification, list[Row]]:
    task = TokenClassification()
    said = [
        {"tokens": ["a", "b", "c"], "tags": ["B-X", "B-Y", "O"]},
        {"tokens": ["a", "z", "z"], "tags": ["O", "O", "O"]},
    ]
    rows = [Row(k, task.normalize(values), "f", k) for k, values in enumerate(said)]
    return task.learn(rows), rows


def test_labels_that_are_given_no_more_are_told_and_those_without_rows_do_not_count() -> None:
    task, rows = tagged()
    with_both = [np.log(np.eye(len(task.labels))[[task.labels.index(t) for t in ("B-X", "B-Y", "O")]] + 1e-9)] * 2
    without = [np.log(np.eye(len(task.labels))[[task.labels.index(t) for t in ("B-X", "O", "O")]] + 1e-9)] * 2
    base, tuned = ([task.decode(row, [(range(3), logs)]) for row, logs in zip(rows, each, strict=True)]
                   for each in (with_both, without))  # fmt: skip
    case = judged.case_of(task, rows, {"tuned": tuned, "base": base})
    found = kept.labels_given(case)
    assert found is not None
    assert (found["name"], found["before"], found["after"], found["n"]) == ("labels in use", 1.0, 0.5, 2)
    alone = judged.case_of(task, rows, {"tuned": tuned})
    assert kept.labels_given(alone) is None
    assert kept.labels_given(judged.of_labels(["a", "b"], ["a", "b"], ["a", "b"])) is None


def test_drawings_are_the_same_each_time_and_of_all_shapes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = draw(tmp_path / "a"), draw(tmp_path / "b")
    assert [path.read_bytes() for path, _ in first] == [path.read_bytes() for path, _ in second]
    names = [name for _, name in first]
    assert {names.count(name) for name in names} == {8} and len(set(names)) == 6
