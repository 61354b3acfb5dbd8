"""Another model, untuned, on the rows of a verdict, and what it costs: asked in words where it writes and the task is
to label, else doing the task by what it knows (a linear probe, or as it is).

Asked for a label, each label is as likely as its words are, against how likely they are for a blank text (Holtzman
et al. 2021, arXiv:2104.08315; Zhao et al. 2021, arXiv:2102.09690): a model prefers some words whatever it reads.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith import judgement, stats
from tunesmith.contracts import Answer, Example, Row, Task
from tunesmith.data.rows import select
from tunesmith.data.split import sample, sampled
from tunesmith.errors import RecipeError
from tunesmith.evidence.compared import against
from tunesmith.metrics.measured import Measured
from tunesmith.models import catalog, writing
from tunesmith.models.model import Model
from tunesmith.prepare import Say
from tunesmith.recipe import Recipe
from tunesmith.recipefile import make_plugin
from tunesmith.train.evaluate import Judged, judge, judge_answers

MOST = 200
"""Rows that another model is asked: a large one is slow."""
_BLANK = "N/A"
_TOGETHER = 4
"""Prompts that are read at once."""
_SAID_EVERY = 20


def beside(
    name: str, task: Task, recipe: Recipe, train: Sequence[Row], rows: Sequence[Row], tuned: Measured, say: Say
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """See reportshape.OtherModel, and Compared on the rows that it was asked; None there without the headline.

    Raises UserError for a model that is not there, or cannot do the task.
    """
    source = catalog.find(name, say)
    places = sampled(rows, MOST)
    chosen = select(rows, places)
    if task.classes() and source.kind == "decoder":
        model, judged, seconds = _asked(source, task, recipe, chosen, say)
        how = "untuned, asked in words for a label"
    elif source.kind in task.families:
        judged, model, seconds = _as_it_is(source, task, recipe, train, chosen)
        how = "untuned, with a linear probe" if task.probed and model.fresh else "untuned"
    else:
        raise RecipeError(
            f"`{name}` is of the kind `{source.kind}` and cannot do this task", where="--model", hint="name another"
        )
    scores = stats.scores(task, judged.measured)
    metric = judgement.headline(task, scores)
    found = against(task, metric, tuned.numbered(places), [(source.label, "model", judged.measured)])
    _, parameters = model.sizes()
    per_thousand = 1000 * seconds / len(chosen)
    rate = recipe.evaluate.money
    other = {
        "name": source.label,
        "how": how,
        "parameters": parameters,
        "score": asdict(scores[metric.name]),
        "seconds_per_1000": per_thousand,
        "money_per_1000": None if rate is None else rate * per_thousand / 3600,
    }
    return other, found[0] if found else None


def _as_it_is(
    source: catalog.Source, task: Task, recipe: Recipe, train: Sequence[Row], rows: Sequence[Row]
) -> tuple[Judged, Model, float]:
    named = recipe.model_copy(update={"model": recipe.model.model_copy(update={"name": source.name, "decoder": None})})
    model = judgement.untuned(task, named, source, sample(train, judgement.MOST))
    began = time.perf_counter()
    judged = judge(model, task, rows, answers=recipe.evaluate.answers)
    return judged, model, time.perf_counter() - began


def _asked(
    source: catalog.Source, task: Task, recipe: Recipe, rows: Sequence[Row], say: Say
) -> tuple[Model, Judged, float]:
    chat: Any = make_plugin("tasks", "chat", {})
    model = chat.build(source, recipe.model_copy(update={"model": recipe.model.model_copy(update=_PLAIN)}), 0)
    model.net.eval()
    labels = list(task.classes())
    blank = _scores(model, chat, [in_words(labels, _BLANK)], labels)
    answers: list[Answer] = []
    began = time.perf_counter()
    for start in range(0, len(rows), _TOGETHER):
        here = rows[start : start + _TOGETHER]
        asked = [in_words(labels, task.show(row, None).asked) for row in here]
        answers += [_answer(labels, logs) for logs in _scores(model, chat, asked, labels) - blank]
        if start % _SAID_EVERY == 0:
            say(f"{source.label}: {start + len(here)} of {len(rows)} rows asked")
    return model, judge_answers(task, rows, answers), time.perf_counter() - began


_PLAIN: dict[str, Any] = {
    "blocks": None,
    "new_tokens": [],
    "pooling": "auto",
    "head": "fresh",
    "head_layers": 1,
    "head_width": None,
}


def in_words(labels: Sequence[str], text: str) -> str:
    """What is asked of a model that writes."""
    return (
        f"Which one of these labels fits the text?\nLabels: {', '.join(labels)}\n\nText: {text}\n\n"
        "Answer with the label and nothing else."
    )


def _answer(labels: Sequence[str], logs: NDArray[np.float64]) -> Answer:
    shares = np.exp(logs - logs.max())
    shares /= shares.sum()
    best = int(shares.argmax())
    chances = dict(zip(labels, shares.tolist(), strict=True))
    return {"label": labels[best], "probability": float(shares[best]), "probabilities": chances}


@torch.no_grad()
def _scores(model: Model, chat: Any, prompts: Sequence[str], labels: Sequence[str]) -> NDArray[np.float64]:
    """The log probability of each label as the answer to each prompt [prompts, labels]. What some begin with, such as
    the list of labels, is computed once."""
    examples: list[Example] = []
    for number, (prompt, label) in enumerate(product(prompts, labels)):
        said = [{"role": "user", "content": prompt}, {"role": "assistant", "content": label}]
        row = Row(number, chat.normalize({"messages": said}), "prompt", number + 1)
        examples += chat.encode(row, model, "learn")
    found = [-float(one["loss"]) for one in writing.assess(model, examples)]
    return np.array(found).reshape(len(prompts), len(labels))
