"""A linear probe: what the pretrained net knows before any tuning, read out by logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith.contracts import Tokens
from tunesmith.models.heads import PooledClassifier, mean_of_rows
from tunesmith.models.model import Model

_BUDGET = 4096
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


def fit_probe(model: Model, rows: Sequence[Tokens], targets: Sequence[int]) -> None:
    """Put logistic regression on standardized frozen features into the model's last linear layer.

    The model's pooling must be `mean` or `last`: a stock head on the first token is more than linear.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model.net.eval()
    features = pooled(model, rows)
    mean, spread = features.mean(0), features.std(0) + 1e-6
    name = "head" if isinstance(model.net, PooledClassifier) else "score"
    head = model.net.get_submodule(name)
    assert isinstance(head, torch.nn.Linear)
    shift = mean if head.bias is not None else np.zeros_like(mean)
    regression = LogisticRegression(C=0.1, max_iter=_ROUNDS, tol=1e-3, fit_intercept=head.bias is not None)
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
