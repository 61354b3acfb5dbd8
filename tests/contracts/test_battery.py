"""Every task with every method: learns, moves what it declares, freezes the rest, restores, answers the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from tunesmith import load as load_run
from tunesmith import plugins, recipefile, run
from tunesmith.events import Finished, Updated
from tunesmith.prepare import prepare
from tunesmith.train import evaluate
from tunesmith.train.accumulate import Piece, accumulate
from tunesmith.train.evaluate import judge
from tunesmith.train.optimizer import Schedule, make_optimizer

PAIRS = [
    (task, family, method)
    for task in plugins.names("tasks")
    for family in ("encoder", "decoder")
    for method in plugins.names("methods")
    if family in plugins.load("tasks", task).families
]


def close_to(answer: dict[str, Any]) -> dict[str, Any]:
    """Numbers to rounding: another batch around a row may change its last bits."""
    return {
        key: pytest.approx(value, abs=1e-5) if isinstance(value, float | dict) else value
        for key, value in answer.items()
    }


@pytest.fixture
def values(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    def make(task: str, family: str, method: str, **changes: Any) -> dict[str, Any]:
        model = request.getfixturevalue(family)
        rows = request.getfixturevalue("chats_jsonl" if task == "chat" else "labels_csv")
        return tiny.recipe_values(model, rows, tmp_path / "runs", task=task, method=method, **changes)

    return make


@pytest.mark.parametrize(("task", "family", "method"), PAIRS)
def test_what_is_declared_moves_and_the_rest_stays_to_the_bit(values: Any, task: str, family: str, method: str) -> None:
    prepared = prepare(recipefile.build(values(task, family, method)))
    model = prepared.model
    before = {name: p.detach().clone() for name, p in model.net.named_parameters()}
    optimizer = make_optimizer(model.trained(), model.fresh, 1e-2, 1e-2, 0.01)
    Schedule(9, 0, "constant", 1.0).apply(optimizer, 0)
    examples = [example for row in prepared.examples for example in row]
    for step in range(3):
        accumulate(model, prepared.task, [Piece(step, examples)], prepared.task.weights(examples))
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, p in model.net.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, _ in model.trained()}
    assert model.fresh <= moved


@pytest.mark.parametrize(("task", "family", "method"), PAIRS)
def test_a_run_learns_restores_and_answers_the_same(values: Any, task: str, family: str, method: str) -> None:
    rate = {"lora": 1e-2, "head": 5e-2}.get(method, 3e-3)
    epochs = 6 if task == "chat" else 20
    made = values(task, family, method, train__epochs=epochs, train__learning_rate=rate, evaluate__answers=2)
    directory, prepared = run.begin(recipefile.build(made), None, [])
    events = list(run.go(directory, prepared))
    losses = [event.losses["loss"] for event in events if isinstance(event, Updated)]
    epoch = len(losses) // epochs
    assert sum(losses[-epoch:]) < 0.95 * sum(losses[:epoch])
    assert isinstance(events[-1], Finished)

    again = load_run(directory.path)
    rows = prepared.splits.rows[prepared.final_split]
    scored = again.evaluate()["scores"][prepared.final_split]
    reported = directory.json("report/report")["scores"][prepared.final_split]
    assert scored == reported
    lines = (directory.path / "predictions" / "test.jsonl").read_text().splitlines()
    row = rows[0]
    question = {"text": row["text"]} if task != "chat" else {"messages": row["messages"][:-1]}
    assert again.predict([question])[0] == close_to(json.loads(lines[0])["prediction"])


@pytest.mark.parametrize(("task", "family"), sorted({pair[:2] for pair in PAIRS}))
def test_scores_do_not_depend_on_how_rows_are_put_together(
    values: Any, task: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(recipefile.build(values(task, family, "full")))
    together = judge(prepared.model, prepared.task, prepared.train_rows, answers=4)
    monkeypatch.setattr(evaluate, "BUDGET", 1)
    alone = judge(prepared.model, prepared.task, prepared.train_rows, answers=4)
    for name, matrix in together.measured.values.items():
        assert np.allclose(matrix, alone.measured.values[name], atol=1e-4), name


def test_head_of_a_model_with_tied_embeddings_is_refused_with_a_reason(chats_jsonl: Path, tmp_path: Path) -> None:
    folder = tiny.make_decoder(tmp_path / "tied", tied=True)
    with pytest.raises(recipefile.RecipeError, match="input embedding"):
        prepare(recipefile.build(tiny.recipe_values(folder, chats_jsonl, tmp_path, method="head")))
