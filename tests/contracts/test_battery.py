"""Every task with every method: learns, moves what it declares, freezes the rest, restores, answers the same."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import samples
import tiny
from tunesmith import load as load_run
from tunesmith import plugins, recipefile, run
from tunesmith.events import Finished, Updated
from tunesmith.models import adapted, decode, embed
from tunesmith.prepare import prepare
from tunesmith.reportshape import Report
from tunesmith.train import evaluate
from tunesmith.train.accumulate import Piece, accumulate
from tunesmith.train.evaluate import judge
from tunesmith.train.optimizer import Schedule, make_optimizer

FAMILIES = [
    (task, family)
    for task in plugins.names("tasks")
    for family in ("encoder", "decoder", "encoder-decoder", "vision")
    if family in plugins.load("tasks", task).families
]
WINDOWED = ("token-classification", "question-answering")
"""Tasks that read a long text in pieces."""
HEADLESS = ("retrieval",)
"""Tasks that read the trunk's own states. Encoder-decoders have no head either: it is their embedding."""
PAIRS = [
    (task, family, method)
    for task, family in FAMILIES
    for method in plugins.names("methods")
    if not (method == "head" and (task in HEADLESS or family == "encoder-decoder"))
    and not (method == "bitfit" and family == "decoder")  # LLaMA's blocks have no biases: refused, with the reason
    and not (method == "prompt-tuning" and family == "vision")  # refused, with the reason
]


def close_to(answer: Any, by: float = 1e-5) -> Any:
    """Numbers to rounding: another batch around a row may change its last bits."""
    if isinstance(answer, dict):
        return {key: close_to(value, by) for key, value in answer.items()}
    if isinstance(answer, list):
        return [close_to(value, by) for value in answer]
    return pytest.approx(answer, abs=by) if isinstance(answer, float) else answer


def asked_of(task: str, prepared: Any, row: Any) -> dict[str, Any]:
    """A row of the file as a user would ask it: without its answer."""
    raw = samples.ROWS[task]()[row.line - 1]
    target = {name for name, column in prepared.task.columns.items() if column.target}
    if "image" in raw:
        raw["image"] = row["image"]
    return {k: v[:-1] if k == "messages" else v for k, v in raw.items() if k not in target}


def test_every_task_has_rows_for_the_battery() -> None:
    assert set(samples.ROWS) == set(plugins.names("tasks"))


@pytest.mark.parametrize(("task", "family"), FAMILIES)
@pytest.mark.parametrize("max_tokens", [None, 12])
def test_gold_encoded_then_decoded_scores_the_most_that_can_be_scored(
    values: Any, task: str, family: str, max_tokens: int | None
) -> None:
    if not plugins.load("tasks", task).asks:
        pytest.skip("the task is measured by its loss alone")
    if max_tokens is not None and (family != "encoder" or task not in WINDOWED):
        pytest.skip("only texts that are read in windows are cut without a loss")
    options = {"task": {"name": task, "stride": 4}, "data__max_tokens": max_tokens} if max_tokens else {"task": task}
    made = values(task, family, "full")
    for key, value in options.items():
        made |= {key: value} if key == "task" else {"data": {**made["data"], "max_tokens": value}}
    prepared = prepare(recipefile.build(made))
    known, rows = prepared.task, prepared.train_rows
    if max_tokens is not None:
        assert any(len(examples) > 1 for examples in prepared.examples)
    outputs = [
        samples.gold(task, known, row, known.encode(row, prepared.model, "learn"), prepared.model) for row in rows
    ]
    answers = [known.decode(row, found) for row, found in zip(rows, outputs, strict=True)]
    scores = evaluate.value_of(known, evaluate.judge_answers(known, rows, answers).measured)
    name, best = samples.BEST.get(task, (known.headline.name, 1.0))
    assert scores[name] == pytest.approx(best)


@pytest.mark.parametrize(("task", "family"), FAMILIES)
def test_nothing_of_the_answer_is_in_what_a_model_is_asked(values: Any, task: str, family: str) -> None:
    prepared = prepare(recipefile.build(values(task, family, "full")))
    known = prepared.task
    target = {name for name, column in known.columns.items() if column.target}
    for row in prepared.train_rows[:20]:
        bare = {k: v for k, v in row.values.items() if not k.startswith("label") and k not in target}
        if task == "chat":
            bare["messages"] = row["messages"][:-1]
        asked = [known.encode(replace(row, values=v), prepared.model, "answer") for v in (row.values, bare)]
        assert asked[0] == asked[1]


