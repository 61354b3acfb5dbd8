"""Half precision computes near what full precision computes, learns in full precision, and keeps every promise.

On a CPU, where the code is the same and the speed is not the point.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunesmith import load, recipefile, run
from tunesmith import prepare as prepare_module
from tunesmith.errors import RunError
from tunesmith.events import Updated
from tunesmith.models.precision import precision_of
from tunesmith.prepare import prepare
from tunesmith.train.accumulate import Piece, accumulate


def values_of(request: pytest.FixtureRequest, kind: str, out: Path, precision: str, **changes: Any) -> dict[str, Any]:
    model, rows = ("encoder", "labels_csv") if kind == "labels" else ("decoder", "chats_jsonl")
    found = request.getfixturevalue(model), request.getfixturevalue(rows)
    method = "full" if kind == "labels" else "lora"
    settings = {"method": method, "evaluate__compare": False, "train__precision": precision, **changes}
    values = tiny.recipe_values(*found, out, **settings)
    values["model"] = {"name": str(found[0]), "dropout": 0}
    return values


@pytest.mark.parametrize("kind", ["labels", "chats"])
def test_losses_in_bf16_follow_those_in_fp32(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        values = values_of(request, kind, tmp_path / precision, precision)
        directory, prepared = run.begin(recipefile.build(values), None, [])
        assert json.loads((directory.path / "plan.json").read_text())["precision"] == precision
        if precision == "bf16":
            assert all(p.dtype == torch.bfloat16 for p in prepared.model.net.parameters())
            assert all(p.dtype == torch.float32 for _, p in prepared.model.learned())
        losses[precision] = [e.losses["loss"] for e in run.go(directory, prepared) if isinstance(e, Updated)]
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"][0] == pytest.approx(losses["fp32"][0], rel=0.02)
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.1)


def test_a_step_smaller_than_a_half_can_tell_is_not_lost(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Steps of 1e-5 beside weights of about 0.5: bf16 alone would stand still."""
    values = values_of(request, "labels", tmp_path, "bf16", train__learning_rate=1e-5)
    directory, prepared = run.begin(recipefile.build(values), None, [])
    before = {name: tensor.clone() for name, tensor in prepared.model.state().items()}
    list(run.go(directory, prepared))
    moved = [name for name, tensor in prepared.model.state().items() if not torch.equal(tensor, before[name])]
    assert len(moved) > 0.9 * len(before) - 1
    kept = [name for name in moved if name not in prepared.model.fresh and before[name].is_floating_point()]
    far = max(float((prepared.model.state()[name] - before[name]).abs().max()) for name in kept)
    assert 0 < far < 5e-4  # what steps of that size add up to: nothing was rounded on the way


def test_gradients_of_pieces_add_up_in_full_precision(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    prepared = prepare(recipefile.build(values_of(request, "labels", tmp_path, "bf16")))
    model, examples = prepared.model, [example for row in prepared.examples[:24] for example in row]
    model.train()

    def gradient(pieces: list[Piece]) -> torch.Tensor:
        accumulate(model, prepared.task, pieces, {"loss": 24.0})
        flat = torch.cat([torch.as_tensor(p.grad).flatten() for _, p in model.learned() if p.grad is not None])
        model.forget_gradients()
        assert flat.dtype == torch.float32
        return flat

    singles = [gradient([Piece(0, [example])]) for example in examples]
    together = gradient([Piece(0, [example]) for example in examples])
    assert torch.allclose(together, torch.stack(singles).sum(0), rtol=1e-5, atol=1e-7)


def test_a_stopped_run_in_bf16_ends_in_the_same_bits(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    changes = {"precision": "bf16", "train__save_every": 1}
    whole = tiny.last_bits(values_of(request, "chats", tmp_path / "whole", **changes))
    assert tiny.last_bits(values_of(request, "chats", tmp_path / "broken", **changes), stop_at=3) == whole


def test_the_saved_model_holds_the_masters_and_the_predictor_computes_as_training_did(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    values = values_of(request, "labels", tmp_path, "bf16")
    directory, prepared = run.begin(recipefile.build(values), None, [])
    rows = list(prepared.splits.rows["test"])
    list(run.go(directory, prepared))
    trained = load_file(directory.checkpoints / "best" / "trained.safetensors")
    saved = load_file(directory.model / "model.safetensors")
    name = "encoder.layer.0.output.dense.weight"
    assert saved[name].dtype == torch.float32
    assert torch.equal(saved[name], trained[f"encoder.{name}"])
    predictor = load(directory.path)
    assert next(predictor.model.net.parameters()).dtype == torch.bfloat16
    answers = predictor.predict([row["text"] for row in rows])
    lines = (directory.path / "predictions" / "test.jsonl").read_text().splitlines()
    stored = [json.loads(line)["prediction"] for line in lines]
    assert [answer["label"] for answer in answers] == [answer["label"] for answer in stored]
    assert [answer["probability"] for answer in answers] == pytest.approx([a["probability"] for a in stored], abs=1e-6)


def test_what_never_learned_is_saved_as_it_was_pretrained(
    request: pytest.FixtureRequest, tmp_path: Path, decoder: Path
) -> None:
    from safetensors.torch import load_file

    values = values_of(request, "chats", tmp_path, "bf16", method={"name": "top-layers", "layers": 1})
    directory, _ = run.begin(recipefile.build(values), None, [])
    list(run.go(*run.resume(directory.path)))
    before, after = load_file(decoder / "model.safetensors"), load_file(directory.model / "model.safetensors")
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if ".layers.0." in name or "embed" in name} <= same
    assert "model.layers.1.mlp.up_proj.weight" not in same


def test_positions_are_made_in_full_precision(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    prepared = prepare(recipefile.build(values_of(request, "chats", tmp_path, "bf16")))
    assert prepared.model.base.rotary_emb.inv_freq.dtype == torch.float32


def test_a_run_goes_on_in_the_precision_of_its_plan(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_module, "precision_of", lambda choice, _: "bf16" if choice != "fp32" else "fp32")
    directory, prepared = run.begin(recipefile.build(values_of(request, "labels", tmp_path, "auto")), None, [])
    assert prepared.model.masters
    monkeypatch.undo()  # as on another machine, where `auto` means fp32
    _, again = run.resume(directory.path)
    assert again is not None and again.model.masters


def test_a_run_of_an_earlier_version_is_refused_in_words(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    directory, _ = run.begin(recipefile.build(values_of(request, "labels", tmp_path, "fp32")), None, [])
    plan = json.loads((directory.path / "plan.json").read_text())
    del plan["matmul"], plan["trunk"]
    (directory.path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(RunError, match="earlier version"):
        run.resume(directory.path)


def test_full_precision_is_taken_where_nobody_says_otherwise_and_no_device_is_made_for_less() -> None:
    assert precision_of("auto", torch.device("cpu")) == "fp32"
    assert precision_of("bf16", torch.device("cpu")) == "bf16"
