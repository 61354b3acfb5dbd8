"""The battery itself is tested: a plugin that is broken in one way fails the clause that is about it.

Each defect is put into a plugin that passes, under its own name, and the clause is run as it stands.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import samples
from contracts_of import battery, formats, saved
from tunesmith import plugins
from tunesmith.contracts import Example, Loss
from tunesmith.errors import RecipeError
from tunesmith.methods.lora import Lora
from tunesmith.models import adapted
from tunesmith.tasks.fill_mask import FillMask
from tunesmith.tasks.question_answering import QuestionAnswering
from tunesmith.tasks.summarization import Summarization
from tunesmith.tasks.text_classification import TextClassification


@dataclass(frozen=True)
class ForgetsTheLabel(TextClassification):
    def decode(self, row: Any, outputs: Sequence[Any]) -> Any:
        return {**super().decode(row, outputs), "label": self.labels[0]}


@dataclass(frozen=True)
class LosesAWindow(QuestionAnswering):
    def decode(self, row: Any, outputs: Sequence[Any]) -> Any:
        return super().decode(row, outputs[:1])


@dataclass(frozen=True)
class TellsTheAnswer(TextClassification):
    def encode(self, row: Any, reader: Any, purpose: Any) -> list[Example]:
        told = {**row.values, "text": f"{row['text']} {row.values.get('label', '')}"}
        return super().encode(replace(row, values=told), reader, purpose)


@dataclass(frozen=True)
class AsksInOtherWords(TextClassification):
    def encode(self, row: Any, reader: Any, purpose: Any) -> list[Example]:
        told = {**row.values, "text": f"please {row['text']}"} if purpose == "answer" else row.values
        return super().encode(replace(row, values=told), reader, purpose)


@dataclass(frozen=True)
class LearnsNothing(TextClassification):
    def loss(self, model: Any, examples: Sequence[Example]) -> dict[str, Loss]:
        found = super().loss(model, examples)["loss"]
        return {"loss": Loss(0 * found.total + found.weight, found.weight)}


@dataclass(frozen=True)
class AnswersAtRandom(TextClassification):
    def predict(self, model: Any, examples: Sequence[Example]) -> list[Any]:
        return [np.log(np.random.default_rng().dirichlet([1.0] * len(self.labels))) for _ in examples]


@dataclass(frozen=True)
class LooksAtItsNeighbours(TextClassification):
    def predict(self, model: Any, examples: Sequence[Example]) -> list[Any]:
        found = np.stack(super().predict(model, examples))
        return list(found - found.mean(0))


@dataclass(frozen=True)
class LooksAtItsPadding(TextClassification):
    def predict(self, model: Any, examples: Sequence[Example]) -> list[Any]:
        longest = max(example.length for example in examples)
        moved = [np.eye(len(self.labels))[0] * (longest - example.length) for example in examples]
        found = super().predict(model, examples)
        return [a + b for a, b in zip(found, moved, strict=True)] if model.layout == "padded" else found


@dataclass(frozen=True)
class LosesTheEnd(Summarization):
    def encode(self, row: Any, reader: Any, purpose: Any) -> list[Example]:
        made = super().encode(row, reader, purpose)
        if purpose == "learn":
            part = made[0].parts["text"]
            made[0] = replace(made[0], parts={"text": replace(part, ids=part.ids[:-3], trained=part.trained[:-3])})
        return made


@dataclass(frozen=True)
class TakesAnyRow(TextClassification):
    def check_row(self, values: Any, purpose: Any) -> None:
        return None


@dataclass(frozen=True)
class BuildsAnotherNet(FillMask):
    def build(self, source: Any, options: Any, seed: int) -> Any:
        model = super().build(source, options, seed)
        states_at = model.states_at
        model.states_at = lambda rows, positions: states_at(rows, positions) + 0.1  # type: ignore[method-assign]
        return model


@dataclass(frozen=True)
class MovesWhatItFroze(Lora):
    def apply(self, model: Any, seed: int) -> None:
        super().apply(model, seed)
        _, adapter = next(adapted.found(model.net))
        frozen = adapter.base.weight

        def move(grad: torch.Tensor) -> torch.Tensor:
            frozen.data += 1e-3
            return grad

        adapter.lora_B.register_hook(move)


@dataclass(frozen=True)
class DeclaresWhatNeverMoves(Lora):
    def apply(self, model: Any, seed: int) -> None:
        super().apply(model, seed)
        model.net.register_parameter("spare", torch.nn.Parameter(torch.zeros(1)))


@dataclass(frozen=True)
class NeedsItsAdapters(TextClassification):
    def predict(self, model: Any, examples: Sequence[Example]) -> list[Any]:
        there = bool(list(adapted.found(model.net)))
        return [found + np.arange(len(found)) * there for found in super().predict(model, examples)]


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Have a name mean another plugin."""

    @contextmanager
    def put(kind: str, name: str, broken: type) -> Iterator[None]:
        stock = plugins.load
        with monkeypatch.context() as patch:
            patch.setattr(plugins, "load", lambda k, n: broken if (k, n) == (kind, name) else stock(k, n))
            yield

    return put


