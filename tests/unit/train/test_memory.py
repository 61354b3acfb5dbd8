"""Training keeps under the memory it may take, and changes nothing by how it does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunesmith import recipefile, run
from tunesmith.errors import OutOfMemory
from tunesmith.events import Updated, Warned
from tunesmith.models.loss import label_positions
from tunesmith.models.segments import Look, pairs
from tunesmith.prepare import Prepared, prepare
from tunesmith.train import fit
from tunesmith.train.accumulate import Piece, accumulate


def gradient(prepared: Prepared) -> tuple[float, torch.Tensor]:
    examples = [example for row in prepared.examples[:12] for example in row]
    prepared.model.net.train()
    losses = {
        name: float(loss)
        for name, loss in accumulate(
            prepared.model, prepared.task, [Piece(5, examples)], prepared.task.weights(examples)
        ).items()
    }
    found = [p.grad for _, p in prepared.model.trained() if p.grad is not None]
    flat = torch.cat([grad.flatten() for grad in found])
    prepared.model.net.zero_grad(set_to_none=True)
    return losses["loss"], flat


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2", "gemma2"])
def test_computing_blocks_again_gives_the_same_gradient_to_the_bit_with_dropout(
    kind: str, method: str, labels_csv: Path, chats_jsonl: Path, tmp_path: Path
) -> None:
    make = tiny.make_encoder if kind == "bert" else tiny.make_decoder
    folder, rows = make(tmp_path / kind, kind), labels_csv if kind == "bert" else chats_jsonl
    values = tiny.recipe_values(folder, rows, tmp_path, method=method)
    prepared = prepare(recipefile.build({**values, "model": {"name": str(folder), "dropout": 0.2}}))
    loss, plain = gradient(prepared)
    again = gradient(prepared)
    prepared.model.checkpointing = True
    saved, less = gradient(prepared)
    assert again[0] == loss == saved
    assert torch.equal(plain, less)
    assert float(plain.norm()) > 1e-3


def test_memory_that_runs_out_makes_pieces_smaller_and_changes_the_update_by_rounding_only(
    encoder: Path, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = tiny.recipe_values(encoder, labels_csv, tmp_path, method="full", evaluate__compare=False)
    values["model"] = {"name": str(encoder), "dropout": 0}
    calm, prepared = run.begin(recipefile.build(values), None, [])
    plain = [event for event in run.go(calm, prepared) if isinstance(event, Updated)]

    task_loss = type(prepared.task).loss

    def scarce(self: Any, model: Any, examples: Any) -> Any:
        if sum(example.length for example in examples) > 40 and model.net.training:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return task_loss(self, model, examples)

    values["run"] = {"dir": str(tmp_path / "scarce")}
    tight, prepared = run.begin(recipefile.build(values), None, [])
    monkeypatch.setattr(type(prepared.task), "loss", scarce)
    events = list(run.go(tight, prepared))
    updates = [event for event in events if isinstance(event, Updated)]
    said = [event.message for event in events if isinstance(event, Warned) and "memory ran out" in event.message]
    assert said and json.loads((tight.path / "plan.json").read_text())["budget"] == updates[-1].budget <= 40
    assert [u.losses["loss"] for u in updates] == pytest.approx([u.losses["loss"] for u in plain], rel=2e-4)
    assert updates[0].losses["loss"] == pytest.approx(plain[0].losses["loss"], rel=1e-6)


def test_a_row_that_does_not_fit_alone_is_an_error_and_no_endless_loop(
    encoder: Path, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = tiny.recipe_values(encoder, labels_csv, tmp_path, method="full", evaluate__compare=False)
    directory, prepared = run.begin(recipefile.build(values), None, [])

    def never(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(prepared.task), "loss", never)
    with pytest.raises(OutOfMemory):
        list(run.go(directory, prepared))


def test_checkpointing_is_taken_where_the_memory_is_too_small_without(
    encoder: Path, labels_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(recipefile.build({"model": str(encoder), "data": str(labels_csv)}))
    examples = [example for row in prepared.examples for example in row]

    def measured(model: Any, _: Any, piece: Any) -> tuple[float, int]:
        tokens = sum(example.length for example in piece)
        return 0.1, 2**30 + (2**20 if model.checkpointing else 2**23) * tokens

    monkeypatch.setattr(fit, "_measure", measured)
    monkeypatch.setattr(fit, "resident_bytes", lambda: 2**30)
    roomy = fit.fit(prepared.model, prepared.task, examples, 40, 64)
    assert (roomy.budget, roomy.checkpointing) == (fit.START, False)
    assert roomy.measured_tokens < roomy.worst_tokens  # foretold, not run
    run_whole = fit.fit(prepared.model, prepared.task, examples, 40, 64, thorough=True)
    assert run_whole.measured_tokens == run_whole.worst_tokens
    assert roomy.peak_bytes == pytest.approx(run_whole.peak_bytes, rel=0.05)
    tight = fit.fit(prepared.model, prepared.task, examples, 1.7, 64)
    assert tight.checkpointing and prepared.model.checkpointing
    assert tight.peak_bytes <= 1.7 * 2**30


def test_a_piece_that_a_device_has_no_memory_for_is_measured_as_too_large(
    encoder: Path, labels_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(recipefile.build({"model": str(encoder), "data": str(labels_csv)}))
    examples = [example for row in prepared.examples for example in row]
    given = fit.accumulate

    def scarce(model: Any, task: Any, pieces: Any, weights: Any) -> Any:
        if sum(example.length for example in pieces[0].examples) > 500:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return given(model, task, pieces, weights)

    monkeypatch.setattr(fit, "accumulate", scarce)
    assert fit.fit(prepared.model, prepared.task, examples, 40, 64, thorough=True).budget <= 512


def test_tokens_looked_at_in_long_rows_take_no_more_than_was_foretold(tmp_path: Path) -> None:
    """Nearly all of a long row is learned: attention at some tokens only would keep [heads, asked, length]."""
    folder = tiny.make_decoder(tmp_path / "long", "llama", 4096)
    words = " ".join(tiny.WORDS * 14)
    rows = tiny.write_jsonl(tmp_path / "rows.jsonl", [{"prompt": f"where {n}", "completion": words} for n in range(30)])
    values = tiny.recipe_values(folder, rows, tmp_path, method={"name": "top-layers", "layers": 1})
    prepared = prepare(recipefile.build(values))
    row = prepared.examples[0][0].parts["text"]
    assert len(row.ids) > 1000
    positions, _, _ = label_positions([row], torch.device("cpu"))
    stream = prepared.model.stream([row])
    look = Look(positions, tuple(positions.tolist()))
    assert pairs(stream, look, beginnings=False) > 0.8 * len(row.ids) ** 2
    assert prepared.model._wide(stream, look)
    short = Look(positions[:2], tuple(positions[:2].tolist()))
    assert not prepared.model._wide(stream, short)
    with torch.no_grad():
        whole = prepared.model.states([row])[0]
        assert torch.allclose(prepared.model.states_at([row], positions), whole[positions], atol=1e-5)
        assert torch.allclose(prepared.model.states_at([row], positions[:2]), whole[positions[:2]], atol=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is Linux's")
def test_training_ends_under_a_limit_of_address_space_when_it_was_told_the_memory(tmp_path: Path) -> None:
    """A wider encoder on long rows: one micro-batch of all rows needs far more than is allowed the second time, and
    dies of it the third time, when the plan is told that it may."""
    rows = [{"text": f"{' '.join(tiny.WORDS[:40])} {n}", "label": "ab"[n % 2]} for n in range(64)]
    data = tiny.write_csv(tmp_path / "long.csv", rows)
    wide = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 14}
    folder = tiny.make_encoder(tmp_path / "wide", "bert", **wide)
    code = f"""
