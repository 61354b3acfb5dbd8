"""A number for a text, or for a pair of texts: a rating, a similarity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tunesmith import labelled
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
    Vector,
)
from tunesmith.errors import DataError
from tunesmith.metrics import ranking
from tunesmith.metrics.moments import moments, pearson

if TYPE_CHECKING:
    from tunesmith.models.catalog import Source
    from tunesmith.models.model import Model
    from tunesmith.recipe import Recipe


@dataclass(frozen=True)
class TextRegression(Task):
    """A number for a text. The net learns it in units of the training rows' deviation from their mean."""

    columns: ClassVar[Mapping[str, Column]] = {
        **labelled.COLUMNS,
        "label": Column("a number", names=("score", "rating", "value", "similarity", "target"), target=True),
    }
    headline: ClassVar[Metric] = Metric("pearson", higher_is_better=True)
    families: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    each: ClassVar[tuple[str, ...]] = ("said", "gold")

    mean: float = field(default=0.0, metadata={"option": False})
    """Of the numbers in the training rows."""

    deviation: float = field(default=1.0, metadata={"option": False})
    """Standard deviation of the numbers in the training rows."""

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """Texts that are not blank, and a finite number."""
        wrong = labelled.check(values)
        if wrong or purpose == "answer":
            return wrong
        return (
            None if number_of(values.get("label")) is not None else f"`label` is not a number: {values.get('label')!r}"
        )

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Texts as texts, the number as a number."""
        made = labelled.normalize(values)
        return made | ({"label_number": number_of(values["label"])} if "label" in values else {})

    def learn(self, rows: Iterable[Row]) -> Self:
        """Mean and deviation. Raises DataError where all rows have one number."""
        numbers = np.array([row["label_number"] for row in rows])
        if numbers.std() == 0:
            raise DataError(f"every training row has the number {numbers[0]:g}; there is nothing to learn")
        return replace(self, mean=float(numbers.mean()), deviation=float(numbers.std()))

    def build(self, source: Source, options: Recipe, seed: int) -> Model:
        """The pretrained net with one output."""
        from tunesmith.models.load import load_classifier

        return load_classifier(source, options.model, ("value",), options.data.max_tokens, seed, "regression")

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """One example; the target is in deviations from the mean."""
        target = (row["label_number"] - self.mean) / self.deviation if purpose == "learn" else None
        return [Example(row.id, {"text": labelled.tokens(row, reader)}, target)]

    def marks(self, row: Row, example: Example, reader: Reader) -> Sequence[Mark]:
        """The number."""
        return [Mark(f"number: {row['label_number']:g}")]

    def weights(self, examples: Sequence[Example]) -> dict[str, float]:
        """Every row counts once."""
        return {"loss": float(len(examples))}

    def loss(self, model: Model, examples: Sequence[Example]) -> dict[str, Loss]:
        """Squared error, summed over rows."""
        import torch

        found = labelled.logits(model, examples)[:, 0]
        wanted = torch.tensor([example.target for example in examples], dtype=found.dtype, device=found.device)
        return {"loss": Loss((found - wanted).square().sum(), float(len(examples)))}

    def assess(self, model: Model, examples: Sequence[Example]) -> list[dict[str, Vector]]:
        """Nothing: the answers are cheap."""
        return []

    def predict(self, model: Model, examples: Sequence[Example]) -> list[Any]:
        """The net's output of each row."""
        return list(labelled.logits(model, examples)[:, 0].detach().double().cpu().tolist())

    def decode(self, row: Row, outputs: Sequence[Any]) -> Answer:
        """The number in the units of the file."""
        return {"value": outputs[0] * self.deviation + self.mean}

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """Sums behind the errors and the correlation; the two numbers themselves behind the order."""
        gold, said = float(row["label_number"]), float(answer["value"])
        a, b = gold - self.mean, said - self.mean
        return {"row": 1.0, "error": abs(a - b), "moments": moments(a, b), "said": said, "gold": gold}

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """pearson; mae and rmse in the units of the file; r2, the share of the variance that is told."""
        rows = sums["row"][..., 0]
        a, _, aa, bb, ab = np.moveaxis(sums["moments"], -1, 0)
        varies = rows * aa - a * a
        squared = aa + bb - 2 * ab
        return {
            "pearson": pearson(sums["moments"], rows),
            "mae": sums["error"][..., 0] / rows,
            "rmse": np.sqrt(np.maximum(squared, 0) / rows),
            "r2": 1 - np.divide(rows * squared, varies, out=np.full_like(squared, np.nan), where=varies > 1e-12),
        }

    def order(self, values: Sums, counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """spearman"""
        return {"spearman": ranking.spearman(values["said"][:, 0], values["gold"][:, 0], counts)}

    def united(self, tasks: Sequence[Self]) -> Self:
        """In units of all: the mean of the means, and of the deviations."""
        mean, deviation = np.mean([(task.mean, task.deviation) for task in tasks], axis=0).tolist()
        return replace(self, mean=mean, deviation=deviation)

    def mean_of(self, outputs: Sequence[Any], tasks: Sequence[Self]) -> Any:
        """The mean of the numbers, each net's in the units that it learned."""
        said = [output * task.deviation + task.mean for output, task in zip(outputs, tasks, strict=True)]
        return (float(np.mean(said)) - self.mean) / self.deviation

    def say(self, answer: Answer) -> str:
        """The number."""
        return f"{answer['value']:.4g}"

    def show(self, row: Row, answer: Answer | None) -> Shown:
        """The text, its number, the number given."""
        return Shown(labelled.shown(row), f"{row['label_number']:g}", f"{answer['value']:.3g}" if answer else "")

    def base(self, model: Model, rows: Sequence[Row]) -> None:
        """A linear probe: ridge regression on the frozen net's pooled states."""
        from tunesmith.models.probe import fit_probe

        examples = [self.encode(row, model, "learn")[0] for row in rows]
        fit_probe(model, [e.parts["text"] for e in examples], [e.target for e in examples], "numbers")

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """The mean; TF-IDF of words and word pairs with ridge regression."""
        from sklearn.linear_model import Ridge

        made: labelled.Answers = {"mean": [{"value": self.mean} for _ in rows]}
        features = labelled.words_of(train, rows)
        if features is not None:
            ridge = Ridge(alpha=1.0).fit(features[0], [row["label_number"] for row in train])
            made["tfidf_linear"] = [{"value": float(value)} for value in ridge.predict(features[1])]
        return made


def number_of(value: Any) -> float | None:
    """A finite number, or a text that is one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


plugin = TextRegression
