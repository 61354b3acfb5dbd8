"""Intervals and paired tests, against plain computation row by row."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from tunesmith import resampling, shares, stats
from tunesmith.contracts import Metric, Row
from tunesmith.data.content import GROUP
from tunesmith.judgement import mean_scores
from tunesmith.metrics.measured import Measured
from tunesmith.tasks.chat import Chat
from tunesmith.tasks.text_classification import TextClassification
from tunesmith.tasks.text_regression import TextRegression
from tunesmith.train.evaluate import judge_answers, value_of

Numbers = np.ndarray[Any, Any]
TASK = TextClassification(labels=("a", "b", "c"))


def judged(gold: list[str], guess: list[str]) -> Measured:
    rows = [Row(k, {"text": "t", "label": label}, "f", k) for k, label in enumerate(gold)]
    answers = [
        {"label": label, "probabilities": {name: 0.8 if name == label else 0.1 for name in TASK.labels}}
        for label in guess
    ]
    return judge_answers(TASK, rows, answers).measured


def random_pair(n: int, right: float, seed: int) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    gold = rng.choice(list("abc"), n, p=[0.6, 0.3, 0.1]).tolist()
    guess = [g if rng.random() < right else str(rng.choice(list("abc"))) for g in gold]
    return gold, guess


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_scikit_learns(seed: int) -> None:
    gold, guess = random_pair(60, 0.6, seed)
    values = value_of(TASK, judged(gold, guess))
    assert values["accuracy"] == pytest.approx(np.mean([g == p for g, p in zip(gold, guess, strict=True)]))
    assert values["macro_f1"] == pytest.approx(f1_score(gold, guess, average="macro"))
    assert values["mcc"] == pytest.approx(matthews_corrcoef(gold, guess))


def test_a_label_never_seen_in_training_is_counted_wrong_and_not_left_out() -> None:
    values = value_of(TASK, judged(["a", "b", "z"], ["a", "b", "a"]))
    assert values["accuracy"] == pytest.approx(2 / 3)
    assert values["macro_f1"] == pytest.approx(f1_score(["a", "b", "z"], ["a", "b", "a"], average="macro"))


@pytest.mark.parametrize("metric", ["accuracy", "mean_row_loss"])
def test_the_interval_is_that_of_resampling_rows_one_by_one(metric: str) -> None:
    gold, guess = random_pair(80, 0.7, 5)
    found = stats.scores(TASK, judged(gold, guess), repeats=4000)[metric]
    rng = np.random.default_rng(9)
    hits = np.array([g == p for g, p in zip(gold, guess, strict=True)])
    each = hits if metric == "accuracy" else -np.log(np.where(hits, 0.8, 0.1))
    plain = [each[rng.integers(0, 80, 80)].mean() for _ in range(4000)]
    low, high = np.quantile(plain, [0.025, 0.975])
    near = 0.013 if metric == "accuracy" else 0.03
    assert found.value == pytest.approx(each.mean())
    assert found.low == pytest.approx(low, abs=near)
    assert found.high == pytest.approx(high, abs=near)
    assert found.n == 80


def test_the_interval_of_a_score_that_few_rows_decide_is_as_wide_as_students() -> None:
    """Eight rows that pull alike among 200 make an error of 2 / (1/8 - 1/200) = 16.7 degrees of freedom
    (Satterthwaite), and t leaves 2.5 % beyond 2.113 on each side, where the normal leaves 1.73 %."""
    loss = np.zeros(200)
    loss[:8] = np.array([1.01, 1.0, 0.99, 0.98, -1.01, -1.0, -0.99, -0.98]) + 1e-3
    rows = np.arange(200)
    measured = Measured({"loss": rows, "tokens": rows}, {"loss": loss[:, None], "tokens": np.ones((200, 1))})
    found = stats.scores(Chat(), measured, repeats=20_000)["mean_token_loss"]
    drawn = stats.replicates(Chat(), measured, "mean_token_loss", repeats=20_000)
    assert np.mean(drawn < found.low) == pytest.approx(0.0173, abs=0.002)
    assert np.mean(drawn > found.high) == pytest.approx(0.0173, abs=0.002)


def test_a_score_whose_rows_pull_alike_has_the_usual_interval() -> None:
    loss = np.where(np.arange(200) % 2, 1.0, -1.0)[:, None]
    measured = Measured(dict.fromkeys(("loss", "tokens"), np.arange(200)), {"loss": loss, "tokens": np.ones((200, 1))})
    found = stats.scores(Chat(), measured)["mean_token_loss"]
    assert (found.high - found.low) / 2 == pytest.approx(1.96 / np.sqrt(200), rel=0.05)


def test_the_mean_of_several_systems_has_every_score_those_of_order_too() -> None:
    gold, guess = random_pair(60, 0.7, 1)
    systems = [judged(gold, guess), judged(gold, random_pair(60, 0.5, 2)[1])]
    made, each = mean_scores(TASK, systems), [stats.scores(TASK, one) for one in systems]
    assert made.keys() == each[0].keys() >= {"accuracy", "macro_roc_auc"}
    for name, score in made.items():
        assert score.low <= score.value <= score.high
        assert score.value == pytest.approx(np.mean([one[name].value for one in each]))


@pytest.mark.parametrize("n", [7, 3000])
def test_draws_that_are_remembered_are_those_that_are_not(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(n)
    pair = [
        Measured(
            dict.fromkeys(("loss", "tokens"), np.arange(n)), {"loss": rng.random((n, 1)), "tokens": np.ones((n, 1))}
        )
        for _ in range(2)
    ]

    def told() -> tuple[Any, ...]:
        metric = Metric("mean_token_loss", higher_is_better=False)
        return stats.scores(Chat(), pair[0], 500), stats.compare(Chat(), metric, *pair, repeats=500)

    first, again = told(), told()
    monkeypatch.setattr(resampling, "_REMEMBERED", 0)
    assert first == again == told()


def test_a_clear_gain_helped_a_clear_loss_hurt_and_the_same_is_unclear() -> None:
    gold, weak = random_pair(200, 0.3, 1)
    strong = [g if k % 10 else p for k, (g, p) in enumerate(zip(gold, weak, strict=True))]
    metric = TextClassification.headline
    gain = stats.compare(TASK, metric, judged(gold, weak), judged(gold, strong))
    assert gain.outcome == "helped"
    assert gain.low > 0
    assert gain.p < 0.01
    assert stats.compare(TASK, metric, judged(gold, strong), judged(gold, weak)).outcome == "hurt"
    same = stats.compare(TASK, metric, judged(gold, weak), judged(gold, weak))
    assert (same.outcome, same.difference, same.p) == ("unclear", 0.0, 1.0)


def test_a_lower_loss_counts_as_help() -> None:
    rng = np.random.default_rng(0)

    def chat(mean: float) -> Measured:
        values = {"loss": rng.normal(mean, 0.3, (50, 1)) * 10, "tokens": np.full((50, 1), 10.0)}
        return Measured(dict.fromkeys(values, np.arange(50)), values)

    verdict = stats.compare(Chat(), Chat.headline, chat(2.0), chat(1.0))
    assert verdict.outcome == "helped"
    assert verdict.difference < 0


def test_the_paired_test_is_wrong_about_five_times_in_a_hundred_when_nothing_differs() -> None:
    wrong = 0
    for seed in range(200):
        gold, first = random_pair(100, 0.7, seed)
        rng = np.random.default_rng(seed + 10_000)
        second = [g if rng.random() < 0.7 else str(rng.choice(list("abc"))) for g in gold]
        verdict = stats.compare(TASK, TextClassification.headline, judged(gold, first), judged(gold, second), 200)
        wrong += verdict.outcome != "unclear"
    assert wrong <= 20  # binomial(200, .05) exceeds 20 with probability .0006


def test_against_the_mean_of_one_is_against_that_one() -> None:
    gold, first = random_pair(80, 0.5, 1)
    systems = judged(gold, first), judged(gold, [g if k % 4 else "a" for k, g in enumerate(gold)])
    metric = TextClassification.headline
    assert stats.compare_mean(TASK, metric, systems[:1], systems[1]) == stats.compare(TASK, metric, *systems)


def test_the_mean_of_scores_is_not_the_score_of_what_all_said_together() -> None:
    gold = ["a", "b"] * 30
    members = [judged(gold, [label] * 60) for label in "ab"]
    verdict = stats.compare_mean(TASK, TextClassification.headline, members, judged(gold, ["a"] * 60))
    assert verdict.difference == pytest.approx(0.0, abs=1e-12)
    assert verdict.outcome == "unclear" and verdict.low <= 0 <= verdict.high


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_the_test_against_a_mean_is_seldom_wrong_when_nothing_differs_and_finds_what_does(metric: str) -> None:
    wrong = found = 0
    for seed in range(100):
        gold, first = random_pair(120, 0.7, seed)
        rng = np.random.default_rng(seed + 10_000)
        said = [[g if rng.random() < right else str(rng.choice(list("abc"))) for g in gold]
                for right in (0.7, 0.7, 0.7, 0.95)]  # fmt: skip
        *members, same, better = [judged(gold, one) for one in (first, *said)]
        wrong += stats.compare_mean(TASK, Metric(metric, True), members, same, 200).outcome != "unclear"
        found += stats.compare_mean(TASK, Metric(metric, True), members, better, 200).outcome == "helped"
    assert wrong <= 14  # binomial(100, .05) exceeds 14 with probability .0001
    assert found >= 90


def test_metrics_carry_the_rows_they_rest_on() -> None:
    values = {
        "loss": np.ones((30, 1)), "tokens": np.ones((30, 1)),
        "answers": np.ones((4, 1)), "exact": np.ones((4, 1)), "ended": np.zeros((4, 1)),
        "rouge": np.ones((4, 3)),
    }  # fmt: skip
    measured = Measured({k: np.arange(len(v)) for k, v in values.items()}, values)
    found = stats.scores(Chat(), measured, 50)
    assert found["mean_token_loss"].n == 30
    assert found["answer_exact_match"].n == 4


def test_a_win_rate_counts_rows_by_their_loss_a_token_and_ties_by_half() -> None:
    def of(losses: list[float], tokens: list[float]) -> Measured:
        ids = np.arange(len(losses))
        columns = {"loss": np.array(losses)[:, None], "tokens": np.array(tokens)[:, None]}
        return Measured(dict.fromkeys(columns, ids), columns)

    base, tuned = of([4.0, 2.0, 3.0, 1.0, 0.0], [2, 2, 3, 1, 0]), of([3.0, 2.0, 6.0, 0.5, 0.0], [2, 2, 3, 1, 0])
    found = stats.win_rate(base, tuned)
    assert found is not None and (found.value, found.n) == (2.5 / 4, 4)
    assert 0 <= found.low < found.value < found.high <= 1
    assert stats.win_rate(Measured(), tuned) is None


def test_a_share_of_rows_has_the_interval_of_shares_and_mcnemars_test() -> None:
    gold = ["a", "b"] * 20
    perfect = stats.scores(TASK, judged(gold, gold))["accuracy"]
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert 0.9 < perfect.low < 1.0
    accuracy = Metric("accuracy", higher_is_better=True)
    worse = ["a"] * 8 + gold[8:]
    verdict = stats.compare(TASK, accuracy, judged(gold, worse), judged(gold, gold))
    assert verdict.test == "McNemar, mid-p"
    assert verdict.p == pytest.approx(2 * 0.5**4 - 0.5**4)  # four rows fixed, none broken


def test_an_unclear_verdict_says_how_many_rows_would_tell() -> None:
    gold, weak = random_pair(60, 0.6, 1)
    strong = [g if k % 20 == 0 else p for k, (g, p) in enumerate(zip(gold, weak, strict=True))]
    verdict = stats.compare(TASK, TextClassification.headline, judged(gold, weak), judged(gold, strong))
    assert verdict.outcome == "unclear" and verdict.needed is not None and verdict.needed > 60
    assert stats.compare(TASK, TextClassification.headline, judged(gold, weak), judged(gold, gold)).needed is None


def test_rows_of_a_group_are_drawn_together_so_that_copies_add_no_certainty() -> None:
    gold, guess = random_pair(100, 0.7, 2)
    alone = stats.scores(TASK, judged(gold, guess))["macro_f1"]
    rows = [Row(k, {"text": "t", "label": g, GROUP: str(k % 100)}, "f", k) for k, g in enumerate(gold * 5)]
    answers = [{"label": p, "probabilities": dict.fromkeys(TASK.labels, 1 / 3)} for p in guess * 5]
    copied = judge_answers(TASK, rows, answers).measured
    assert len(set(copied.groups.values())) == 100
    grouped = stats.scores(TASK, copied)["macro_f1"]
    assert (grouped.high - grouped.low) == pytest.approx(alone.high - alone.low, rel=0.1)
    assert grouped.n == 500
    without = stats.scores(TASK, replace(copied, groups={}))["macro_f1"]
    assert (without.high - without.low) < 0.6 * (grouped.high - grouped.low)


@pytest.mark.parametrize("metric", ["macro_f1", "mean_row_loss"])
def test_two_sets_of_rows_differ_by_no_more_than_their_bootstraps_say(metric: str) -> None:
    one, other = judged(*random_pair(300, 0.8, 1)), judged(*random_pair(200, 0.6, 2))
    found = stats.apart(TASK, metric, one, other)
    draws = [stats.replicates(TASK, measured, metric, 4000) for measured in (one, other)]
    assert found.difference == pytest.approx(value_of(TASK, one)[metric] - value_of(TASK, other)[metric])
    error = float(np.hypot(draws[0].std(), draws[1].std()))
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(error, rel=0.07)
    assert stats.apart(TASK, metric, one, one).difference == 0


@pytest.mark.parametrize(("labels", "n", "right"), [(5, 200, 0.9), (20, 200, 0.8)])
def test_the_interval_of_a_macro_f1_holds_it_where_percentiles_do_not(labels: int, n: int, right: float) -> None:
    task = TextClassification(labels=tuple(f"{k:02}" for k in range(labels)))
    rng = np.random.default_rng(4)
    gold, guess = simulated(labels, 400_000, right, rng)
    true = float(f1_score(gold, guess, average="macro"))
    held = {"ours": 0, "percentiles": 0}
    for _ in range(200):
        gold, guess = simulated(labels, n, right, rng)
        eye = np.eye(labels + 1)
        hit = eye[gold] * (gold == guess)[:, None]
        values = {"row": np.ones((n, 1)), "gold": eye[gold], "guess": eye[guess], "hit": hit, "loss": np.ones((n, 1))}
        measured = Measured(dict.fromkeys(values, np.arange(n)), values)
        found = stats.scores(task, measured)["macro_f1"]
        held["ours"] += found.low <= true <= found.high
        low, high = np.quantile(stats.replicates(task, measured, "macro_f1"), [0.025, 0.975])
        held["percentiles"] += low <= true <= high
    assert 184 <= held["ours"] <= 199  # binomial(200, .95) is in there 98.5 times in a hundred
    assert held["percentiles"] < held["ours"]


def simulated(labels: int, n: int, right: float, rng: np.random.Generator) -> tuple[Numbers, Numbers]:
    """Gold labels that are not equally frequent, and guesses."""
    shares = np.linspace(1, 4, labels) / np.linspace(1, 4, labels).sum()
    gold = rng.choice(labels, n, p=shares)
    return gold, np.where(rng.random(n) < right, gold, rng.choice(labels, n, p=shares))


def test_a_score_that_is_no_number_is_none_and_the_others_are_told() -> None:
    task = TextRegression(mean=0.0, deviation=1.0)
    rows = [Row(k, {"text": "t", "label_number": 2.0}, "f", k) for k in range(30)]
    found = stats.scores(task, judge_answers(task, rows, [{"value": k / 10} for k in range(30)]).measured)
    assert "r2" not in found and found["mae"].value == pytest.approx(0.85)  # equal numbers have no variance
    assert all(np.isfinite([score.value, score.low, score.high]).all() for score in found.values())


def test_a_score_that_no_row_alone_can_have_is_no_share_of_rows() -> None:
    gold = ["a"] * 30 + ["b"] * 10
    found = stats.scores(TASK, judged(gold, ["a"] * 40))["mcc"]
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert shares.hits(TASK, judged(gold, ["a"] * 40), "mcc") is None
    lost = [{"label": "b", "probabilities": dict.fromkeys(TASK.labels, 1 / 3)}] * 40
    rows = [Row(k, {"text": "t", "label": label}, "f", k) for k, label in enumerate(["a"] * 40)]
    none = judge_answers(TASK, rows, lost).measured
    assert stats.scores(TASK, none)["accuracy"].high > 0.03  # of forty rows none is right, and that is a share
    assert shares.hits(TASK, none, "accuracy") is not None


def test_a_score_that_equals_the_share_on_these_rows_alone_is_none() -> None:
    gold, guess = ["a"] * 10 + ["b"] * 10, ["a"] * 8 + ["b"] * 10 + ["a"] * 2
    values = value_of(TASK, judged(gold, guess))
    assert values["macro_f1"] == pytest.approx(values["accuracy"])  # as many of each, as many of each are right
    assert shares.hits(TASK, judged(gold, guess), "macro_f1") is None
    assert shares.hits(TASK, judged(gold, guess), "accuracy") is not None
