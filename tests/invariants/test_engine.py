"""The engine's own forward and backward are plain autograd to rounding, whatever the engine leaves out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

import tiny
from plain import made
from tunesmith.contracts import Tokens
from tunesmith.models import anatomy, catalog, elementwise, fused, load, loss
from tunesmith.models.adapted import merge
from tunesmith.models.heads import OutputLayer
from tunesmith.models.lora import LoraKind, LoraLinear
from tunesmith.models.matmul import BLAS
from tunesmith.models.stream import SHARED_FROM, stream_of
from tunesmith.recipe import ModelChoice

CPU = torch.device("cpu")


class _Plain(nn.Module):
    """A linear layer with an adapter, in operations that autograd follows."""

    def __init__(self, base: nn.Linear, adapter: LoraLinear | None) -> None:
        super().__init__()
        self.base, self.adapter = base, adapter

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        if self.adapter is None:
            return y
        return y + (x @ self.adapter.lora_A.T) @ self.adapter.lora_B.T * self.adapter.scale


def layer(wide: int, out: int, *, adapted: bool, learns: bool, bias: bool, seed: int) -> tuple[nn.Module, _Plain]:
    base = nn.Linear(wide, out, bias=bias, dtype=torch.float64)
    with torch.no_grad():
        for number, parameter in enumerate(base.parameters()):
            parameter.copy_(made(seed + number, *parameter.shape))
    base.requires_grad_(learns)
    if not adapted:
        return base, _Plain(base, None)
    adapter = LoraLinear(base, LoraKind(3, 2.0), seed).double()
    with torch.no_grad():
        adapter.lora_B.copy_(made(seed + 9, out, 3))
    return adapter, _Plain(base, adapter)


@pytest.mark.parametrize("adapted", [True, False])
@pytest.mark.parametrize("learns", [True, False])
def test_products_of_one_input_and_their_gradients_are_autograds(adapted: bool, learns: bool) -> None:
    pairs = [layer(6, n, adapted=adapted, learns=learns, bias=n != 5, seed=n) for n in (4, 5, 6)]
    x, residual = made(1, 7, 6).requires_grad_(), made(2, 7, 4).requires_grad_()
    ours = fused.products(x, [ours for ours, _ in pairs], BLAS, residual)
    plain = [p(x) for _, p in pairs]
    plain[0] = plain[0] + residual
    learning = [p for module, _ in pairs for p in module.parameters() if p.requires_grad]
    assert len(learning) == 3 * 2 * adapted + 5 * learns
    pull = [made(20 + k, *y.shape) for k, y in enumerate(ours)]
    for a, b in zip(ours, plain, strict=True):
        assert torch.allclose(a, b, atol=1e-12)
    wanted = torch.autograd.grad(plain, [x, residual, *learning], pull)
    for a, b in zip(torch.autograd.grad(ours, [x, residual, *learning], pull), wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-11)


GATES = {
    "silu": (elementwise.SILU, nn.functional.silu),
    "gelu": (elementwise.GELU, nn.functional.gelu),
    "gelu by tanh": (elementwise.TANH_GELU, lambda x: nn.functional.gelu(x, approximate="tanh")),
}


@pytest.mark.parametrize("gate", GATES)
def test_an_open_gate_and_its_gradient_are_autograds(gate: str) -> None:
    act, plain = GATES[gate]
    both = made(1, 5, 12).requires_grad_()
    ours, wanted = elementwise.gated(both, act), plain(both[:, :6]) * both[:, 6:]
    assert torch.allclose(ours, wanted, atol=1e-12)
    (a,), (b,) = (torch.autograd.grad(made_of, [both], made(2, 5, 6)) for made_of in (ours, wanted))
    assert torch.allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("adapted", [True, False])
@pytest.mark.parametrize("learns", [True, False])
def test_a_matrix_that_is_kept_the_other_way_round_gives_the_same_and_learns_as_it_is_kept(
    adapted: bool, learns: bool
) -> None:
    """GPT-2's layers keep [in, out]."""
    base = Conv1D(4, 6).double()
    base.requires_grad_(learns)
    module: nn.Module = LoraLinear(base, LoraKind(3, 2.0), 5).double() if adapted else base
    for number, parameter in enumerate(module.parameters()):
        parameter.data.copy_(made(40 + number, *parameter.shape))
    x, residual, pull = made(1, 7, 6).requires_grad_(), made(2, 7, 4).requires_grad_(), made(3, 7, 4)
    (ours,) = fused.products(x, [module], BLAS, residual)
    plain = module(x) + residual
    assert fused.known(module) and torch.allclose(ours, plain, atol=1e-12)
    learning = [x, residual, *(p for p in module.parameters() if p.requires_grad)]
    wanted = torch.autograd.grad(plain, learning, pull)
    for a, b in zip(torch.autograd.grad(ours, learning, pull), wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-11) and (a.shape != base.weight.shape or a.is_contiguous())


