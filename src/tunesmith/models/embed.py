"""Embeddings of many texts: in batches of near lengths, in the order given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from tunesmith.contracts import Tokens
from tunesmith.data.batches import cut
from tunesmith.models.model import Model

_BUDGET = 4096
"""Tokens of a batch."""


@torch.no_grad()
def embed(model: Model, rows: Sequence[Tokens]) -> NDArray[np.float32]:
    """[rows, width], of length 1, from an embedder in evaluation mode."""
    model.net.eval()
    made = np.zeros((len(rows), int(model.config.hidden_size)), dtype=np.float32)
    for piece in cut([len(row.ids) for row in rows], _BUDGET, model.layout):
        vectors = model.embeddings([rows[k] for k in piece]).float()
        made[piece] = normalize(vectors, dim=1).cpu().numpy()
    return made
