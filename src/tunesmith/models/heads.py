"""Heads that Transformers has no class for."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PooledClassifier(nn.Module):
    """A pretrained encoder and one linear layer over the mean of its tokens.

    Saved as sentence-transformers modules (Transformer, Pooling, Dense), which express it exactly.
    """

    def __init__(self, encoder: nn.Module, width: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, labels)

    @property
    def config(self) -> object:
        """The encoder's config."""
        return self.encoder.config

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """States [tokens, width] of sequences end to end, lengths [rows] -> logits [rows, labels]."""
        logits: Tensor = self.head(self.dropout(mean_of_rows(states, lengths)))
        return logits


def mean_of_rows(states: Tensor, lengths: Tensor) -> Tensor:
    """States [tokens, width] of sequences end to end -> [rows, width], the mean of each."""
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=states.device), lengths)
    wide = states if states.dtype == torch.float64 else states.float()
    sums = wide.new_zeros(len(lengths), states.shape[1]).index_add_(0, owner, wide)
    return (sums / lengths[:, None]).to(states.dtype)
