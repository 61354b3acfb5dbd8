"""A model that was tuned before starts again from its trunk; its head counts for the same labels in order alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

import samples
import tiny
from tunesmith import recipefile, run
from tunesmith.models import catalog, load
from tunesmith.recipe import ModelChoice


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Saved folders: of labels a, b, c with a class token, and of entities."""
    root = tmp_path_factory.mktemp("tuned")
    base = tiny.make_encoder(root / "base")
    rows = {"text-classification": tiny.label_rows(60), "token-classification": samples.entity_rows(60)}
    made = {}
    for task, listed in rows.items():
        file = tiny.write_jsonl(root / f"{task}.jsonl", listed)
        model: Any = {"name": str(base)} | ({"pooling": "cls"} if task == "text-classification" else {})
        values = tiny.recipe_values(base, file, root / task, task=task, train__epochs=1, evaluate__compare=False)
        made[task] = run.train_recipe(recipefile.build({**values, "model": model})).model
    return made


LABELS = ("billing", "login", "shipping")
TAGS = ("O", "B-THING", "I-THING", "B-WHO", "I-WHO")


def opened(tuned: dict[str, Path], task: str, labels: tuple[str, ...], seed: int = 0) -> Any:
    source = catalog.find(str(tuned[task]))
    if task == "text-classification":
        return load.load_classifier(source, ModelChoice(name="x", pooling="cls"), labels, None, seed)
    return load.load_token_classifier(source, ModelChoice(name="x"), labels, None, seed)


@pytest.mark.parametrize(("task", "same"), [("text-classification", LABELS), ("token-classification", TAGS)])
def test_a_head_of_the_same_labels_is_kept(tuned: dict[str, Path], task: str, same: tuple[str, ...]) -> None:
    model = opened(tuned, task, same)
    assert not model.fresh
    heads = [opened(tuned, task, same, seed).net.classifier.weight for seed in (0, 1)]
    assert torch.equal(*heads)


@pytest.mark.parametrize(("task", "same"), [("text-classification", LABELS), ("token-classification", TAGS)])
@pytest.mark.parametrize("others", ["turned", "renamed", "more", "fewer"])
def test_a_head_of_other_labels_is_drawn_anew_over_the_tuned_trunk(
    tuned: dict[str, Path], task: str, same: tuple[str, ...], others: str
) -> None:
    labels = {
        "turned": same[::-1], "renamed": tuple(f"{name}-x" for name in same), "more": (*same, "B-NEW", "I-NEW"),
        "fewer": same[:2],
    }[others]  # fmt: skip
    kept = opened(tuned, task, same)
    model = opened(tuned, task, labels)
    assert model.fresh == {"classifier.weight", "classifier.bias"}
    assert model.net.classifier.out_features == len(labels)
    trunks = [net.bert.encoder.layer[0].output.dense.weight for net in (model.net, kept.net)]
    assert torch.equal(*trunks)
    again, other = opened(tuned, task, labels), opened(tuned, task, labels, 1)
    assert torch.equal(model.net.classifier.weight, again.net.classifier.weight)
    assert not torch.equal(model.net.classifier.weight, other.net.classifier.weight)
    if len(labels) == len(same):
        assert not torch.equal(model.net.classifier.weight, kept.net.classifier.weight)


@pytest.mark.parametrize("count", [1, 3])
def test_a_head_whose_labels_have_no_names_is_kept_where_as_many_are_asked_for(count: int, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    base = tiny.make_encoder(tmp_path / "m")
    net = AutoModelForSequenceClassification.from_pretrained(base, num_labels=count)
    net.save_pretrained(base)
    assert net.config.id2label == {k: f"LABEL_{k}" for k in range(count)}
    labels = ("relevance",) if count == 1 else ("a", "b", "c")
    choice = ModelChoice(name="x", pooling="cls")
    model: Any = load.load_classifier(catalog.find(str(base)), choice, labels, None, 0)
    assert not model.fresh and torch.equal(model.net.classifier.weight, net.classifier.weight)
    assert model.net.config.problem_type is None
