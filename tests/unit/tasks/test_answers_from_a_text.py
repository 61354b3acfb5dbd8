"""Answers are found where the file says; windows hold them whole; the threshold of no answer is the best there is."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.contracts import Row
from tunesmith.errors import DataError
from tunesmith.metrics import answers as scoring
from tunesmith.models.text import TextEncoder
from tunesmith.tasks.question_answering import QuestionAnswering, best_spans

CONTEXT = "the red box is not here , the blue box is late today and my parcel was lost at the door"


@pytest.mark.parametrize(
    "given",
    [
        {"text": ["blue box"], "answer_start": [30]},
        [{"text": "blue box", "answer_start": 30}],
        [{"text": "blue box", "start": 30}],
        ["blue box"],
        "blue box",
    ],
)
def test_every_form_of_answer_is_read_alike(given: Any) -> None:
    row = {"question": " which box? ", "context": CONTEXT, "answers": given}
    task = QuestionAnswering()
    assert task.check_row(row, "learn") is None
    assert task.normalize(row)["label_answers"] == [{"text": "blue box", "start": 30}]


@pytest.mark.parametrize("given", [[], None, "", {"text": [], "answer_start": []}, [""]])
def test_no_answer_is_an_answer(given: Any) -> None:
    row = {"question": "which?", "context": CONTEXT, "answers": given}
    assert QuestionAnswering().check_row(row, "learn") is None
    assert QuestionAnswering().normalize(row)["label_answers"] == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([{"text": "blue box", "answer_start": 31}], "does not stand at character 31"),
        (["green box"], "does not stand in the context"),
        ({"text": ["a", "b"], "answer_start": [1]}, "2 texts and 1 places"),
        ([7], "answer 1 is not a text"),
    ],
)
def test_an_answer_that_is_not_there_is_told(given: Any, reason: str) -> None:
    found = QuestionAnswering().check_row({"question": "q", "context": CONTEXT, "answers": given}, "learn")
    assert found is not None and reason in found


def encoder_of(folder: Path, most: int) -> TextEncoder:
    from transformers import AutoTokenizer

    return TextEncoder(AutoTokenizer.from_pretrained(folder), most)


class Reads:
    family = "encoder"

    def __init__(self, text: TextEncoder) -> None:
        self.text = text


@pytest.mark.parametrize("most", [12, 16, 64])
def test_windows_cover_the_text_and_share_what_the_stride_says(encoder: Path, most: int) -> None:
    text = encoder_of(encoder, most)
    windows = text.windows(CONTEXT, "what is it ?", stride=3)
    whole = encoder_of(encoder, 512).windows(CONTEXT, "what is it ?")[0]
    spans = [[o for o, mine in zip(w.offsets, w.trained, strict=True) if mine] for w in windows]
    assert all(len(w.ids) <= most for w in windows)
    assert all(w.ids[:6] == whole.ids[:6] and w.ids[-1] == whole.ids[-1] for w in windows)
    assert all(later[:3] == before[-3:] for before, later in pairwise(spans))
    assert sorted({o for span in spans for o in span}) == [
        o for o, mine in zip(whole.offsets, whole.trained, strict=True) if mine
    ]


def test_a_question_that_leaves_no_room_is_told(encoder: Path) -> None:
    with pytest.raises(DataError, match="too few are left"):
        encoder_of(encoder, 12).windows(CONTEXT, "which of the box is not here today ?", stride=3)


def test_the_target_is_in_the_windows_that_hold_the_answer_whole_and_none_elsewhere(encoder: Path) -> None:
    task = QuestionAnswering(stride=3)
    row = Row(0, task.normalize({"question": "which?", "context": CONTEXT, "answers": ["parcel was lost"]}), "f", 1)
    examples = task.encode(row, Reads(encoder_of(encoder, 14)), "learn")
    held = []
    for example in examples:
        first, last = example.target["span"]
        part = example.parts["text"]
        if first:
            held.append(CONTEXT[part.offsets[first][0] : part.offsets[last][1]])
        else:
            assert (first, last) == (0, 0)
    assert held and set(held) == {"parcel was lost"} and len(held) < len(examples)


def test_best_spans_are_those_of_a_search_through_all(encoder: Path) -> None:
    rng = np.random.default_rng(0)
    first, last = rng.normal(size=(2, 20)).astype(np.float32)
    places = list(range(4, 18))
    every = [(first[a] + last[b], a, b) for a in places for b in places if a <= b < a + 5]
    wanted = sorted(every, reverse=True)[:6]
    found = best_spans(first, last, places, 5, 6)
    assert [(a, b) for _, a, b in found] == [(a, b) for _, a, b in wanted]


def test_the_settled_threshold_is_no_worse_than_any_other(encoder: Path) -> None:
    rng = np.random.default_rng(1)
    task = QuestionAnswering(unanswerable=True)
    rows, outputs = [], {}
    for k in range(40):
        has = bool(k % 3)
        values = {
            "question": "q",
            "context": CONTEXT,
            "label_answers": [{"text": "red box", "start": 4}] if has else [],
        }
        rows.append(Row(k, values, "f", k))
        outputs[k] = [
            ([(1.0, 4, 11) if rng.random() < 0.8 else (1.0, 0, 3)], float(rng.normal(0.5 if has else 2.0, 1)))
        ]
    settled = task.settle(rows, outputs)

    def score(threshold: float) -> float:
        known = QuestionAnswering(unanswerable=True, threshold=threshold)
        answers = [known.decode(row, outputs[row.id])["answer"] for row in rows]
        return sum(
            scoring.f1(a, [x["text"] for x in row["label_answers"]]) for a, row in zip(answers, rows, strict=True)
        )

    assert score(settled.threshold) == max(score(t) for t in np.linspace(-5, 5, 400))
    assert score(settled.threshold) > score(0.0)


def test_scores_of_questions_with_and_without_an_answer_rest_on_those_alone() -> None:
    from dataclasses import replace

    from tunesmith import stats
    from tunesmith.train.evaluate import judge_answers

    task = replace(QuestionAnswering(), unanswerable=True)
    answers = [["blue box"], ["red box"], ["door"], []]
    rows = [
        Row(k, task.normalize({"question": "q", "context": CONTEXT, "answers": given}), "f", k + 1)
        for k, given in enumerate(answers)
    ]
    said = [{"answer": text} for text in ("blue box", "box", "", "")]
    found = stats.scores(task, judge_answers(task, rows, said).measured)
    assert found["answer_exact_match"].n == 4 and found["answer_exact_match"].value == 0.5
    assert found["has_answer_f1"].n == 3 and found["has_answer_exact_match"].value == pytest.approx(1 / 3)
    assert found["no_answer_accuracy"].n == 1 and found["no_answer_accuracy"].value == 1.0
    found = stats.scores(task, judge_answers(task, rows[:3], said[:3]).measured)
    assert "no_answer_accuracy" not in found
    assert task.baselines(rows, rows, None)["no_answer"] == [{"answer": ""}] * 4  # type: ignore[arg-type]
