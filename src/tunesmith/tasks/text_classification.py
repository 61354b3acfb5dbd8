"""One label for one text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Answer, Column, Example, Loss, Metric, Purpose, Reader, Row, Shown, Sums, Task, Vector
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from tunesmith.models.catalog import Source
    from tunesmith.models.model import Model
    from tunesmith.recipe import Recipe

TEXT_NAMES = (
    "sentence",
    "message",
    "content",
    "body",
    "question",
    "review",
    "comment",
    "utterance",
    "query",
    "document",
)
LABEL_NAMES = ("labels", "category", "class", "intent", "sentiment", "topic", "target")


@dataclass(frozen=True)
class TextClassification(Task):
    """One label for one text, by an encoder or by the last token of a decoder."""

    columns: ClassVar[Mapping[str, Column]] = {
        "text": Column("a text", names=TEXT_NAMES),
        "label": Column("a string, a whole number or true/false", names=LABEL_NAMES, target=True),
    }
    headline: ClassVar[Metric] = Metric("macro_f1", higher_is_better=True)
    families: ClassVar[tuple[str, ...]] = ("encoder", "decoder")

    labels: tuple[str, ...] = field(default=(), metadata={"option": False})

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """The text must be a text that is not blank, the label one plain value."""
        text = values.get("text")
        if isinstance(text, int | float) and not isinstance(text, bool):
            text = str(text)
        if not isinstance(text, str):
            return f"`text` is {_kind(text)}, not a text"
        if not text.strip():
            return "`text` is empty"
        if purpose == "answer":
            return None
        label = values.get("label")
        if isinstance(label, float) and label.is_integer():
            return f"`label` is the number {label}; labels are strings or whole numbers"
        if isinstance(label, list | tuple):
            return "`label` is a list; this task takes one label a row"
        if label is None or (isinstance(label, str) and not label.strip()):
            return "`label` is empty"
        if not isinstance(label, str | int | bool):
            return f"`label` is {_kind(label)}; labels are strings or whole numbers"
        return None

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Text as it is; the label as a string, its type kept beside it for the check on mixed types."""
        made: dict[str, Any] = {"text": str(values["text"])}
        if "label" in values:
            label = values["label"]
            made["label"] = str(label).lower() if isinstance(label, bool) else str(label).strip()
            made["label_type"] = type(label).__name__
        return made

    def learn(self, rows: Iterable[Row]) -> TextClassification:
        """The labels, sorted. Raises DataError for fewer than two, or for `1` beside `"1"`."""
        kinds: dict[str, Row] = {}
        first: dict[str, Row] = {}
        for row in rows:
            kinds.setdefault(row["label_type"], row)
            first.setdefault(row["label"], row)
        if len(kinds) > 1:
            (a, row_a), (b, row_b) = list(kinds.items())[:2]
            raise DataError(
                f"labels are of two types: {a} at {row_a.place} and {b} at {row_b.place}",
                where=row_b.place,
                hint="write all of them as strings",
            )
        if len(first) < 2:
            only = next(iter(first), None)
            where = next(iter(first.values())).file if first else None
            raise DataError(f"every training row has the label `{only}`; two are needed to learn", where=where)
        return replace(self, labels=tuple(sorted(first)))

    def build(self, source: Source, options: Recipe, seed: int) -> Model:
        """The pretrained net with one logit per label."""
        from tunesmith.models.load import load_classifier

        return load_classifier(source, options.model, self.labels, options.data.max_tokens, seed)

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """One example; the target is the label's number, or -1 for a label that training never saw."""
        target = None
        if purpose == "learn":
            label = row["label"]
            target = self.labels.index(label) if label in self.labels else -1
        return [Example(row.id, {"text": reader.text.text(row["text"])}, target)]

    def weights(self, examples: Sequence[Example]) -> dict[str, float]:
        """Every row counts once."""
        return {"loss": float(sum(example.target >= 0 for example in examples))}

    def loss(self, model: Model, examples: Sequence[Example]) -> dict[str, Loss]:
        """Cross entropy of the label, summed over rows."""
        from tunesmith.models.loss import class_loss

        logits = model.class_logits([example.parts["text"] for example in examples])
        total = class_loss(logits, [example.target for example in examples])
        return {"loss": Loss(total, self.weights(examples)["loss"])}

    def assess(self, model: Model, examples: Sequence[Example]) -> list[dict[str, Vector]]:
        """Nothing: the answers themselves are cheap and hold all there is to measure."""
        return []

    def predict(self, model: Model, examples: Sequence[Example]) -> list[Any]:
        """Log probabilities [labels] of each row."""
        logits = model.class_logits([example.parts["text"] for example in examples])
        return list(logits.detach().float().log_softmax(-1).double().cpu().numpy())

    def decode(self, row: Row, outputs: Sequence[Any]) -> Answer:
        """The likeliest label with its probability, and the probability of every label."""
        logs: NDArray[np.float64] = outputs[0]
        best = int(logs.argmax())
        probabilities = dict(zip(self.labels, np.exp(logs).tolist(), strict=True))
        return {
            "label": self.labels[best],
            "probability": float(np.exp(logs[best])),
            "probabilities": probabilities,
        }

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """Counts per label of gold, predicted and both, and the row's loss. A label never seen is always missed."""
        names = (*self.labels, None)
        gold = names.index(row["label"]) if row["label"] in self.labels else len(self.labels)
        guess = names.index(answer["label"])
        counts = np.zeros((3, len(names)))
        counts[0, gold] = counts[1, guess] = 1.0
        counts[2, gold] = float(gold == guess)
        likelihood = float(answer["probabilities"].get(row["label"], 0.0))
        return {
            "row": 1.0,
            "gold": counts[0],
            "guess": counts[1],
            "hit": counts[2],
            "loss": -float(np.log(max(likelihood, 1e-12))),
        }

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """accuracy; macro_f1, the mean of each label's F1 over labels that occur in gold or guesses; mcc (Gorodkin
        2004); mean_row_loss, the mean cross entropy."""
        rows = sums["row"][..., 0]
        gold, guess, hit = sums["gold"], sums["guess"], sums["hit"]
        present = (gold + guess) > 0
        f1 = np.divide(2 * hit, gold + guess, out=np.zeros_like(hit), where=present)
        right = hit.sum(-1)
        up = right * rows - (gold * guess).sum(-1)
        down = np.sqrt((rows**2 - (guess**2).sum(-1)) * (rows**2 - (gold**2).sum(-1)))
        return {
            "accuracy": right / rows,
            "macro_f1": f1.sum(-1) / np.maximum(present.sum(-1), 1),
            "mcc": np.divide(up, down, out=np.zeros_like(up), where=down > 0),
            "mean_row_loss": sums["loss"][..., 0] / rows,
        }

    def classes(self) -> Sequence[str]:
        """Every row has one of them and is given one."""
        return self.labels

    def show(self, row: Row, answer: Answer | None) -> Shown:
        """The text, its label, the label given."""
        said = answer["label"] if answer else ""
        return Shown(row["text"], row["label"], said, said == row["label"] if answer else None)

    def base(self, model: Model, rows: Sequence[Row]) -> None:
        """A linear probe: logistic regression on the frozen net's pooled states, put in as its head."""
        from tunesmith.models.probe import fit_probe

        examples = [self.encode(row, model, "learn")[0] for row in rows]
        fit_probe(model, [e.parts["text"] for e in examples], [e.target for e in examples])

    def baselines(self, train: Sequence[Row], rows: Sequence[Row]) -> dict[str, list[Answer]]:
        """The most frequent label; TF-IDF of words and word pairs with logistic regression."""
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        gold = [row["label"] for row in train]
        counts = Counter(gold)
        prior = {label: counts[label] / len(gold) for label in self.labels}
        majority = max(self.labels, key=lambda label: counts[label])
        frequent: Answer = {"label": majority, "probability": prior[majority], "probabilities": prior}
        found = {"majority": [frequent for _ in rows]}
        try:
            words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
            features = words.fit_transform([row["text"] for row in train])
        except ValueError:  # no text has a word in it
            return found
        linear = LogisticRegression(C=10.0, max_iter=200, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            linear.fit(features, gold)
        table = linear.predict_proba(words.transform([row["text"] for row in rows]))
        found["tfidf_linear"] = [self._answer(linear.classes_, line) for line in table]
        return found

    def _answer(self, names: Sequence[str], line: NDArray[np.float64]) -> Answer:
        probabilities = dict.fromkeys(self.labels, 0.0) | dict(zip(map(str, names), map(float, line), strict=True))
        best = max(probabilities, key=lambda name: probabilities[name])
        return {"label": best, "probability": probabilities[best], "probabilities": probabilities}


def _kind(value: Any) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"


plugin = TextClassification
