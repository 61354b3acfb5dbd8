"""What tasks share whose answers are written: how a row is asked and learned, and how the answer comes back.

Such a task says what is asked of a row, and what an answer is worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Ge, Lt
from numpy.typing import NDArray

from tunesmith.contracts import Answer, Example, Loss, Mark, Metric, Purpose, Reader, Row, Shown, Sums, Task, Vector

if TYPE_CHECKING:
    from tunesmith.models.catalog import Source
    from tunesmith.models.model import Model
    from tunesmith.models.seq2seq import Told
    from tunesmith.models.writing import Question
    from tunesmith.recipe import Recipe

REFERENCES = "label_references"
"""The column of a row's references: never cut, and never seen by a model that answers."""


@dataclass(frozen=True)
class Written(Task):
    """A task whose answer is a text."""

    families: ClassVar[tuple[str, ...]] = ("decoder", "encoder-decoder")
    has_references: ClassVar[bool] = True

    max_new_tokens: Annotated[int, Ge(1)] | None = None
    """Longest answer in tokens. None takes it from the data: 1.2 times the 99th percentile, at least 16."""

    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the target that is spread over all tokens (Szegedy et al. 2016, arXiv:1512.00567)."""

    long_answer: str = field(default="", metadata={"option": False})
    """The answer in training that 99 of 100 are no longer than; its tokens are counted when a model is at hand."""

    def question(self, row: Row) -> Question:
        """What is asked of a row."""
        raise NotImplementedError

    def told(self) -> Told:
        """What an encoder-decoder is told."""
        from tunesmith.models.seq2seq import Told

        return Told()

    def watched(self, scores: Mapping[str, float]) -> Metric:
        """The loss of the references: answers are too slow to be written at every look."""
        name = "mean_token_loss"
        return Metric(name, higher_is_better=False) if name in scores else self.headline

    def learn(self, rows: Iterable[Row]) -> Self:
        """How long answers are."""
        from tunesmith.models import writing

        return replace(self, long_answer=writing.long_one([row[REFERENCES][0] for row in rows]))

    def build(self, source: Source, options: Recipe, seed: int) -> Model:
        """The pretrained net as it is."""
        from tunesmith.models.load import load_causal_lm, load_seq2seq

        if source.kind == "encoder-decoder":
            from tunesmith.models.seq2seq import speak

            model = load_seq2seq(source, options.model, options.data.max_tokens, seed)
            speak(model, self.told())
            return model
        return load_causal_lm(source, options.model, options.data.max_tokens)

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """To learn, the question with the first reference; to answer, the question. Long texts lose their end."""
        from tunesmith.models import writing

        if purpose == "learn":
            return [Example(row.id, writing.to_learn(reader, self.question(row), row[REFERENCES][0]))]
        return [Example(row.id, writing.to_answer(reader, self.question(row), self.room(reader)))]

    def marks(self, row: Row, example: Example, reader: Reader) -> Sequence[Mark]:
        """Which part is read and which is written, where they are two."""
        return [Mark("source", "text"), Mark("target", "answer")] if "answer" in example.parts else []

    def weights(self, examples: Sequence[Example]) -> dict[str, float]:
        """Every trained token counts once."""
        from tunesmith.models import writing

        return writing.weights(examples)

    def loss(self, model: Model, examples: Sequence[Example]) -> dict[str, Loss]:
        """Cross entropy of the answer's tokens, summed."""
        from tunesmith.models import writing

        return writing.loss(model, examples, self.smoothing)

    def assess(self, model: Model, examples: Sequence[Example]) -> list[dict[str, Vector]]:
        """The loss and the number of trained tokens of each row."""
        from tunesmith.models import writing

        return writing.assess(model, examples)

    def predict(self, model: Model, examples: Sequence[Example]) -> list[Any]:
        """A greedy answer a question."""
        from tunesmith.models import writing

        return writing.write(model, examples, self.room(model), self.told())

    def decode(self, row: Row, outputs: Sequence[Any]) -> Answer:
        """The answer, and whether it ended by itself."""
        made = outputs[0]
        return {"answer": made.text, "ended": made.ended, "tokens": made.tokens}

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """Whether the answer ended by itself."""
        return {"answers": 1.0, "ended": float(answer.get("ended", True))}

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """answer_ended, a share of answers; mean_token_loss and token_perplexity over trained tokens."""
        made: dict[str, NDArray[np.float64]] = {}
        if "answers" in sums:
            made["answer_ended"] = sums["ended"][..., 0] / sums["answers"][..., 0]
        if "loss" in sums:
            made["mean_token_loss"] = sums["loss"][..., 0] / sums["tokens"][..., 0]
            made["token_perplexity"] = np.exp(made["mean_token_loss"])
        return made

    def show(self, row: Row, answer: Answer | None) -> Shown:
        """What is asked, the first reference, the answer."""
        asked = self.question(row)
        return Shown(asked.with_text(asked.text), row[REFERENCES][0], answer["answer"] if answer else "")

    def base(self, model: Model, rows: Sequence[Row]) -> None:
        """Nothing: the untuned model is asked the same."""

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """None: a task that knows a cheap system says which."""
        return {}

    def united(self, tasks: Sequence[Self]) -> Self:
        """With room for the answers of all."""
        return replace(self, long_answer=max((task.long_answer for task in tasks), key=len))

    def portable(self, reader: Reader) -> Self:
        """With the room of answers as a number."""
        return replace(self, max_new_tokens=self.room(reader), long_answer="")

    def room(self, reader: Reader) -> int:
        """Tokens that an answer may take."""
        from tunesmith.models import writing

        return writing.room_for(reader, self.max_new_tokens, self.long_answer)


def check_text(name: str, values: Mapping[str, Any]) -> str | None:
    """Why a column is not a text, or None."""
    value = values.get(name)
    if isinstance(value, str):
        return None if value.strip() else f"`{name}` is empty"
    return f"`{name}` is missing" if value is None else f"`{name}` is not a text"


def check_texts(name: str, values: Mapping[str, Any]) -> str | None:
    """Why a column is neither a text nor a list of texts, or None."""
    value = values.get(name)
    if not isinstance(value, list):
        return check_text(name, values)
    if not value or not all(isinstance(text, str) for text in value):
        return f"`{name}` is not a text, nor a list of texts"
    return None if all(text.strip() for text in value) else f"`{name}` has an empty text"


def texts(value: str | Sequence[str]) -> list[str]:
    """One text or several, as a list."""
    return [value] if isinstance(value, str) else list(value)
