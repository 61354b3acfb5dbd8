"""Plain text that a decoder goes on learning to continue: a domain's language, its facts, its form.

Documents keep their borders: none sees another, however they share a batch. Long ones are read in pieces of the model's
context, and every token but a document's first is predicted once.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Ge, Lt
from numpy.typing import NDArray

from tunesmith.contracts import Answer, Column, Example, Loss, Metric, Purpose, Reader, Row, Shown, Sums, Task, Vector
from tunesmith.models import writing
from tunesmith.written import check_text

if TYPE_CHECKING:
    from tunesmith.models.catalog import Source
    from tunesmith.models.model import Model
    from tunesmith.recipe import Recipe


_SEEN = 2**17


@dataclass(frozen=True)
class TextGeneration(Task):
    """The tuning of a decoder on plain text."""

    columns: ClassVar[Mapping[str, Column]] = {
        "text": Column("a text", names=("content", "document", "body", "article", "context")),
    }
    headline: ClassVar[Metric] = Metric("bits_per_byte", higher_is_better=False)
    families: ClassVar[tuple[str, ...]] = ("decoder",)
    asks: ClassVar[bool] = False

    max_new_tokens: Annotated[int, Ge(1)] = 64
    """Longest continuation in tokens, in use."""

    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the target that is spread over all tokens (Szegedy et al. 2016, arXiv:1512.00567)."""

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """A text that is not blank."""
        return check_text("text", values)

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The text as it is."""
        return {"text": values["text"]}

    def learn(self, rows: Iterable[Row]) -> Self:
        """Nothing."""
        return self

    def build(self, source: Source, options: Recipe, seed: int) -> Model:
        """The pretrained decoder as it is."""
        from tunesmith.models.load import load_causal_lm

        return load_causal_lm(source, options.model, options.data.max_tokens)

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """An example a piece of the document; the target is the bytes that are predicted, told with its first piece: a
        document's first token is not, unless the tokenizer begins with one of its own."""
        if purpose == "answer":
            return [Example(row.id, {"text": reader.text.opening(row["text"], self.max_new_tokens)})]
        pieces = reader.text.document(row["text"])
        size = len(row["text"][pieces[0].offsets[0][1] :].encode())
        return [Example(row.id, {"text": piece}, size if k == 0 else 0) for k, piece in enumerate(pieces)]

    def weights(self, examples: Sequence[Example]) -> dict[str, float]:
        """Every predicted token counts once."""
        return writing.weights(examples)

    def loss(self, model: Model, examples: Sequence[Example]) -> dict[str, Loss]:
        """Cross entropy of the predicted tokens, summed."""
        return writing.loss(model, examples, self.smoothing)

    def assess(self, model: Model, examples: Sequence[Example]) -> list[dict[str, Vector]]:
        """The loss and the number of predicted tokens of each piece, and the bytes of its document."""
        found = writing.assess(model, examples)
        return [{**one, "bytes": float(e.target)} for one, e in zip(found, examples, strict=True)]

    def predict(self, model: Model, examples: Sequence[Example]) -> list[Any]:
        """A greedy continuation."""
        return writing.write(model, examples, self.max_new_tokens)

    def decode(self, row: Row, outputs: Sequence[Any]) -> Answer:
        """The continuation."""
        return {"answer": outputs[0].text, "ended": outputs[0].ended, "tokens": outputs[0].tokens}

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """Nothing, as the loss is what is measured; of a compressor, its bits."""
        if "bits" not in answer:
            return {}
        return {"loss": answer["bits"] * math.log(2), "bytes": float(len(row["text"].encode()))}

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """bits_per_byte, which does not depend on the tokenizer; mean_token_loss and token_perplexity, which do."""
        made = {"bits_per_byte": sums["loss"][..., 0] / math.log(2) / sums["bytes"][..., 0]}
        if "tokens" in sums:
            made["mean_token_loss"] = sums["loss"][..., 0] / sums["tokens"][..., 0]
            made["token_perplexity"] = np.exp(made["mean_token_loss"])
        return made

    def show(self, row: Row, answer: Answer | None) -> Shown:
        """The text, and what comes next."""
        return Shown(row["text"], "", answer["answer"] if answer else "")

    def base(self, model: Model, rows: Sequence[Row]) -> None:
        """Nothing: the untuned model reads the same."""

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """LZMA: what a text adds to the size of the training texts before it (their last 128 kB)."""
        before = "\n".join(row["text"] for row in train).encode()[-_SEEN:]
        alone = len(_packed(before))
        return {
            "lzma": [{"answer": "", "bits": 8 * (len(_packed(before + row["text"].encode())) - alone)} for row in rows]
        }


def _packed(text: bytes) -> bytes:
    """The text as LZMA packs it, without a container around it."""
    return lzma.compress(text, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 1}])


plugin = TextGeneration
