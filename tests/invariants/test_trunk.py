"""What frozen blocks make is kept and used again, and nobody can tell but by the time it takes."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunesmith import recipefile, run
from tunesmith.cache import cache_folder, prune
from tunesmith.contracts import Tokens
from tunesmith.errors import RecipeError, StorageError
from tunesmith.events import Phase, Updated
from tunesmith.prepare import Prepared, prepare
from tunesmith.train import trunk
from tunesmith.train.accumulate import Piece, accumulate
from tunesmith.train.trunk import TrunkPlan

METHODS = [{"name": "top-layers", "layers": 1}, "head", {"name": "lora", "layers": 1, "rank": 2}]


def ready(model: Path, rows: Path, tmp_path: Path, method: Any, **changes: Any) -> Prepared:
    return prepare(recipefile.build(tiny.recipe_values(model, rows, tmp_path, method=method, **changes)))


def on_disk(model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Prepared, TrunkPlan]:
    """A net whose table goes to a file of a cache of its own, however small it is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(trunk, "_SHARED_BYTES", 0)
    prepared = ready(model, rows, tmp_path, METHODS[0])
    return prepared, prepared.trunk_plan()


def gradient(prepared: Prepared) -> tuple[float, torch.Tensor]:
    examples = [example for row in prepared.examples[:16] for example in row]
    prepared.model.train()
    losses = {
        name: float(loss)
        for name, loss in accumulate(
            prepared.model, prepared.task, [Piece(5, examples)], prepared.task.weights(examples)
        ).items()
    }
    flat = torch.cat([torch.as_tensor(p.grad).flatten() for _, p in prepared.model.trained()])
    prepared.model.net.zero_grad(set_to_none=True)
    return losses["loss"], flat


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("kind", ["bert", "llama", "modernbert", "gpt2"])
def test_the_update_is_the_same_with_and_without_what_was_kept(
    method: Any, kind: str, labels_csv: Path, chats_jsonl: Path, tmp_path: Path
) -> None:
    """Dropout is on: it acts in the blocks that learn, and draws the same numbers either way."""
    reads = "bert" in kind
    make = tiny.make_encoder if reads else tiny.make_decoder
    folder, rows = make(tmp_path / kind, kind), labels_csv if reads else chats_jsonl
    prepared = ready(folder, rows, tmp_path, method)
    plan = prepared.trunk_plan()
    assert plan.blocks == (2 if method == "head" else 1)
    loss, plain = gradient(prepared)
    prepared.model.kept = trunk.fill(prepared.model, plan, prepared.seen_rows(), "x")
    kept_loss, kept = gradient(prepared)
    assert kept_loss == pytest.approx(loss, rel=1e-6)
    assert float(plain.norm()) > 1e-3 and float((kept - plain).norm() / plain.norm()) < 1e-6