import json, resource, sys
from tunesmith import recipefile, run
from tunesmith.models.precision import release_freed_memory
from tunesmith.train import fit
memory, spare = sys.argv[1:]
values = {{"model": {str(folder)!r}, "task": "text-classification", "method": "lora",
          "data": {{"train": {str(data)!r}}}, "train": {{"steps": 2, "batch_size": 64, "memory": float(memory)}},
          "evaluate": {{"compare": False}}, "run": {{"dir": {str(tmp_path / "runs")!r}}}}}
directory, prepared = run.begin(recipefile.build(values), None, [])
if spare == "measure":
    examples = [example for row in prepared.examples for example in row]
    found = fit.fit(prepared.model, prepared.task, examples, 40, 64, thorough=True)
    release_freed_memory()
    print(json.dumps([found.peak_bytes, fit.resident_bytes()]))
    sys.exit()
space = int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (space + int(spare),) * 2)
for event in run.go(directory, prepared):
    pass
print(json.dumps(directory.json("plan")["budget"]))
"""

    def child(memory: float, spare: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "ignore", "-c", code, str(memory), spare]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    peak, resident = json.loads(child(40, "measure").stdout.splitlines()[-1])
    half = (peak - resident) // 2
    spare = half + 2**27  # address space is more than memory: code that oneDNN writes, what the heap grows by at once
    assert spare < 0.85 * (peak - resident)
    tight = child((resident + half) / 2**30, str(spare))
    assert tight.returncode == 0, tight.stderr
    assert json.loads(tight.stdout.splitlines()[-1]) < fit.START
    careless = child(40, str(half))  # without the room for oneDNN's code, which BLAS would put to use
    assert careless.returncode != 0
    assert "memory" in careless.stderr or "could not create a primitive" in careless.stderr  # oneDNN's words for it
