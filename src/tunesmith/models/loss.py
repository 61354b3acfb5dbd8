"""Losses as a sum and a count, from logits at label positions only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from tunesmith.contracts import Tokens
from tunesmith.models.heads import OutputLayer
from tunesmith.models.matmul import Matmul


def label_positions(rows: Sequence[Tokens], device: torch.device) -> tuple[Tensor, Tensor, list[int]]:
    """For sequences end to end: (positions that predict, on the host; ids they must predict; labels per row).

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
        torch.tensor(positions, dtype=torch.long),
        torch.tensor(labels, dtype=torch.long, device=device),
        counts,
    )


def label_losses(states: Tensor, head: nn.Module, labels: Tensor, matmul: Matmul, smoothing: float = 0.0) -> Tensor:
    """Cross entropy of each label from the states that predict them: [labels, width] -> [labels]. A share of the target
    may be spread over all (label smoothing).

    Logits are made, used and forgotten in chunks, so memory does not grow with labels x vocabulary. With a frozen head
    the gradient of the states is made with them; one that learns makes its logits again in the backward.
    """
    linear = head.linear if isinstance(head, OutputLayer) else head
    if type(linear) is not nn.Linear:
        return cross_entropy(fine(head(states)), labels, reduction="none", label_smoothing=smoothing)
    bias: Tensor | None = linear.bias
    softcap = None
    if isinstance(head, OutputLayer):
        bias, softcap = linear.bias if head.extra is None else head.extra, head.softcap
    how = (matmul, softcap, smoothing)
    losses: Tensor = _LabelLosses.apply(states, linear.weight, bias, labels, how)  # type: ignore[no-untyped-call]
    return losses


_CHUNK = 2**24
"""Logits of a chunk: 64 MB in fp32. Smaller ones cost the packing of the head's weight once more each."""


class _LabelLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        how: tuple[Matmul, float | None, float],
    ) -> Tensor:
        matmul, softcap, smoothing = how
        wants_states, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        early = wants_states and not (wants_weight or wants_bias)
        losses = torch.empty(len(labels), dtype=_fine_dtype(states.dtype), device=states.device)
        grad = torch.empty_like(states) if early else None
        for span, logs, slope in _log_probabilities(states, weight, bias, matmul, softcap):
            wanted = labels[span, None]
            losses[span] = (smoothing - 1) * logs.gather(1, wanted)[:, 0]
            if smoothing:
                losses[span] -= smoothing * logs.mean(-1)
            if grad is not None:
                grad[span] = matmul.mm(_pull(logs, wanted, slope, smoothing).to(weight.dtype), weight)
        ctx.how = how
        ctx.save_for_backward(*((grad, None, None, None, None) if early else (None, states, weight, bias, labels)))
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        pull = grads[0][:, None]
        early, states, weight, bias, labels = ctx.saved_tensors
        if early is not None:
            return early.mul(pull.to(early.dtype)), None, None, None, None
        matmul, softcap, smoothing = ctx.how
        dstates, dweight = torch.empty_like(states), torch.zeros_like(weight)
        dbias = None if bias is None else torch.zeros_like(bias)
        for span, logs, slope in _log_probabilities(states, weight, bias, matmul, softcap):
            dlogits = _pull(logs, labels[span, None], slope, smoothing).mul_(pull[span]).to(weight.dtype)
            dstates[span] = matmul.mm(dlogits, weight)
            matmul.add(dweight, dlogits.T, states[span])
            if dbias is not None:
                dbias += dlogits.sum(0)
        return dstates, dweight, dbias, None, None


def _log_probabilities(
    states: Tensor, weight: Tensor, bias: Tensor | None, matmul: Matmul, softcap: float | None
) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
    """Chunks of rows, their log probabilities [chunk, vocabulary], and what soft-capping does to the gradient."""
    rows = max(_CHUNK // len(weight), 32)
    for start in range(0, len(states), rows):
        span = slice(start, min(start + rows, len(states)))
        logits = fine(matmul.linear(states[span], weight, bias))
        slope = None
        if softcap is not None:
            bent = logits.div_(softcap).tanh_()
            slope, logits = 1 - bent * bent, bent.mul_(softcap)
        yield span, torch._log_softmax(logits, -1, False, out=logits), slope  # row by row: in place is exact


def _pull(logs: Tensor, wanted: Tensor, slope: Tensor | None, smoothing: float) -> Tensor:
    """Softmax's gradient from log probabilities, which it overwrites: probabilities, less the target at the label, and
    less its share everywhere."""
    made = logs.exp_().scatter_add_(1, wanted, logs.new_full((1, 1), smoothing - 1).expand_as(wanted))
    if smoothing:
        made -= smoothing / made.shape[1]
    return made if slope is None else made.mul_(slope)


def class_loss(logits: Tensor, targets: Sequence[int], smoothing: float = 0.0) -> Tensor:
    """Sum of the cross entropies of rows: logits [rows, labels]; rows whose target is -1 have none."""
    wanted = torch.tensor(list(targets), device=logits.device)
    return cross_entropy(fine(logits), wanted, reduction="sum", ignore_index=-1, label_smoothing=smoothing)


def row_losses(logits: Tensor, targets: Sequence[int], smoothing: float = 0.0) -> Tensor:
    """Cross entropy of each row: logits [rows, labels] -> [rows]; 0 where the target is -1."""
    wanted = torch.tensor(list(targets), device=logits.device)
    return cross_entropy(fine(logits), wanted, reduction="none", ignore_index=-1, label_smoothing=smoothing)


def contrast(vectors: Tensor, targets: Sequence[int]) -> Tensor:
    """How far the cosines of all pairs of rows are from 1 where they are alike and from 0 where they are not: the mean
    square of either kind, half of each, so that the many that are apart do not drown the few that are alike. From
    vectors [rows, width]; rows whose target is -1 are in no pair."""
    unit = normalize(fine(vectors), dim=1)
    wanted = torch.tensor(list(targets), device=vectors.device)
    known = (wanted >= 0)[:, None] & (wanted >= 0)
    pair = torch.ones_like(known).triu(1) & known
    alike, cosines = pair & (wanted[:, None] == wanted), unit @ unit.T
    apart = pair & ~alike
    far = (alike * (1 - cosines).square()).sum() / alike.sum().clamp(min=1)
    near = (apart * cosines.square()).sum() / apart.sum().clamp(min=1)
    return (far + near) / 2


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """The mean of the two Kullback-Leibler divergences between the labels' probabilities of rows: logits [rows, labels]
    of each -> [rows]."""
    logs = [fine(logits).log_softmax(-1) for logits in (first, second)]
    return ((logs[0].exp() - logs[1].exp()) * (logs[0] - logs[1])).sum(-1) / 2


def fine(logits: Tensor) -> Tensor:
    """Logits in the precision that losses are made in."""
    return logits.to(_fine_dtype(logits.dtype))


def _fine_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def sum_by_row(losses: Tensor, counts: Sequence[int]) -> list[float]:
    """Sum of each row's share of losses [labels]; 0 for a row without labels."""
    parts: list[float] = [float(part.double().sum()) for part in losses.detach().split(list(counts))]
    return parts
