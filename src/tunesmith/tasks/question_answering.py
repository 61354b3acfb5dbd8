"""A question about a text: an encoder marks the answer in the text, a decoder writes it.

Long texts are read in overlapping windows; the answer is the best span of all of them. Where training has questions
without an answer, none is an answer too, by a threshold that the validation rows choose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from tunesmith.contracts import (
    Answer,
    Column,
    Example,
    Loss,
    Mark,
    Metric,
    Purpose,
    Reader,
    Row,
    Shown,
    Sums,
    Task,
    Tokens,
    Vector,
)
from tunesmith.errors import RecipeError
from tunesmith.metrics import answers as scoring
from tunesmith.written import Written, check_text

if TYPE_CHECKING:
    from tunesmith.models.catalog import Source
    from tunesmith.models.model import Model
    from tunesmith.models.writing import Question
    from tunesmith.recipe import Recipe

ANSWERS = "label_answers"
NONE = "unanswerable"
"""What a decoder writes where the text has no answer."""
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_WORD = re.compile(r"\w+")
_SURE = 1e6
"""How much likelier no answer is where there is no span at all."""

WRITERS = ("decoder", "encoder-decoder")
"""Kinds of model that write the answer instead of marking it."""


@dataclass(frozen=True)
class QuestionAnswering(Written):
    """An answer from a text."""

    columns: ClassVar[Mapping[str, Column]] = {
        "question": Column("a text", names=("query",)),
        "context": Column("a text that holds the answer", names=("passage", "paragraph", "document", "text")),
        "answers": Column(
            "a text, a list of texts, or texts with where they begin; empty where there is no answer",
            names=("answer",),
            target=True,
        ),
    }
    headline: ClassVar[Metric] = Metric("answer_f1", higher_is_better=True)
    families: ClassVar[tuple[str, ...]] = ("encoder", "decoder", "encoder-decoder")

    stride: Annotated[int, Ge(0)] = 64
    """Tokens that neighbouring windows of a long text share."""

    max_answer_tokens: Annotated[int, Ge(1)] = 30
    """Longest span that an encoder marks."""

    n_best: Annotated[int, Ge(1)] = 5
    """Spans that are told beside the answer."""

    unanswerable: bool = field(default=False, metadata={"option": False})
    """Whether a training row has no answer."""

    threshold: float = field(default=0.0, metadata={"option": False})
    """How much likelier than the best span no answer must be to be given."""

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """Every answer must stand in the context, at the place that is said."""
        wrong = check_text("question", values) or check_text("context", values)
        if wrong or purpose == "answer":
            return wrong
        found = _read_answers(values.get("answers"), values["context"])
        return found if isinstance(found, str) else None

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Answers as {text, start}; an empty list where there is none."""
        made: dict[str, Any] = {"question": values["question"].strip(), "context": values["context"]}
        if "answers" in values:
            found = _read_answers(values["answers"], values["context"])
            if not isinstance(found, str):
                made[ANSWERS] = found
        return made

    def learn(self, rows: Iterable[Row]) -> QuestionAnswering:
        """Whether some questions have no answer, and how long answers are."""
        from tunesmith.models import writing

        rows = list(rows)
        texts = [answer["text"] for row in rows for answer in row[ANSWERS][:1]]
        unanswerable = any(not row[ANSWERS] for row in rows)
        return replace(self, unanswerable=unanswerable, long_answer=writing.long_one(texts))

    def build(self, source: Source, options: Recipe, seed: int) -> Model:
        """An encoder with two logits a token; a decoder as it is."""
        from tunesmith.models.load import load_span_classifier

        if source.kind in WRITERS:
            return super().build(source, options, seed)
        if self.smoothing:
            raise RecipeError(
                "an encoder marks one place for an answer, and its target has no share to spread",
                where="task.smoothing",
                hint="leave it out, or take a model that writes",
            )
        return load_span_classifier(source, options.model, options.data.max_tokens, seed)

    def question(self, row: Row) -> Question:
        """The context, then the question, for a decoder."""
        from tunesmith.models.writing import Question

        none = f" If the text does not say, answer `{NONE}`." if self.unanswerable else ""
        told = f"Answer the question with words of the text.{none}\n\n"
        return Question(told, row["context"], f"\n\nQuestion: {row['question']}")

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """An example a window; the target is the first and last token of the first answer, or the first token where
        the window does not hold it whole."""
        if reader.family in WRITERS:
            return self._to_write(row, reader, purpose)
        windows = reader.text.windows(row["context"], row["question"], self.stride)
        if purpose == "answer":
            return [Example(row.id, {"text": window}, {"at": _places(window)}) for window in windows]
        made = []
        for window in windows:
            first, last = _marked(window, row[ANSWERS][0]) if row[ANSWERS] else (0, 0)
            learned = replace(window, trained=tuple(first <= k <= last for k in range(len(window.ids))))
            made.append(Example(row.id, {"text": learned}, {"span": [first, last]}))
        return made

    def marks(self, row: Row, example: Example, reader: Reader) -> Sequence[Mark]:
        """The answer in a window, or that there is none in it."""
        if example.target is None:
            return super().marks(row, example, reader)
        first, last = example.target["span"]
        return [Mark("answer" if first else "no answer here", "text", (first, last + 1))]

    def _to_write(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        from tunesmith.models import writing

        if purpose == "answer":
            return [Example(row.id, writing.to_answer(reader, self.question(row), self.room(reader)))]
        answer = row[ANSWERS][0]["text"] if row[ANSWERS] else NONE
        return [Example(row.id, writing.to_learn(reader, self.question(row), answer))]

    def weights(self, examples: Sequence[Example]) -> dict[str, float]:
        """Every window counts once; for a decoder every trained token."""
        if examples and examples[0].target is None:
            return super().weights(examples)
        return {"loss": float(len(examples))}

    def loss(self, model: Model, examples: Sequence[Example]) -> dict[str, Loss]:
        """Mean of the cross entropies of first and last token over the tokens of a window, summed over windows."""
        if model.family in WRITERS:
            return super().loss(model, examples)
        from tunesmith.models.loss import class_loss

        first, last = _span_logits(model, examples)
        spans = [example.target["span"] for example in examples]
        total = class_loss(first, [a for a, _ in spans]) + class_loss(last, [b for _, b in spans])
        return {"loss": Loss(total / 2, float(len(examples)))}

    def assess(self, model: Model, examples: Sequence[Example]) -> list[dict[str, Vector]]:
        """Nothing for an encoder, whose answers are cheap."""
        return super().assess(model, examples) if model.family in WRITERS else []

    def predict(self, model: Model, examples: Sequence[Example]) -> list[Any]:
        """For each window its likeliest spans (score, first character, one past the last), and the score of none."""
        if model.family in WRITERS:
            return super().predict(model, examples)
        first, last = (part.float().cpu().numpy() for part in _span_logits(model, examples))
        made = []
        for k, example in enumerate(examples):
            places = example.target["at"]
            found = best_spans(first[k], last[k], [at for at, _, _ in places], self.max_answer_tokens, self.n_best)
            where = {at: (start, end) for at, start, end in places}
            spans = [(score, where[a][0], where[b][1]) for score, a, b in found]
            made.append((spans, float(first[k][0] + last[k][0])))
        return made

    def decode(self, row: Row, outputs: Sequence[Any]) -> Answer:
        """The best span over all windows, or none; the spans that come next."""
        if not isinstance(outputs[0], tuple):
            made = super().decode(row, outputs)
            none = self.unanswerable and scoring.normal(made["answer"]) == NONE
            return {**made, "answer": "" if none else made["answer"]}
        best: dict[tuple[int, int], float] = {}
        for spans, _ in outputs:
            for score, start, end in spans:
                best[start, end] = max(score, best.get((start, end), -np.inf))
        ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))[: self.n_best]
        none = min(score for _, score in outputs)
        logits = np.array([score for _, score in ranked] + [none] * self.unanswerable)
        chances = np.exp(logits - logits.max()) if len(logits) else logits
        chances = chances / chances.sum() if len(chances) else chances
        told = [
            {**_told(row["context"], start, end), "probability": float(chance)}
            for ((start, end), _), chance in zip(ranked, chances, strict=False)
        ]
        gap = none - ranked[0][1] if ranked else _SURE
        if not told or (self.unanswerable and gap > self.threshold):
            sure = float(chances[-1]) if self.unanswerable else None
            nothing = {"answer": "", "start": None, "end": None, "probability": sure}
            return {**nothing, "no_answer_score": float(gap), "alternatives": told}
        return {**told[0], "no_answer_score": float(gap), "alternatives": told[1:]}

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """Exact match and F1 against the best reference, apart for questions with and without an answer."""
        references = [found["text"] for found in row[ANSWERS]]
        exact, f1 = scoring.exact(answer["answer"], references), scoring.f1(answer["answer"], references)
        # Apart, so that each score rests on its own rows.
        apart = {"has": 1.0, "has_exact": exact, "has_f1": f1} if references else {"lacks": 1.0, "lacks_exact": exact}
        return {"answers": 1.0, "exact": exact, "f1": f1, **apart}

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """Means over questions; where training has some without an answer, over those with one, and the share of those
        without that were given none."""
        made: dict[str, NDArray[np.float64]] = {}
        if "answers" in sums:
            rows = sums["answers"][..., 0]
            made = {"answer_f1": sums["f1"][..., 0] / rows, "answer_exact_match": sums["exact"][..., 0] / rows}
        if self.unanswerable and "has" in sums:
            made["has_answer_f1"] = sums["has_f1"][..., 0] / sums["has"][..., 0]
            made["has_answer_exact_match"] = sums["has_exact"][..., 0] / sums["has"][..., 0]
        if self.unanswerable and "lacks" in sums:
            made["no_answer_accuracy"] = sums["lacks_exact"][..., 0] / sums["lacks"][..., 0]
        return made | super().reduce({name: values for name, values in sums.items() if name != "answers"})

    def settle(self, rows: Sequence[Row], outputs: Mapping[int, Sequence[Any]]) -> Task:
        """The threshold with the best F1: of all those that change an answer (Rajpurkar et al. 2018)."""
        if not self.unanswerable or not rows or not isinstance(outputs[rows[0].id][0], tuple):
            return self
        always = replace(self, threshold=np.inf)
        gaps, gains = [], []
        for row in rows:
            answer = always.decode(row, outputs[row.id])
            references = [found["text"] for found in row[ANSWERS]]
            gaps.append(answer["no_answer_score"])
            gains.append(scoring.f1(answer["answer"], references) - scoring.f1("", references))
        order = np.argsort(gaps, kind="stable")
        scores = np.concatenate([[0.0], np.cumsum(np.array(gains)[order])])
        at = int(scores.argmax())
        ordered = np.array(gaps)[order]
        edges = np.concatenate([[ordered[0] - 1.0], (ordered[1:] + ordered[:-1]) / 2, [ordered[-1] + 1.0]])
        return replace(self, threshold=float(edges[at]))

    def united(self, tasks: Sequence[Self]) -> Self:
        """The mean of the thresholds; some questions have no answer where any says so."""
        one = replace(self, unanswerable=any(task.unanswerable for task in tasks))
        return replace(
            super(QuestionAnswering, one).united(tasks), threshold=float(np.mean([t.threshold for t in tasks]))
        )

    def notes(self) -> list[str]:
        """The threshold in use."""
        if not self.unanswerable:
            return []
        return [f"where the score of no answer is more than {self.threshold:.3f} above the best span's, none is given"]

    def show(self, row: Row, answer: Answer | None) -> Shown:
        """The question, the first reference, the answer."""
        references = [found["text"] for found in row[ANSWERS]]
        said = answer["answer"] if answer else ""
        right = scoring.exact(said, references) == 1.0 if answer else None
        return Shown(row["question"], references[0] if references else "(none)", said or "(none)", right)

    def base(self, model: Model, rows: Sequence[Row]) -> None:
        """A linear probe for an encoder: logistic regression of first and last tokens on the frozen states."""
        if model.family in WRITERS:
            return
        from tunesmith.models.probe import fit_span_probe

        examples = [example for row in rows for example in self.encode(row, model, "learn")]
        fit_span_probe(model, [e.parts["text"] for e in examples], [e.target["span"] for e in examples])

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """The sentence of the context that shares the most words with the question; where training has questions
        without an answer, no answer to any."""
        made: list[Answer] = []
        for row in rows:
            asked = set(_WORD.findall(row["question"].lower()))
            found = [match.group().strip() for match in _SENTENCE.finditer(row["context"]) if match.group().strip()]
            best = max(found, key=lambda text: len(asked & set(_WORD.findall(text.lower()))), default="")
            made.append({"answer": best})
        none: list[Answer] = [{"answer": ""} for _ in rows]
        return {"nearest_sentence": made} | ({"no_answer": none} if self.unanswerable else {})


