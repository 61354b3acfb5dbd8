"""What the loop does in an update: once over all that learns, by the schedule, and every number about it true."""

from math import ceil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import samples
import tiny
from tunesmith import plugins, recipefile
from tunesmith.contracts import Tokens
from tunesmith.data.batches import Plan
from tunesmith.errors import ModelError, NotFinite
from tunesmith.events import Updated
from tunesmith.models import catalog, load, stock
from tunesmith.models.stream import stream_of
from tunesmith.prepare import Prepared, prepare
from tunesmith.recipe import ModelChoice
from tunesmith.train.loop import train
from tunesmith.train.optimizer import make_optimizer


def ready(model: Path, rows: Path, tmp_path: Path, **changes: Any) -> Prepared:
    values = tiny.recipe_values(model, rows, tmp_path, **changes)
    return prepare(recipefile.build({**values, "model": {"name": str(model), "dropout": 0}}))


def updates(prepared: Prepared, budget: int, most: int | None = None) -> list[Updated]:
    """Updates of a run by plain momentum, and no look at the validation rows."""
    model = prepared.model
    optimizer = make_optimizer(model.learned(), model.fresh, 0.1, 0.1, 0.0, kind="sgd")
    made = train(model, prepared.task, prepared.batches(budget), optimizer, prepared.schedule(),
                 start=0, every=10**6, evaluate=dict)  # fmt: skip
    return [updated for _, updated in zip(range(most or 10**6), made, strict=False)]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_an_update_is_clipped_once_over_all_that_learns_however_it_was_cut(
    encoder: Path, labels_csv: Path, tmp_path: Path, method: str
) -> None:
    """Plain momentum's first step is the rate times the gradient, so its length is the rate times the clip."""
    found = []
    for budget in (100_000, 30, 1):
        changes = {"method": method, "train__clip": 0.01, "train__warmup": 0, "train__schedule": "constant"}
        prepared = ready(encoder, labels_csv, tmp_path, **changes)
        before = {name: p.detach().clone() for name, p in prepared.model.learned()}
        (updated,) = updates(prepared, budget, 1)
        moved = torch.cat([(p.detach() - before[name]).flatten() for name, p in prepared.model.learned()])
        assert updated.grad_norm > 0.02
        assert float(moved.norm()) == pytest.approx(0.1 * 0.01, rel=1e-3)
        found.append((updated.grad_norm, moved))
    for norm, moved in found[1:]:
        assert norm == pytest.approx(found[0][0], rel=5e-6)
        assert float((moved - found[0][1]).norm() / found[0][1].norm()) < 1e-4


