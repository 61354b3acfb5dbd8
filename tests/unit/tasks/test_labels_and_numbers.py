"""Losses of the options are what a hand computes; thresholds are the best there are; scores are scikit-learn's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import samples
import tiny
from tunesmith import recipefile, stats
from tunesmith.contracts import Row
from tunesmith.errors import DataError, RecipeError
from tunesmith.prepare import Prepared, prepare
from tunesmith.tasks.multi_label_classification import MultiLabelClassification, best_cut
from tunesmith.tasks.text_classification import TextClassification
from tunesmith.tasks.text_regression import TextRegression
from tunesmith.train.evaluate import judge_answers


def ready(encoder: Path, tmp_path: Path, rows: list[dict[str, Any]], task: Any) -> Prepared:
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    values = tiny.recipe_values(encoder, file, tmp_path, task=task)
    return prepare(recipefile.build({**values, "model": {"name": str(encoder), "dropout": 0}}))


@pytest.mark.parametrize(
    ("options", "by_hand"),
    [
        ({}, lambda ce, p, w, prior: (ce, np.ones(len(ce)))),
        ({"balance": "weights"}, lambda ce, p, w, prior: (ce * w, w)),
        ({"focus": 2.0}, lambda ce, p, w, prior: (ce * (1 - p) ** 2, np.ones(len(ce)))),
        ({"balance": "weights", "focus": 1.0}, lambda ce, p, w, prior: (ce * (1 - p) * w, w)),
    ],
)
def test_the_loss_of_each_option_is_what_a_hand_computes(
    encoder: Path, tmp_path: Path, options: dict[str, Any], by_hand: Any
) -> None:
    rows = [row for k, row in enumerate(tiny.label_rows()) if k % 3 < 2 or k % 9 == 2]  # one label is rare
    prepared = ready(encoder, tmp_path, rows, {"name": "text-classification", **options})
    task, model = prepared.task, prepared.model
    examples = [example for row in prepared.examples for example in row]
    with torch.no_grad():
        logits = model.class_logits([e.parts["text"] for e in examples]).double().numpy()
        found = task.loss(model, examples)["loss"]
    target = np.array([e.target for e in examples])
    p = np.exp(logits)[np.arange(len(target)), target] / np.exp(logits).sum(1)
    share = np.bincount(target) / len(target)
    losses, weights = by_hand(-np.log(p), p, 1 / (share[target] * len(share)), share)
    assert float(found.total) == pytest.approx(losses.sum(), rel=1e-4)
    assert found.weight == pytest.approx(weights.sum())
    assert task.weights(examples)["loss"] == pytest.approx(found.weight)


def test_adjusted_logits_are_learned_with_the_shares_and_used_without(encoder: Path, tmp_path: Path) -> None:
    plain = ready(encoder, tmp_path, tiny.label_rows(), {"name": "text-classification"})
    adjusted = ready(encoder, tmp_path, tiny.label_rows(), {"name": "text-classification", "balance": "logits"})
    examples = [example for row in plain.examples for example in row]
    with torch.no_grad():
        logits = plain.model.class_logits([e.parts["text"] for e in examples])
        logits = logits + torch.tensor(adjusted.task.shares).log()
        wanted = torch.nn.functional.cross_entropy(logits, torch.tensor([e.target for e in examples]), reduction="sum")
        assert float(adjusted.task.loss(adjusted.model, examples)["loss"].total) == pytest.approx(
            float(wanted), rel=1e-5
        )
        for a, b in zip(
            plain.task.predict(plain.model, examples), adjusted.task.predict(adjusted.model, examples), strict=True
        ):
            assert np.allclose(a, b)


def test_two_texts_are_read_as_the_model_joins_them(encoder: Path, tmp_path: Path) -> None:
    prepared = ready(encoder, tmp_path, samples.number_rows(), "text-regression")
    part = prepared.examples[0][0].parts["text"]
    assert part.types and part.ids.count(3) == 2  # [SEP]
    row = prepared.train_rows[0]
    assert part.ids == prepared.model.text.pair(row["text"], row["second"]).ids
    short = prepared.model.text.pair("my parcel is late today", "box " * 200)
    assert len(short.ids) == prepared.model.text.max_tokens and short.cut > 0
    whole = prepared.model.text.pair("my parcel is late today", "box")
    assert short.ids[:7] == whole.ids[:7]  # the shorter text is whole


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.7]), st.booleans()), min_size=1, max_size=20))
@settings(max_examples=150, deadline=None)
def test_no_threshold_has_a_better_f1_than_the_one_chosen(pairs: list[tuple[float, bool]]) -> None:
    chances, truth = np.array([p for p, _ in pairs]), np.array([t for _, t in pairs])

    def f1(cut: float) -> float:
        given = chances >= cut
        return float(2 * (given & truth).sum() / max((given.sum() + truth.sum()), 1))

    chosen = best_cut(chances, truth)
    if truth.any():
        assert f1(chosen) == pytest.approx(max(f1(cut) for cut in (0.0, 0.2, 0.4, 0.6, 0.8)))


def test_scores_of_many_labels_are_scikit_learns() -> None:
    from sklearn.metrics import f1_score, roc_auc_score

    rng = np.random.default_rng(0)
    labels = ("a", "b", "c", "d")
    truth, chances = rng.random((60, 4)) < [0.5, 0.3, 0.2, 0.1], rng.random((60, 4))
    task = MultiLabelClassification(labels=labels, cuts=(0.5,) * 4)
    gold = [[label for label, yes in zip(labels, line, strict=True) if yes] for line in truth]
    rows = [Row(k, {"text": "x", "label_set": line}, "f", k) for k, line in enumerate(gold)]
    answers = [task.decode(row, [line]) for row, line in zip(rows, chances, strict=True)]
    found = stats.scores(task, judge_answers(task, rows, answers).measured, 50)
    given = chances >= 0.5
    assert found["micro_f1"].value == pytest.approx(f1_score(truth, given, average="micro"))
    assert found["macro_f1"].value == pytest.approx(f1_score(truth, given, average="macro"))
    assert found["macro_roc_auc"].value == pytest.approx(roc_auc_score(truth, chances, average="macro"))
    assert found["subset_accuracy"].value == pytest.approx((truth == given).all(1).mean())
    assert found["macro_roc_auc"].low < found["macro_roc_auc"].value < found["macro_roc_auc"].high


def test_scores_of_numbers_are_the_libraries() -> None:
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    rng = np.random.default_rng(0)
    gold = rng.normal(50, 9, 80)
    said = gold + rng.normal(3, 6, 80)
    task = TextRegression(mean=float(gold.mean()), deviation=float(gold.std()))
    rows = [Row(k, {"text": "x", "label_number": float(g)}, "f", k) for k, g in enumerate(gold)]
    measured = judge_answers(task, rows, [{"value": float(s)} for s in said]).measured
    found = {name: score.value for name, score in stats.scores(task, measured, 50).items()}
    assert found["pearson"] == pytest.approx(pearsonr(gold, said).statistic)
    assert found["spearman"] == pytest.approx(spearmanr(gold, said).statistic)
    assert found["mae"] == pytest.approx(mean_absolute_error(gold, said))
    assert found["rmse"] == pytest.approx(root_mean_squared_error(gold, said))
    assert found["r2"] == pytest.approx(r2_score(gold, said))


def test_area_under_the_curve_of_one_label_a_row_is_scikit_learns() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    for labels in (("a", "b"), ("a", "b", "c")):
        task = TextClassification(labels=labels)
        logs = np.log(rng.dirichlet(np.ones(len(labels)), 60))
        rows = [Row(k, {"text": "x", "label": labels[k % len(labels)]}, "f", k) for k in range(60)]
        answers = [task.decode(row, [line]) for row, line in zip(rows, logs, strict=True)]
        found = stats.scores(task, judge_answers(task, rows, answers).measured, 20)["macro_roc_auc"].value
        truth = [k % len(labels) for k in range(60)]
        chances = np.exp(logs)
        wanted = roc_auc_score(truth, chances[:, 1] if len(labels) == 2 else chances, multi_class="ovr")
        assert found == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("task", "values", "reason"),
    [
        (TextRegression(), {"text": "a", "label": "much"}, "not a number: 'much'"),
        (TextRegression(), {"text": "a", "label": float("nan")}, "not a number"),
        (TextRegression(), {"text": "a", "second": " ", "label": 1}, "`second` is empty"),
        (MultiLabelClassification(), {"text": "a"}, "`labels` is missing"),
        (MultiLabelClassification(), {"text": "a", "labels": {"x": 1}}, "not a list of labels"),
        (MultiLabelClassification(), {"text": "a", "labels": [""]}, "empty"),
        (MultiLabelClassification(), {"text": None, "labels": []}, "`text` is missing"),
    ],
)
def test_rows_that_cannot_be_used_are_told_why(task: Any, values: dict[str, Any], reason: str) -> None:
    assert reason in str(task.check_row(values, "learn"))


def test_labels_in_one_text_are_parted_and_counted_once() -> None:
    task = MultiLabelClassification(separator="|")
    assert task.normalize({"text": "a", "labels": "x| y |x|"})["label_set"] == ["x", "y"]
    with pytest.raises(DataError, match="no training row has a label"):
        task.learn([Row(0, {"text": "a", "label_set": []}, "f", 1)])
    with pytest.raises(DataError, match="has the number 2"):
        TextRegression().learn([Row(k, {"text": "a", "label_number": 2.0}, "f", k) for k in range(3)])


def test_balanced_sampling_draws_rare_labels_as_often_as_others_and_resumes(encoder: Path, tmp_path: Path) -> None:
    rows = [row for k, row in enumerate(tiny.label_rows()) if k % 3 < 2 or k % 9 == 2]
    prepared = ready(encoder, tmp_path, rows, {"name": "text-classification", "balance": "sampling"})
    plan = prepared.plan()
    drawn = [prepared.train_rows[k]["label"] for step in range(plan.per_epoch) for k in plan.at(step)]
    counts = [drawn.count(label) for label in prepared.task.classes()]
    assert max(counts) - min(counts) <= 1 and sum(counts) == len(prepared.train_rows)
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    task = {"name": "text-classification", "balance": "sampling"}
    values = tiny.recipe_values(encoder, file, tmp_path / "a", task=task)
    whole = tiny.last_bits(values)
    assert tiny.last_bits({**values, "run": {"dir": str(tmp_path / "b")}}, stop_at=3) == whole


@pytest.mark.parametrize(
    "written", ["['joy', 'anger']", '["joy", "anger"]', "{'joy', 'anger'}", "['joy' 'anger']", "joy, anger"]
)
def test_lists_of_labels_in_a_table_are_read_as_lists(written: str) -> None:
    task = MultiLabelClassification()
    row = {"text": "a", "labels": written}
    assert task.check_row(row, "learn") is None
    assert task.normalize(row)["label_set"] == ["anger", "joy"]
    assert "cannot be read" in str(task.check_row({"text": "a", "labels": "[joy, anger]"}, "learn"))
    assert task.normalize({"text": "a", "labels": "(un)happy, [sad"})["label_set"] == ["(un)happy", "[sad"]


def test_focus_asks_how_sure_the_net_is_of_the_label_not_of_its_smoothed_neighbours() -> None:
    logits = torch.tensor([[3.0, 0.0, -1.0]], dtype=torch.float64)
    task = TextClassification(focus=2.0, smoothing=0.3)
    task = replace(task, labels=("a", "b", "c"), shares=(0.4, 0.3, 0.3))
    sure = logits.softmax(-1)[0, 0]
    smooth = torch.nn.functional.cross_entropy(logits, torch.tensor([0]), label_smoothing=0.3)
    assert float(task.label_losses(logits, [0])[0]) == pytest.approx(float(smooth * (1 - sure) ** 2))


@pytest.mark.parametrize(
    ("task", "family"), [("token-classification", "encoder"), ("chat", "decoder"), ("text-generation", "decoder"),
                         ("translation", "encoder_decoder")],
)  # fmt: skip
def test_smoothing_spreads_a_share_of_the_target_in_training_and_not_in_scores(
    task: str, family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(family)
    made = {}
    for smoothing in (0.0, 0.5, 0.999):
        values = tiny.recipe_values(folder, samples.write(task, tmp_path), tmp_path,
                                    task={"name": task, "smoothing": smoothing})  # fmt: skip
        prepared = prepare(recipefile.build({**values, "model": {"name": str(folder), "dropout": 0}}))
        prepared.model.net.eval()
        examples = [example for row in prepared.examples[:5] for example in row]
        with torch.no_grad():
            loss = prepared.task.loss(prepared.model, examples)["loss"]
            made[smoothing] = float(loss.total), prepared.task.assess(prepared.model, examples)
    plain, half, most = (made[smoothing][0] for smoothing in made)
    assert half == pytest.approx(plain + 0.5 / 0.999 * (most - plain), rel=1e-4)  # the loss is linear in the share
    assert abs(most - plain) > 0.1
    assert made[0.5][1] == made[0.0][1]


def test_smoothing_of_places_is_refused(encoder: Path, tmp_path: Path) -> None:
    task = {"name": "question-answering", "smoothing": 0.1}
    values = tiny.recipe_values(encoder, samples.write("question-answering", tmp_path), tmp_path, task=task)
    with pytest.raises(RecipeError, match="one place"):
        prepare(recipefile.build(values))