def best_spans(
    first: NDArray[np.float32], last: NDArray[np.float32], places: Sequence[int], longest: int, count: int
) -> list[tuple[float, int, int]]:
    """The `count` best (score, first token, last token) among spans of at most `longest` of the places, in order."""
    if not places:
        return []
    at = np.asarray(places)
    scores = first[at][:, None] + last[at][None, :]
    steps = np.arange(len(at))
    length = steps[None, :] - steps[:, None]
    scores = np.where((length >= 0) & (length < longest), scores, -np.inf)
    flat = np.argsort(-scores, axis=None, kind="stable")[:count]
    rows, columns = np.unravel_index(flat, scores.shape)
    return [
        (float(scores[a, b]), int(at[a]), int(at[b]))
        for a, b in zip(rows, columns, strict=True)
        if scores[a, b] > -np.inf
    ]


def _span_logits(model: Model, examples: Sequence[Example]) -> tuple[Any, Any]:
    """Logits of first and of last tokens, each [windows, longest], minus infinity behind a window's end."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    rows = [example.parts["text"] for example in examples]
    pieces = model.token_logits(rows).split([len(row.ids) for row in rows])
    logits: torch.Tensor = pad_sequence(list(pieces), batch_first=True, padding_value=float("-inf"))
    return logits[..., 0], logits[..., 1]


def _marked(window: Tokens, answer: Mapping[str, Any]) -> tuple[int, int]:
    """First and last token of an answer; (0, 0), the first token of all, where the window does not hold it whole."""
    start, end = answer["start"], answer["start"] + len(answer["text"])
    inside = [k for k, mine in enumerate(window.trained) if mine]
    first = next((k for k in inside if window.offsets[k][1] > start), None)
    last = next((k for k in reversed(inside) if window.offsets[k][0] < end), None)
    if first is None or last is None or first > last:
        return 0, 0
    whole = window.offsets[first][0] <= start and window.offsets[last][1] >= end
    return (first, last) if whole else (0, 0)


def _places(window: Tokens) -> list[tuple[int, int, int]]:
    """(token, first character, one past the last) of the context's tokens."""
    return [(k, *window.offsets[k]) for k, mine in enumerate(window.trained) if mine]


