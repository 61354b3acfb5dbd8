"""A document to a summary."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Answer, Column, Metric, Purpose, Reader, Row, Sums, Vector
from tunesmith.metrics import overlap
from tunesmith.written import REFERENCES, Written, check_text, check_texts, texts

if TYPE_CHECKING:
    from tunesmith.models.seq2seq import Told
    from tunesmith.models.writing import Question

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True)
class Summarization(Written):
    """A summary of a document. A row may have several references; scores take the one that an answer is best with."""

    columns: ClassVar[Mapping[str, Column]] = {
        "document": Column("a text", names=("article", "dialogue", "text", "content", "body")),
        "summary": Column("a text, or a list of texts", names=("summaries", "highlights", "abstract"), target=True),
    }
    headline: ClassVar[Metric] = Metric("rouge1_f1", higher_is_better=True)

    instruction: str = "Summarize the following text."
    """What a decoder is told before the document."""

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """Document and summary must be texts that are not blank."""
        wrong = check_text("document", values)
        return wrong if wrong or purpose == "answer" else check_texts("summary", values)

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The document, and the references as a list."""
        made: dict[str, Any] = {"document": values["document"]}
        return made | ({REFERENCES: texts(values["summary"])} if values.get("summary") is not None else {})

    def question(self, row: Row) -> Question:
        """The instruction, then the document."""
        from tunesmith.models.writing import Question

        return Question(f"{self.instruction}\n\n", row["document"], told=self.told())

    def told(self) -> Told:
        """To summarize."""
        from tunesmith.models.seq2seq import Told

        return Told("summarize")

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """ROUGE F1 against the best reference, words, and word pairs that the document does not have."""
        references = row[REFERENCES]
        return super().measure(row, answer) | {
            "rouge": overlap.rouge(answer["answer"], references),
            "words": float(len(overlap.words(answer["answer"]))),
            "reference_words": float(np.mean([len(overlap.words(text)) for text in references])),
            "novelty": overlap.novelty(answer["answer"], row["document"]),
        }

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """Means over rows of ROUGE F1 and novelty; words of answers over words of references; and those of Written."""
        made: dict[str, NDArray[np.float64]] = {}
        if "answers" in sums:
            rows = sums["answers"][..., 0]
            made |= {f"{kind}_f1": sums["rouge"][..., k] / rows for k, kind in enumerate(overlap.KINDS)}
            made["length_ratio"] = sums["words"][..., 0] / sums["reference_words"][..., 0]
            made["novelty"] = sums["novelty"][..., 0] / rows
        return made | super().reduce(sums)

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """The first sentences of the document, as many as the training summaries have in the middle."""
        lead = max(int(np.median([len(sentences(row[REFERENCES][0])) for row in train])), 1)
        return {"lead": [{"answer": " ".join(sentences(row["document"])[:lead])} for row in rows]}


def sentences(text: str) -> list[str]:
    """Pieces of a text that end with a full stop, a question or exclamation mark, or a line."""
    return [piece.strip() for piece in _SENTENCE.split(text) if piece.strip()]


plugin = Summarization
