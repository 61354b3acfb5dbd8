"""A text in one language to the same in another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Answer, Column, Example, Metric, Purpose, Reader, Row, Sums, Vector
from tunesmith.data.languages import LANGUAGES
from tunesmith.metrics import translation
from tunesmith.metrics.translation import Words
from tunesmith.written import REFERENCES, Written, check_text, check_texts, texts

if TYPE_CHECKING:
    from tunesmith.models.model import Model
    from tunesmith.models.seq2seq import Told
    from tunesmith.models.writing import Question

_LANGUAGES = ("source_language", "target_language")


@dataclass(frozen=True)
class Translation(Written):
    """A translation of a text."""

    columns: ClassVar[Mapping[str, Column]] = {
        "source": Column("a text", names=("src", "from")),
        "target": Column("a text, or a list of texts", names=("tgt", "to", "reference", "translation"), target=True),
        "source_language": Column("a code such as `en`", required=False, names=("source_lang", "src_lang")),
        "target_language": Column("a code such as `de`", required=False, names=("target_lang", "tgt_lang")),
    }
    headline: ClassVar[Metric] = Metric("bleu", higher_is_better=True)

    source_language: str = ""
    """Language of the source: a code such as `en`, or a name; a row's own column goes before. Empty where the model
    need not be told."""

    target_language: str = ""
    """Language of the target."""

    words: Words = field(default="13a", metadata={"option": False})
    """How BLEU finds words, by the script of the targets in training."""

    by_row: bool = field(default=False, metadata={"option": False})
    """Whether training rows say their languages."""

    several: bool = field(default=False, metadata={"option": False})
    """Whether a training row has several targets."""

    def learn(self, rows: Iterable[Row]) -> Self:
        """How long translations are, and what their words are."""
        listed = list(rows)
        return replace(
            super().learn(listed),
            words=translation.words_for(row[REFERENCES][0] for row in listed),
            by_row=any(name in row.values for row in listed for name in _LANGUAGES),
            several=any(len(row[REFERENCES]) > 1 for row in listed),
        )

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """Source and target must be texts that are not blank."""
        wrong = check_text("source", values)
        for name in _LANGUAGES:
            if values.get(name) not in (None, ""):
                wrong = wrong or check_text(name, values)
        return wrong if wrong or purpose == "answer" else check_texts("target", values)

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The source, the languages where they are said, and the references as a list."""
        made: dict[str, Any] = {"source": values["source"]}
        made |= {name: values[name].strip() for name in _LANGUAGES if values.get(name)}
        return made | ({REFERENCES: texts(values["target"])} if values.get("target") is not None else {})

    def question(self, row: Row) -> Question:
        """`Translate from ... to ...`, then the source."""
        from tunesmith.models.writing import Question

        told = self.told_of(row)
        source, target = (LANGUAGES.get(name, name) for name in (told.source, told.target))
        asked = "Translate" + (f" from {source}" if source else "") + (f" to {target}" if target else "")
        return Question(f"{asked}:\n\n", row["source"], told=told)

    def told(self) -> Told:
        """To translate, and the languages; nothing where only the rows say them."""
        from tunesmith.models.seq2seq import Told

        if self.by_row and not self.target_language:
            return Told()
        return Told("translate", self.source_language, self.target_language)

    def told_of(self, row: Row) -> Told:
        """To translate, and the row's languages."""
        from tunesmith.models.seq2seq import Told

        source, target = (row.values.get(name, getattr(self, name)) for name in _LANGUAGES)
        return Told("translate", source, target)

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """As Written; to answer, the target is what the model is told."""
        made = super().encode(row, reader, purpose)
        return [replace(one, target=self.told_of(row)) for one in made] if purpose == "answer" else made

    def predict(self, model: Model, examples: Sequence[Example]) -> list[Any]:
        """A greedy translation a source, those of a language together."""
        from tunesmith.models import writing

        made: dict[int, Any] = {}
        for told in dict.fromkeys(example.target for example in examples):
            here = [k for k, example in enumerate(examples) if example.target == told]
            written = writing.write(model, [examples[k] for k in here], self.room(model), told)
            made.update(zip(here, written, strict=True))
        return [made[k] for k in range(len(examples))]

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """What BLEU and chrF count."""
        return super().measure(row, answer) | {
            "bleu": translation.bleu_counts(answer["answer"], row[REFERENCES], self.words),
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
        return [translation.signature(self.words, several=self.several)]

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """The source itself: what a system scores that does nothing."""
        return {"copy_source": [{"answer": row["source"]} for row in rows]}


plugin = Translation