def _told(context: str, start: int, end: int) -> dict[str, Any]:
    """An answer and its place; tokens of some models begin with the space before their word."""
    text = context[start:end]
    start += len(text) - len(text.lstrip())
    return {"answer": text.strip(), "start": start, "end": start + len(text.strip())}


def _read_answers(given: Any, context: str) -> list[dict[str, Any]] | str:
    """Answers as {text, start}, or in words why they cannot be read."""
    if given is None:
        return []
    if isinstance(given, Mapping) and "text" in given:  # of columns: {"text": [...], "answer_start": [...]}
        texts = given["text"] if isinstance(given["text"], list) else [given["text"]]
        starts = given.get("answer_start", given.get("start"))
        starts = starts if isinstance(starts, list) else [starts] * len(texts)
        if len(starts) != len(texts):
            return f"`answers` has {len(texts)} texts and {len(starts)} places"
        given = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    items = given if isinstance(given, list) else [given]
    made = []
    for number, item in enumerate(items, 1):
        text = item.get("text") if isinstance(item, Mapping) else item
        start = item.get("answer_start", item.get("start")) if isinstance(item, Mapping) else None
        if not isinstance(text, str):
            return f"answer {number} is not a text"
        if not text.strip():
            continue
        if start is None:
            start = context.find(text)
            if start < 0:
                return f"answer {number}, `{text[:60]}`, does not stand in the context"
        if type(start) is not int:
            return f"answer {number}, `{text[:60]}`, begins at {start!r}, which is no whole number"
        if context[start : start + len(text)] != text:
            return f"answer {number}, `{text[:60]}`, does not stand at character {start} of the context"
        made.append({"text": text, "start": start})
    return made


plugin = QuestionAnswering
