"""Only the embeddings of tokens that stand in training rows are trained: the rest could not move."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunesmith import load, recipefile, run
from tunesmith.models import vocabulary
from tunesmith.models.vocabulary import RowsInUse
from tunesmith.prepare import prepare
from tunesmith.train.accumulate import Piece, accumulate
from tunesmith.train.optimizer import Schedule, make_optimizer


def updates(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *, narrow: bool) -> dict[str, torch.Tensor]:
    """The whole net after three updates without weight decay."""
    with monkeypatch.context() as patch:
        if not narrow:
            patch.setattr(vocabulary, "narrow", lambda *_: None)
        prepared = prepare(recipefile.build(values))
    model = prepared.model
    assert any(isinstance(module, RowsInUse) for module in model.net.modules()) == narrow
    optimizer = make_optimizer(model.trained(), model.fresh, 1e-2, 1e-2, 0.0)
    schedule = Schedule(3, 0, "linear", 1.0)
    model.net.train()
    for step in range(3):
        examples = [example for row in prepared.examples[step * 8 : step * 8 + 8] for example in row]
        schedule.apply(optimizer, step)
        accumulate(model, prepared.task, [Piece(step, examples)], prepared.task.weights(examples))
        torch.nn.utils.clip_grad_norm_([p for _, p in model.trained()], 1.0)
        optimizer.step()
        optimizer.zero_grad()
    with vocabulary.whole(model.net):
        return {name: tensor.clone() for name, tensor in model.net.state_dict().items()}


def test_training_the_rows_in_use_is_training_the_whole_table(
    encoder: Path, labels_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = tiny.recipe_values(encoder, labels_csv, tmp_path, method="full")
    ours, plain = (updates(values, monkeypatch, narrow=narrow) for narrow in (True, False))
    assert ours.keys() == plain.keys()
    for name, tensor in plain.items():
        assert torch.allclose(ours[name], tensor, atol=1e-6), name
    table = next(name for name in plain if "word_embeddings" in name)
    moved = (plain[table] != prepare(recipefile.build(values)).model.base.embeddings.word_embeddings.weight).any(1)
    assert 5 < int(moved.sum()) < len(moved)


def test_the_size_that_is_reported_is_that_of_the_whole_net(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    prepared = prepare(recipefile.build(tiny.recipe_values(encoder, labels_csv, tmp_path, method="full")))
    learns, every = prepared.model.sizes()
    with vocabulary.whole(prepared.model.net):
        assert learns == every == sum(p.numel() for p in prepared.model.net.parameters())


def test_a_token_that_training_never_saw_keeps_its_pretrained_embedding_in_the_saved_model(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    from transformers import AutoModel

    directory = tiny.train_to_end(tiny.recipe_values(encoder, labels_csv, tmp_path, method="full"))
    before = AutoModel.from_pretrained(encoder).embeddings.word_embeddings.weight
    after = AutoModel.from_pretrained(directory.model).embeddings.word_embeddings.weight
    same = (before == after).all(1)
    assert 0 < int(same.sum()) < len(same)
    predictor = load(directory.path)
    table = next(module for module in predictor.model.net.modules() if isinstance(module, RowsInUse))
    assert torch.equal(table.weight, after)
    unseen = [" ".join(tiny.WORDS[:60]) + " zzz 9"]
    again = predictor.predict(unseen)[0]["probabilities"]
    with vocabulary.whole(predictor.model.net):
        assert predictor.predict(unseen)[0]["probabilities"] == again


def test_a_table_that_the_output_layer_shares_is_trained_whole(tmp_path: Path, chats_jsonl: Path) -> None:
    decoder = tiny.make_decoder(tmp_path / "tied", tied=True)
    prepared = prepare(recipefile.build(tiny.recipe_values(decoder, chats_jsonl, tmp_path, method="full")))
    assert not any(isinstance(module, RowsInUse) for module in prepared.model.net.modules())


def test_a_checkpoint_holds_the_rows_in_use_and_says_which(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    directory, prepared = run.begin(
        recipefile.build(tiny.recipe_values(encoder, labels_csv, tmp_path, method="full")), None, []
    )
    list(run.go(directory, prepared))
    used = {i for row in prepared.examples for e in row for i in e.parts["text"].ids}
    with safe_open(directory.checkpoints / "best" / "trained.safetensors", "pt") as file:
        name = next(key for key in file.keys() if key.endswith(vocabulary.IDS))  # noqa: SIM118
        assert file.get_tensor(name).tolist() == sorted(used)
    assert json.loads((directory.path / "status.json").read_text())["state"] == "finished"
