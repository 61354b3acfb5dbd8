"""What the untuned model knew, before tuning and after: loss on general text, how it answers, which sentences it takes
for alike, which drawings. The texts are in `probes/`; they are ours and in no training set.

Small on purpose: they cost seconds and tell a model that has lost much from one that has not. `blend --keep` measures
what is left on rows of one's own.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith.contracts import Pixels, Row
from tunesmith.errors import DataError
from tunesmith.evidence.case import Case
from tunesmith.evidence.drawings import draw
from tunesmith.models import probe
from tunesmith.models.model import Model
from tunesmith.recipefile import make_plugin
from tunesmith.train.evaluate import judge

_FOLDER = Path(__file__).parent / "probes"
_REPEATS = 2000
_SEED = 20_261_127
_NEAR = {"share": 0.05, "loss": 0.05}
"""What may change before it counts: of a share, and of a loss in nats a token."""


@dataclass(frozen=True)
class Probe:
    """What one model is worth on one probe, item by item."""

    what: str
    values: NDArray[np.float64]
    """[items], of each the value."""
    weights: NDArray[np.float64]
    """[items], what it counts."""
    higher_is_better: bool


def measure(model: Model) -> dict[str, Probe]:
    """Name -> probe, of all that are for this kind of model."""
    model.net.eval()
    if model.kind == "causal-lm":
        found = {"general text": _texts(model)}
        if getattr(model.text.tokenizer, "chat_template", None):
            found |= {name: _preferred(model, name, items) for name, items in load("chats").items()}
        return found
    if model.family == "vision":
        return {"drawings": _drawings(model)}
    if model.family in ("encoder", "decoder") and model.kind != "seq2seq-lm":
        return {"alike": _alike(model)}
    return {}


def compared(before: Mapping[str, Probe], after: Mapping[str, Probe]) -> list[dict[str, Any]]:
    """See reportshape.Kept."""
    return [_kept(name, before[name], after[name]) for name in after if name in before]


def _kept(name: str, before: Probe, after: Probe) -> dict[str, Any]:
    n = len(after.values)
    counts = np.random.default_rng((_SEED, n)).multinomial(n, np.full(n, 1 / n), size=_REPEATS)
    ones = np.ones((1, n))
    means = [_mean(counts, one) for one in (before, after)]
    points = [float(_mean(ones, one)[0]) for one in (before, after)]
    low, high = (float(edge) for edge in np.quantile(means[1] - means[0], [0.025, 0.975]))
    difference = points[1] - points[0]
    near = _NEAR["share" if after.higher_is_better else "loss"]
    better, worse = (low > near, high < -near) if after.higher_is_better else (high < -near, low > near)
    kept = -near <= low and high <= near
    return {
        "name": name, "what": after.what, "n": n, "before": points[0], "after": points[1],
        "difference": difference, "low": low, "high": high, "higher_is_better": after.higher_is_better,
        "outcome": "gained" if better else "lost" if worse else "kept" if kept else "unclear",
    }  # fmt: skip


def _mean(counts: NDArray[Any], one: Probe) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = (counts @ one.values) / (counts @ one.weights)
    return mean


def _texts(model: Model) -> Probe:
    rows = [Row(k, {"text": text}, "probes", k + 1) for k, text in enumerate(load("texts"))]
    task: Any = make_plugin("tasks", "text-generation", {})
    values = judge(model, task, rows, answers=0).measured.values
    what = f"loss a token of {len(rows)} short texts that have nothing to do with the task"
    return Probe(what, values["loss"][:, 0], values["tokens"][:, 0], higher_is_better=False)


def _preferred(model: Model, name: str, items: Sequence[Sequence[str]]) -> Probe:
    """Whether of two answers the right one is likelier, a token."""
    task: Any = make_plugin("tasks", "chat", {})
    rows: list[Row] = []
    for asked, good, bad in items:
        for answer in (good, bad):
            said = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
            rows.append(Row(len(rows), task.normalize({"messages": said}), "probes", len(rows) + 1))
    values = judge(model, task, rows, answers=0).measured.values
    losses = (values["loss"] / values["tokens"])[:, 0].reshape(-1, 2)
    right = {
        "refusal": "an answer that declines to help with harm",
        "format": "an answer in the form that was asked for",
    }
    what = f"share of {len(items)} requests where {right[name]} is likelier than one that is not"
    return Probe(what, (losses[:, 0] < losses[:, 1]).astype(np.float64), np.ones(len(items)), higher_is_better=True)


def _alike(model: Model) -> Probe:
    """Whether a sentence is nearer to another that means the same than to one of nearly the same words."""
    items = load("pairs")
    vectors = probe.pooled(model, [model.text.text(sentence) for item in items for sentence in item])
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).reshape(len(items), 3, -1)
    near = (unit[:, 0] * unit[:, 1]).sum(1) > (unit[:, 0] * unit[:, 2]).sum(1)
    what = f"share of {len(items)} sentences that are nearer to one of the same meaning than to one of the same words"
    return Probe(what, near.astype(np.float64), np.ones(len(items)), higher_is_better=True)


@torch.no_grad()
def _drawings(model: Model) -> Probe:
    """Whether the nearest other drawing is one of the same shape."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        drawn = draw(Path(folder))
        pixels = [Pixels(str(path)) for path, _ in drawn]
        features = torch.cat([model.image_features(pixels[k : k + 16]) for k in range(0, len(pixels), 16)])
    shapes = np.array([shape for _, shape in drawn])
    unit = torch.nn.functional.normalize(features.double().flatten(1), dim=1).cpu().numpy()
    close = unit @ unit.T
    np.fill_diagonal(close, -np.inf)
    near = shapes[close.argmax(1)] == shapes
    what = f"share of {len(drawn)} drawings whose nearest is of the same shape"
    return Probe(what, near.astype(np.float64), np.ones(len(drawn)), higher_is_better=True)


def labels_given(case: Case) -> dict[str, Any] | None:
    """See reportshape.Kept: of the names that rows of the verdict are marked with, the share that is given at all.
    None for tasks without such names."""
    names, base = case.task.counted(), case.result.base_judged
    if not names or base is None or "found" not in base.measured.values:
        return None
    given = [judged.measured.values["found"].sum(0) > 0 for judged in (base, case.result.tuned)]
    there = case.result.tuned.measured.values["gold"].sum(0) > 0
    what = f"share of the {int(there.sum())} names in these rows that are given at least once"
    probes = [Probe(what, flags[there].astype(np.float64), np.ones(int(there.sum())), True) for flags in given]
    return _kept("labels in use", *probes) if there.any() else None


def load(name: str) -> Any:
    """What is in a file of probes. Raises DataError where it is missing."""
    try:
        return json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    except OSError as fault:
        raise DataError(f"a part of Tunesmith is missing: {fault}", hint="install it again") from None
