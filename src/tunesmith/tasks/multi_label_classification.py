"""Any number of labels for one text: topics, emotions, tags."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

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
from tunesmith.metrics.counts import ratio

if TYPE_CHECKING:
    from tunesmith.models.catalog import Source
    from tunesmith.models.model import Model
    from tunesmith.recipe import Recipe

GOLD = "label_set"
_SIDE_BY_SIDE = re.compile(r"""(['"])\s+(['"])""")


@dataclass(frozen=True)
class MultiLabelClassification(Task):
    """Any number of labels for one text, each by itself, above thresholds that the validation rows choose."""

    columns: ClassVar[Mapping[str, Column]] = {
        **labelled.COLUMNS,
        "labels": Column(
            "a list of labels, or a text of labels with a separator between them",
            names=("label", "tags", "categories", "topics", "emotions"),
            target=True,
        ),
    }
    headline: ClassVar[Metric] = Metric("micro_f1", higher_is_better=True)
    families: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    each: ClassVar[tuple[str, ...]] = ("chances", "truth")

    separator: str = ","
    """What stands between labels that are written as one text."""

    thresholds: Literal["one", "each"] = "one"
    """Whether validation rows choose one threshold for all labels (by micro-F1), or one for each (by its own F1)."""

    labels: tuple[str, ...] = field(default=(), metadata={"option": False})
    """In alphabetical order."""

    cuts: tuple[float, ...] = field(default=(), metadata={"option": False})
    """Probability from which on each label is given; .5 where nothing was chosen yet."""

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """Texts that are not blank, and a list of labels, which may be empty."""
        wrong = labelled.check(values)
        if wrong or purpose == "answer":
            return wrong
        found = self._read(values.get("labels"))
        return found if isinstance(found, str) else None

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Texts as texts, labels sorted, each once."""
        made = labelled.normalize(values)
        if "labels" in values:
            found = self._read(values["labels"])
            assert not isinstance(found, str)
            made[GOLD] = found
        return made

    def _read(self, given: Any) -> list[str] | str:
        if isinstance(given, str) and given.strip()[:1] + given.strip()[-1:] in ("[]", "{}"):
            given = _listed(given.strip())
            if given is None:
                return '`labels` looks like a list but cannot be read as one; write ["a", "b"]'
        if isinstance(given, str):
            given = [part for part in given.split(self.separator) if part.strip()]
        if not isinstance(given, list):
            return "`labels` is missing" if given is None else "`labels` is not a list of labels"
        if not all(isinstance(label, str | int) and str(label).strip() for label in given):
            return "`labels` holds a label that is empty, or neither a string nor a whole number"
        return sorted({str(label).strip() for label in given})

    def learn(self, rows: Iterable[Row]) -> Self:
        """The labels, sorted. Raises DataError for none."""
        labels = tuple(sorted({label for row in rows for label in row[GOLD]}))
        if not labels:
            raise DataError("no training row has a label; there is nothing to learn", where="data.train")
        return replace(self, labels=labels, cuts=(0.5,) * len(labels))

    def build(self, source: Source, options: Recipe, seed: int) -> Model:
        """The pretrained net with one logit a label."""
        from tunesmith.models.load import load_classifier

        labels, most = self.labels, options.data.max_tokens
        return load_classifier(source, options.model, labels, most, seed, "multi_label_classification")

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """One example; the target is the numbers of its labels that training has."""
        known = {label: k for k, label in enumerate(self.labels)}
        target = [known[label] for label in row[GOLD] if label in known] if purpose == "learn" else None
        return [Example(row.id, {"text": labelled.tokens(row, reader)}, target)]

    def marks(self, row: Row, example: Example, reader: Reader) -> Sequence[Mark]:
        """The labels."""
        return [Mark(f"label: {label}") for label in row[GOLD]] or [Mark("no label")]

    def weights(self, examples: Sequence[Example]) -> dict[str, float]:
        """Every label of every row counts once."""
        return {"loss": float(len(examples) * len(self.labels))}

    def loss(self, model: Model, examples: Sequence[Example]) -> dict[str, Loss]:
        """Binary cross entropy, summed over rows and labels."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        found = labelled.logits(model, examples)
        wide = found if found.dtype == torch.float64 else found.float()
        wanted = torch.from_numpy(self._table(examples)).to(wide)
        total = binary_cross_entropy_with_logits(wide, wanted, reduction="sum")
        return {"loss": Loss(total, self.weights(examples)["loss"])}

    def _table(self, examples: Sequence[Example]) -> NDArray[np.float64]:
        table = np.zeros((len(examples), len(self.labels)))
        for k, example in enumerate(examples):
            table[k, example.target] = 1.0
        return table

    def assess(self, model: Model, examples: Sequence[Example]) -> list[dict[str, Vector]]:
        """Nothing: the answers are cheap."""
        return []

    def predict(self, model: Model, examples: Sequence[Example]) -> list[Any]:
        """Probabilities [labels] of each row."""
        return list(labelled.logits(model, examples).detach().double().sigmoid().cpu().numpy())

    def decode(self, row: Row, outputs: Sequence[Any]) -> Answer:
        """The labels above their thresholds, the likeliest first, and every probability."""
        chances = dict(zip(self.labels, np.asarray(outputs[0]).tolist(), strict=True))
        given = [label for label, cut in zip(self.labels, self.cuts, strict=True) if chances[label] >= cut]
        return {"labels": sorted(given, key=lambda label: -chances[label]), "probabilities": chances}

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """Counts per label (and of labels that training does not have) of gold, given and both."""
        gold, given = set(row[GOLD]), set(answer["labels"])
        places = [*self.labels, None]
        counts = np.zeros((3, len(places)))
        for line, found in enumerate((gold, given, gold & given)):
            counts[line, :-1] = [label in found for label in self.labels]
        counts[0, -1] = len(gold - set(self.labels))
        chances = np.array([answer["probabilities"].get(label, 0.0) for label in self.labels])
        return {
            "row": 1.0,
            "exact": float(gold == given),
            "gold": counts[0],
            "found": counts[1],
            "hit": counts[2],
            "chances": chances,
            "truth": counts[0, :-1],
        }

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """micro_f1 over all labels of all rows; macro_f1, the mean over labels that occur; subset_accuracy, the share
        of rows whose labels are all right; labels_per_row, given over rows."""
        rows = sums["row"][..., 0]
        gold, given, hit = sums["gold"], sums["found"], sums["hit"]
        f1 = ratio(2 * hit, gold + given)
        occur = ((gold + given) > 0).sum(-1)
        return {
            "micro_f1": ratio(2 * hit.sum(-1), (gold + given).sum(-1)),
            "micro_precision": ratio(hit.sum(-1), given.sum(-1)),
            "micro_recall": ratio(hit.sum(-1), gold.sum(-1)),
            "macro_f1": f1.sum(-1) / np.maximum(occur, 1),
            "subset_accuracy": sums["exact"][..., 0] / rows,
            "labels_per_row": given.sum(-1) / rows,
        }

    def order(self, values: Sums, counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """macro_roc_auc: the mean over labels that some rows have and some have not."""
        truth = values["truth"] > 0
        mixed = [k for k in range(truth.shape[1]) if truth[:, k].any() and not truth[:, k].all()]
        if not mixed:
            return {}
        found = [ranking.auc(values["chances"][:, k], truth[:, k], counts) for k in mixed]
        return {"macro_roc_auc": ranking.mean_known(found)}

    def counted(self) -> Sequence[str]:
        """The labels."""
        return self.labels

    def notes(self) -> list[str]:
        """The thresholds in use."""
        cuts = sorted(set(self.cuts))
        shown = f"{cuts[0]:.3f}" if len(cuts) == 1 else f"{cuts[0]:.3f} to {cuts[-1]:.3f}, each label its own,"
        return [f"a label is given from a probability of {shown} on"]

    def settle(self, rows: Sequence[Row], outputs: Mapping[int, Sequence[Any]]) -> Self:
        """The thresholds with the best F1 on validation rows."""
        chances = np.array([outputs[row.id][0] for row in rows])
        truth = np.array([[label in row[GOLD] for label in self.labels] for row in rows])
        if self.thresholds == "one":
            return replace(self, cuts=(best_cut(chances.ravel(), truth.ravel()),) * len(self.labels))
        return replace(self, cuts=tuple(best_cut(chances[:, k], truth[:, k]) for k in range(len(self.labels))))

    def united(self, tasks: Sequence[Self]) -> Self:
        """The mean of the thresholds: each was chosen on rows that its net did not learn from."""
        cuts = np.mean([task.cuts for task in tasks], axis=0)
        return replace(self, cuts=tuple(cuts.tolist()))

    def mean_of(self, outputs: Sequence[Any], tasks: Sequence[Self]) -> Any:
        """The mean of the probabilities."""
        return np.mean(outputs, axis=0)

    def say(self, answer: Answer) -> str:
        """The labels."""
        return ", ".join(answer["labels"]) or "(none)"

    def show(self, row: Row, answer: Answer | None) -> Shown:
        """The text, its labels, the labels given."""
        gold = row[GOLD]
        given = answer["labels"] if answer else []
        return Shown(
            labelled.shown(row), ", ".join(gold), ", ".join(given), set(gold) == set(given) if answer else None
        )

    def base(self, model: Model, rows: Sequence[Row]) -> None:
        """A linear probe: a logistic regression a label on the frozen net's pooled states."""
        from tunesmith.models.probe import fit_probe

        examples = [self.encode(row, model, "learn")[0] for row in rows]
        fit_probe(model, [e.parts["text"] for e in examples], self._table(examples), "labels")

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """The most frequent label; TF-IDF of words and word pairs with a logistic regression a label, at one threshold
        chosen on a third of the training rows."""
        usual = Counter(label for row in train for label in row[GOLD]).most_common(1)[0][0]
        made: labelled.Answers = {"majority": [{"labels": [usual], "probabilities": {usual: 1.0}} for _ in rows]}
        held = len(train) // 3
        chosen = self._linear(train[held:], train[:held])
        final = self._linear(train, rows)
        if chosen is not None and final is not None:
            truth = np.array([[label in row[GOLD] for label in self.labels] for row in train[:held]])
            known = replace(self, cuts=(best_cut(chosen.ravel(), truth.ravel()),) * len(self.labels))
            made["tfidf_linear"] = [known.decode(row, [line]) for row, line in zip(rows, final, strict=True)]
        return made

    def _linear(self, train: Sequence[Row], rows: Sequence[Row]) -> NDArray[np.float64] | None:
        """Probabilities [rows, labels]."""
        from sklearn.linear_model import LogisticRegression

        features = labelled.words_of(train, rows) if train and rows else None
        if features is None:
            return None
        made = np.zeros((len(rows), len(self.labels)))
        for k, label in enumerate(self.labels):
            truth = [label in row[GOLD] for row in train]
            if any(truth) and not all(truth):
                fitted = LogisticRegression(C=10.0, max_iter=200).fit(features[0], truth)
                made[:, k] = fitted.predict_proba(features[1])[:, 1]
        return made


def _listed(text: str) -> list[Any] | None:
    """A list or set as JSON, Python or NumPy writes it in a table; None where it is none."""
    if _SIDE_BY_SIDE.search(text):  # NumPy's, which Python would read as one text
        text = _SIDE_BY_SIDE.sub(r"\1, \2", text)
    for read in (json.loads, ast.literal_eval):
        try:
            made = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return list(made) if isinstance(made, list | set) else None
    return None


def best_cut(chances: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """The threshold with the best F1 of what is at or above it; .5 where there is nothing to find."""
    if not truth.any():
        return 0.5
    order = np.argsort(-chances, kind="stable")
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + truth.sum())
    ordered = chances[order]
    f1[:-1][ordered[:-1] == ordered[1:]] = -1.0  # equal chances cannot be parted
    at = int(f1.argmax())
    below = ordered[at + 1] if at + 1 < len(ordered) else 0.0
    return float((ordered[at] + below) / 2)


plugin = MultiLabelClassification
