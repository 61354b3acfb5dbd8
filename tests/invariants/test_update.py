"""The update does not depend on how a batch was cut; the loss is what a hand would compute."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import tiny
from tunesmith import recipefile
from tunesmith.contracts import Example, Tokens
from tunesmith.data.batches import Plan, cut
from tunesmith.models import catalog, load
from tunesmith.models.loss import label_positions
from tunesmith.prepare import Prepared, prepare
from tunesmith.recipe import ModelChoice
from tunesmith.tasks.chat import Chat
from tunesmith.train.accumulate import Piece, accumulate
from tunesmith.train.loop import Batches
from tunesmith.train.optimizer import Schedule, clip, make_optimizer, optimizer_state


def ready(model: Path, rows: Path, tmp_path: Path, **changes: Any) -> Prepared:
    values = tiny.recipe_values(model, rows, tmp_path, **changes)
    values["model"] = {"name": str(model), "dropout": 0}
    return prepare(recipefile.build(values))


def gradient(prepared: Prepared, budget: int, layout: str = "packed") -> tuple[dict[str, float], torch.Tensor]:
    """Losses and the whole gradient of the first update, cut by a budget."""
    model = prepared.model
    model.layout = "padded" if layout == "padded" else "packed"
    batches = Batches(prepared.train_rows, prepared.examples, Plan(len(prepared.train_rows), 24, 0, True), budget)
    pieces = batches.at(0, layout)
    weights = prepared.task.weights([example for piece in pieces for example in piece.examples])
    model.net.train()
    losses = {name: float(loss) for name, loss in accumulate(model, prepared.task, pieces, weights).items()}
    flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for _, p in model.trained()])
    model.net.zero_grad(set_to_none=True)
    return losses, flat


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("method", ["full", "lora", "top-layers"])
@pytest.mark.parametrize("double", [False, True])
def test_cutting_a_batch_into_pieces_does_not_change_the_update(
    encoder: Path, decoder: Path, labels_csv: Path, chats_jsonl: Path, tmp_path: Path, method: str, double: bool
) -> None:
    for model, rows in ((encoder, labels_csv), (decoder, chats_jsonl)):
        prepared = ready(model, rows, tmp_path, method=method)
        if double:
            prepared.model.net.double()
        whole_losses, whole = gradient(prepared, 100_000)
        assert float(whole.norm()) > 1e-3
        for budget in (1, 70, 200):
            losses, cut_up = gradient(prepared, budget)
            assert apart(cut_up, whole) < (1e-10 if double else 5e-6)
            assert losses["loss"] == pytest.approx(whole_losses["loss"], rel=1e-10 if double else 5e-6)


def test_a_mean_of_means_would_be_seen(decoder: Path, chats_jsonl: Path, tmp_path: Path) -> None:
    """The defect of others, put in on purpose: each piece divided by its own count."""
    prepared = ready(decoder, chats_jsonl, tmp_path, method="lora")
    _, whole = gradient(prepared, 100_000)
    examples = [example for row in prepared.examples[:24] for example in row]
    pieces = [Piece(0, [example]) for example in examples]
    prepared.model.net.train()
    for piece in pieces:
        loss = prepared.task.loss(prepared.model, piece.examples)["loss"]
        (loss.total / loss.weight / len(pieces)).backward()
    wrong = torch.cat([torch.as_tensor(p.grad).flatten() for _, p in prepared.model.trained()])
    assert apart(wrong, whole) > 1e-3


def test_the_padded_layout_gives_the_same_update(decoder: Path, chats_jsonl: Path, tmp_path: Path) -> None:
    prepared = ready(decoder, chats_jsonl, tmp_path, method="full")
    packed_losses, packed = gradient(prepared, 300)
    prepared.model.net.set_attn_implementation("sdpa")
    losses, padded = gradient(prepared, 300, "padded")
    assert apart(padded, packed) < 5e-6
    assert losses["loss"] == pytest.approx(packed_losses["loss"], rel=5e-6)


@torch.no_grad()
def test_the_chat_loss_is_the_sum_of_shifted_cross_entropies_over_trained_tokens(decoder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = load.load_causal_lm(catalog.find(str(decoder)), ModelChoice(name="x"), None)
    stock = AutoModelForCausalLM.from_pretrained(decoder, attn_implementation="eager").eval()
    examples, total, count = [], 0.0, 0
    for number, row in enumerate(tiny.chat_rows(6)):
        tokens = model.text.chat(row["messages"])
        examples.append(Example(number, {"text": tokens}))
        logs = stock(input_ids=torch.tensor([tokens.ids])).logits[0].double().log_softmax(-1)
        for t in range(1, len(tokens.ids)):
            if tokens.trained[t]:
                total -= float(logs[t - 1, tokens.ids[t]])
                count += 1
    loss = Chat().loss(model, examples)["loss"]
    assert loss.weight == count == Chat().weights(examples)["loss"]
    assert float(loss.total) == pytest.approx(total, rel=1e-5)
    assert sum(float(found["loss"]) for found in Chat().assess(model, examples)) == pytest.approx(total, rel=1e-5)


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=9), min_size=1, max_size=6))
def test_the_first_token_of_a_sequence_is_never_a_label(masks: list[list[bool]]) -> None:
    rows = [Tokens(tuple(range(len(mask))), trained=tuple(mask)) for mask in masks]
    positions, labels, counts = label_positions(rows, torch.device("cpu"))
    assert counts == [sum(mask[1:]) for mask in masks]
    starts = [sum(map(len, masks[:k])) for k in range(len(masks))]
    lasts = {start + len(mask) - 1 for start, mask in zip(starts, masks, strict=True)}
    assert not lasts & set(positions.tolist())
    assert all(label > 0 for label in labels.tolist())


def test_an_update_without_labels_changes_nothing_and_is_finite(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    prepared = ready(encoder, labels_csv, tmp_path, method="full")
    example = Example(0, prepared.examples[0][0].parts, -1)
    losses = {
        name: float(loss)
        for name, loss in accumulate(prepared.model, prepared.task, [Piece(0, [example])], {"loss": 0.0}).items()
    }
    assert losses == {"loss": 0.0}
    assert all(p.grad is None for _, p in prepared.model.trained())


def test_a_piece_without_labels_among_others_adds_nothing(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    prepared = ready(encoder, labels_csv, tmp_path, method="full")
    labelled = prepared.examples[0][0]
    silent = Example(1, prepared.examples[1][0].parts, -1)
    accumulate(prepared.model, prepared.task, [Piece(0, [labelled])], {"loss": 1.0})
    alone = torch.cat([torch.as_tensor(p.grad).flatten() for _, p in prepared.model.trained()])
    prepared.model.net.zero_grad()
    accumulate(prepared.model, prepared.task, [Piece(0, [labelled]), Piece(1, [silent])], {"loss": 1.0})
    both = torch.cat([torch.as_tensor(p.grad).flatten() for _, p in prepared.model.trained()])
    assert torch.equal(alone, both)


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 17), st.integers(0, 5), st.booleans())
def test_every_row_is_taken_once_an_epoch(rows: int, batch_size: int, seed: int, shuffle: bool) -> None:
    plan = Plan(rows, batch_size, seed, shuffle)
    for epoch in range(2):
        steps = range(epoch * plan.per_epoch, (epoch + 1) * plan.per_epoch)
        taken = [row for step in steps for row in plan.at(step)]
        assert sorted(taken) == list(range(rows))
        assert shuffle or taken == list(range(rows))


@settings(max_examples=80)
@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(1, 400), st.sampled_from(["packed", "padded"])
)
def test_a_cut_keeps_every_row_and_its_budget(lengths: list[int], budget: int, layout: Any) -> None:
    pieces = cut(lengths, budget, layout)
    assert sorted(k for piece in pieces for k in piece) == list(range(len(lengths)))
    for piece in pieces:
        sizes = [lengths[k] for k in piece]
        assert sizes == sorted(sizes)
        assert len(piece) == 1 or (sum(sizes) if layout == "packed" else max(sizes) * len(sizes)) <= budget


def test_the_number_of_updates_and_the_last_rate_do_not_depend_on_the_cut() -> None:
    schedule = Schedule(steps=10, warmup=2, shape="linear", clip=1.0)
    shares = [schedule.share(step) for step in range(10)]
    assert shares[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert shares[-1] == pytest.approx(1 / 8)
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = make_optimizer([("w", parameter)], frozenset(), 1e-3, 1e-2, 0.0)
    assert schedule.apply(optimizer, 9) == pytest.approx(1e-3 / 8)


def test_one_step_of_adamw_is_the_textbooks() -> None:
    """Loshchilov and Hutter 2019, algorithm 2, by hand: w (1 - lr wd) - lr g / (|g| + eps) in the first step."""
    matrix = torch.nn.Parameter(torch.tensor([[1.0, -2.0]]))
    vector = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = make_optimizer([("m", matrix), ("v", vector)], frozenset({"v"}), 0.1, 0.5, 0.01)
    Schedule(1, 0, "constant", 1.0).apply(optimizer, 0)
    matrix.grad, vector.grad = torch.tensor([[0.5, -4.0]]), torch.tensor([2.0])
    optimizer.step()
    assert matrix.detach().flatten().tolist() == pytest.approx([0.999 - 0.1, -1.998 + 0.1], abs=1e-6)
    assert vector.item() == pytest.approx(3.0 - 0.5, abs=1e-6)


class Reads(TorchDispatchMode):
    """Counts how often a tensor is asked for a value, for which a GPU would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        self.count += "_local_scalar_dense" in name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["labels", "chats"])
