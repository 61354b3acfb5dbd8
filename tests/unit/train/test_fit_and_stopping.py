"""The token budget follows the memory that is allowed; training stops early when it should."""

from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith import recipefile, run
from tunesmith.errors import RecipeError
from tunesmith.events import Finished, Updated
from tunesmith.prepare import prepare
from tunesmith.train import fit


def test_a_budget_is_halved_until_the_worst_micro_batch_fits(
    encoder: Path, labels_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(recipefile.build({"model": str(encoder), "data": str(labels_csv)}))
    examples = [example for row in prepared.examples for example in row]
    before = {name: p.detach().clone() for name, p in prepared.model.net.named_parameters()}

    def measured(_: Any, __: Any, piece: Any) -> tuple[float, int]:
        return 0.1, 2**30 + 2**20 * sum(example.length for example in piece)

    found = fit.fit(prepared.model, prepared.task, examples, "auto", 64)
    assert found.budget == fit.START
    assert all((p == before[name]).all() for name, p in prepared.model.net.named_parameters())
    assert all(p.grad is None for p in prepared.model.net.parameters())
    monkeypatch.setattr(fit, "_measure", measured)
    monkeypatch.setattr(fit, "used_bytes", lambda: 2**30)  # whatever other tests of this process hold
    small = fit.fit(prepared.model, prepared.task, examples, 1.3, 64)
    assert 64 <= small.budget < fit.START
    assert small.worst_tokens <= small.budget
    with pytest.raises(RecipeError, match="may be taken"):
        fit.fit(prepared.model, prepared.task, examples, 0.5, 64)


def test_early_stopping_stops_after_so_many_looks_without_a_better_score(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    changes = {"train__epochs": 30, "evaluate__early_stopping": 2, "evaluate__compare": False}
    values = tiny.recipe_values(encoder, labels_csv, tmp_path, method="full", **changes)
    values["train"] |= {"learning_rate": 1e-9, "head_learning_rate": 1e-9}
    directory, prepared = run.begin(recipefile.build(values), None, [])
    events = list(run.go(directory, prepared))
    looks = [event for event in events if isinstance(event, Updated) and event.scores]
    assert len(looks) == 3
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "the score had stopped rising"
    assert (directory.checkpoints / "best").resolve().name == f"step_{looks[0].step:06d}"
    assert run.resume(directory.path)[1] is None


def test_a_bad_combination_fails_before_anything_is_fetched(
    chats_jsonl: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(RecipeError, match="cannot do chat"):
        prepare(recipefile.build({"model": "minilm", "task": "chat", "data": str(chats_jsonl)}))
    assert not (tmp_path / "cache").exists()
