"""Losses as a sum and a count, from logits at label positions only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tunesmith.contracts import Tokens


def label_positions(rows: Sequence[Tokens], device: torch.device) -> tuple[Tensor, Tensor, list[int]]:
    """For sequences end to end: (positions that predict, ids they must predict, labels per row).

    A token is predicted by the one before it in its own sequence, so a first token is never a label: the last
    token of one row does not predict the first of the next.
    """
    positions: list[int] = []
    labels: list[int] = []
    counts: list[int] = []
    start = 0
    for row in rows:
        chosen = [t for t in range(1, len(row.ids)) if row.trained and row.trained[t]]
        positions += [start + t - 1 for t in chosen]
        labels += [row.ids[t] for t in chosen]
        counts.append(len(chosen))
        start += len(row.ids)
    return (
        torch.tensor(positions, dtype=torch.long, device=device),
        torch.tensor(labels, dtype=torch.long, device=device),
        counts,
    )


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each label: logits [labels, vocabulary] -> [labels], in fp32 or finer."""
    return cross_entropy(_fine(logits), labels, reduction="none")


def class_loss(logits: Tensor, targets: Sequence[int]) -> Tensor:
    """Sum of the cross entropies of rows: logits [rows, labels]; rows whose target is -1 have none."""
    wanted = torch.tensor(list(targets), device=logits.device)
    return cross_entropy(_fine(logits), wanted, reduction="sum", ignore_index=-1)


def _fine(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def sum_by_row(losses: Tensor, counts: Sequence[int]) -> list[float]:
    """Sum of each row's share of losses [labels]; 0 for a row without labels."""
    parts: list[float] = [float(part.double().sum()) for part in losses.detach().split(list(counts))]
    return parts
