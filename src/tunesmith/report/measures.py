"""What every system was worth on every row of a verdict, as one file of tensors: two runs are compared by these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Row
from tunesmith.data.rows import contents
from tunesmith.errors import RunError
from tunesmith.judgement import Judgement
from tunesmith.metrics.measured import Measured

_CONTENT = "content"
_GROUPS = "groups"


@dataclass(frozen=True)
class Kept:
    """The measures of a run."""

    content: NDArray[np.uint64]
    """Of each row, the sum of what the model reads of it."""
    systems: Mapping[str, Measured]
    """`tuned`, `base`, and baselines by name."""


def pack(rows: Sequence[Row], result: Judgement) -> bytes:
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
            tensors[f"{system}/{name}/rows"] = judged.measured.rows[name]
            tensors[f"{system}/{name}/values"] = np.ascontiguousarray(values)
    return save(tensors)


def unpack(path: Path) -> Kept:
    """Read it. Raises RunError for a run of an earlier version, and for a torn file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(path.read_bytes())
        content = tensors.pop(_CONTENT)
    except FileNotFoundError:
        raise RunError(
            "the run has no measures of single rows: it is of an earlier version",
            where=str(path),
            hint="train it again",
        ) from None
    except (SafetensorError, KeyError) as fault:
        raise RunError(f"the measures of the run are torn: {fault}", where=str(path), hint="train it again") from None
    numbers = tensors.pop(_GROUPS, None)
    groups = {} if numbers is None else dict(enumerate(numbers.tolist()))
    systems: dict[str, Measured] = {}
    for key, values in tensors.items():
        system, name, what = key.rsplit("/", 2)
        measured = systems.setdefault(system, Measured(groups=groups))
        (measured.rows if what == "rows" else measured.values)[name] = values
    return Kept(content, systems)