TEXT = "text-classification"
CASES: dict[str, tuple[str, str, type, str]] = {
    "gold": ("tasks", TEXT, ForgetsTheLabel, "test_gold_encoded_then_decoded_scores_the_most_that_can_be_scored"),
    "windows": (
        "tasks",
        "question-answering",
        LosesAWindow,
        "test_gold_encoded_then_decoded_scores_the_most_that_can_be_scored",
    ),
    "leak": ("tasks", TEXT, TellsTheAnswer, "test_nothing_of_the_answer_is_in_what_a_model_is_asked"),
    "render": ("tasks", TEXT, AsksInOtherWords, "test_what_is_asked_begins_what_was_learned"),
    "learn": ("tasks", TEXT, LearnsNothing, "test_a_run_learns_restores_and_answers_the_same"),
    "restore": ("tasks", TEXT, AnswersAtRandom, "test_a_run_learns_restores_and_answers_the_same"),
    "batch": ("tasks", TEXT, LooksAtItsNeighbours, "test_scores_do_not_depend_on_how_rows_are_put_together"),
    "frozen": ("methods", "lora", MovesWhatItFroze, "test_what_is_declared_moves_and_the_rest_stays_to_the_bit"),
    "moved": ("methods", "lora", DeclaresWhatNeverMoves, "test_what_is_declared_moves_and_the_rest_stays_to_the_bit"),
    "layout": (
        "tasks",
        TEXT,
        LooksAtItsPadding,
        "test_in_padded_batches_a_task_moves_what_it_declares_and_answers_the_same_alone",
    ),
    "written": (
        "tasks",
        "summarization",
        LosesTheEnd,
        "test_gold_encoded_then_decoded_scores_the_most_that_can_be_scored",
    ),
    "merged": ("tasks", TEXT, NeedsItsAdapters, "test_adapters_merged_into_the_weights_keep_the_answers"),
}
"""Clause -> (kind, name, the broken plugin, the test that must fail)."""
MORE = {
    "test_gold_encoded_then_decoded_scores_the_most_that_can_be_scored": {"max_tokens": None},
    "test_what_is_declared_moves_and_the_rest_stays_to_the_bit": {"method": "lora"},
    "test_in_padded_batches_a_task_moves_what_it_declares_and_answers_the_same_alone": {"method": "full"},
    "test_a_run_learns_restores_and_answers_the_same": {"method": "full"},
}


@pytest.mark.parametrize("clause", CASES)
def test_a_broken_plugin_fails_its_clause_and_the_stock_one_passes(
    values: Any, instead: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, clause: str
) -> None:
    kind, name, broken, test = CASES[clause]
    run: Callable[..., None] = getattr(battery, test)
    given: dict[str, Any] = {"values": values, "task": name if kind == "tasks" else TEXT, "family": "encoder"}
    given |= {**MORE.get(test, {}), **({"max_tokens": 12} if clause == "windows" else {})}
    given |= {"family": "decoder"} if clause == "written" else {}
    asked = signature(run).parameters
    given = {key: value for key, value in given.items() if key in asked}
    with monkeypatch.context() as patch:
        run(**given, **({"monkeypatch": patch} if "monkeypatch" in asked else {}))
    given |= {"monkeypatch": monkeypatch} if "monkeypatch" in asked else {}
    with instead(kind, name, broken), pytest.raises(AssertionError):
        run(**given)


def test_a_task_that_takes_any_row_fails_the_clause_on_broken_rows(
    request: pytest.FixtureRequest, tmp_path: Path, instead: Callable[..., Any]
) -> None:
    with instead("tasks", TEXT, TakesAnyRow), pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        saved.test_a_broken_row_is_named_with_its_line(request, tmp_path, TEXT)


def test_a_format_that_loses_a_row_fails_the_clause_on_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.data.formats import jsonl

    formats.test_what_was_written_is_read_in_order_whatever_the_format_is_called(tmp_path, "jsonl")
    stock = jsonl.read
    monkeypatch.setattr(jsonl, "read", lambda path: iter(list(stock(path))[:-1]))
    with pytest.raises(AssertionError):
        formats.test_what_was_written_is_read_in_order_whatever_the_format_is_called(tmp_path, "jsonl")


def test_a_net_that_others_cannot_compute_fails_the_clause_on_saved_folders(
    request: pytest.FixtureRequest, tmp_path: Path, instead: Callable[..., Any]
) -> None:
    with instead("tasks", "fill-mask", BuildsAnotherNet), pytest.raises(AssertionError):
        saved.test_the_saved_folder_opens_elsewhere_with_the_same_logits(
            request, tmp_path, "fill-mask", "encoder", "full"
        )


def test_a_task_without_rows_fails_the_clause_that_finds_tasks_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "names", lambda kind: [*samples.ROWS, "a-new-task"])
    with pytest.raises(AssertionError):
        battery.test_every_task_has_rows_for_the_battery()


def test_an_unknown_name_is_no_plugin() -> None:
    with pytest.raises(RecipeError):
        plugins.load("tasks", "a-new-task")
