"""Between the untuned model and the tuned one (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903): the weights of a
finished run, mixed with those that it began with, in any share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith import judgement as judging
from tunesmith import predictor
from tunesmith.contracts import Row
from tunesmith.data import splits
from tunesmith.data.files import find_files
from tunesmith.data.read import read_rows
from tunesmith.data.split import sample
from tunesmith.errors import DataError, RunError
from tunesmith.metrics.measured import Score
from tunesmith.models import anypeft, probe, save, vocabulary
from tunesmith.models.model import Model
from tunesmith.predictor import Predictor
from tunesmith.provenance import refuse_changed
from tunesmith.recipefile import make_plugin, task_as_json
from tunesmith.train.evaluate import judge, value_of

MOST = 2000
"""Rows of the other task that are looked at."""
_LEARN = 0.6
"""Share of them that its probe is fitted to."""
_FEWEST = 5
"""Rows of a label that a probe can be fitted to and scored on."""


@dataclass(frozen=True)
class Point:
    """A share of the tuned weights, and what the model is worth there."""

    share: float
    score: Score
    kept: float | None
    """Accuracy of a linear probe on the other task, or the loss of a net that writes on the other texts."""


class Blend:
    """A finished run whose weights can be set between its beginning and its end."""

    def __init__(self, run: Path, keep: Path | None = None) -> None:
        """Raises UserError: for adapters that are no weights, and for rows that cannot be read."""
        self.tuned: Predictor = predictor.load(run, precise=True)
        model = self.tuned.model
        if model.prefix:
            raise RunError("virtual tokens are no weights of the model, so there is nothing between", where=str(run))
        anypeft.merge(model)
        vocabulary.settle(model.net)
        refuse_changed(self.tuned.run)
        found = splits.load(self.tuned.recipe, make_plugin("tasks", *predictor.named_task(self.tuned.recipe)))
        self.rows = {
            name: self.tuned.readable(part if name == "train" else self.tuned.task.gather(part, model, "answer"))
            for name, part in found.rows.items()
        }
        self.start = self._beginning(self.rows["train"])
        self.end = {name: p.detach().clone() for name, p in model.net.named_parameters()}
        self.metric = self.tuned.task.headline
        self.other = None if keep is None else Other(keep, model)

    def _beginning(self, train: Sequence[Row]) -> dict[str, Tensor]:
        """The weights before the first update; of a head that was drawn at random, those after the last."""
        tuned = self.tuned
        model = tuned.task.build(tuned.source, tuned.recipe, tuned.recipe.train.seed)
        probed = tuned.recipe.model.head == "probe"
        if probed:
            tuned.task.base(model, train)
        held = dict(tuned.model.net.named_parameters())
        return {
            name: (held[name] if name in model.fresh and not probed else p).detach().clone()
            for name, p in model.net.named_parameters()
        }

    @torch.no_grad()
    def set(self, share: float) -> Model:
        """The model at a share of the tuned weights."""
        for name, parameter in self.tuned.model.net.named_parameters():
            parameter.copy_(torch.lerp(self.start[name], self.end[name], share))
        return self.tuned.model

    def curve(self, shares: Sequence[float]) -> Iterator[Point]:
        """The run's validation rows, and the other task, at each share."""
        for share in shares:
            model = self.set(share)
            scored = judging.score(model, self.tuned.task, "validation", self.rows["validation"], 0)
            found = scored.scores["validation"]
            self.metric = judging.headline(self.tuned.task, found)
            yield Point(share, found[self.metric.name], None if self.other is None else self.other.measure(model))

    def keep(self, share: float, folder: Path) -> tuple[str, dict[str, Score]]:
        """Save the model at a share; its scores on the rows that the run was judged on, with their split."""
        tuned = self.tuned
        model = self.set(share)
        split = "test" if "test" in self.rows else "validation"
        scores = judging.score(model, tuned.task, split, self.rows[split], tuned.recipe.evaluate.answers).scores[split]
        name, _ = predictor.named_task(tuned.recipe)
        value = scores[self.metric.name].value if self.metric.name in scores else None
        card = (
            f"# {tuned.run.path.name}, {share:g} of the way\n\n"
            f"Weights between the untuned model and the tuned one: {1 - share:g} and {share:g} of each. "
            f"{self.metric.name} on {split}: {value}.\n"
        )
        labels = getattr(tuned.task, "labels", ())
        save.save(model, folder, labels, card, task_as_json(name, tuned.task.portable(model)))
        return split, scores


class Other:
    """Rows of another task, to see what a model still knows of them."""

    def __init__(self, file: Path, model: Model) -> None:
        """Raises DataError for rows without texts, or without labels where the model does not write."""
        self.writes = model.kind == "causal-lm"
        if not self.writes and model.family != "encoder" and model.kind != "classifier":
            raise DataError(
                "what was forgotten is measured on texts, by models that read or continue them",
                where=str(file),
                hint="leave `--keep` out",
            )
        task = make_plugin("tasks", "text-generation" if self.writes else "text-classification", {})
        there = find_files(file)
        needed = "a `text`" if self.writes else "a `text` and a `label`"
        try:
            made = read_rows(there.get("test") or next(iter(there.values())), task, {})
        except DataError as fault:
            raise DataError(fault.problem, where=fault.where, hint=f"call its columns {needed}") from None
        if not made.rows:
            raise DataError("no row can be used", where=str(file), hint=f"each needs {needed}")
        self.task: Any = task.learn(made.rows)
        self.rows: Sequence[Row] = sample(made.rows, MOST)
        counts = [] if self.writes else Counter(row["label"] for row in self.rows).values()
        if counts and min(counts) < _FEWEST:
            raise DataError(
                f"a probe needs {_FEWEST} rows of every label, and some have {min(counts)}",
                where=str(file),
                hint="add rows, or leave the rare labels out",
            )

    def measure(self, model: Model) -> float:
        """Accuracy of a linear probe, or the loss of the texts."""
        if self.writes:
            return value_of(self.task, judge(model, self.task, self.rows, answers=0).measured)[self.task.headline.name]
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import train_test_split
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        model.net.eval()
        states = probe.pooled(model, [model.text.text(row["text"]) for row in self.rows])
        labels = np.array([row["label"] for row in self.rows])
        learn, score = train_test_split(np.arange(len(labels)), train_size=_LEARN, random_state=0, stratify=labels)
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
        fitted.fit(states[learn], labels[learn])
        return float(fitted.score(states[score], labels[score]))

    @property
    def name(self) -> str:
        """What is measured."""
        return f"{self.task.headline.name} of the texts" if self.writes else "accuracy of a probe"
