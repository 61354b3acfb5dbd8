"""The rows of a token embedding that training can move: those of tokens that stand in training rows.

All others have no gradient, ever; so gradient, clipping, AdamW and checkpoints need not walk over them. Without weight
decay this is what tuning the whole table does, to the bit; decay leaves rows alone that no row of the data has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from tunesmith.models.swap import swapped

IDS = "row_ids"
"""Name of the buffer that a checkpoint holds beside the rows."""


class RowsInUse(nn.Module):
    """An embedding table of which only some rows learn."""

    def __init__(self, table: nn.Embedding, ids: Tensor) -> None:
        super().__init__()
        whole = table.weight.detach()
        self.table = table.requires_grad_(False)
        self.rows = nn.Parameter(whole[ids].clone())
        self.register_buffer(IDS, ids)
        places = torch.full((len(whole),), -1, dtype=torch.long, device=whole.device)
        places[ids] = torch.arange(len(ids), device=whole.device)
        self.register_buffer("places", places, persistent=False)

    @property
    def weight(self) -> Tensor:
        """The whole table as it is now [vocabulary, width]; a copy."""
        whole = self.table.weight.detach().clone()
        whole[self.get_buffer(IDS)] = self.rows.detach()
        return whole

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids of any shape -> their rows [..., width]."""
        place = self.get_buffer("places")[ids]
        found = embedding(place.clamp(min=0), self.rows)
        scale = getattr(self.table, "embed_scale", None)  # Gemma's tables and BART's scale what they give
        if scale is not None:
            found = found * (scale.to(found.dtype) if isinstance(scale, Tensor) else scale)
        other = place < 0
        if ids.device.type == "cpu" and not bool(other.any()):  # a GPU would have to be waited for to tell
            return found
        return torch.where(other[..., None], self.table(ids), found)


def narrow(net: nn.Module, path: str, ids: Iterable[int]) -> None:
    """Let only the rows of these tokens learn, where the table at a path learns and nothing else in the net uses it."""
    table = net.get_submodule(path)
    if type(table) is not nn.Embedding or not table.weight.requires_grad or table.max_norm is not None:
        return
    users = sum(parameter is table.weight for module in net.modules() for parameter in module.parameters(recurse=False))
    wanted = sorted(set(ids) - {table.padding_idx})
    if users == 1 and wanted and len(wanted) < table.num_embeddings:
        put(net, path, torch.tensor(wanted, device=table.weight.device))


def put(net: nn.Module, path: str, ids: Tensor) -> None:
    """Replace the table at a path by its rows in use."""
    table = net.get_submodule(path)
    assert isinstance(table, nn.Embedding)
    net.set_submodule(path, RowsInUse(table, ids))


def found(net: nn.Module) -> Iterator[tuple[str, RowsInUse]]:
    """(path, module) of every table of which only some rows learn."""
    for name, module in net.named_modules():
        if isinstance(module, RowsInUse):
            yield name, module


def whole(net: nn.Module) -> AbstractContextManager[None]:
    """The net with its stock tables, the learned rows in them: what is saved for others."""
    return swapped(net, _filled(net))


def settle(net: nn.Module) -> None:
    """Put the learned rows into their tables, for good."""
    for path, table in _filled(net).items():
        net.set_submodule(path, table)


@torch.no_grad()
def _filled(net: nn.Module) -> dict[str, nn.Embedding]:
    """The stock tables by their paths, with the learned rows in them."""
    tables = {}
    for path, rows in found(net):
        rows.table.weight[rows.get_buffer(IDS)] = rows.rows
        tables[path] = rows.table
    return tables