@pytest.mark.parametrize(("task", "family"), FAMILIES)
def test_what_is_asked_begins_what_was_learned(values: Any, task: str, family: str) -> None:
    prepared = prepare(recipefile.build(values(task, family, "full")))
    for row in prepared.train_rows[:20]:
        asked = prepared.task.encode(row, prepared.model, "answer")
        learned = prepared.task.encode(row, prepared.model, "learn")
        for a, b in zip(asked, learned, strict=True):
            if "image" in a.parts:
                assert a.parts == b.parts
                continue
            ids = a.parts["text"].ids
            assert b.parts["text"].ids[: len(ids)] == ids
            assert prepared.model.kind == "causal-lm" or len(b.parts["text"].ids) == len(ids)


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
    rate = {
        "lora": 3e-3 if family == "encoder" else 1e-2,
        "head": 1e-2 if task == "text-regression" else 5e-2,
        "ia3": 0.1,
        "prompt-tuning": 0.1,
        "peft": 1e-2,
        "bottleneck": 1e-3 if task == "retrieval" else 3e-3,
        "bitfit": 1e-2,
    }.get(method, 3e-3)
    epochs = {"encoder": 20, "encoder-decoder": 12}.get(family, 20 if task in samples.LABELLED else 6)
    if method == "ia3" or family == "encoder":  # a random trunk, through few numbers
        epochs *= {"lora": 2, "ia3": 2, "bitfit": 6, "bottleneck": 2, "peft": 3}.get(method, 1)
    # Two or three looks and checkpoints a run, not one an epoch: they take longer than updates of nets this small.
    options = {"train__epochs": epochs, "train__learning_rate": rate, "evaluate__every": 4 * epochs}
    made = values(task, family, method, evaluate__answers=2, **options)
    directory, prepared = run.begin(recipefile.build(made), None, [])
    events = list(run.go(directory, prepared))
    losses = [event.losses["loss"] for event in events if isinstance(event, Updated)]
    epoch = len(losses) // epochs
    if method != "prompt-tuning":  # a random trunk hears too little of it: tests/unit/models/test_prompt.py
        assert sum(losses[-epoch:]) < 0.95 * sum(losses[:epoch])
    assert isinstance(events[-1], Finished)

    again = load_run(directory.path)
    rows = prepared.splits.rows[prepared.final_split]
    scored = again.evaluate()["scores"][prepared.final_split]
    report = Report.model_validate(directory.json("report/report"))
    assert report.compared and report.curves.looks and report.cost.seconds["train"] > 0
    reported = directory.json("report/report")["scores"][prepared.final_split]
    assert scored == reported
    verified = directory.json("report/report")["verified"]
    assert verified and all(check["holds"] is not False for check in verified), verified
    if not prepared.task.asks:
        return
    lines = (directory.path / "predictions" / "test.jsonl").read_text().splitlines()
    written = json.loads(lines[0])
    assert again.predict([asked_of(task, prepared, rows[0])])[0] == close_to(written["prediction"])


PADDED = [(task, method) for task, family, method in PAIRS if family == "encoder"]


@pytest.mark.parametrize(("task", "method"), PADDED)
def test_in_padded_batches_a_task_moves_what_it_declares_and_answers_the_same_alone(
    values: Any, task: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_what_is_declared_moves_and_the_rest_stays_to_the_bit(values, task, "padded", method)
    if method == "full":
        test_scores_do_not_depend_on_how_rows_are_put_together(values, task, "padded", monkeypatch)


@pytest.mark.parametrize(("task", "family"), FAMILIES)
def test_scores_do_not_depend_on_how_rows_are_put_together(
    values: Any, task: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(recipefile.build(values(task, family, "full")))
    together = judge(prepared.model, prepared.task, prepared.train_rows, answers=4)
    for module, name in ((evaluate, "BUDGET"), (evaluate, "_PROMPTS"), (embed, "_BUDGET"), (decode, "ROWS")):
        monkeypatch.setattr(module, name, 1)
    alone = judge(prepared.model, prepared.task, prepared.train_rows, answers=4)
    for name, matrix in together.measured.values.items():
        assert np.allclose(matrix, alone.measured.values[name], atol=1e-4), name


def test_head_of_a_model_with_tied_embeddings_is_refused_with_a_reason(chats_jsonl: Path, tmp_path: Path) -> None:
    folder = tiny.make_decoder(tmp_path / "tied", tied=True)
    with pytest.raises(recipefile.RecipeError, match="input embedding"):
        prepare(recipefile.build(tiny.recipe_values(folder, chats_jsonl, tmp_path, method="head")))


@pytest.mark.parametrize("task", HEADLESS)
def test_head_of_a_model_without_one_is_refused_with_a_reason(values: Any, task: str) -> None:
    with pytest.raises(recipefile.RecipeError, match="has no head"):
        prepare(recipefile.build(values(task, "encoder", "head")))


@pytest.mark.parametrize(("task", "family"), FAMILIES)
def test_adapters_merged_into_the_weights_keep_the_answers(values: Any, task: str, family: str) -> None:
    prepared = prepare(recipefile.build(values(task, family, "lora")))
    model, known = prepared.model, prepared.task
    generator = torch.Generator().manual_seed(0)
    for _, adapter in adapted.found(model.net):
        adapter.lora_B.data = 0.05 * torch.randn(adapter.lora_B.shape, generator=generator)
    rows = prepared.splits.rows["validation"][:4]
    before = evaluate.judge(model, known, rows, answers=2)
    adapted.merge(model.net)
    assert not list(adapted.found(model.net))
    after = evaluate.judge(model, known, rows, answers=2)
    assert before.answers == close_to(after.answers, 1e-3)
    for name, matrix in before.measured.values.items():
        assert np.allclose(matrix, after.measured.values[name], rtol=1e-3, atol=1e-3), name
