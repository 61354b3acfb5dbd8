"""Heads that Transformers has no class for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

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


def inner(net: nn.Module) -> nn.Module:
    """The net that others load: of one with a head of ours, its trunk."""
    return net.encoder if isinstance(net, Pooled) else net


class Embedder(Pooled):
    """A trunk whose pooled states, brought to length 1, are the embeddings of texts."""

    def __init__(self, encoder: nn.Module, prompts: Mapping[str, str]) -> None:
        super().__init__(encoder)
        self.prompts = dict(prompts)
        """What stands before a `query` and before a `document`."""


@dataclass(frozen=True)
class HeadShape:
    """What a new head is like."""

    width: int
    """Of what it reads."""
    labels: int
    dropout: float
    between: tuple[int, ...] = ()
    """Widths of the layers before the last."""
    attention: bool = False
    """Whether the weights of the mean that it reads are learned."""
    unit: bool = False
    """Whether what it reads is brought to length 1, as cosines are."""


class PooledClassifier(Pooled):
    """A pretrained trunk, and linear layers with GELU between them over its pooled states."""

    def __init__(self, encoder: nn.Module, shape: HeadShape) -> None:
        super().__init__(encoder)
        self.unit = shape.unit
        self.dropout = nn.Dropout(shape.dropout)
        widths = (shape.width, *shape.between)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.head = nn.Linear(widths[-1], shape.labels)
        self.attend = nn.Linear(shape.width, 1) if shape.attention else None
        if self.attend is not None:  # begins as the plain mean
            nn.init.zeros_(self.attend.weight)
            nn.init.zeros_(self.attend.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled states [rows, width] -> logits [rows, labels]."""
        if self.unit:
            pooled = nn.functional.normalize(pooled, dim=1)
        for layer in self.layers:
            pooled = nn.functional.gelu(layer(self.dropout(pooled)))
        logits: Tensor = self.head(self.dropout(pooled))
        return logits

    def mean(self, states: Tensor, lengths: Tensor) -> Tensor:
        """The mean of each row [rows, width], by weights that are a softmax over its tokens (Lin et al. 2017,
        arXiv:1703.03130, of one head)."""
        assert self.attend is not None
        scores = self.attend(states)[:, 0].float()
        owner = owners(lengths)
        most = scores.new_full((len(lengths),), float("-inf")).scatter_reduce(0, owner, scores.detach(), "amax")
        weights = (scores - most[owner]).exp()
        total = weights.new_zeros(len(lengths)).index_add(0, owner, weights)
        shares = (weights / total[owner])[:, None].to(states.dtype)
        return states.new_zeros(len(lengths), states.shape[1]).index_add(0, owner, states * shares)


class OutputLayer(nn.Module):
    """A linear layer over the vocabulary with what some families have behind it: a bias that is no parameter (BART),
    logits brought between minus and plus a number by a tanh (Gemma 2)."""

    def __init__(self, linear: nn.Module, bias: Tensor | None, softcap: float | None) -> None:
        super().__init__()
        self.linear = linear
        self.extra = None if bias is None else bias.flatten()
        self.softcap = softcap

    def forward(self, states: Tensor) -> Tensor:
        """[..., width] -> [..., vocabulary]"""
        logits: Tensor = self.linear(states)
        logits = logits if self.extra is None else logits + self.extra
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def owners(lengths: Tensor) -> Tensor:
    """The row that each token of sequences end to end belongs to: lengths [rows] -> [tokens]."""
    return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)


def mean_of_rows(states: Tensor, lengths: Tensor) -> Tensor:
    """States [tokens, width] of sequences end to end -> [rows, width], the mean of each."""
    owner = owners(lengths)
    wide = states if states.dtype == torch.float64 else states.float()
    sums = wide.new_zeros(len(lengths), states.shape[1]).index_add_(0, owner, wide)
    return (sums / lengths[:, None]).to(states.dtype)
