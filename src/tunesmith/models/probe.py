"""A linear probe: what the pretrained net knows before any tuning, read out by logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith.contracts import Pixels, Tokens
from tunesmith.models import anatomy
from tunesmith.models.heads import PooledClassifier, mean_of_rows
from tunesmith.models.model import Model

_BUDGET = 4096
_IMAGES = 32
_NEVER = -30.0
"""Logit of a label that no row has."""
_ROUNDS = 200
"""Of L-BFGS: later ones move no answer, and 77 labels would take minutes of them."""


@torch.no_grad()
def pooled(model: Model, rows: Sequence[Tokens]) -> NDArray[np.float64]:
    """[rows, width]: what the head reads, from the net in evaluation mode."""
    order = sorted(range(len(rows)), key=lambda k: len(rows[k].ids))
    made: dict[int, Any] = {}
    piece: list[int] = []
    for k in order:
        if piece and (len(piece) + 1) * len(rows[k].ids) > _BUDGET:
            _pool_into(model, rows, piece, made)
            piece = []
        piece.append(k)
    if piece:
        _pool_into(model, rows, piece, made)
    return np.stack([made[k] for k in range(len(rows))])


def _pool_into(model: Model, rows: Sequence[Tokens], piece: list[int], made: dict[int, Any]) -> None:
    states, lengths = model.states([rows[k] for k in piece])
    vectors = states[lengths.cumsum(0) - 1] if model.pooling == "last" else mean_of_rows(states, lengths)
    made.update(zip(piece, vectors.double().cpu().numpy(), strict=True))


def fit_probe(
    model: Model, rows: Sequence[Tokens], targets: Any, kind: Literal["class", "labels", "numbers"] = "class"
) -> None:
    """Put a linear model on standardized frozen features into the model's last linear layer: of one class a row, of a
    table of labels [rows, labels], or of numbers [rows].

    The model's pooling must be `mean` or `last`: a stock head on the first token is more than linear.
    """
    model.net.eval()
    name = "head" if isinstance(model.net, PooledClassifier) else "score"
    head, features = model.net.get_submodule(name), pooled(model, rows)
    if kind == "class" and isinstance(model.net, PooledClassifier) and model.net.unit:
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        fit_linear(head, features / np.maximum(lengths, 1e-12), targets, plain=True)
    elif kind == "class":
        fit_linear(head, features, targets)
    else:
        _fit_outputs(head, features, np.asarray(targets, np.float64).reshape(len(rows), -1), kind == "labels")


@torch.no_grad()
def _fit_outputs(
    head: torch.nn.Module, features: NDArray[np.float64], targets: NDArray[np.float64], yes_no: bool
) -> None:
    """A logistic or a ridge regression an output."""
    from sklearn.linear_model import LogisticRegression, Ridge

    assert isinstance(head, torch.nn.Linear)
    mean, spread = features.mean(0), features.std(0) + 1e-6
    shift = mean if head.bias is not None else np.zeros_like(mean)
    plain = ((features - shift) / spread).astype(np.float32)
    for k in range(targets.shape[1]):
        weight, constant = np.zeros(len(mean)), _NEVER
        if not yes_no:
            fitted = Ridge(alpha=10.0, fit_intercept=head.bias is not None).fit(plain, targets[:, k])
            weight, constant = np.ravel(fitted.coef_), float(np.ravel(fitted.intercept_)[0])
        elif 0 < targets[:, k].sum() < len(targets):
            fitted = LogisticRegression(C=0.1, max_iter=_ROUNDS, tol=1e-3, fit_intercept=head.bias is not None)
            fitted.fit(plain, targets[:, k] > 0)
            weight, constant = np.ravel(fitted.coef_), float(np.ravel(fitted.intercept_)[0])
        head.weight[k] = torch.from_numpy(weight / spread)
        if head.bias is not None:
            head.bias[k] = constant - float((weight / spread) @ shift)


@torch.no_grad()
def fit_image_probe(model: Model, images: Sequence[Pixels], targets: Sequence[int]) -> None:
    """Logistic regression on what the head of a vision net reads."""
    model.net.eval()
    head = [module for module in model.net.modules() if isinstance(module, torch.nn.Linear)][-1]
    pieces = [images[at : at + _IMAGES] for at in range(0, len(images), _IMAGES)]
    read = [model.image_features(piece).double().cpu().numpy() for piece in pieces]
    fit_linear(head, np.concatenate(read), targets)


@torch.no_grad()
def fit_token_probe(model: Model, rows: Sequence[Tokens], targets: Sequence[Sequence[int]], most: int = 20_000) -> None:
    """The same for a token classifier: `targets` are of the trained tokens of each row. Rows are taken from all over
    until they have `most` such tokens."""
    model.net.eval()
    features: list[Any] = []
    wanted: list[int] = []
    for number in np.random.default_rng(0).permutation(len(rows)):
        row, labels = rows[number], targets[number]
        states = model.states_at([row], torch.tensor([k for k, learned in enumerate(row.trained) if learned]))
        states = anatomy.token_features(model.net, states)
        features.append(states.double().cpu().numpy())
        wanted += labels
        if len(wanted) >= most:
            break
    fit_linear(anatomy.token_head(model.net), np.concatenate(features), wanted)


@torch.no_grad()
def fit_span_probe(model: Model, rows: Sequence[Tokens], spans: Sequence[Sequence[int]], most: int = 20_000) -> None:
    """Two logistic regressions, of whether a token is the first and the last of the answer, for a question answerer."""
    from sklearn.linear_model import LogisticRegression

    model.net.eval()
    features: list[Any] = []
    ends: list[Any] = []
    count = 0
    for k in np.random.default_rng(0).permutation(len(rows)):
        row, span = rows[k], spans[k]
        features.append(anatomy.token_features(model.net, model.states([row])[0]).double().cpu().numpy())
        ends.append(np.stack([np.arange(len(row.ids)) == place for place in span]))
        count += len(row.ids)
        if count >= most:
            break
    every, marked = np.concatenate(features), np.concatenate(ends, 1)
    mean, spread = every.mean(0), every.std(0) + 1e-6
    head = anatomy.token_head(model.net)
    assert isinstance(head, torch.nn.Linear)
    for side in range(2):
        regression = LogisticRegression(C=0.1, max_iter=_ROUNDS, tol=1e-3)
        regression.fit(((every - mean) / spread).astype(np.float32), marked[side])
        weight = regression.coef_[0] / spread
        head.weight[side] = torch.from_numpy(weight)
        head.bias[side] = float(regression.intercept_[0] - weight @ mean)


def fit_linear(
    head: torch.nn.Module, features: NDArray[np.float64], targets: Sequence[int], *, plain: bool = False
) -> None:
    """Logistic regression of targets on features [rows, width], as a linear layer's weight and bias. `plain` features
    are of length 1 and taken as they are: of few rows, the spread of each number is mostly chance."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    assert isinstance(head, torch.nn.Linear)
    mean, spread = features.mean(0), features.std(0) + 1e-6
    shift = mean if head.bias is not None else np.zeros_like(mean)
    if plain:
        spread, shift = np.ones_like(mean), np.zeros_like(mean)
    if len(set(targets)) < 2:
        _constant(head, targets)
        return
    strength = 1.0 if plain else 0.1
    regression = LogisticRegression(C=strength, max_iter=_ROUNDS, tol=1e-3, fit_intercept=head.bias is not None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(((features - shift) / spread).astype(np.float32), list(targets))
    weight = np.asarray(regression.coef_, dtype=np.float64)
    bias = np.broadcast_to(regression.intercept_, len(weight)).astype(np.float64)
    if len(weight) == 1:  # two classes: scikit-learn keeps the logit of the second alone
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    full = np.zeros((head.out_features, weight.shape[1]))
    offset = np.full(head.out_features, _NEVER)
    for number, row, constant in zip(regression.classes_, weight, bias, strict=True):
        full[int(number)] = row / spread
        offset[int(number)] = constant - (row / spread) @ shift
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(full))
        if head.bias is not None:
            head.bias.copy_(torch.from_numpy(offset))


@torch.no_grad()
def _constant(head: torch.nn.Linear, targets: Sequence[int]) -> None:
    """A head that gives the one class there is, whatever it reads; where it has no bias, all classes alike."""
    head.weight.zero_()
    if head.bias is not None:
        head.bias.fill_(_NEVER)
        head.bias[list(set(targets))] = 0.0
