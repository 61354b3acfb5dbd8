"""What every system was worth on every row of a verdict, as one file of tensors: two runs are compared by these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Row, Task
from tunesmith.data.rows import contents
from tunesmith.errors import RunError
from tunesmith.judgement import Judgement
from tunesmith.metrics.measured import Measured

_CONTENT = "content"
_GROUPS = "groups"
_SPARSE = 4
"""How much fewer numbers than a table has must be other than 0 for them alone to be kept."""


@dataclass(frozen=True)
class Kept:
    """The measures of a run."""

    content: NDArray[np.uint64]
    """Of each row, the sum of what the model reads of it."""
    systems: Mapping[str, Measured]
    """`tuned`, `base`, and baselines by name."""


def pack(task: Task, rows: Sequence[Row], result: Judgement) -> bytes:
    """The file."""
    from safetensors.numpy import save

    systems = {"tuned": result.tuned, **({"base": result.base_judged} if result.base_judged else {})}
    systems |= result.baselines_judged
    tensors: dict[str, NDArray[np.generic]] = {_CONTENT: contents(rows)}
    groups = result.tuned.measured.groups
    if groups:
        tensors[_GROUPS] = np.array([groups[row.id] for row in rows], np.int64)
    for system, judged in systems.items():
        for name, values in judged.measured.values.items():
            if name not in task.each:  # those are of every label, and no test of pairs reads them
                tensors[f"{system}/{name}/rows"] = judged.measured.rows[name]
                tensors |= {f"{system}/{name}/{what}": part for what, part in _packed(values).items()}
    return save(tensors)


def _packed(values: NDArray[np.float64]) -> dict[str, NDArray[np.generic]]:
    """A table [rows, width]; of one that is nearly all zeros, what is not, and where: counts of labels are."""
    at = np.flatnonzero(values)
    if len(at) * _SPARSE > values.size:
        return {"values": np.ascontiguousarray(values)}
    return {"shape": np.array(values.shape, np.int64), "at": at, "filled": values.ravel()[at]}


def _unpacked(parts: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    if "values" in parts:
        return parts["values"]
    table = np.zeros(parts["shape"])
    table.ravel()[parts["at"]] = parts["filled"]
    return table


def unpack(path: Path) -> Kept:
    """Read it. Raises RunError for a run of an earlier version, and for a torn file."""
    from safetensors import SafetensorError

    try:
        return _read(path.read_bytes())
    except FileNotFoundError:
        raise RunError(
            "the run has no measures of single rows: it is of an earlier version",
            where=str(path),
            hint="train it again",
        ) from None
    except (SafetensorError, KeyError, ValueError, IndexError) as fault:
        raise RunError(f"the measures of the run are torn: {fault}", where=str(path), hint="train it again") from None


def _read(written: bytes) -> Kept:
    """Raises one of the errors of a torn file."""
    from safetensors.numpy import load

    tensors = load(written)
    content = tensors.pop(_CONTENT)
    numbers = tensors.pop(_GROUPS, None)
    groups = {} if numbers is None else dict(enumerate(numbers.tolist()))
    parts: dict[tuple[str, str], dict[str, NDArray[Any]]] = {}
    for key, values in tensors.items():
        system, name, what = key.rsplit("/", 2)
        parts.setdefault((system, name), {})[what] = values
    systems: dict[str, Measured] = {}
    for (system, name), found in parts.items():
        measured = systems.setdefault(system, Measured(groups=groups))
        measured.rows[name], measured.values[name] = found["rows"], _unpacked(found)
        if len(measured.rows[name]) != len(measured.values[name]):
            raise ValueError(f"`{system}/{name}` has other rows than values")
    return Kept(content, systems)
