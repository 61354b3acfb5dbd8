"""The frozen trunk, computed once a row: whether that pays, and the doing of it.

The longest run of blocks, from the first on, in which nothing learns is run once for every row, in a grouping that
depends on the rows alone; so a resume that fills it again gets the same bits. Later epochs, and looks at the
validation rows, go on from what was kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from tunesmith.contracts import Tokens
from tunesmith.data.batches import cut
from tunesmith.models.kept import Kept
from tunesmith.models.model import Model
from tunesmith.models.precision import available_bytes, free_disk

Choice = Literal["auto", "off", "fp16"]
_VISITS = 1.2
"""Passes over the rows below which keeping does not pay: it costs one of its own."""
_MEMORY_SHARE = 0.25
_DISK_SHARE = 0.5
_BUDGET = 4096
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class TrunkPlan:
    """What is kept, and where. `blocks` is 0 where nothing is."""

    blocks: int = 0
    dtype: Literal["fp32", "fp16"] = "fp32"
    place: Literal["memory", "disk"] = "memory"
    bytes: int = 0
    saves: float = 0.0
    """Share of the work of training that it saves, by the count of products."""

    def as_json(self) -> dict[str, Any]:
        """For plan.json."""
        return asdict(self)


def decide(model: Model, rows: Sequence[Tokens], visits: float, choice: Choice, memory: float | None) -> TrunkPlan:
    """Keep where rows are seen more than once and the table fits in memory or on disk. `memory` is in GB."""
    blocks = model.frozen_blocks()
    if choice == "off" or blocks == 0 or visits < _VISITS or model.layout != "packed" or model.body() is None:
        return TrunkPlan()
    dtype: Literal["fp32", "fp16"] = "fp16" if choice == "fp16" else "fp32"
    tokens = sum(len(ids) for ids in {row.ids for row in rows})
    size = tokens * int(model.config.hidden_size) * _DTYPES[dtype].itemsize
    room = available_bytes() if memory is None else int(memory * 2**30)
    learned = 3 * (model.depth - blocks)  # a forward counts one, a backward two
    saves = blocks / (blocks + learned) * (1 - 1 / visits)
    if size <= _MEMORY_SHARE * room:
        return TrunkPlan(blocks, dtype, "memory", size, saves)
    if size <= _DISK_SHARE * free_disk(cache_folder()):
        return TrunkPlan(blocks, dtype, "disk", size, saves)
    return TrunkPlan()


def fill(model: Model, plan: TrunkPlan, rows: Iterable[Tokens], identity: str) -> Kept:
    """Run the frozen blocks over every different row once. `identity` names the weights and how rows become ids.

    On disk, the table is a file of the user's cache, found again by all that it depends on; a torn one is made anew.
    """
    different = sorted({row.ids for row in rows}, key=lambda ids: (len(ids), ids))
    spans, at = {}, 0
    for ids in different:
        spans[ids] = (at, at + len(ids))
        at += len(ids)
    shape = (at, int(model.config.hidden_size))
    dtype = _DTYPES[plan.dtype]
    if plan.place == "memory":
        table = torch.empty(shape, dtype=dtype)
        _run(model, plan.blocks, different, spans, table)
        return Kept(plan.blocks, table, spans)
    path = cache_folder() / f"{_key(model, plan, different, identity)}.trunk"
    size = shape[0] * shape[1] * dtype.itemsize
    if not path.is_file() or path.stat().st_size != size:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            _run(model, plan.blocks, different, spans, _mapped(temporary, shape, dtype))
            temporary.replace(path)  # whole, or not there
        finally:
            temporary.unlink(missing_ok=True)
    return Kept(plan.blocks, _mapped(path, shape, dtype), spans)


def cache_folder() -> Path:
    """Where tables on disk are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "tunesmith" / "trunk"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _mapped(path: Path, shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    return torch.from_file(str(path), shared=True, size=shape[0] * shape[1], dtype=dtype).view(shape)


def _key(model: Model, plan: TrunkPlan, rows: Sequence[tuple[int, ...]], identity: str) -> str:
    digest = hashlib.sha256()
    digest.update(json.dumps([identity, plan.blocks, plan.dtype, model.matmul.name, torch.get_num_threads()]).encode())
    for ids in rows:
        digest.update(json.dumps(ids).encode())
    return digest.hexdigest()[:32]


@torch.no_grad()
def _run(
    model: Model,
    blocks: int,
    rows: Sequence[tuple[int, ...]],
    spans: dict[tuple[int, ...], tuple[int, int]],
    table: torch.Tensor,
) -> None:
    model.net.eval()
    for piece in cut([len(ids) for ids in rows], _BUDGET):
        tokens = [Tokens(rows[k]) for k in piece]
        states = model.states_before(tokens, blocks)
        for row, state in zip(tokens, states.split([len(row.ids) for row in tokens]), strict=True):
            start, stop = spans[row.ids]
            table[start:stop] = state