def test_the_updates_of_a_run_and_their_rates_do_not_depend_on_how_batches_are_cut(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    rates = []
    for budget in (100_000, 30):
        changes = {"method": "head", "train__batch_size": 7, "train__epochs": 2, "train__warmup": 2}
        prepared = ready(encoder, labels_csv, tmp_path, **changes)
        rows = len(prepared.train_rows)
        assert rows % 7
        made = updates(prepared, budget)
        assert [updated.step for updated in made] == list(range(1, 2 * ceil(rows / 7) + 1))
        rates.append([updated.learning_rate for updated in made])
        left = len(made) - 2
        wanted = [0.1 / 3, 0.2 / 3, *(0.1 * (left - k) / left for k in range(left))]
        assert rates[-1] == pytest.approx(wanted)
    assert rates[0] == rates[1]


def test_every_epoch_has_an_order_of_its_own() -> None:
    plan = Plan(50, 50, 3, True)
    orders = [plan.at(epoch) for epoch in range(4)] + [Plan(50, 50, 4, True).at(0)]
    assert all(a != b for k, a in enumerate(orders) for b in orders[:k])
    assert Plan(50, 50, 3, True).at(2) == orders[2]


def test_the_rows_of_an_update_that_is_not_finite_are_those_it_was_made_of(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    prepared = ready(encoder, labels_csv, tmp_path, method="full")
    updates(prepared, 100, 1)
    with torch.no_grad():
        prepared.model.trained()[0][1].fill_(float("nan"))
    model = prepared.model
    for first in (0, 5):
        optimizer = make_optimizer(model.learned(), model.fresh, 0.1, 0.1, 0.0)
        made = train(model, prepared.task, prepared.batches(100), optimizer, prepared.schedule(),
                     start=first, every=99, evaluate=dict)  # fmt: skip
        with pytest.raises(NotFinite) as caught:
            next(made)
        assert caught.value.rows == [prepared.train_rows[k].place for k in prepared.plan().at(first)]
        assert caught.value.step == first


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_real_tokens_padding_and_targets_are_counted_apart(
    layout: str, padded: Path, decoder: Path, labels_csv: Path, chats_jsonl: Path, tmp_path: Path
) -> None:
    model, rows = (padded, labels_csv) if layout == "padded" else (decoder, chats_jsonl)
    prepared = ready(model, rows, tmp_path, method="head" if layout == "padded" else "lora")
    assert prepared.model.layout == layout
    batches = prepared.batches(60)
    for step, updated in enumerate(updates(prepared, 60, 3)):
        pieces = [[e.parts["text"] for e in piece.examples] for piece in batches.at(step, layout)]
        real = sum(len(row.ids) for piece in pieces for row in piece)
        assert updated.tokens == real
        if layout == "padded":
            assert updated.padded == sum(len(piece) * max(len(row.ids) for row in piece) for piece in pieces) - real > 0
            assert updated.labels == len(batches.plan.at(step))
        else:
            assert updated.labels == sum(sum(row.trained[1:]) for piece in pieces for row in piece) < real


FROZEN = {
    ("text-classification", "encoder", "head"): lambda name: not name.startswith("encoder."),
    ("chat", "decoder", "lora"): lambda name: name.endswith((".lora_A", ".lora_B")),
    ("text-classification", "encoder", "bitfit"): lambda name: name.endswith(".bias") or name.startswith("head."),
    ("chat", "decoder", "top-layers"): lambda name: ".layers." in name or ".norm." in name or "lm_head" in name,
}
"""Which tensors a method says that it moves, by their names."""


@pytest.mark.parametrize(("task", "family", "method"), FROZEN)
def test_what_a_method_freezes_is_what_it_says(
    task: str, family: str, method: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    assert method in plugins.names("methods")
    prepared = ready(request.getfixturevalue(family), samples.write(task, tmp_path), tmp_path, task=task, method=method)
    named = {name for name, _ in prepared.model.net.named_parameters()}
    wanted = {name for name in named if FROZEN[task, family, method](name)}
    assert {name for name, _ in prepared.model.trained()} == wanted and 0 < len(wanted) < len(named)


def test_a_net_that_never_calls_the_attention_it_was_given_is_stopped() -> None:
    rows = [Tokens((5, 6, 7)), Tokens((8, 9))]

    def deaf(**_: Any) -> Any:
        return SimpleNamespace(last_hidden_state=torch.zeros(1, 5, 4))

    for decoder in (True, False):
        with pytest.raises(AssertionError, match="attention ran in 0 of 2 blocks"):
            stock.run(deaf, stream_of(rows, 0, torch.device("cpu")), 2, None, decoder=decoder, typed=False)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2", "phi3", "gpt_neox", "gemma3_text"])
@pytest.mark.parametrize("learning", [True, False])
def test_the_longest_row_of_a_stream_moves_no_other(kind: str, learning: bool, tmp_path: Path) -> None:
    folder = tiny.make_decoder(tmp_path / kind, kind, 64)
    model = load.load_causal_lm(catalog.find(str(folder)), ModelChoice(name="x", dropout=0.0), None)
    model.net.train(learning)
    row = Tokens(tuple(range(5, 16)))
    with torch.no_grad():
        found = [model.states([row, Tokens(tuple(range(20, 20 + n)))])[0][: len(row.ids)] for n in (3, 12, 60)]
    for states in found[1:]:
        assert torch.allclose(states, found[0], atol=1e-5)


def test_rows_are_as_long_as_positions_mean_the_same_whatever_row_is_beside_them(tmp_path: Path) -> None:
    """Positions of the kind `longrope` are stretched for all rows of a call as soon as one is longer than 32."""
    from transformers import AutoConfig

    folder = tiny.make_decoder(tmp_path / "stretched", "llama", 64)
    config = AutoConfig.from_pretrained(folder)
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "factor": 2.0}
    config.rope_parameters = {"rope_type": "longrope", "rope_theta": 1e4, **factors}
    config.rope_parameters["original_max_position_embeddings"] = 32
    config.save_pretrained(folder)
    model = load.load_causal_lm(catalog.find(str(folder)), ModelChoice(name="x"), None)
    row, longest = Tokens(tuple(range(5, 16))), model.text.max_tokens
    with torch.no_grad():
        alone, beside = (model.states([row, Tokens(tuple(range(20, 20 + n)))])[0][: len(row.ids)] for n in (3, longest))
    assert longest == 32 and torch.allclose(alone, beside, atol=1e-5)
    with pytest.raises(ModelError, match="reads at most 32 tokens"):
        load.load_causal_lm(catalog.find(str(folder)), ModelChoice(name="x"), 33)
