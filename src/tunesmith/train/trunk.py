"""The frozen trunk, computed once a row: whether that pays, and the doing of it.

The longest run of blocks, from the first on, in which nothing learns is run once for every row, in a grouping that
depends on the rows alone; so a resume that fills it again gets the same bits. Later epochs, and looks at the
validation rows, go on from what was kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from tunesmith.cache import cache_folder, cache_root, prune
from tunesmith.contracts import Tokens
from tunesmith.data.batches import cut
from tunesmith.errors import RecipeError
from tunesmith.models.kept import Kept, Key
from tunesmith.models.model import Model
from tunesmith.models.precision import free_disk, host_bytes
from tunesmith.rundir import beside, guarded, sync_folder, write_bytes

Choice = Literal["auto", "off", "fp16"]
_VISITS = 1.2
"""Passes over the rows below which keeping does not pay: it costs one of its own."""
_MEMORY_SHARE = 0.25
_DISK_SHARE = 0.5
_BUDGET = 4096
_KIND = "trunk"
_SHARED_BYTES = 2**20
"""Tables from here on lie on disk, for other runs over the same rows; the kernel keeps what is read in memory."""
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


def decide(
    model: Model, rows: Callable[[], Sequence[Tokens]], visits: float, choice: Choice, memory: float | None
) -> TrunkPlan:
    """Keep where rows are seen more than once and the table fits in memory or on disk. `rows` is asked only where
    something is frozen; `memory` is in GB."""
    blocks = model.frozen_blocks()
    if choice == "off" or blocks == 0 or visits < _VISITS or model.layout != "packed" or model.body() is None:
        return TrunkPlan()
    dtype: Literal["fp32", "fp16"] = "fp16" if choice == "fp16" else "fp32"
    tokens = sum(len(ids) for ids, _ in {row.key for row in rows()})
    size = tokens * int(model.config.hidden_size) * _DTYPES[dtype].itemsize
    room = host_bytes() if memory is None else int(memory * 2**30)
    learned = 3 * (model.depth - blocks)  # a forward counts one, a backward two
    saves = blocks / (blocks + learned) * (1 - 1 / visits)
    try:
        fits = size <= _DISK_SHARE * free_disk(cache_folder(_KIND))
    except OSError:  # no cache folder can be had here
        fits = False
    if fits and size >= _SHARED_BYTES:
        return TrunkPlan(blocks, dtype, "disk", size, saves)
    return TrunkPlan(blocks, dtype, "memory", size, saves) if size <= _MEMORY_SHARE * room else TrunkPlan()


def fill(model: Model, plan: TrunkPlan, rows: Iterable[Tokens], identity: str) -> Kept:
    """Run the frozen blocks over every different row once. `identity` names the weights and how rows become ids.

    On disk, the table is a file of the user's cache, found again by all that it depends on; a torn one is made anew.
    """
    different = _different(rows)
    spans, at = {}, 0
    for key in different:
        spans[key] = (at, at + len(key[0]))
        at += len(key[0])
    shape = (at, int(model.config.hidden_size))
    dtype = _DTYPES[plan.dtype]
    if plan.place == "memory":
        table = torch.empty(shape, dtype=dtype)
        _run(model, plan.blocks, different, spans, table)
        return Kept(plan.blocks, table, spans)
    with guarded(cache_root() / _KIND):
        folder = cache_folder(_KIND)
    prune(folder)
    path = folder / f"{_key(model, plan, different, identity)}.trunk"
    if not _whole(path):
        temporary = beside(path)
        try:
            with guarded(path, plan.bytes), open(temporary, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, shape[0] * shape[1] * dtype.itemsize)  # full now, or never
            _run(model, plan.blocks, different, spans, _mapped(temporary, shape, dtype))
            with guarded(path), open(temporary, "rb+") as file:
                os.fsync(file.fileno())
                write_bytes(_sum_of(path), hashlib.file_digest(file, "sha256").hexdigest().encode())
                temporary.replace(path)
                sync_folder(folder)
        finally:
            temporary.unlink(missing_ok=True)
    os.utime(path)
    return Kept(plan.blocks, _mapped(path, shape, dtype), spans)


def name_of(model: Model, plan: TrunkPlan, rows: Iterable[Tokens], identity: str) -> str:
    """What a table that `fill` makes is found by: a sum of all that it depends on."""
    return _key(model, plan, _different(rows), identity)


def _different(rows: Iterable[Tokens]) -> list[Key]:
    return sorted({row.key for row in rows}, key=lambda key: (len(key[0]), key))


def _whole(path: Path) -> bool:
    """Whether a table is there with the sum that was taken when it was written."""
    if not path.is_file() or not _sum_of(path).is_file():
        return False
    os.utime(_sum_of(path))
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == _sum_of(path).read_text()


def _sum_of(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _mapped(path: Path, shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    return torch.from_file(str(path), shared=True, size=shape[0] * shape[1], dtype=dtype).view(shape)


def _key(model: Model, plan: TrunkPlan, rows: Sequence[Key], identity: str) -> str:
    digest = hashlib.sha256()
    computed = [str(next(model.base.parameters()).dtype), model.device.type, model.matmul.name, torch.get_num_threads()]
    versions = [version(name) for name in ("tunesmith", "torch", "transformers")]
    digest.update(json.dumps([identity, plan.blocks, plan.dtype, computed, versions]).encode())
    for key in rows:
        digest.update(json.dumps(key).encode())
    return digest.hexdigest()[:32]


@torch.no_grad()
def _run(
    model: Model,
    blocks: int,
    rows: Sequence[Key],
    spans: dict[Key, tuple[int, int]],
    table: torch.Tensor,
) -> None:
    model.net.eval()
    for piece in cut([len(ids) for ids, _ in rows], _BUDGET):
        tokens = [Tokens(rows[k][0], types=rows[k][1]) for k in piece]
        states = _states_before(model, tokens, blocks)
        for row, state in zip(tokens, states.split([len(row.ids) for row in tokens]), strict=True):
            start, stop = spans[row.key]
            table[start:stop] = state
            if table.dtype == torch.float16 and not bool(torch.isfinite(table[start:stop]).all()):
                raise RecipeError(
                    "what the frozen blocks make of a row does not fit half precision",
                    where="train.cache",
                    hint="set it to `auto`",
                )


def _states_before(model: Model, rows: Sequence[Tokens], block: int) -> torch.Tensor:
    """What a block reads [tokens, width], of sequences end to end: the blocks before it are run."""
    body = model.body()
    assert body is not None
    stream = model.stream(rows)
    x = body.begin(stream)
    for number in range(block):
        x = body.block(number, x, stream, None)
    return stream.of_rows(x)
