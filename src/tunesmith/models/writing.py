"""Questions and answers for nets that write: what tasks with a written answer share.

A question has a text in it that may be too long for the model; it is cut there, never in the answer or in the words
around it. The model's own chat template renders both, where it has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tunesmith.contracts import Example, Loss, Reader, Tokens, Vector
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from tunesmith.models.model import Model

_CHARACTERS_A_TOKEN = 2.5
"""At the least, in running text; more tokens than an answer needs are harmless."""
_LEAST = 16


@dataclass(frozen=True)
class Question:
    """What is asked: a text, and the words before and behind it."""

    before: str
    text: str
    behind: str = ""

    def with_text(self, text: str) -> str:
        """The whole of it."""
        return self.before + text + self.behind


def to_learn(reader: Reader, question: Question, answer: str) -> Tokens:
    """The question with its answer, which is what is learned. Raises DataError where the answer leaves no room."""
    made = _fitted(reader, question, lambda text: reader.text.exchange(question.with_text(text), answer), 0)
    if made.lost:
        raise DataError(
            f"the answer and the words around the text do not fit the {reader.text.max_tokens} tokens that are read",
            hint="shorten the answer, raise `data.max_tokens`, or set `data.bad_rows: skip`",
        )
    return made


def to_answer(reader: Reader, question: Question, room: int) -> Tokens:
    """The question alone, with `room` tokens left for an answer."""
    return _fitted(reader, question, lambda text: reader.text.asked(question.with_text(text)), room)


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
            offsets = reader.text.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).offsets
        keep = max(len(offsets) - over, 0)
        cut += len(offsets) - keep
        offsets = offsets[:keep]
        text = text[: offsets[-1][1]].rstrip() if offsets else ""


def room_for(reader: Reader, option: int | None, longest: int) -> int:
    """Tokens that an answer may take: the option, or 1.2 times what answers of `longest` characters need."""
    if option is not None:
        return option
    return max(_LEAST, min(int(1.2 * longest / _CHARACTERS_A_TOKEN), reader.text.max_tokens // 2))


def longest_of(texts: Sequence[str]) -> int:
    """Characters of the 99th percentile."""
    import numpy as np

    return int(np.percentile([len(text) for text in texts], 99)) if texts else 0


def weights(examples: Sequence[Example]) -> dict[str, float]:
    """Every trained token counts once; a first token is never predicted."""
    return {"loss": float(sum(sum(example.parts["text"].trained[1:]) for example in examples))}


def loss(model: Model, examples: Sequence[Example]) -> dict[str, Loss]:
    """Cross entropy of the trained tokens, summed."""
    losses, _ = token_losses(model, examples)
    return {"loss": Loss(losses.sum(), float(len(losses)))}


def assess(model: Model, examples: Sequence[Example]) -> list[dict[str, Vector]]:
    """The loss and the number of trained tokens of each row."""
    from tunesmith.models.loss import sum_by_row

    losses, counts = token_losses(model, examples)
    sums = zip(sum_by_row(losses, counts), counts, strict=True)
    return [{"loss": found, "tokens": float(count)} for found, count in sums]


def token_losses(model: Model, examples: Sequence[Example]) -> tuple[Any, list[int]]:
    """Cross entropy of every trained token [tokens], and how many each example has."""
    from tunesmith.models.loss import label_losses, label_positions

    rows = [example.parts["text"] for example in examples]
    positions, labels, counts = label_positions(rows, model.device)
    return label_losses(model.states_at(rows, positions), model.output_layer, labels, model.matmul), counts


def write(model: Model, examples: Sequence[Example], room: int) -> list[Any]:
    """A greedy answer a question."""
    from tunesmith.models import generate

    prompts = [example.parts["text"] for example in examples]
    return list(generate.answers(model, prompts, room, generate.stop_tokens(model)))
