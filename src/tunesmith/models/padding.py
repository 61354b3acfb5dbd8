"""Rows padded at their end to the longest, for nets that do not read them end to end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tunesmith.contracts import Tokens


def padded(rows: Sequence[Tokens], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask [rows, longest]."""
    longest = max(len(row.ids) for row in rows)
    ids = [list(row.ids) + [pad] * (longest - len(row.ids)) for row in rows]
    mask = [[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def padded_types(rows: Sequence[Tokens], ids: Tensor) -> Tensor | None:
    """Token types [rows, longest]; None where all are of the first text."""
    if not any(row.types for row in rows):
        return None
    types = [[*(row.types or [0] * len(row.ids)), *[0] * (ids.shape[1] - len(row.ids))] for row in rows]
    return torch.tensor(types, device=ids.device)
