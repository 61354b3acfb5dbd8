"""What is chosen, and by what: the checkpoint by one metric of the validation rows, never by test rows; scores by gold
that no context cut."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import samples
import tiny
from tunesmith import attempt, recipefile, run
from tunesmith.contracts import Row
from tunesmith.events import Updated
from tunesmith.models import catalog, load
from tunesmith.prepare import Prepared
from tunesmith.recipe import ModelChoice
from tunesmith.rundir import RunDir
from tunesmith.tasks.summarization import Summarization
from tunesmith.tasks.token_classification import TokenClassification
from tunesmith.train import checkpoint

Scripted = Callable[[list[dict[str, float]]], None]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Have the looks at the validation rows give these scores, one after the other."""

    def give(scores: list[dict[str, float]]) -> None:
        rest = iter(scores)
        monkeypatch.setattr(attempt, "value_of", lambda *_: next(rest))

    return give


def begun(model: Path, rows: Path, out: Path, **changes: Any) -> tuple[RunDir, Prepared]:
    changes = {"evaluate__compare": False, "evaluate__answers": 0, **changes}
    return run.begin(recipefile.build(tiny.recipe_values(model, rows, out, **changes)), None, [])


LABELS = [
    {"macro_f1": 0.5, "accuracy": 0.9, "mean_row_loss": 9.0},
    {"macro_f1": 0.7, "accuracy": 0.6, "mean_row_loss": 1.0},
    {"macro_f1": 0.6, "accuracy": 0.9, "mean_row_loss": 0.1},
]
CHATS = [{"mean_token_loss": 2.0, "other": 9.0}, {"mean_token_loss": 1.0, "other": 0.0},
         {"mean_token_loss": 1.5, "other": 5.0}]  # fmt: skip


@pytest.mark.parametrize("kind", ["labels", "chats"])
def test_the_best_checkpoint_is_that_of_the_declared_metric_in_its_direction(
    kind: str, scripted: Scripted, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Of three looks the second is best by the task's own metric, and by no other, nor by all together."""
    scripted(LABELS if kind == "labels" else CHATS)
    model, rows = ("encoder", "labels_csv") if kind == "labels" else ("decoder", "chats_jsonl")
    given = request.getfixturevalue(model), request.getfixturevalue(rows)
    directory, prepared = begun(*given, tmp_path, train__epochs=3, method="lora")
    looks = []
    for event in run.go(directory, prepared):
        if isinstance(event, Updated) and event.scores:
            looks.append(event.step)
        elif len(looks) == 3:  # the last look's checkpoint is written
            break
    assert (directory.checkpoints / "best").resolve().name == f"step_{looks[1]:06d}"


def test_what_is_saved_and_scored_is_the_best_checkpoint(
    scripted: Scripted, encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    scripted(LABELS)
    directory, prepared = begun(encoder, labels_csv, tmp_path, train__epochs=3, method="full")
    list(run.go(directory, prepared))
    best, last = (checkpoint.read(directory.checkpoints / name)[0] for name in ("best", "last"))
    name = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(best[f"encoder.{name}"], last[f"encoder.{name}"])
    assert torch.equal(load_file(directory.model / "model.safetensors")[name], best[f"encoder.{name}"])
    assert all(torch.equal(tensor, best[name]) for name, tensor in prepared.model.state().items())


def many_labels(folder: Path, test: list[dict[str, Any]]) -> dict[str, str]:
    """Files of rows with several labels; the test rows as given."""
    rows = samples.labels_rows(110)
    parts = {"train": rows[:60], "validation": rows[60:85], "test": test}
    folder.mkdir()
    return {name: str(tiny.write_jsonl(folder / f"{name}.jsonl", part)) for name, part in parts.items()}


def test_other_test_rows_change_neither_the_looks_nor_the_choice(encoder: Path, tmp_path: Path) -> None:
    test = samples.labels_rows(110)[85:]
    found = []
    for number, rows in enumerate([test, [{**row, "labels": ["late"]} for row in test]]):
        values = tiny.recipe_values(encoder, tmp_path, tmp_path / f"runs{number}", evaluate__compare=False)
        values |= {"data": many_labels(tmp_path / f"rows{number}", rows), "task": "multi-label-classification"}
        directory = tiny.train_to_end(values)
        looks = [(e.step, e.scores, e.losses) for e in directory.events() if isinstance(e, Updated)]
        scores = directory.json("report/report")["scores"]["test"]["micro_f1"]
        found.append((looks, (directory.checkpoints / "best").resolve().name, directory.json("task"), scores))
    assert found[0][:3] == found[1][:3]
    assert found[0][3] != found[1][3]


def test_a_look_in_the_middle_of_training_scores_without_dropout(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    values = tiny.recipe_values(encoder, labels_csv, tmp_path, method="full", evaluate__compare=False)
    values["model"] = {"name": str(encoder), "dropout": 0.4}
    directory, prepared = run.begin(recipefile.build(values), None, [])
    model, labels = prepared.model, prepared.task.classes()
    for event in run.go(directory, prepared):
        if isinstance(event, Updated) and event.scores:
            rows = prepared.splits.rows["validation"]
            model.net.eval()
            with torch.no_grad():
                logs = model.class_logits([model.text.text(row["text"]) for row in rows]).double().log_softmax(-1)
            model.net.train()
            mine = -float(logs[torch.arange(len(rows)), [labels.index(row["label"]) for row in rows]].mean())
            assert event.scores["mean_row_loss"] == pytest.approx(mine, rel=1e-4)


def test_a_reference_that_the_model_cannot_read_whole_is_scored_whole() -> None:
    task = Summarization()
    long = " ".join(tiny.WORDS * 20)
    row = Row(0, task.normalize({"document": "a text", "summary": long}), "f", 1)
    whole = task.measure(row, {"answer": long})
    assert whole["rouge"].tolist() == [1.0, 1.0, 1.0] and whole["reference_words"] == len(tiny.WORDS) * 20
    assert task.measure(row, {"answer": " ".join(tiny.WORDS)})["rouge"][0] == pytest.approx(2 / 21)


def test_a_word_of_several_tokens_is_learned_by_its_first_and_scored_once(encoder: Path) -> None:
    task = TokenClassification(types=("THING",))
    model = load.load_token_classifier(catalog.find(str(encoder)), ModelChoice(name="x"), task.labels, None, 0)
    said = {"tokens": ["my", "xq9", "zz8k", "parcel"], "tags": ["O", "B-THING", "I-THING", "O"]}
    row = Row(0, task.normalize(said), "f", 1)
    (example,) = task.encode(row, model, "learn")
    part = example.parts["text"]
    firsts = [part.offsets[k][0] for k, mine in enumerate(part.trained) if mine]
    assert len(part.ids) > len(firsts) + 2
    assert firsts == [start for start, _ in row["words"]] and example.target["labels"] == [0, 1, 2, 0]
    assert task.weights([example]) == {"loss": 4.0}
    measured = task.measure(row, {"tags": said["tags"]})
    assert [measured[name].sum() for name in ("gold", "found", "hit")] == [1, 1, 1] and measured["words"] == 4


def test_answers_that_were_cut_at_the_limit_are_counted_in_a_note(
    decoder: Path, chats_jsonl: Path, tmp_path: Path
) -> None:
    task = {"name": "chat", "max_new_tokens": 1}
    made = begun(decoder, chats_jsonl, tmp_path, task=task, train__epochs=1, evaluate__answers=3)
    list(run.go(*made))
    notes = made[0].json("report/report")["notes"]
    assert any("of 3 answers were cut at the limit; see `task.max_new_tokens`" in note for note in notes)