def test_a_whole_run_scores_the_same_with_and_without_it(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    found = {}
    for choice in ("auto", "off", "fp16"):
        values = tiny.recipe_values(encoder, labels_csv, tmp_path / choice, method=METHODS[0], train__cache=choice)
        directory, prepared = run.begin(recipefile.build(values), None, [])
        events = list(run.go(directory, prepared))
        found[choice] = [event for event in events if isinstance(event, Updated)]
        plan = json.loads((directory.path / "plan.json").read_text())["trunk"]
        assert plan["blocks"] == (0 if choice == "off" else 1)
        ran = [event for event in events if isinstance(event, Phase) and "frozen blocks" in event.name]
        assert len(ran) == (choice != "off")
    for choice, close in (("auto", 1e-5), ("fp16", 2e-2)):
        for kept, plain in zip(found[choice], found["off"], strict=True):
            assert kept.losses["loss"] == pytest.approx(plain.losses["loss"], rel=close)
    assert [u.losses for u in found["fp16"]] != [u.losses for u in found["off"]]


def test_a_run_that_was_stopped_fills_it_again_and_ends_in_the_same_bits(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    changes = {"method": METHODS[0], "evaluate__compare": False, "train__save_every": 2}
    whole = tiny.last_bits(tiny.recipe_values(encoder, labels_csv, tmp_path / "whole", **changes))
    assert tiny.last_bits(tiny.recipe_values(encoder, labels_csv, tmp_path / "broken", **changes), stop_at=5) == whole


def test_a_table_on_disk_is_found_again_by_all_it_depends_on_and_made_anew_when_torn(
    encoder: Path, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, plan = on_disk(encoder, labels_csv, tmp_path, monkeypatch)
    assert plan.place == "disk" and plan.bytes > 0
    rows = prepared.seen_rows()
    ran = []
    filled = trunk._run
    monkeypatch.setattr(trunk, "_run", lambda *a: (ran.append(1), filled(*a)))
    first = trunk.fill(prepared.model, plan, rows, "weights 1")
    again = trunk.fill(prepared.model, plan, rows, "weights 1")
    assert len(ran) == 1 and torch.equal(first.table, again.table)
    file = next(cache_folder("trunk").glob("*.trunk"))
    assert file.stat().st_size == plan.bytes
    for other in (lambda: trunk.fill(prepared.model, plan, rows, "weights 2"),
                  lambda: trunk.fill(prepared.model, plan, [*rows[:-1], Tokens((5, 6, 7))], "weights 1")):  # fmt: skip
        before = len(ran)
        other()
        assert len(ran) == before + 1  # one weight or one character more: a miss
    bits = first.table.clone()
    del first, again
    for size in (plan.bytes // 2, plan.bytes):  # cut short, and of the right size but never written to the end
        file.write_bytes(bytes(size))
        healed = trunk.fill(prepared.model, plan, rows, "weights 1")
        assert torch.equal(healed.table, bits) and file.stat().st_size == plan.bytes
        del healed
    before = len(ran)
    prepared.model.halve()
    trunk.fill(prepared.model, plan, rows, "weights 1")
    assert len(ran) == before + 1  # what half precision makes is another table


def test_runs_over_the_same_rows_share_a_table_on_disk(
    encoder: Path, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk(encoder, labels_csv, tmp_path, monkeypatch)
    ran = []
    filled = trunk._run
    monkeypatch.setattr(trunk, "_run", lambda *a: (ran.append(1), filled(*a)))
    for rate in (1e-3, 1e-4, 1e-5):
        trial = {"method": METHODS[0], "train__learning_rate": rate, "evaluate__compare": False}
        run.train_recipe(recipefile.build(tiny.recipe_values(encoder, labels_csv, tmp_path / str(rate), **trial)))
    assert len(ran) == 1


def test_nothing_is_kept_where_it_cannot_pay_or_be_right(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    nothing = TrunkPlan()
    assert ready(encoder, labels_csv, tmp_path, "full").trunk_plan() == nothing
    assert ready(encoder, labels_csv, tmp_path, "lora").trunk_plan() == nothing
    assert ready(encoder, labels_csv, tmp_path, "head", train__epochs=1).trunk_plan() == nothing
    prepared = ready(encoder, labels_csv, tmp_path, "head")
    assert prepared.trunk_plan().blocks == 2
    next(prepared.model.base.parameters()).requires_grad_(True)  # an embedding learns
    assert prepared.trunk_plan() == nothing


def test_a_row_that_was_not_kept_is_computed(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    prepared = ready(encoder, labels_csv, tmp_path, METHODS[0])
    model = prepared.model
    strange = [Tokens((2, 9, 9, 9, 3)), prepared.examples[0][0].parts["text"]]
    model.net.eval()
    with torch.no_grad():
        plain = model.class_logits(strange)
        model.kept = trunk.fill(model, prepared.trunk_plan(), prepared.seen_rows(), "x")
        assert torch.allclose(model.class_logits(strange), plain, atol=1e-6)


def test_a_disk_that_is_full_or_a_folder_that_cannot_be_had_is_no_traceback_and_no_torn_table(
    encoder: Path, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    prepared, plan = on_disk(encoder, labels_csv, tmp_path, monkeypatch)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(StorageError, match="no space left"):
            trunk.fill(prepared.model, plan, prepared.seen_rows(), "weights")
    assert not list(cache_folder("trunk").iterdir())
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    assert prepared.trunk_plan().place == "memory"
    monkeypatch.setattr(trunk, "_MEMORY_SHARE", 0.0)
    assert prepared.trunk_plan() == TrunkPlan()


def test_tables_that_nobody_uses_and_halves_of_dead_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache_folder("trunk")
    for name, days in (
        ("a.trunk", 31),
        ("a.sha256", 31),
        ("b.trunk", 29),
        (".c.trunk.1.tmp", 2),
        (".d.trunk.2.tmp", 0),
    ):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (0, time.time() - days * 86_400))
    prune(folder)
    assert sorted(path.name for path in folder.iterdir()) == [".d.trunk.2.tmp", "b.trunk"]


def test_a_value_that_half_precision_cannot_hold_is_said(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    prepared = ready(encoder, labels_csv, tmp_path, METHODS[0], train__cache="fp16")
    with torch.no_grad():
        prepared.model.base.encoder.layer[0].output.LayerNorm.bias.fill_(1e5)
    with pytest.raises(RecipeError, match="half precision"):
        trunk.fill(prepared.model, prepared.trunk_plan(), prepared.seen_rows(), "x")


def test_what_was_kept_comes_in_the_dtype_of_the_net(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    prepared = ready(encoder, labels_csv, tmp_path, METHODS[0])
    rows = prepared.seen_rows()[:2]
    kept = trunk.fill(prepared.model, prepared.trunk_plan(), rows, "x")
    found = kept.take(rows, 3, torch.zeros(1, dtype=torch.bfloat16))
    assert found is not None and found.dtype == torch.bfloat16
    assert len(found) == sum(len(row.ids) for row in rows) + 3


def test_tables_lie_in_the_cache_that_models_lie_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "own"))
    assert cache_folder("trunk") == tmp_path / "own" / "trunk"


def test_no_row_is_encoded_to_plan_where_nothing_is_frozen(
    encoder: Path, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = ready(encoder, labels_csv, tmp_path, "full")
    monkeypatch.setattr(Prepared, "seen_rows", lambda _: pytest.fail("rows were asked for"))
    assert prepared.trunk_plan() == TrunkPlan()
