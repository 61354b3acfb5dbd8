"""Forward and backward of one update's micro-batches. A loss is a sum and a count; the division is by the count of
the whole update, so the gradient does not depend on how the batch was cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.contracts import Example, Task
from tunesmith.models.draws import seed
from tunesmith.models.model import Model
from tunesmith.train.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Piece:
    """One micro-batch and the seed of the random numbers it draws."""

    seed: int
    examples: Sequence[Example]


def accumulate(
    model: Model, task: Task, pieces: Sequence[Piece], weights: dict[str, float], ranks: Ranks = ALONE
) -> dict[str, Tensor]:
    """Gradients of the update, and its losses per name, still on the device: reading one makes the host wait for it.

    `weights` are those of all pieces together. An update without labels has a loss of 0 and changes nothing. Of several
    processes each computes its share of the pieces, and all end with the same gradients and losses.
    """
    if task.joint and (len(pieces) > 1 or ranks.count > 1):
        losses = _jointly(model, task, pieces, weights, ranks)
    else:
        losses = _singly(model, task, ranks.share(pieces), weights)
        ranks.add(*losses.values())
    ranks.add_gradients([parameter for _, parameter in model.learned()])
    return losses


def _singly(model: Model, task: Task, pieces: Sequence[Piece], weights: dict[str, float]) -> dict[str, Tensor]:
    """A loss of each row by itself: the sums over these pieces, divided by the weights of all."""
    sums = {name: torch.zeros((), dtype=torch.float64, device=model.device) for name in weights}
    for piece in pieces:
        seed(piece.seed, model.device)
        losses = task.loss(model, piece.examples)
        parts = [loss.total / weights[name] for name, loss in losses.items() if weights[name]]
        if parts:
            torch.stack(parts).sum().backward()
            model.collect()
        for name, loss in losses.items():
            sums[name] += loss.total.detach()
    return means(sums, weights)


def _jointly(
    model: Model, task: Task, pieces: Sequence[Piece], weights: dict[str, float], ranks: Ranks
) -> dict[str, Tensor]:
    """A loss of all rows together, with the memory of one micro-batch: vectors without gradients, the loss and its
    gradients by the vectors, then each micro-batch once more, which draws the same random numbers (Gao et al. 2021,
    arXiv:2101.06983)."""
    found = []
    mine = ranks.share(pieces)
    for piece in mine:
        seed(piece.seed, model.device)
        with torch.no_grad():
            found.append(task.represent(model, piece.examples))
    parts = _everyones(found, len(pieces), model, ranks) if ranks.count > 1 else found
    vectors = torch.cat(parts).requires_grad_()
    losses = task.joint_loss(vectors, [example for piece in pieces for example in piece.examples])
    if not all(weights.values()):
        return means({name: loss.total.detach().double() for name, loss in losses.items()}, weights)
    torch.stack([loss.total / weights[name] for name, loss in losses.items()]).sum().backward()
    assert vectors.grad is not None
    pulls = ranks.share(vectors.grad.split([len(part) for part in parts]))
    for piece, pull in zip(mine, pulls, strict=True):
        seed(piece.seed, model.device)
        (task.represent(model, piece.examples) * pull).sum().backward()
        model.collect()
    return means({name: loss.total.detach().double() for name, loss in losses.items()}, weights)


def _everyones(found: Sequence[Tensor], count: int, model: Model, ranks: Ranks) -> list[Tensor]:
    """The vectors of all pieces, of which this process has its share: each adds its own where all others have zeros."""
    sizes = torch.zeros(count, 2, dtype=torch.int64)
    for row, part in zip(range(ranks.number, count, ranks.count), found, strict=True):
        sizes[row] = torch.tensor(part.shape)
    ranks.add(sizes)
    lengths, width = sizes[:, 0].tolist(), int(sizes[:, 1].max())
    dtype = next(model.net.parameters()).dtype
    whole = torch.zeros(sum(lengths), width, dtype=found[0].dtype if found else dtype, device=model.device)
    parts = list(whole.split(lengths))
    for place, part in zip(ranks.share(parts), found, strict=True):
        place.copy_(part)
    ranks.add(whole)
    return parts


def means(sums: dict[str, Tensor], weights: dict[str, float]) -> dict[str, Tensor]:
    """Sums of losses, each over its weight; 0 where nothing has a label."""
    return {name: total / weights[name] if weights[name] else torch.zeros_like(total) for name, total in sums.items()}


def piece_seed(seed: int, step: int, number: int) -> int:
    """A seed of 63 bits for a micro-batch: (seed, step, number) mixed by splitmix64 (Steele et al. 2014)."""
    state = 0
    for value in (seed, step, number):
        state = (state + value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1