def test_forward_and_backward_never_ask_a_tensor_for_a_value(
    encoder: Path, decoder: Path, labels_csv: Path, chats_jsonl: Path, tmp_path: Path, kind: str
) -> None:
    model, rows = (encoder, labels_csv) if kind == "labels" else (decoder, chats_jsonl)
    prepared = ready(model, rows, tmp_path, method="lora")
    batches = Batches(prepared.train_rows, prepared.examples, Plan(len(prepared.train_rows), 16, 0, True), 60)
    pieces = batches.at(0, "packed")
    assert len(pieces) > 1
    weights = prepared.task.weights(batches.chosen(0))
    prepared.model.train()
    with Reads() as reads:
        float(torch.ones(1) + 1)
        assert reads.count == 1
        accumulate(prepared.model, prepared.task, pieces, weights)
    assert reads.count == 1


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_touches_neither_weights_nor_moments(broken: float) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = make_optimizer([("w", weight)], frozenset(), 0.1, 0.1, 0.1)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    weight.grad = torch.full((3,), 0.3)
    clip(optimizer, torch.tensor([0.5, 1.0]), 1.0)
    optimizer.step()
    assert not bool((weight == 1).any())
    before = {name: value.clone() for name, value in optimizer_state(optimizer).items()} | {"": weight.detach().clone()}
    for found in ([broken, 1.0], [0.5, broken]):
        weight.grad = torch.full((3,), 0.3)
        clip(optimizer, torch.tensor(found), 1.0)
        optimizer.step()
        after = optimizer_state(optimizer) | {"": weight.detach()}
        assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("most", [0.1, 10.0])
def test_clipping_takes_the_step_that_clipped_gradients_take(most: float) -> None:
    torch.manual_seed(0)
    grads = [torch.randn(5) for _ in range(4)]
    found = []
    for own in (True, False):
        weight = torch.nn.Parameter(torch.ones(5))
        optimizer = make_optimizer([("w", weight)], frozenset(), 0.1, 0.1, 0.0)
        for grad in grads:
            optimizer.param_groups[0]["lr"] = 0.1
            weight.grad = grad.clone()
            if own:
                clip(optimizer, grad.norm()[None].double(), most)
            else:
                torch.nn.utils.clip_grad_norm_([weight], most)
            optimizer.step()
        found.append(weight.detach().clone())
    assert torch.allclose(*found, atol=1e-6)
