"""One label for one text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from annotated_types import Ge, Lt
from numpy.typing import NDArray

from tunesmith import labelled
from tunesmith.contracts import (
    Answer,
    Column,
    Example,
    Loss,
    Mark,
    Metric,
    Outputs,
    Purpose,
    Reader,
    Row,
    Shown,
    Sums,
    Task,
    Vector,
)
from tunesmith.errors import DataError, RecipeError
from tunesmith.metrics import calibrating, ranking

if TYPE_CHECKING:
    from torch import Tensor

    from tunesmith.models.catalog import Source
    from tunesmith.models.model import Model
    from tunesmith.recipe import Recipe

LABEL_NAMES = ("labels", "category", "class", "intent", "sentiment", "topic", "target")


@dataclass(frozen=True)
class TextClassification(Task):
    """One label for one text, or for a pair of texts, by an encoder or by the last token of a decoder."""

    columns: ClassVar[Mapping[str, Column]] = {
        **labelled.COLUMNS,
        "label": Column("a string, a whole number or true/false", names=LABEL_NAMES, target=True),
    }
    headline: ClassVar[Metric] = Metric("macro_f1", higher_is_better=True)
    families: ClassVar[tuple[str, ...]] = ("encoder", "decoder")

    balance: Literal["none", "weights", "sampling", "logits"] = "none"
    """What to do about rare labels: nothing; weigh rows by the inverse of their label's share; draw rows of all labels
    equally often; or add the log of the shares to the logits while training (Menon et al. 2021, arXiv:2007.07314),
    which favours all labels alike."""

    focus: Annotated[float, Ge(0)] = 0.0
    """Of the focal loss (Lin et al. 2017, arXiv:1708.02002): rows that are told right weigh less, the more so the
    higher this is. 0 is plain cross entropy, 2 is usual."""

    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the target that is spread over all labels (Szegedy et al. 2016, arXiv:1512.00567)."""

    r_drop: Annotated[float, Ge(0)] = 0.0
    """Every row is run twice with other dropout masks, and what the two answers differ by is a part of the loss, this
    many times (R-Drop, Wu et al. 2021, arXiv:2106.14448); 1 to 5 are usual. 0 runs rows once."""

    contrast: bool = False
    """Texts of one label are drawn together and those of others apart, by all pairs of a batch; before each look at the
    validation rows the head is fitted at once to what they have become (SetFit's idea, Tunstall et al. 2022,
    arXiv:2209.11055). For few rows of each label."""

    labels: tuple[str, ...] = field(default=(), metadata={"option": False})
    """In alphabetical order."""

    shares: tuple[float, ...] = field(default=(), metadata={"option": False})
    """Of each label among the training rows."""

    temperature: float = field(default=1.0, metadata={"option": False})
    """What logits are divided by, so that a confidence is the chance to be right; fitted on the validation rows."""

    each: ClassVar[tuple[str, ...]] = ("chances", "truth")

    def __post_init__(self) -> None:
        if self.contrast and (self.balance != "none" or self.focus or self.smoothing or self.r_drop):
            raise RecipeError(
                "with `contrast` there is no cross entropy for `balance`, `focus`, `smoothing` or `r_drop` to change",
                where="task.contrast",
                hint="leave them out",
            )

    @property
    def joint(self) -> bool:
        """All pairs of an update."""
        return self.contrast

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """The text must be a text that is not blank, the label one plain value."""
        wrong = labelled.check(values)
        if wrong or purpose == "answer":
            return wrong
        label = values.get("label")
        if isinstance(label, float) and label.is_integer():
            return f"`label` is the number {label}; labels are strings or whole numbers"
        if isinstance(label, list | tuple):
            return "`label` is a list; this task takes one label a row"
        if label is None or (isinstance(label, str) and not label.strip()):
            return "`label` is empty"
        if not isinstance(label, str | int | bool):
            return f"`label` is {labelled.kind_of(label)}; labels are strings or whole numbers"
        return None

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Text as it is; the label as a string, its type kept beside it for the check on mixed types."""
        made = labelled.normalize(values)
        if "label" in values:
            label = values["label"]
            made["label"] = labelled.label_text(label)
            made["label_type"] = type(label).__name__
        return made

    def learn(self, rows: Iterable[Row]) -> TextClassification:
        """The labels, sorted. Raises DataError for fewer than two, or for `1` beside `"1"`."""
        kinds: dict[str, Row] = {}
        first: dict[str, Row] = {}
        counts: Counter[str] = Counter()
        for row in rows:
            counts[row["label"]] += 1
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
        labels = tuple(sorted(first))
        return replace(self, labels=labels, shares=tuple(counts[label] / counts.total() for label in labels))

    def build(self, source: Source, options: Recipe, seed: int) -> Model:
        """The pretrained net with one logit per label."""
        from tunesmith.models.load import load_classifier

        limit = options.data.max_tokens
        model = load_classifier(source, options.model, self.labels, limit, seed, unit=self.contrast)
        if self.contrast:
            labelled.refuse_contrast(options, linear=model.linear_head)
        return model

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """One example; the target is the label's number, or -1 for a label that training never saw."""
        target = None
        if purpose == "learn":
            label = row["label"]
            target = self.labels.index(label) if label in self.labels else -1
        return [Example(row.id, {"text": labelled.tokens(row, reader)}, target)]

    def marks(self, row: Row, example: Example, reader: Reader) -> Sequence[Mark]:
        """The label."""
        return [Mark(f"label: {row['label']}")]

    def groups(self, rows: Sequence[Row]) -> Sequence[int] | None:
        """The labels, where they are to be drawn equally often."""
        wanted = self.contrast or self.balance == "sampling"
        return [self.labels.index(row["label"]) for row in rows] if wanted else None

    def weights(self, examples: Sequence[Example]) -> dict[str, float]:
        """Every row counts once, or by its label's weight."""
        return {"loss": float(sum(self.weight_of(example.target) for example in examples if example.target >= 0))}

    def weight_of(self, label: int) -> float:
        """What a row of a label counts: 1 on average over the training rows."""
        return 1.0 / (self.shares[label] * len(self.labels)) if self.balance == "weights" else 1.0

    def loss(self, model: Model, examples: Sequence[Example]) -> dict[str, Loss]:
        """Cross entropy of the label, summed over rows; of R-Drop, the mean of both runs' and the share of what they
        differ by."""
        from tunesmith.models.loss import divergence

        if self.contrast:
            return self.joint_loss(self.represent(model, examples), examples)
        logits = self.logits(model, examples)
        losses = self.losses_of(logits, examples)
        if self.r_drop and model.draws():
            again = self.logits(model, examples)
            weights = losses.new_tensor([self.weights([example])["loss"] for example in examples])
            losses = (losses + self.losses_of(again, examples)) / 2 + self.r_drop * weights * divergence(logits, again)
        return {"loss": Loss(losses.sum(), self.weights(examples)["loss"])}

    def represent(self, model: Model, examples: Sequence[Example]) -> Tensor:
        """What the head reads of each text."""
        return model.embeddings([example.parts["text"] for example in examples])

    def joint_loss(self, vectors: Tensor, examples: Sequence[Example]) -> dict[str, Loss]:
        """How far texts of a label are from each other, and those of others from being at right angles."""
        from tunesmith.models.loss import contrast

        weight = self.weights(examples)["loss"]
        return {"loss": Loss(weight * contrast(vectors, [example.target for example in examples]), weight)}

    def refit(self, model: Model, rows: Sequence[Row]) -> None:
        """The head, to what the texts of the training rows have become."""
        if self.contrast:
            self.base(model, rows)

    def losses_of(self, logits: Any, examples: Sequence[Example]) -> Any:
        """[rows], weighted"""
        return self.label_losses(logits, [example.target for example in examples])

    def label_losses(self, logits: Any, targets: Sequence[int]) -> Any:
        """[rows], weighted; 0 where the target is -1."""
        import torch

        from tunesmith.models.loss import row_losses

        if self.balance == "logits":
            logits = logits + torch.tensor(self.shares, device=logits.device).log().to(logits.dtype)
        losses = row_losses(logits, targets, self.smoothing)
        if self.focus:
            plain = row_losses(logits, targets) if self.smoothing else losses
            losses = losses * (1 - (-plain).exp()).clamp(min=0).pow(self.focus)
        if self.balance == "weights":
            known = [self.weight_of(label) if label >= 0 else 0.0 for label in targets]
            losses = losses * torch.tensor(known, dtype=losses.dtype, device=losses.device)
        return losses

    def logits(self, model: Model, examples: Sequence[Example]) -> Any:
        """[rows, labels]"""
        return labelled.logits(model, examples)

    def assess(self, model: Model, examples: Sequence[Example]) -> list[dict[str, Vector]]:
        """Nothing: the answers themselves are cheap and hold all there is to measure."""
        return []

    def predict(self, model: Model, examples: Sequence[Example]) -> list[Any]:
        """Log probabilities [labels] of each row."""
        logits = self.logits(model, examples)
        return list(logits.detach().float().log_softmax(-1).double().cpu().numpy())

    def decode(self, row: Row, outputs: Sequence[Any]) -> Answer:
        """The likeliest label with its probability, and the probability of every label."""
        logs: NDArray[np.float64] = calibrating.tempered(outputs[0], self.temperature)
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
            "chances": np.array([answer["probabilities"].get(label, 0.0) for label in self.labels]),
            "truth": float(gold),
        }

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """accuracy, which is micro-F1 where each row has one label and is given one; macro_f1, the mean of each label's
        F1 over labels that occur in gold or guesses; mcc (Gorodkin 2004); mean_row_loss, the mean cross entropy."""
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

    def order(self, values: Sums, counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """macro_roc_auc: of each label against all others, the mean over labels that occur."""
        truth = values["truth"][:, 0].astype(int)
        found = [k for k in range(len(self.labels)) if 0 < (truth == k).sum() < len(truth)]
        if not found:
            return {}
        if len(self.labels) == 2:  # the two are one curve, read from either end
            found = found[-1:]
        areas = [ranking.auc(values["chances"][:, k], truth == k, counts) for k in found]
        return {"macro_roc_auc": ranking.mean_known(areas)}

    def classes(self) -> Sequence[str]:
        """Every row has one of them and is given one."""
        return self.labels

    def settle(self, rows: Sequence[Row], outputs: Outputs) -> Self:
        """The temperature; rows of labels that training never saw do not count."""
        known = [row for row in rows if row["label"] in self.labels]
        logs = [outputs[row.id][0] for row in known]
        return replace(
            self, temperature=calibrating.temperature(logs, [self.labels.index(row["label"]) for row in known])
        )

    def united(self, tasks: Sequence[Self]) -> Self:
        """Without a temperature: it was fitted to what one net says."""
        return replace(self, temperature=1.0)

    def mean_of(self, outputs: Sequence[Any], tasks: Sequence[Self]) -> Any:
        """The log of the mean of the probabilities, of each net at its own temperature."""
        return calibrating.mean(
            [calibrating.tempered(logs, task.temperature) for logs, task in zip(outputs, tasks, strict=True)]
        )

    def say(self, answer: Answer) -> str:
        """The label and how sure it is."""
        return f"{answer['label']}\t{answer['probability']:.3f}"

    def show(self, row: Row, answer: Answer | None) -> Shown:
        """The text, its label, the label given."""
        said = answer["label"] if answer else ""
        return Shown(labelled.shown(row), row["label"], said, said == row["label"] if answer else None)

    def base(self, model: Model, rows: Sequence[Row]) -> None:
        """A linear probe: logistic regression on the frozen net's pooled states, put in as its head."""
        from tunesmith.models.probe import fit_probe

        examples = [self.encode(row, model, "learn")[0] for row in rows]
        fit_probe(model, [e.parts["text"] for e in examples], [e.target for e in examples])

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """The most frequent label; TF-IDF of words and word pairs with logistic regression."""
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        gold = [row["label"] for row in train]
        found = {"majority": self.majority(train, rows)}
        features = labelled.words_of(train, rows)
        if features is None:
            return found
        linear = LogisticRegression(C=10.0, max_iter=200, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            linear.fit(features[0], gold)
        table = linear.predict_proba(features[1])
        found["tfidf_linear"] = [self._answer(linear.classes_, line) for line in table]
        return found

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Answer]:
        """The most frequent label, with every label's share."""
        counts = Counter(row["label"] for row in train)
        prior = {label: counts[label] / len(train) for label in self.labels}
        label = max(self.labels, key=lambda label: counts[label])
        return [{"label": label, "probability": prior[label], "probabilities": prior} for _ in rows]

    def _answer(self, names: Sequence[str], line: NDArray[np.float64]) -> Answer:
        probabilities = dict.fromkeys(self.labels, 0.0) | dict(zip(map(str, names), map(float, line), strict=True))
        best = max(probabilities, key=lambda name: probabilities[name])
        return {"label": best, "probability": probabilities[best], "probabilities": probabilities}


plugin = TextClassification