@pytest.mark.parametrize("act", ["gelu", "gelu_new", "gelu_pytorch_tanh", "silu", "relu"])
@pytest.mark.parametrize("adapted", [True, False])
def test_a_plain_feed_forward_and_its_gradients_are_autograds(adapted: bool, act: str) -> None:
    wide = layer(6, 10, adapted=adapted, learns=True, bias=True, seed=30)
    narrow = layer(10, 6, adapted=adapted, learns=True, bias=True, seed=50)
    x, residual, pull = made(1, 7, 6).requires_grad_(), made(2, 7, 6).requires_grad_(), made(3, 7, 6)
    ours = fused.feed(x, (wide[0], narrow[0]), ACT2FN[act], nn.Dropout(0.0), residual, BLAS, None)
    plain = narrow[1](ACT2FN[act](wide[1](x))) + residual
    assert torch.allclose(ours, plain, atol=1e-12)
    learning = [x, residual, *wide[0].parameters(), *narrow[0].parameters()]
    wanted = torch.autograd.grad(plain, learning, pull)
    for a, b in zip(torch.autograd.grad(ours, learning, pull), wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("adapted", [True, False])
def test_a_gated_feed_forward_and_the_norm_and_their_gradients_are_autograds(adapted: bool, gate: str) -> None:
    act, opened = GATES[gate]
    shut, up = (layer(6, 10, adapted=adapted, learns=True, bias=False, seed=s) for s in (30, 40))
    down = layer(10, 6, adapted=adapted, learns=True, bias=True, seed=50)
    weight = made(3, 6).requires_grad_()
    x = made(1, 7, 6).requires_grad_()
    normed = elementwise.rms_norm(x, weight, 1e-5)
    ours = fused.glu(normed, (shut[0], up[0], down[0]), act, BLAS, x)
    stock = nn.functional.rms_norm(x, (6,), weight, 1e-5)
    plain = down[1](opened(shut[1](stock)) * up[1](stock)) + x
    learning = [p for pair in (shut, up, down) for p in pair[0].parameters()]
    assert torch.allclose(ours, plain, atol=1e-12)
    pull = made(4, 7, 6)
    wanted = torch.autograd.grad(plain, [x, weight, *learning], pull)
    for a, b in zip(torch.autograd.grad(ours, [x, weight, *learning], pull), wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("softcap", "smoothing"), [(None, 0.0), (0.7, 0.0), (None, 0.2), (0.7, 0.2)])
def test_losses_in_chunks_are_the_cross_entropy_of_the_whole(
    learns: bool, bias: bool, softcap: float | None, smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "_CHUNK", 1)  # chunks of 32 rows
    head = nn.Linear(5, 11, bias=bias, dtype=torch.float64).requires_grad_(learns)
    states, labels = made(1, 100, 5).requires_grad_(), torch.arange(100) % 11
    pull = made(2, 100)
    layer = head if softcap is None else OutputLayer(head, None, softcap)
    ours = loss.label_losses(states, layer, labels, BLAS, smoothing)
    logits = head(states) if softcap is None else softcap * torch.tanh(head(states) / softcap)
    plain = nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    assert torch.allclose(ours, plain, atol=1e-12)
    learning = [states, *head.parameters()] if learns else [states]
    wanted = torch.autograd.grad(plain, learning, pull)
    for a, b in zip(torch.autograd.grad(ours, learning, pull), wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-11)


IDS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=24), min_size=1, max_size=8)


@settings(max_examples=150)
@given(IDS)
def test_every_token_of_every_row_has_a_place_in_a_shared_stream(rows: list[list[int]]) -> None:
    tokens = [Tokens(tuple(row)) for row in rows]
    found = stream_of(tokens, 0, CPU, share=True)
    flat = torch.tensor([i for row in rows for i in row])
    steps = torch.cat([torch.arange(len(row)) for row in rows])
    places = found.at(torch.arange(len(flat)))
    assert torch.equal(found.ids[places], flat)
    assert torch.equal(found.positions[places], steps)
    assert len(found.ids) <= len(flat) and found.lengths.tolist() == [len(row) for row in rows]
    # A token's segment and path are exactly its row up to it.
    for row, start in zip(rows, (flat.new_tensor([0, *[len(r) for r in rows]]).cumsum(0)).tolist(), strict=False):
        home = places[start : start + len(row)].tolist()
        own = next(s for s in found.segments if s.start <= home[-1] < s.start + s.length)
        span = [*[p for a, b in own.path for p in range(a, b)], *range(own.start, home[-1] + 1)]
        assert span == home


