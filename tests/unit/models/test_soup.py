"""The mean of the weights of several nets: exact, whatever they learned with, or refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from tunesmith.errors import ModelError
from tunesmith.methods.lora import Lora
from tunesmith.models import adapted, catalog, load, soup
from tunesmith.models.model import Model
from tunesmith.recipe import ModelChoice
from tunesmith.recipefile import make_plugin

NUMBERS = arrays.arrays(np.float32, (3, 5), elements=st.floats(-1e6, 1e6, width=32))


def mean_of(members: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    mean = soup.Mean()
    for member in members:
        mean.add(member)
    return mean.made()


def tuned(encoder: Path, method: Any, seed: int, task: Any = ("a", "b", "c")) -> Model:
    """A net as after training: all that learns is drawn, as if it had learned."""
    model = load.load_classifier(catalog.find(str(encoder)), ModelChoice(name="x"), task, None, seed)
    method.apply(model, seed)
    generator = torch.Generator().manual_seed(100 + seed)
    with torch.no_grad():
        for _, parameter in model.trained():
            parameter.copy_(parameter + 0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@given(st.lists(NUMBERS, min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_mean_is_the_true_mean_rounded_once(members: list[np.ndarray]) -> None:  # type: ignore[type-arg]
    found = mean_of([{"w": torch.from_numpy(one)} for one in members])["w"].numpy()
    for at in np.ndindex(found.shape):
        true = math.fsum(float(one[at]) for one in members) / len(members)
        assert abs(float(found[at]) - true) <= 0.5001 * float(np.spacing(np.abs(np.float32(true)))) + 1e-45
        assert min(one[at] for one in members) <= found[at] <= max(one[at] for one in members)


@given(NUMBERS, st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_the_mean_of_equals_is_each_of_them_to_the_bit(one: np.ndarray, count: int) -> None:  # type: ignore[type-arg]
    found = mean_of([{"w": torch.from_numpy(one.copy())} for _ in range(count)])
    assert found["w"].numpy().tobytes() == one.tobytes()


def test_statistics_are_averaged_and_whole_numbers_are_the_first_ones() -> None:
    first = {"norm.running_mean": torch.tensor([1.0, 2.0]), "norm.num_batches_tracked": torch.tensor(3)}
    second = {"norm.running_mean": torch.tensor([3.0, 2.0]), "norm.num_batches_tracked": torch.tensor(9)}
    found = mean_of([first, second])
    assert found["norm.running_mean"].tolist() == [2.0, 2.0] and found["norm.num_batches_tracked"].item() == 3
    assert first["norm.running_mean"].tolist() == [1.0, 2.0]


def test_nets_of_other_shapes_or_names_have_no_mean() -> None:
    with pytest.raises(ModelError, match=r"`w` is \(2,\) in one net, \(3,\) in another"):
        mean_of([{"w": torch.zeros(2)}, {"w": torch.zeros(3)}])
    with pytest.raises(ModelError, match="other tensors: v"):
        mean_of([{"w": torch.zeros(2)}, {"w": torch.zeros(2), "v": torch.zeros(2)}])


def deltas(model: Model) -> dict[str, Tensor]:
    """Path -> what its adapter adds to the matrix, in double precision."""
    return {path: module.folded()[0] - module.matrix.double() for path, module in adapted.found(model.net)}


@pytest.mark.parametrize(
    "options",
    [
        {"rank": 4},
        {"rank": 3, "scaling": "root", "alpha": 7.0},
        {"rank": 2, "ranks": {"*.query": 5}, "dropout": 0.1, "b_rate": 4.0},
        {"rank": 4, "init": "pissa"},
    ],
    ids=str,
)
@pytest.mark.parametrize("count", [2, 3])
def test_adapters_end_to_end_are_the_mean_of_what_each_adds_to_the_weights(
    options: dict[str, Any], count: int, encoder: Path
) -> None:
    method = Lora(**options)
    members = [tuned(encoder, method, seed) for seed in range(count)]
    wanted = {path: sum(deltas(model)[path] for model in members) / count for path in deltas(members[0])}
    assert soup.form_of(members[0]) == "adapters"
    heads = [dict(model.net.named_parameters())["head.weight"].double() for model in members]
    target = load.load_classifier(members[0].source, ModelChoice(name="x"), ("a", "b", "c"), None, 0)
    method.end_to_end(count).apply(target, 0)
    state = soup.state_for(target, mean_of([soup.own(model, "adapters") for model in members]))
    assert state is not None
    target.load_state(state)
    found = deltas(target)
    assert found.keys() == wanted.keys()
    for path, delta in wanted.items():
        assert delta.abs().max() > 1e-3
        assert torch.allclose(found[path], delta, rtol=0, atol=1e-10), path
    head = dict(target.net.named_parameters())["head.weight"]
    assert torch.equal(head, (sum(heads) / count).float())


@pytest.mark.parametrize(
    ("method", "form"),
    [
        ("full", "tensors"),
        ("top-layers", "tensors"),
        ("bitfit", "tensors"),
        ("ia3", "tensors"),
        ({"name": "lora", "rank": 4, "kind": "dora"}, "folded"),
        ({"name": "peft", "type": "LOHA", "config": {"r": 2}}, "folded"),
    ],
    ids=str,
)
def test_every_method_is_averaged_as_its_weights_are(method: Any, form: str, encoder: Path) -> None:
    named = {"name": method} if isinstance(method, str) else dict(method)
    made = make_plugin("methods", named.pop("name"), named)
    members = [tuned(encoder, made, seed) for seed in range(3)]
    assert soup.form_of(members[0]) == form
    target = load.load_classifier(members[0].source, ModelChoice(name="x"), ("a", "b", "c"), None, 0)
    (make_plugin("methods", "full", {}) if form == "folded" else made).apply(target, 0)
    own = [soup.own(model, form) for model in members]  # type: ignore[arg-type]
    state = soup.state_for(target, mean_of(own), loose=form == "folded")
    assert state is not None
    target.load_state(state)
    adapted.merge(target.net)
    for model in members:
        adapted.merge(model.net)
    nets = [dict(model.net.named_parameters()) for model in members]
    unread = {f"{target.root}.{path}" for path in target.anatomy.unread}
    moved = 0
    for name, parameter in target.net.named_parameters():
        if name not in unread:
            wanted = sum(net[name].double() for net in nets) / 3
            assert torch.allclose(parameter.double(), wanted, rtol=1e-6, atol=2e-7), name
            moved += not torch.equal(nets[0][name], nets[1][name])
    assert moved > 1


def test_a_head_that_is_frozen_as_it_was_drawn_is_not_taken_from_the_first(encoder: Path) -> None:
    method = make_plugin("methods", "bitfit", {})
    members = [tuned(encoder, method, seed) for seed in (0, 1)]
    target = load.load_classifier(members[0].source, ModelChoice(name="x"), ("a", "b", "c"), None, 0)
    method.apply(target, 0)
    for model in (*members, target):
        model.net.get_submodule("head").requires_grad_(False)
    assert soup.state_for(target, mean_of([soup.own(model, "tensors") for model in members])) is None


@pytest.mark.parametrize("method", ["bottleneck", "prompt-tuning"])
def test_what_is_no_part_of_the_weights_has_no_mean(method: str, encoder: Path) -> None:
    model = tuned(encoder, make_plugin("methods", method, {}), 0)
    with pytest.raises(ModelError, match="no part of the model's weights") as fault:
        soup.form_of(model)
    assert "ensemble" in str(fault.value.hint)
