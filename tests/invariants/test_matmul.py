"""Whichever library multiplies, the product is the product, and a run keeps to the one it began with."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tiny
from tunesmith import recipefile, run
from tunesmith.contracts import Pixels, Tokens
from tunesmith.models import catalog, load, seq2seq
from tunesmith.models.fused import FastLinear
from tunesmith.models.matmul import BLAS, ONEDNN, available, fastest, named
from tunesmith.models.model import Model
from tunesmith.models.stream import stream_of
from tunesmith.prepare import prepare
from tunesmith.recipe import ModelChoice

CPU = torch.device("cpu")


@pytest.mark.parametrize("library", [BLAS, ONEDNN])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 64, 64), (7, 64, 300), (100, 128, 96), (65, 64, 65), (9, 16, 80)])
def test_products_are_right_for_any_strides(library: object, dtype: torch.dtype, m: int, k: int, n: int) -> None:
    a, b, bias = (torch.randn(shape, dtype=dtype) for shape in ((m, k), (k, n), (n,)))
    exact = a.double() @ b.double()
    close = 1e-12 if dtype == torch.float64 else 1e-4
    turned = (a.T.contiguous().T, b.T.contiguous().T)
    for left in (a, turned[0]):
        for right in (b, turned[1]):
            assert torch.allclose(library.mm(left, right).double(), exact, atol=close)  # type: ignore[attr-defined]
            made = library.linear(left, right.T, bias).double()  # type: ignore[attr-defined]
            assert torch.allclose(made, exact + bias.double(), atol=close)
            into = torch.ones(m, n, dtype=dtype)
            assert library.add(into, left, right) is into  # type: ignore[attr-defined]
            assert torch.allclose(into.double(), exact + 1, atol=close)


def test_the_probe_names_a_library_that_the_plan_can_hold() -> None:
    assert named(fastest(CPU).name) is fastest(CPU) or available()
    assert fastest(torch.device("cuda")) is BLAS


def test_filler_is_seen_by_no_row_and_counted(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    rows = [Tokens((5, 6, 7)), Tokens((8, 9))]
    plain, filled = (stream_of(rows, 0, CPU, grid=grid) for grid in (1, 8))
    assert (plain.filler, filled.filler, len(filled.ids)) == (0, 3, 8)
    assert torch.equal(filled.ids[:5], plain.ids) and torch.equal(filled.positions[:5], plain.positions)
    assert torch.equal(filled.of_rows(filled.ids), plain.ids)
    prepared = prepare(recipefile.build(tiny.recipe_values(encoder, labels_csv, tmp_path, method="full")))
    prepared.model.matmul = ONEDNN
    prepared.model.net.train()
    texts = [example.parts["text"] for row in prepared.examples[:3] for example in row]
    stream = prepared.model.stream(texts)
    assert stream.filler > 0 and len(stream.ids) % 32 == 0
    prepared.model.net.eval()
    assert prepared.model.stream(texts).filler == 0
    prepared.model.net.train()
    prepared.model.matmul = BLAS
    assert prepared.model.stream(texts).filler == 0


def written(tmp_path: Path) -> tuple[Model, Path, Callable[[], Tensor]]:
    """A net that writes, and what it says of two pairs."""
    folder = tiny.make_seq2seq(tmp_path / "t5", "t5")
    model = load.load_seq2seq(catalog.find(str(folder)), ModelChoice(name="x", dropout=0), None, 0)
    sources, targets = ([Tokens(ids) for ids in pair] for pair in (((5, 6, 7, 8), (9, 5)), ((3, 7), (4, 8, 6))))
    return model, folder, lambda: seq2seq.answer_states(model, sources, targets, torch.arange(5))


def looked_at(tmp_path: Path) -> tuple[Model, Path, Callable[[], Tensor]]:
    """A net that sees, and what it says of two images."""
    folder = tiny.make_vision(tmp_path / "vit", "vit")
    model = load.load_image_classifier(catalog.find(str(folder)), ModelChoice(name="x", dropout=0), ("a", "b"), 0)
    for name in ("one", "two"):
        pixels = np.random.default_rng(len(name)).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    images = [Pixels(str(tmp_path / f"{name}.png")) for name in ("one", "two")]
    return model, folder, lambda: model.image_logits(images)


@pytest.mark.parametrize("opened", [written, looked_at])
def test_stock_blocks_use_the_fast_library_under_the_stock_names(
    opened: Callable[[Path], tuple[Model, Path, Callable[[], Tensor]]], tmp_path: Path
) -> None:
    model, folder, say = opened(tmp_path)
    fast = [module for module in model.base.modules() if isinstance(module, FastLinear)]
    assert len(fast) >= 2 * 4
    found = {}
    for library in (BLAS, ONEDNN):
        model.matmul = library
        model.net.zero_grad()
        made = say()
        made.square().sum().backward()
        assert all(module.matmul is library for module in fast)
        found[library.name] = (
            made.detach(),
            torch.cat([p.grad.flatten() for p in model.net.parameters() if p.grad is not None]),
        )
    for a, b in zip(*found.values(), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)
    names = {name for name, _ in model.base.named_parameters()}
    from transformers import AutoModel

    assert names - {"lm_head.weight"} == {
        name for name, _ in AutoModel.from_pretrained(folder).named_parameters() if not name.startswith("pooler.")
    }


def test_a_run_multiplies_with_the_library_of_its_plan(
    encoder: Path, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, prepared = run.begin(
        recipefile.build(tiny.recipe_values(encoder, labels_csv, tmp_path, evaluate__compare=False)), None, []
    )
    plan = json.loads((directory.path / "plan.json").read_text())
    assert plan["matmul"] == prepared.model.matmul.name
    other = "blas" if plan["matmul"] == "onednn" else "onednn"
    (directory.path / "plan.json").write_text(json.dumps({**plan, "matmul": other}))
    list(run.go(directory, prepared))
    assert prepared.model.matmul.name == other
