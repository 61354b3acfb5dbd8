"""Thresholds: counts equal those made row by row, validation rows alone choose, and wishes come true."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import judged
import tiny
from tunesmith import recipefile, run
from tunesmith.contracts import Row
from tunesmith.data.content import GROUP
from tunesmith.evidence import calibration, thresholds
from tunesmith.evidence.case import Case
from tunesmith.reportshape import Threshold
from tunesmith.tasks.multi_label_classification import GOLD, MultiLabelClassification, best_cut
from tunesmith.tasks.question_answering import ANSWERS, QuestionAnswering
from tunesmith.tasks.text_classification import TextClassification

Numbers = np.ndarray[Any, Any]
CHANCES = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.5, 0.5000000000000001, 1.0]))  # equal ones, and near
ROWS = st.lists(st.tuples(CHANCES, st.booleans()), min_size=1, max_size=30)


@settings(deadline=None, max_examples=200)
@given(ROWS, CHANCES)
def test_counts_by_threshold_are_those_made_row_by_row(pairs: list[tuple[float, bool]], threshold: float) -> None:
    found = thresholds.sweep(np.array([p for p, _ in pairs]), np.array([hit for _, hit in pairs]))
    for at in [threshold, *(p for p, _ in pairs)]:
        given_to = [hit for p, hit in pairs if p >= at]
        assert found.at(at) == (len(given_to), sum(given_to))
    assert (found.gold, found.rows) == (sum(hit for _, hit in pairs), len(pairs))


@settings(deadline=None, max_examples=200)
@given(ROWS)
def test_no_threshold_has_a_better_f1_than_the_best(pairs: list[tuple[float, bool]]) -> None:
    def f1(at: float) -> float:
        given_to = [hit for p, hit in pairs if p >= at]
        return 2 * sum(given_to) / (len(given_to) + gold)

    gold = sum(hit for _, hit in pairs)
    best = thresholds.sweep(np.array([p for p, _ in pairs]), np.array([hit for _, hit in pairs])).best()
    if not gold:
        assert best is None
        return
    assert best is not None
    assert f1(best) == pytest.approx(max(f1(p) for p, _ in pairs))


@settings(deadline=None, max_examples=100)
@given(ROWS)
def test_the_points_of_a_curve_are_its_counts(pairs: list[tuple[float, bool]]) -> None:
    chances, truth = np.array([p for p, _ in pairs]), np.array([hit for _, hit in pairs])
    made = thresholds.points(thresholds.sweep(chances, truth), chances[truth])
    assert [one["threshold"] for one in made] == sorted({one["threshold"] for one in made})
    for one in made:
        given_to = chances >= one["threshold"]
        hit = (given_to & truth).sum()
        assert one["given"] == pytest.approx(given_to.mean())
        assert one["precision"] == (pytest.approx(hit / given_to.sum()) if given_to.any() else None)
        assert one["recall"] == pytest.approx(hit / truth.sum() if truth.any() else 0)


def binary(rng: np.random.Generator, n: int, **beside: Any) -> tuple[list[Row], list[Any]]:
    """Of ten rows one is spam, which the model is not sure enough of."""
    gold = rng.random(n) < 0.1
    chances = np.clip(np.where(gold, rng.normal(0.35, 0.1, n), rng.normal(0.1, 0.06, n)), 0.001, 0.999)
    rows = judged.labelled_rows(["spam" if spam else "ham" for spam in gold], **beside)
    answers = [
        {
            "label": "spam" if p > 0.5 else "ham",
            "probability": max(p, 1 - p),
            "probabilities": {"ham": 1 - p, "spam": p},
        }
        for p in chances.tolist()
    ]
    return rows, answers


TASK = TextClassification(labels=("ham", "spam"), shares=(0.9, 0.1))


def both(seed: int = 0, n: int = 600) -> Case:
    rng = np.random.default_rng(seed)
    held = binary(rng, n)
    rows, answers = binary(rng, n)
    return judged.case_of(TASK, rows, {"tuned": answers}, held=held)


def test_of_two_labels_the_rarer_gets_the_threshold_that_validation_rows_choose_and_it_is_scored_on_others() -> None:
    case = both()
    (found,) = thresholds.look(case)
    Threshold.model_validate(found)
    assert found["label"] == "spam" and found["in_force"]["threshold"] == 0.5
    assert case.result.held is not None
    chances = np.array([case.result.held.answers[row.id]["probabilities"]["spam"] for row in case.validation])
    truth = np.array([row["label"] == "spam" for row in case.validation])
    assert found["chosen"]["threshold"] == best_cut(chances, truth)
    mine = np.array([case.tuned[row.id]["probabilities"]["spam"] for row in case.rows])
    gold = np.array([row["label"] == "spam" for row in case.rows])
    given_to = mine >= found["chosen"]["threshold"]
    f1 = 2 * (given_to & gold).sum() / (given_to.sum() + gold.sum())
    assert found["chosen"]["f1"]["value"] == pytest.approx(f1)
    assert found["chosen"]["f1"]["low"] < f1 < found["chosen"]["f1"]["high"]
    assert found["chosen"]["precision"] == pytest.approx((given_to & gold).sum() / given_to.sum())
    assert found["gain"]["value"] == pytest.approx(f1 - found["in_force"]["f1"]["value"])
    assert found["gain"]["low"] > 0.3  # at .5 hardly any is found


def test_without_validation_rows_of_their_own_no_threshold_is_chosen() -> None:
    rows, answers = binary(np.random.default_rng(1), 200)
    case = judged.case_of(TASK, rows, {"tuned": answers})
    (found,) = thresholds.look(case)
    assert found["chosen"] is None and found["gain"] is None and len(found["points"]) > 20
    made = calibration.look(case)
    assert made is not None and made["wishes"] == []


def test_copies_of_rows_make_a_threshold_no_surer() -> None:
    rng = np.random.default_rng(2)
    rows, answers = binary(rng, 300)
    values = [dict(row.values) for row in rows] * 4
    copies = [Row(k, v | {GROUP: str(k % 300)}, "f", k) for k, v in enumerate(values)]
    held = binary(rng, 300)
    alone = thresholds.look(judged.case_of(TASK, rows, {"tuned": answers}, held=held))
    copied = thresholds.look(judged.case_of(TASK, copies, {"tuned": answers * 4}, held=held))
    widths = [one[0]["chosen"]["f1"]["high"] - one[0]["chosen"]["f1"]["low"] for one in (alone, copied)]
    assert widths[1] > 0.8 * widths[0]


def several(rng: np.random.Generator, n: int, labels: tuple[str, ...]) -> tuple[list[Row], list[Any]]:
    truth = rng.random((n, len(labels))) < np.linspace(0.4, 0.05, len(labels))
    chances = np.clip(0.25 + 0.3 * truth + rng.normal(0, 0.1, truth.shape), 0, 1)
    rows = [
        Row(k, {"text": f"t {k}", GOLD: [label for label, has in zip(labels, line, strict=True) if has]}, "f", k)
        for k, line in enumerate(truth)
    ]
    return rows, [np.asarray(line) for line in chances]


def test_of_several_labels_the_most_frequent_are_beside_the_thresholds_that_are_saved() -> None:
    labels = tuple(f"label {k:02}" for k in range(15))
    rng = np.random.default_rng(3)
    (before, outputs), (rows, lines) = several(rng, 300, labels), several(rng, 300, labels)
    task = MultiLabelClassification(labels=labels, cuts=(0.5,) * 15, thresholds="each").settle(
        before, {row.id: [line] for row, line in zip(before, outputs, strict=True)}
    )
    held = [task.decode(row, [line]) for row, line in zip(before, outputs, strict=True)]
    answers = [task.decode(row, [line]) for row, line in zip(rows, lines, strict=True)]
    found = thresholds.look(judged.case_of(task, rows, {"tuned": answers}, held=(before, held)))
    assert len(found) == thresholds.LABELS
    counts = {label: sum(label in row[GOLD] for row in rows) for label in labels}
    assert [one["n"] for one in found] == sorted(counts.values(), reverse=True)[: thresholds.LABELS]
    for one in found:
        assert one["n"] == counts[one["label"]]
        assert one["in_force"]["threshold"] == task.cuts[labels.index(one["label"])]
        assert one["chosen"]["threshold"] == one["in_force"]["threshold"]  # each has its own already
        assert (one["gain"]["value"], one["gain"]["low"], one["gain"]["high"]) == (0.0, 0.0, 0.0)


def test_whether_a_text_has_an_answer_is_cut_where_the_task_cuts_it() -> None:
    task = QuestionAnswering(unanswerable=True, threshold=-1.5)
    rng = np.random.default_rng(4)

    def made(n: int) -> tuple[list[Row], list[Any]]:
        has = rng.random(n) < 0.6
        gaps = np.where(has, rng.normal(-3, 2, n), rng.normal(1, 2, n))
        rows = [Row(k, {"question": "q", "context": "abc", ANSWERS: [{"text": "abc", "start": 0}] if h else []}, "f", k)
                for k, h in enumerate(has)]  # fmt: skip
        return rows, [task.decode(row, [([(0.0, 0, 3)], float(gap))]) for row, gap in zip(rows, gaps, strict=True)]

    held, (rows, answers) = made(300), made(300)
    (found,) = thresholds.look(judged.case_of(task, rows, {"tuned": answers}, held=held))
    given_to = [bool(answer["answer"]) for answer in answers]
    has = [bool(row[ANSWERS]) for row in rows]
    assert (found["label"], found["n"]) == ("has an answer", sum(has))
    assert found["in_force"]["given"] == pytest.approx(np.mean(given_to))
    assert found["in_force"]["precision"] == pytest.approx(
        np.mean([h for h, g in zip(has, given_to, strict=True) if g])
    )
    cut = thresholds.cuts(task, rows, judged.case_of(task, rows, {"tuned": answers}).result.tuned)[0]
    assert np.array_equal(cut.chances >= cut.threshold, cut.given)
    assert found["chosen"]["f1"]["value"] > found["in_force"]["f1"]["value"]


def test_of_many_labels_no_threshold_decides() -> None:
    assert thresholds.look(judged.of_labels(["a", "b", "c"] * 20, ["a", "b", "c"] * 20)) == []


def drawn(n: int, rng: np.random.Generator) -> tuple[Numbers, Numbers]:
    sure = 0.5 + 0.5 * rng.beta(3, 1, n)
    return sure, (rng.random(n) < sure).astype(float)


def test_wishes_are_fulfilled_by_the_true_rate_about_nine_times_in_ten() -> None:
    rng = np.random.default_rng(5)
    sure, right = drawn(400_000, rng)
    truth = thresholds.sweep(sure, right < 0.5)
    broken = found = 0
    for _ in range(120):
        at = thresholds.lowest(*drawn(500, rng), 0.1, None)
        if at is not None:
            count, wrong = truth.at(at)
            found += 1
            broken += wrong / count > 0.1
    assert found > 110
    assert broken <= 22  # binomial(120, .1) is above that once in a thousand times


def test_rows_that_are_right_together_promise_less() -> None:
    sure, right = drawn(300, np.random.default_rng(6))
    alone = thresholds.lowest(sure, right, 0.1, None)
    copied = thresholds.lowest(np.tile(sure, 4), np.tile(right, 4), 0.1, np.tile(np.arange(300), 4))
    strangers = thresholds.lowest(np.tile(sure, 4), np.tile(right, 4), 0.1, None)
    assert alone is not None and copied is not None and strangers is not None
    assert strangers < alone and copied == pytest.approx(alone, abs=0.02)


def test_a_wish_that_all_answers_fulfil_needs_no_threshold_and_few_rows_promise_nothing() -> None:
    assert thresholds.lowest(np.linspace(0.6, 1, 200), np.ones(200), 0.05, None) == 0.0
    assert thresholds.lowest(np.linspace(0.6, 1, 20), np.ones(20), 0.05, None) is None
    assert thresholds.lowest(np.zeros(0), np.zeros(0), 0.05, None) is None
    same = np.full(100, 0.9)  # equal confidences cannot be parted
    assert thresholds.lowest(same, np.repeat([1.0, 0.0], [80, 20]), 0.1, None) is None


def test_what_a_wish_does_is_told_of_the_rows_of_the_verdict() -> None:
    rng = np.random.default_rng(7)
    held, now = drawn(800, rng), drawn(1000, rng)
    made = thresholds.promised(now, held, (None, None))
    assert [one["wrong"] for one in made] == list(thresholds.WISHES)
    one = made[-1]
    kept = now[0] >= one["threshold"]
    assert one["chosen_on"] == 800 and one["answered"]["value"] == pytest.approx(kept.mean())
    assert one["among"]["value"] == pytest.approx(1 - now[1][kept].mean()) and one["among"]["n"] == kept.sum()
    far = (now[0], np.zeros(1000))
    assert [one["outcome"] for one in thresholds.promised(far, held, (None, None))][-1] == "broken"
    assert thresholds.promised((now[0], np.ones(1000)), held, (None, None))[-1]["outcome"] == "held"


def test_the_report_of_a_run_has_thresholds_that_its_validation_rows_chose(encoder: Path, tmp_path: Path) -> None:
    rows = [row for row in tiny.label_rows(240) if row["label"] != "login"]
    values = tiny.recipe_values(
        encoder, tiny.write_csv(tmp_path / "rows.csv", rows), tmp_path / "runs", method="full",
        evaluate__compare=False, evaluate__verify=False, evaluate__evidence=False,
    )  # fmt: skip
    directory, prepared = run.begin(recipefile.build(values), None, [])
    for _ in run.go(directory, prepared):
        pass
    report = directory.json("report/report")
    (found,) = report["thresholds"]
    held = len(prepared.splits.rows["validation"])
    assert found["rows"] == len(prepared.splits.rows["test"]) and found["chosen"] is not None
    assert {one["chosen_on"] for one in report["calibration"]["wishes"]} == {held}
