"""Heads that Transformers has no class for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Pooled(nn.Module):
    """A pretrained trunk whose states are pooled. Saved as sentence-transformers modules, which express it exactly."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def config(self) -> object:
        """The trunk's config."""
        return self.encoder.config


class Embedder(Pooled):
    """A trunk whose pooled states, brought to length 1, are the embeddings of texts."""

    def __init__(self, encoder: nn.Module, prompts: Mapping[str, str]) -> None:
        super().__init__(encoder)
        self.prompts = dict(prompts)
        """What stands before a `query` and before a `document`."""


class PooledClassifier(Pooled):
    """A pretrained encoder and one linear layer over the mean of its tokens."""

    def __init__(self, encoder: nn.Module, width: int, labels: int, dropout: float) -> None:
        super().__init__(encoder)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, labels)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """States [tokens, width] of sequences end to end, lengths [rows] -> logits [rows, labels]."""
        logits: Tensor = self.head(self.dropout(mean_of_rows(states, lengths)))
        return logits


class OutputLayer(nn.Module):
    """A linear layer over the vocabulary with what some families have behind it: a bias that is no parameter (BART),
    logits brought between minus and plus a number by a tanh (Gemma 2)."""

    def __init__(self, linear: nn.Linear, bias: Tensor | None, softcap: float | None) -> None:
        super().__init__()
        self.linear = linear
        self.bias = linear.bias if bias is None else bias.flatten()
        self.softcap = softcap

    def forward(self, states: Tensor) -> Tensor:
        """[..., width] -> [..., vocabulary]"""
        logits = nn.functional.linear(states, self.linear.weight, self.bias)
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def mean_of_rows(states: Tensor, lengths: Tensor) -> Tensor:
    """States [tokens, width] of sequences end to end -> [rows, width], the mean of each."""
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=states.device), lengths)
    wide = states if states.dtype == torch.float64 else states.float()
    sums = wide.new_zeros(len(lengths), states.shape[1]).index_add_(0, owner, wide)
    return (sums / lengths[:, None]).to(states.dtype)
