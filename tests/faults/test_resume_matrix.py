"""Whatever was trained and whenever it stopped: a resumed run ends with the same bits and has read the same rows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import samples
import tiny
from faults import kills
from tunesmith import attempt, recipefile, run
from tunesmith.events import Finished, Updated
from tunesmith.prepare import Prepared
from tunesmith.rundir import RunDir
from tunesmith.train import checkpoint, fit, loop
from tunesmith.train.accumulate import Piece

Read = dict[int, list[list[int]]]
"""Update -> the rows of its micro-batches, each time that it was done."""


@dataclass(frozen=True)
class Watched(loop.Batches):
    """Batches that tell which rows went into an update, micro-batch by micro-batch."""

    read: Read = field(default_factory=dict)

    def at(self, step: int, layout: str, shares: int = 1) -> list[Piece]:
        pieces = super().at(step, layout, shares)
        self.read.setdefault(step + 1, []).append([e.row_id for piece in pieces for e in piece.examples])
        return pieces


def watched(prepared: Prepared, read: Read) -> Prepared:
    real = prepared.batches
    prepared.batches = lambda budget: Watched(**vars(real(budget)), read=read)  # type: ignore[method-assign]
    return prepared


def labels(request: pytest.FixtureRequest, **changes: Any) -> dict[str, Any]:
    model, rows = request.getfixturevalue("encoder"), request.getfixturevalue("labels_csv")
    made = tiny.recipe_values(model, rows, rows.parent, **{"method": "full", **changes})
    return {**made, "model": {"name": str(model), "dropout": 0.2}}


def mixed(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Two sources, of which one comes more often than its rows."""
    made = labels(request)
    rows = tiny.label_rows()
    folder = request.getfixturevalue("tmp_path")
    parts = [tiny.write_csv(folder / f"{k}.csv", rows[k::2]) for k in (0, 1)]
    made["data"]["train"] = [{"path": str(parts[0]), "weight": 1.4}, {"path": str(parts[1]), "weight": 0.5}]
    return made


def packed_chat(request: pytest.FixtureRequest) -> dict[str, Any]:
    model, rows = request.getfixturevalue("decoder"), request.getfixturevalue("chats_jsonl")
    return tiny.recipe_values(
        model,
        rows,
        rows.parent,
        method="lora",
    )


def images(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Cropped, mirrored, recoloured, and mixed with one another."""
    rows = samples.write("image-classification", request.getfixturevalue("tmp_path"))
    task = {"name": "image-classification", "crop": 0.5, "flip": True, "colour": 0.3, "mixup": 0.4}
    return tiny.recipe_values(request.getfixturevalue("vision"), rows, rows.parent, method="full", task=task)


def early(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A score that does not rise for two looks ends the run: rates are too small for that."""
    made = labels(request, evaluate__early_stopping=2, evaluate__every=3)
    made["train"]["learning_rate"] = 1e-9
    return made


TOP = {"name": "top-layers", "layers": 1}
KINDS: dict[str, Callable[[pytest.FixtureRequest], dict[str, Any]]] = {
    "all weights, dropout": labels,
    "adapters, packed conversations": packed_chat,
    "sources mixed": mixed,
    "early stopping": early,
    "images varied and mixed": images,
    "adapters of a classifier": lambda request: labels(request, method="lora"),
    "frozen blocks kept, top layers": lambda request: {**labels(request, method=TOP), "model": str(_encoder(request))},
    "frozen blocks kept, head": lambda request: {**labels(request, method="head"), "model": str(_encoder(request))},
    "averaged weights": lambda request: labels(request, train__ema=0.8),
}
QUICK = ("sources mixed", "early stopping")
"""What `make test` looks at; test_resume.py looks at more."""


def _encoder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue("encoder")
    return found


def every_two(made: dict[str, Any], out: Path) -> Any:
    """The recipe of a run that is saved every two updates and compares nothing."""
    made["evaluate"] = {"answers": 0, "compare": False, **made.get("evaluate", {})}
    made["train"] = {"learning_rate": 3e-3, **made["train"], "epochs": 3, "save_every": 2}
    return recipefile.build({**made, "run": {"dir": str(out)}})


def left_after(directory: RunDir, prepared: Prepared, step: int) -> None:
    """Train until an update is done, and stop there as a user would."""
    done = [0]
    for event in run.go(directory, prepared, lambda: done[0] >= step):
        if isinstance(event, Updated):
            done[0] = event.step
        if isinstance(event, Finished):
            assert event.state == "stopped"
            assert kills.committed(directory) == step


class Death(BaseException):
    """The process ends here, for all that the run can tell."""


@contextmanager
def dying(module: Any, name: str, call: int, begun: Callable[..., None]) -> Iterator[None]:
    """The n-th call of a function does a part of its work, and the process dies."""
    calls, real = [0], getattr(module, name)

    def called(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] < call:
            return real(*given, **named)
        begun(real, *given, **named)
        raise Death

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, called)
        yield


def one_piece(real: Any, model: Any, task: Any, pieces: Any, *more: Any) -> None:
    assert len(pieces) > 1
    real(model, task, pieces[:1], *more)


def all_of_it(real: Any, *given: Any, **named: Any) -> None:
    real(*given, **named)


def none_of_it(real: Any, *given: Any, **named: Any) -> None:
    return None


DEATHS = {
    "accumulation": (loop, "accumulate", 2, one_piece),
    "a save, between its files": (checkpoint, "write_bytes", 6, none_of_it),
    "a save, before its links": (checkpoint, "point_at", 2, none_of_it),
    "evaluation": (attempt, "judge", 1, all_of_it),
}
"""Where in an update -> the function that a process dies in, its how-manieth call, and what of it is done."""


@pytest.mark.parametrize("kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_a_run_disturbed_in_every_way_reads_the_same_rows_and_ends_with_the_same_bits(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped mid-epoch, at the boundary, just after it, in the next epoch; then dead while it accumulates, saves and
    evaluates: all of it in one run."""
    monkeypatch.setattr(fit, "START", 200 if kind.startswith("images") else 50)  # so that updates are of several pieces
    made = KINDS[kind](request)
    expected: Read = {}
    directory, prepared = run.begin(every_two(made, tmp_path / "whole"), None, [])
    list(run.go(directory, watched(prepared, expected)))
    whole, per_epoch = kills.Whole.of(directory), prepared.plan().per_epoch
    assert ("kept" in kind) == bool(directory.json("plan")["trunk"]["blocks"])
    last = max(whole.losses)
    assert last < prepared.schedule().steps if kind == "early stopping" else last == prepared.schedule().steps

    read: Read = {}
    disturbed, prepared = run.begin(every_two(made, tmp_path / "disturbed"), None, [])
    places = [1, per_epoch // 2, per_epoch, per_epoch + 1, per_epoch + per_epoch // 2]
    for place in sorted({place for place in places if 0 < place < last}):
        left_after(disturbed, watched(prepared, read), place)
        prepared = resumed(disturbed)
    for place in DEATHS:
        with dying(*DEATHS[place]), pytest.raises(Death):
            list(run.go(disturbed, watched(prepared, read)))
        prepared = resumed(disturbed)
    list(run.go(disturbed, watched(prepared, read)))

    assert kills.Whole.of(disturbed) == whole
    assert read.keys() == expected.keys()
    for step, times in read.items():
        assert all(rows == expected[step][0] for rows in times), f"update {step}"


def resumed(directory: RunDir) -> Prepared:
    _, prepared = run.resume(directory.path)
    assert prepared is not None
    return prepared
