"""Questions and answers for nets that write: what tasks with a written answer share.

A question has a text in it that may be too long for the model; it is cut there, never in the answer or in the words
around it. The model's own chat template renders both, where it has one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tunesmith.contracts import Example, Loss, Reader, Tokens, Vector
from tunesmith.errors import DataError
from tunesmith.models import seq2seq
from tunesmith.models.seq2seq import Told

if TYPE_CHECKING:
    from tunesmith.models.model import Model

_LEAST = 16


@dataclass(frozen=True)
class Question:
    """What is asked: a text, and the words before and behind it."""

    before: str
    text: str
    behind: str = ""
    told: Told | None = None
    """What an encoder-decoder is told instead of the words before the text; with None, it reads them too."""

    def with_text(self, text: str) -> str:
        """The whole of it."""
        return self.before + text + self.behind


def to_learn(reader: Reader, question: Question, answer: str) -> dict[str, Tokens]:
    """The question with its answer, which is what is learned: of an encoder-decoder, two sequences. Raises DataError
    where the answer leaves no room."""
    if reader.family == "encoder-decoder":
        target = seq2seq.target_tokens(reader.text, answer, question.told or Told())
        if target.lost:
            raise DataError(
                f"the answer has {len(target.ids) + target.cut} tokens, {reader.text.max_tokens} can be written",
                hint="shorten it",
            )
        return {"text": _source(reader, question), "answer": target}
    made = _fitted(reader, question, lambda text: reader.text.exchange(question.with_text(text), answer), 0)
    if made.lost:
        raise DataError(
            f"the answer and the words around the text do not fit the {reader.text.max_tokens} tokens that are read",
            hint="shorten the answer, or raise `data.max_tokens`",
        )
    return {"text": made}


def to_answer(reader: Reader, question: Question, room: int) -> dict[str, Tokens]:
    """The question alone, with `room` tokens left for an answer."""
    if reader.family == "encoder-decoder":
        return {"text": _source(reader, question)}
    return {"text": _fitted(reader, question, lambda text: reader.text.asked(question.with_text(text)), room)}


def _source(reader: Reader, question: Question) -> Tokens:
    """What an encoder reads."""
    if question.told is not None:
        return seq2seq.source_tokens(reader.text, question.text, question.told)

    def make(text: str) -> Tokens:
        return seq2seq.source_tokens(reader.text, question.with_text(text), Told())

    return _fitted(reader, question, make, 0)


def _fitted(reader: Reader, question: Question, make: Callable[[str], Tokens], room: int) -> Tokens:
    """Cut the text from its end until the whole leaves room."""
    text, cut = question.text, 0
    offsets = None
    while True:
        made = make(text)
        over = len(made.ids) + made.cut + room - reader.text.max_tokens
        if over <= 0 or not text:
            return replace(made, cut=cut + made.cut)
        if offsets is None:
            offsets = reader.text.backend.encode(text, add_special_tokens=False).offsets
        keep = max(len(offsets) - over, 0)
        cut += len(offsets) - keep
        offsets = offsets[:keep]
        text = text[: offsets[-1][1]].rstrip() if offsets else ""


def room_for(reader: Reader, option: int | None, long_answer: str) -> int:
    """Tokens that an answer may take: the option, or 1.2 times those of a long answer and its end."""
    if option is not None:
        return option
    return max(_LEAST, min(math.ceil(1.2 * reader.text.size_written(long_answer)), reader.text.max_tokens // 2))


def long_one(texts: Sequence[str]) -> str:
    """The text at the 99th percentile of size. Bytes tell better than characters how many tokens a text has: those of
    a script that a tokenizer has seldom seen are a token or two each."""
    ordered = sorted(texts, key=lambda text: len(text.encode()))
    return ordered[math.ceil(0.99 * len(ordered)) - 1] if ordered else ""


def weights(examples: Sequence[Example]) -> dict[str, float]:
    """Every trained token counts once; a first token is never predicted."""
    return {"loss": float(sum(sum(_learned(example).trained[1:]) for example in examples))}


def _learned(example: Example) -> Tokens:
    """The sequence that the answer is in."""
    made: Tokens = example.parts.get("answer") or example.parts["text"]
    return made


def loss(model: Model, examples: Sequence[Example], smoothing: float = 0.0) -> dict[str, Loss]:
    """Cross entropy of the trained tokens, summed; a share of the target may be spread over the vocabulary."""
    losses, _ = token_losses(model, examples, smoothing)
    return {"loss": Loss(losses.sum(), float(len(losses)))}


def assess(model: Model, examples: Sequence[Example]) -> list[dict[str, Vector]]:
    """The loss and the number of trained tokens of each row."""
    from tunesmith.models.loss import sum_by_row

    losses, counts = token_losses(model, examples)
    sums = zip(sum_by_row(losses, counts), counts, strict=True)
    return [{"loss": found, "tokens": float(count)} for found, count in sums]


def token_losses(model: Model, examples: Sequence[Example], smoothing: float = 0.0) -> tuple[Any, list[int]]:
    """Cross entropy of every trained token [tokens], and how many each example has."""
    from tunesmith.models.loss import label_losses, label_positions

    rows = [_learned(example) for example in examples]
    positions, labels, counts = label_positions(rows, model.device)
    if model.kind == "seq2seq-lm":
        sources = [example.parts["text"] for example in examples]
        states = seq2seq.answer_states(model, sources, rows, positions)
    else:
        states = model.states_at(rows, positions)
    return label_losses(states, model.output_layer, labels, model.matmul, smoothing), counts


def write(model: Model, examples: Sequence[Example], room: int, told: Told | None = None) -> list[Any]:
    """A greedy answer a question."""
    from tunesmith.models import generate

    prompts = [example.parts["text"] for example in examples]
    if model.kind == "seq2seq-lm":
        return list(generate.translations(model, prompts, room, told or Told()))
    return list(generate.answers(model, prompts, room, generate.stop_tokens(model)))
