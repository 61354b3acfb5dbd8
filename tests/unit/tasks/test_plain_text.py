"""Every token of a document is predicted once; what is hidden depends on seed, epoch and row alone."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import samples
import tiny
from tunesmith import recipefile
from tunesmith.models.text import TextEncoder
from tunesmith.prepare import Prepared, prepare
from tunesmith.train.evaluate import judge, judge_answers, value_of


def ready(model: Path, tmp_path: Path, task: Any, **data: Any) -> Prepared:
    file = samples.write("text-generation", tmp_path)
    values = tiny.recipe_values(model, file, tmp_path, task=task)
    return prepare(recipefile.build({**values, "data": {**values["data"], **data}}))


def test_every_token_of_a_document_but_the_first_is_predicted_once(decoder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(decoder)
    text = " ".join(tiny.WORDS)
    whole = TextEncoder(tokenizer, 10_000).document(text)[0]
    for most in (2, 7, 20, len(whole.ids) - 1, len(whole.ids)):
        pieces = TextEncoder(tokenizer, most).document(text)
        assert all(len(piece.ids) <= most for piece in pieces)
        predicted = [i for piece in pieces for i in piece.ids[1:]]
        assert predicted == list(whole.ids[1:])
    assert whole.ids[-1] == tokenizer.eos_token_id


def test_bits_per_byte_are_the_loss_over_the_bytes_of_the_documents(decoder: Path, tmp_path: Path) -> None:
    prepared = ready(decoder, tmp_path, "text-generation", max_tokens=12)
    rows = prepared.splits.rows["validation"]
    found = value_of(prepared.task, judge(prepared.model, prepared.task, rows, answers=3).measured)
    total, size = 0.0, 0
    for row in rows:
        ids = prepared.model.text.tokenizer(row["text"]).input_ids
        size += len(prepared.model.text.tokenizer.decode(ids[1:]).encode())  # a first token is not predicted
        for example in prepared.task.encode(row, prepared.model, "learn"):
            ids = torch.tensor([example.parts["text"].ids])
            with torch.no_grad():
                logits = prepared.model.label_logits([example.parts["text"]], torch.arange(ids.shape[1] - 1))
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
    assert found["bits_per_byte"] == pytest.approx(total / math.log(2) / size, rel=1e-5)


def test_what_is_hidden_changes_with_the_epoch_and_with_nothing_else(encoder: Path, tmp_path: Path) -> None:
    prepared = ready(encoder, tmp_path, "fill-mask")
    batches, per_epoch = prepared.batches(10_000), prepared.plan().per_epoch
    again = ready(encoder, tmp_path, "fill-mask").batches(64)

    def seen(of: Any, epoch: int) -> dict[int, Any]:
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        return {e.row_id: (e.parts["text"].ids, e.target) for step in steps for e in of.chosen(step)}

    assert seen(batches, 1) == seen(again, 1)
    first, second = seen(batches, 0), seen(batches, 1)
    assert first.keys() == second.keys() and sum(first[k] != second[k] for k in first) > 0.8 * len(first)
    pieces = [e for piece in again.at(0, "packed") for e in piece.examples]
    assert sorted((e.row_id, e.target) for e in pieces) == sorted((e.row_id, e.target) for e in batches.chosen(0))


def test_hidden_tokens_are_put_back_and_special_ones_never_hidden(encoder: Path, tmp_path: Path) -> None:
    prepared = ready(encoder, tmp_path, {"name": "fill-mask", "share": 0.4})
    task, model = prepared.task, prepared.model
    mask = model.text.tokenizer.mask_token_id
    kinds = {"masked": 0, "same": 0, "other": 0}
    for k, row in enumerate(prepared.train_rows):
        whole = model.text.text(row["text"]).ids
        example = task.encode(row, model, "learn")[0]
        for turn in range(3):
            part = example.parts["text"]
            restored = list(part.ids)
            places = [at for at, hidden in enumerate(part.trained) if hidden]
            for at, was in zip(places, example.target, strict=True):
                kinds["masked" if part.ids[at] == mask else "same" if part.ids[at] == was else "other"] += 1
                restored[at] = was
            assert tuple(restored) == whole and 0 not in places and len(whole) - 1 not in places
            assert len(places) == max(1, round(0.4 * (len(whole) - 2)))
            example = task.vary(example, model, np.random.default_rng((k, turn)))
    total = sum(kinds.values())
    assert abs(kinds["masked"] / total - 0.8) < 0.1 and kinds["same"] > 0 and kinds["other"] > 0


def test_masks_that_a_user_writes_are_filled(encoder: Path, tmp_path: Path) -> None:
    prepared = ready(encoder, tmp_path, "fill-mask")
    from tunesmith.contracts import Row
    from tunesmith.train.evaluate import answer_rows

    row = Row(0, {"text": "where is my [MASK] and the [MASK] ?"}, "f", 1)
    answer = answer_rows(prepared.model, prepared.task, [row])[0]
    assert len(answer["tokens"]) == 2 and all(isinstance(token, str) for token in answer["tokens"])


def test_the_compressor_knows_the_training_texts_and_counts_bits_of_whole_documents(
    decoder: Path, tmp_path: Path
) -> None:
    prepared = ready(decoder, tmp_path, "text-generation")
    task, train = prepared.task, prepared.train_rows
    known = task.baselines(train, train[:8], prepared.model)["lzma"]  # what was seen takes next to nothing
    scores = value_of(task, judge_answers(task, train[:8], known).measured)
    assert set(scores) == {"bits_per_byte"}
    strange = [replace(train[0], values={"text": "qzx jvk wqy zzk xjq vvq kzj yqx wvz jkq"})]
    found = value_of(
        task, judge_answers(task, strange, task.baselines(train, strange, prepared.model)["lzma"]).measured
    )
    assert scores["bits_per_byte"] < 2 < found["bits_per_byte"] < 12


def test_counting_neighbours_fills_in_what_the_model_is_asked_and_beats_frequency_alone(
    encoder: Path, tmp_path: Path
) -> None:
    prepared = ready(encoder, tmp_path, {"name": "fill-mask", "share": 0.3})
    task, model, rows = prepared.task, prepared.model, prepared.splits.rows["test"]
    answers = task.baselines(prepared.train_rows, rows, model)["neighbours"]
    found = value_of(task, judge_answers(task, rows, answers).measured)
    tuned = judge(model, task, rows, answers=9999).answers
    hidden = [example for row in rows for example in task.encode(row, model, "answer")]
    assert sum(len(answer["tokens"]) for answer in answers) == sum(len(example.target) for example in hidden)
    assert [len(a["tokens"]) for a in answers] == [len(tuned[row.id]["tokens"]) for row in rows]
    counts = np.ones(len(model.text.tokenizer))
    for row in prepared.train_rows:
        np.add.at(counts, list(model.text.text(row["text"]).ids[1:-1]), 1)
    logs = np.log(counts / counts.sum())
    alone = -np.mean([logs[token] for example in hidden for token in example.target])
    assert found["mean_masked_loss"] < alone - 0.05
    assert found["masked_accuracy"] > 0


def test_bytes_of_a_first_token_that_is_never_predicted_do_not_count(decoder: Path, tmp_path: Path) -> None:
    prepared = ready(decoder, tmp_path, "text-generation", max_tokens=12)
    row = prepared.train_rows[0]
    examples = prepared.task.encode(row, prepared.model, "learn")
    first = prepared.model.text.tokenizer.decode(examples[0].parts["text"].ids[:1])
    assert first.strip()
    assert sum(example.target for example in examples) == len(row["text"].encode()) - len(first.encode())


def test_masks_of_the_users_own_have_no_right_answer_and_count_nowhere(encoder: Path, tmp_path: Path) -> None:
    from tunesmith.contracts import Row

    prepared = ready(encoder, tmp_path, "fill-mask")
    task, model = prepared.task, prepared.model
    plain = Row(0, {"text": "where is my parcel and the door"}, "f", 1)
    own = Row(1, {"text": "where is my [MASK] and the [MASK]"}, "f", 2)
    both = value_of(task, judge(model, task, [plain, own], answers=9).measured)
    assert both == pytest.approx(value_of(task, judge(model, task, [plain], answers=9).measured))


def test_the_weight_of_plain_text_is_the_number_of_its_predicted_tokens(decoder: Path, tmp_path: Path) -> None:
    prepared = ready(decoder, tmp_path, "text-generation", max_tokens=12)
    examples = [example for row in prepared.examples[:6] for example in row]
    assert all(example.parts["text"].trained[0] for example in examples)
    predicted = sum(len(example.parts["text"].ids) - 1 for example in examples)
    assert prepared.task.weights(examples) == {"loss": predicted}
    with torch.no_grad():
        assert prepared.task.loss(prepared.model, examples)["loss"].weight == predicted
