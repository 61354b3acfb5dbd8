"""Of every task: the saved folder opens in Transformers and PEFT with the same logits, and a broken row is named."""

from pathlib import Path
from typing import Any

import pytest
import torch

import samples
import tiny
from tunesmith import DataError, plugins, recipefile, run
from tunesmith.models.model import Model
from tunesmith.models.seq2seq import answer_states
from tunesmith.predictor import load as load_run
from tunesmith.prepare import prepare

STOCK = {
    "token-classifier": "AutoModelForTokenClassification",
    "span-classifier": "AutoModelForQuestionAnswering",
    "masked-lm": "AutoModelForMaskedLM",
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
    "image-classifier": "AutoModelForImageClassification",
}
"""Kinds of model that a Transformers class expresses whole; mean-pooled classifiers are in tests/runs/."""
CASES = [
    ("token-classification", "encoder"),
    ("token-classification", "decoder"),
    ("question-answering", "encoder"),
    ("question-answering", "decoder"),
    ("fill-mask", "encoder"),
    ("text-generation", "decoder"),
    ("summarization", "decoder"),
    ("summarization", "encoder-decoder"),
    ("question-answering", "encoder-decoder"),
    ("image-classification", "vision"),
]


ELSEWHERE = {
    "text-classification": ("runs/test_saved_models.py", "SentenceTransformer"),  # mean-pooled
    "multi-label-classification": ("runs/test_saved_models.py", "SentenceTransformer"),  # the same net
    "text-regression": ("runs/test_saved_models.py", "SentenceTransformer"),  # the same net
    "reranking": ("unit/tasks/test_retrieval.py", "CrossEncoder"),
    "retrieval": ("unit/tasks/test_retrieval.py", "SentenceTransformer"),
    "chat": ("runs/test_saved_models.py", "AutoModelForCausalLM"),
    "translation": ("unit/models/test_pieces.py", "AutoModelForSeq2SeqLM"),
}
"""Tasks whose saved folder another test opens: the test's file, and the class that opens it there."""


def test_every_task_and_family_is_saved_and_opened_here_or_it_is_said_where() -> None:
    every = {
        (task, family)
        for task in plugins.names("tasks")
        for family in ("encoder", "decoder", "encoder-decoder", "vision")
        if family in plugins.load("tasks", task).families
    }
    assert {pair for pair in every if pair[0] not in ELSEWHERE} == set(CASES)
    for file, opened_by in ELSEWHERE.values():
        assert opened_by in (Path(__file__).parent.parent / file).read_text(), file


def ours(model: Model, part: Any, answer: Any = None) -> torch.Tensor:
    """Logits [tokens, outputs] of a row, or [labels] of an image."""
    if answer is not None:
        states = answer_states(model, [part], [answer], torch.arange(len(answer.ids)))
        return torch.as_tensor(model.output_layer(states))
    if model.kind == "image-classifier":
        return model.image_logits([part])[0]
    if model.kind == "causal-lm":
        return model.label_logits([part], torch.arange(len(part.ids)))
    if model.kind == "masked-lm":
        from dataclasses import replace

        return model.masked_logits([replace(part, trained=(True,) * len(part.ids))])
    return model.token_logits([part])


def theirs(net: Any, model: Model, part: Any, answer: Any = None) -> torch.Tensor:
    if answer is not None:
        found = net(input_ids=torch.tensor([part.ids]), decoder_input_ids=torch.tensor([answer.ids]))
        return torch.as_tensor(found.logits[0])
    if model.kind == "image-classifier":
        return torch.as_tensor(net(pixel_values=model.reads.pixels(part)[None]).logits[0])  # type: ignore[union-attr]
    told = {"token_type_ids": torch.tensor([part.types])} if part.types else {}
    found = net(input_ids=torch.tensor([part.ids]), **told)
    if model.kind == "span-classifier":
        return torch.stack([found.start_logits, found.end_logits], -1)[0]
    return torch.as_tensor(found.logits[0])


@pytest.mark.parametrize(("task", "family"), CASES)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_saved_folder_opens_elsewhere_with_the_same_logits(
    request: pytest.FixtureRequest, tmp_path: Path, task: str, family: str, method: str
) -> None:
    import transformers

    base = request.getfixturevalue(family.replace("-", "_"))
    values = tiny.recipe_values(base, samples.write(task, tmp_path), tmp_path / "runs", task=task, method=method,
                                train__steps=3, evaluate__compare=False, evaluate__answers=0)  # fmt: skip
    values["train"].pop("epochs")
    directory = run.train_recipe(recipefile.build(values))
    predictor = load_run(directory.path)
    model = predictor.model
    stock = getattr(transformers, STOCK[model.kind])
    if method == "full":
        net = stock.from_pretrained(directory.path / "model")
    else:
        from peft import PeftModel

        labels = {"num_labels": len(predictor.task.labels)} if hasattr(predictor.task, "labels") else {}  # type: ignore[attr-defined]
        bare = stock.from_pretrained(base, **labels, ignore_mismatched_sizes=True)
        # The library's class for answers drops token types; the net inside does not.
        net = PeftModel.from_pretrained(bare, directory.path / "model").base_model
    net.eval()
    prepared = prepare(recipefile.build(values))
    with torch.no_grad():
        for row in prepared.splits.rows["test"][:3]:
            parts = list(predictor.task.encode(row, model, "learn")[0].parts.values())
            assert torch.allclose(ours(model, *parts), theirs(net, model, *parts), atol=1e-4)


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "text-classification": ({"text": " ", "label": "billing"}, "`text` is empty"),
    "multi-label-classification": ({"text": "a", "labels": 3}, "not a list of labels"),
    "text-regression": ({"text": "a", "second": "b", "score": "x"}, "not a number"),
    "token-classification": ({"tokens": ["a"], "tags": ["O", "O"]}, "1 words and 2 tags"),
    "question-answering": ({"question": "q", "context": "c", "answers": ["z"]}, "does not stand in the context"),
    "chat": ({"messages": [{"role": "king", "content": "a"}]}, "has the role 'king'"),
    "summarization": ({"document": "a", "summary": ""}, "`summary` is empty"),
    "translation": ({"source": 3, "target": "a"}, "`source` is not a text"),
    "text-generation": ({"text": ""}, "`text` is empty"),
    "fill-mask": ({"text": None}, "`text` is missing"),
    "retrieval": ({"query": "q", "document": []}, "`document` is not a text"),
    "reranking": ({"query": " ", "document": "d", "candidates": ["d", "e"]}, "`query` is empty"),
    "image-classification": ({"image": "images/none.png", "label": "red"}, "no such image"),
}


@pytest.mark.parametrize("task", plugins.names("tasks"))
def test_a_broken_row_is_named_with_its_line(request: pytest.FixtureRequest, tmp_path: Path, task: str) -> None:
    row, reason = BROKEN[task]
    file = samples.write(task, tmp_path)
    rows = samples.ROWS[task]()
    tiny.write_jsonl(file, [*rows[:6], row, *rows[6:]])
    family = plugins.load("tasks", task).families[0]
    values = tiny.recipe_values(request.getfixturevalue(family), file, tmp_path, task=task)
    with pytest.raises(DataError, match=reason) as caught:
        prepare(recipefile.build(values))
    assert (caught.value.where or "").startswith(f"{file}:7")
