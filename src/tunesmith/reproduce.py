"""A finished run made once more from its receipt, and held against what it left: `tunesmith reproduce`."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunesmith import provenance, redo, run
from tunesmith.data.sums import of_code, sha256
from tunesmith.events import Event
from tunesmith.prepare import find_model
from tunesmith.promises import Check, difference
from tunesmith.recipefile import build
from tunesmith.rundir import RunDir
from tunesmith.train import checkpoint


@dataclass(frozen=True)
class Changed:
    """Something that a run was made of, and that is not what it was."""

    what: str
    """`data`, `model`, `versions`, `code` or `machine`."""
    name: str
    then: str
    now: str

    def __str__(self) -> str:
        return f"{self.what}: {self.name} was {self.then} and is {self.now}"


def changes(directory: RunDir) -> list[Changed]:
    """All that is not what it was when the run began. Raises UserError where its model is not to be found."""
    receipt = directory.json("receipt")
    found = []
    for path, then in receipt["data_sha256"].items():
        now = sha256(Path(path)) if Path(path).exists() else "gone"
        if now != then:
            found.append(Changed("data", path, _short(then), _short(now)))
    recipe = build(directory.json("resolved"), source=str(directory.path / "resolved.json"))
    source = find_model(recipe)
    here = provenance.folder_sums(source.folder)
    for name in sorted(receipt["model_sha256"].keys() | here.keys()):
        then, now = receipt["model_sha256"].get(name, "not there"), here.get(name, "gone")
        if then != now:
            found.append(Changed("model", str(source.folder / name), _short(then), _short(now)))
    for what, was, is_now in (
        ("versions", receipt["versions"], provenance.versions()),
        ("code", {"tunesmith": receipt.get("code_sha256")}, {"tunesmith": of_code()}),
        ("machine", receipt.get("machine", {}), provenance.machine()),
    ):
        for name, value in is_now.items():
            if was.get(name) != value:
                found.append(Changed(what, name, _short(was.get(name)), _short(value)))
    return found


def _short(value: Any) -> str:
    """A sum by its first digits."""
    text = "unknown" if value is None else str(value)
    return text[:12] if len(text) == 64 else text


def made_again(directory: RunDir, place: Path, stop: Callable[[], bool]) -> Generator[Event, None, None]:
    """Train, judge, save and report once more, in a folder of its own: what happens. Raises UserError."""
    second = redo.again(directory, place, directory.path.name)
    yield from run.go(second, run.reopen(second), stop)


def compared(directory: RunDir, second: RunDir) -> Iterator[Check]:
    """The two runs beside each other, to the bit."""
    yield _losses(redo.losses_of(directory), redo.losses_of(second))
    for name in ("best", "last"):
        yield _weights(f"{name} weights", *(checkpoint.read(d.checkpoints / name)[0] for d in (directory, second)))
    yield _files(directory.model, second.model)
    first, other = (d.json("report/report") for d in (directory, second))
    gap = max(difference(first[key], other[key]) for key in ("scores", "base", "baselines", "verdict"))
    said = "the scores of every system, their intervals and the verdict"
    yield Check("scores", gap == 0, f"{said} are the same" if gap == 0 else f"{said} differ by up to {gap:.1e}")


def _losses(first: redo.Losses, second: redo.Losses) -> Check:
    apart = [step for step in sorted(first.keys() | second.keys()) if first.get(step) != second.get(step)]
    if not apart:
        return Check("losses", True, f"of all {len(first)} updates the same to the bit")
    one, two = first.get(apart[0]), second.get(apart[0])
    return Check("losses", False, f"first apart after update {apart[0]}: {json.dumps(one)} and {json.dumps(two)}")


def _weights(name: str, first: dict[str, Tensor], second: dict[str, Tensor]) -> Check:
    odd = [key for key in first if key not in second or not torch.equal(first[key], second[key])]
    if not odd and first.keys() == second.keys():
        return Check(name, True, f"{len(first)} tensors, the same to the bit")
    gap = max((difference(first[key], second.get(key)) for key in odd), default=float("inf"))
    return Check(name, False, f"{len(odd)} of {len(first)} tensors differ, by up to {gap:.1e}")


def _files(first: Path, second: Path) -> Check:
    """The saved tensors, file by file."""
    sums = [{p.relative_to(d): sha256(p) for p in sorted(d.rglob("*.safetensors"))} for d in (first, second)]
    apart = [str(path) for path in sums[0].keys() | sums[1].keys() if sums[0].get(path) != sums[1].get(path)]
    if not apart:
        return Check("saved model", True, f"{len(sums[0])} files of tensors, the same to the byte")
    return Check("saved model", False, f"not the same: {', '.join(sorted(apart))}")
