"""A text in one language to the same in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Answer, Column, Metric, Purpose, Reader, Row, Sums, Vector
from tunesmith.data.languages import LANGUAGES
from tunesmith.metrics import translation
from tunesmith.written import REFERENCES, Written, check_text, check_texts, texts

if TYPE_CHECKING:
    from tunesmith.models.seq2seq import Told
    from tunesmith.models.writing import Question


@dataclass(frozen=True)
class Translation(Written):
    """A translation of a text."""

    columns: ClassVar[Mapping[str, Column]] = {
        "source": Column("a text", names=("src", "from")),
        "target": Column("a text, or a list of texts", names=("tgt", "to", "reference", "translation"), target=True),
    }
    headline: ClassVar[Metric] = Metric("bleu", higher_is_better=True)

    source_language: str = ""
    """Language of the source: a code such as `en`, or a name. Empty where the model need not be told."""

    target_language: str = ""
    """Language of the target."""

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """Source and target must be texts that are not blank."""
        wrong = check_text("source", values)
        return wrong if wrong or purpose == "answer" else check_texts("target", values)

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The source, and the references as a list."""
        made: dict[str, Any] = {"source": values["source"]}
        return made | ({REFERENCES: texts(values["target"])} if values.get("target") is not None else {})

    def question(self, row: Row) -> Question:
        """`Translate from ... to ...`, then the source."""
        from tunesmith.models.writing import Question

        source, target = (LANGUAGES.get(name, name) for name in (self.source_language, self.target_language))
        told = "Translate" + (f" from {source}" if source else "") + (f" to {target}" if target else "")
        return Question(f"{told}:\n\n", row["source"], told=self.told())

    def told(self) -> Told:
        """To translate, and the languages."""
        from tunesmith.models.seq2seq import Told

        return Told("translate", self.source_language, self.target_language)

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """What BLEU and chrF count."""
        return super().measure(row, answer) | {
            "bleu": translation.bleu_counts(answer["answer"], row[REFERENCES]),
            "chrf": translation.chrf_counts(answer["answer"], row[REFERENCES]),
        }

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """Corpus BLEU and chrF2 in percent, and those of Written."""
        made: dict[str, NDArray[np.float64]] = {}
        if "answers" in sums:
            made = {"bleu": translation.bleu(sums["bleu"]), "chrf2": translation.chrf(sums["chrf"])}
        return made | super().reduce(sums)

    def notes(self) -> list[str]:
        """How BLEU and chrF were computed."""
        return [translation.signature()]

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """The source itself: what a system scores that does nothing."""
        return {"copy_source": [{"answer": row["source"]} for row in rows]}


plugin = Translation