def alike(decoder: Path) -> tuple[Any, list[Tokens]]:
    """A model with adapters that do something, and rows that begin alike in nested groups."""
    model = load.load_causal_lm(catalog.find(str(decoder)), ModelChoice(name="x"), None)
    from tunesmith.methods.lora import Lora

    Lora(rank=4).apply(model, 0)
    tiny.redraw(model.net, 3)
    generator = torch.Generator().manual_seed(2)
    head, middle = tuple(range(5, 25)), tuple(range(40, 52))
    rows = []
    for number in range(7):
        end = torch.randint(5, 90, (3 + 2 * number,), generator=generator).tolist()
        ids = (*head, *(middle if number % 2 else ()), *end)
        rows.append(Tokens(ids, trained=tuple(k >= len(ids) - 4 for k in range(len(ids)))))
    return model, rows


def losses_and_gradient(model: Any, rows: list[Tokens]) -> tuple[Tensor, Tensor]:
    positions, labels, _ = loss.label_positions(rows, CPU)
    losses = loss.label_losses(model.states_at(rows, positions), model.output_layer, labels, model.matmul)
    model.net.zero_grad()
    losses.sum().backward()
    return losses.detach(), torch.cat([p.grad.flatten() for _, p in model.trained()])


@pytest.mark.parametrize("double", [True, False])
def test_computing_a_shared_beginning_once_changes_neither_losses_nor_gradients(decoder: Path, double: bool) -> None:
    model, rows = alike(decoder)
    if double:
        model.net.double()
    shared = model.stream(rows)
    assert len(shared.ids) <= sum(len(row.ids) for row in rows) - 6 * 20 and SHARED_FROM <= 20
    assert max(len(segment.path) for segment in shared.segments) == 2
    losses, gradient = losses_and_gradient(model, rows)
    model.sharing = False
    assert model.stream(rows).places is None
    apart, wanted = losses_and_gradient(model, rows)
    close = 1e-10 if double else 5e-6
    assert float(wanted.norm()) > 1e-3
    assert torch.allclose(losses, apart, atol=close, rtol=close)
    assert float((gradient - wanted).norm() / wanted.norm()) < close


def test_nothing_is_shared_where_random_numbers_are_drawn(decoder: Path) -> None:
    model = load.load_causal_lm(catalog.find(str(decoder)), ModelChoice(name="x", dropout=0.1), None)
    rows = alike(decoder)[1]
    assert model.net.train() and model.stream(rows).places is None
    assert model.net.eval() and model.stream(rows).places is not None


OURS = [name for name, parts in anatomy.TABLE.items() if parts.family == "decoder" and parts.shape]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in OURS),
    ("gpt_neox", {"use_parallel_residual": False}),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "activation_function": "relu"}),
    ("phi", {"qk_layernorm": True}),
    ("phi3", {"sliding_window": 6}),
]


@pytest.mark.parametrize(("kind", "changes"), VARIANTS, ids=str)
@pytest.mark.parametrize("whole", [False, True])
def test_a_decoder_learns_the_same_through_our_blocks_and_the_stock_ones(
    kind: str, changes: dict[str, Any], whole: bool, tmp_path: Path
) -> None:
    """Adapters, or every tensor."""
    model, rows = alike(tiny.make_decoder(tmp_path / kind, kind, 64, **changes))
    if whole:
        merge(model.net)
        model.net.requires_grad_(True)
    model.net.double()
    model.sharing = False
    assert model.body() is not None
    losses, gradient = losses_and_gradient(model, rows)
    model.stock = True
    again, wanted = losses_and_gradient(model, rows)
    assert float(wanted.norm()) > 1e-3
    # The stock norm computes in single precision whatever it is given: that is as near as the two can be.
    assert torch.allclose(losses, again, atol=5e-6)
    assert float((gradient - wanted).norm() / wanted.norm()) < 5e-6


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert", "modernbert"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_an_encoder_learns_the_same_through_our_blocks_and_the_stock_ones(
    kind: str, pooling: Any, tmp_path: Path
) -> None:
    folder = tiny.make_encoder(tmp_path / kind, kind)
    choice = ModelChoice(name="x", pooling=pooling, dropout=0.0)
    model = load.load_classifier(catalog.find(str(folder)), choice, ("a", "b", "c"), None, 0)
    tiny.redraw(model.net, 7)
    model.net.double().train()
    rows = [Tokens(tuple(range(5, 5 + n))) for n in (3, 9, 9, 20)]

    def gradient() -> tuple[Tensor, Tensor]:
        model.net.zero_grad()
        total = loss.class_loss(model.class_logits(rows), [0, 1, 2, 1])
        total.backward()
        learned = [p.grad for _, p in model.trained() if p.grad is not None]
        return total.detach(), torch.cat([g.flatten() for g in learned])

    assert model.body() is not None
    mine, ours = gradient()
    model.stock = True
    stock, wanted = gradient()
    # ModernBERT's stock blocks turn queries and keys in single precision whatever they are given.
    close = 1e-6 if kind == "modernbert" else 1e-10
    assert float(mine) == pytest.approx(float(stock), rel=close)
    assert ours.shape == wanted.shape and float((ours - wanted).norm() / wanted.norm()) < 10 * close
