"""Trials of a search that train together over one frozen base: the same table as one by one, and no trial's end is
another's."""

import csv
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith import recipefile
from tunesmith.errors import OutOfMemory
from tunesmith.events import Warned
from tunesmith.search import run as search
from tunesmith.search import work
from tunesmith.search.events import Closed, Ended, SearchEvent
from tunesmith.search.study import Claim, Study
from tunesmith.search.trial import Outcome, Trial

RATES = {"train.learning_rate": {"from": 1e-3, "to": 3e-2, "log": True}}
SIZES: dict[str, Any] = {"train.batch_size": [8, 16, 32], **RATES}
SPACE: dict[str, Any] = {**RATES, "method": [{"name": "lora", "rank": {"from": 2, "to": 8, "integer": True}}, "full"]}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_csv(tmp_path_factory.mktemp("rows") / "rows.csv", tiny.label_rows(60))


@pytest.fixture
def crews(monkeypatch: pytest.MonkeyPatch) -> list[list[Trial]]:
    """The trials of each team that trained."""
    ran: list[list[Trial]] = []
    real = work.together

    def together(trials: list[Trial]) -> Any:
        ran.append(list(trials))
        return real(trials)

    monkeypatch.setattr(work, "together", together)
    return ran


def opened(
    encoder: Path, rows: Path, out: Path, *, together: int = 3, epochs: int = 1, patience: int | None = None,
    **asked: Any,
) -> search.Opening:  # fmt: skip
    given = {"space": RATES, "trials": 4, "seeds": 0, "sampler": "random", "pruner": "none", "dir": str(out)} | asked
    values = tiny.recipe_values(
        encoder, rows, out, method="lora", train={"epochs": epochs, "batch_size": 16, "learning_rate": 1e-2},
        evaluate={"compare": False, "verify": False, "early_stopping": patience},
        search={**given, "together": together},
    )  # fmt: skip
    return search.begin(recipefile.build(values), None)


def tried(opening: search.Opening) -> list[SearchEvent]:
    """Run all trials, and leave before the winner is run."""
    events = []
    for event in search.go(opening):
        events.append(event)
        if "is the best" in getattr(event, "name", ""):
            break
    return events


def table(opening: search.Opening) -> list[dict[str, str]]:
    with open(opening.directory.path / "table.csv", newline="") as file:
        return list(csv.DictReader(file))


def result(opening: search.Opening, number: int) -> dict[str, Any]:
    found = opening.directory.result(number)
    assert found is not None
    return found


def losses(opening: search.Opening, number: int) -> list[float]:
    lines = (opening.directory.trial(number) / "events.jsonl").read_text().splitlines()
    return [event["losses"]["loss"] for event in map(json.loads, lines) if "losses" in event]


def same_to_rounding(one: search.Opening, other: search.Opening) -> None:
    mine, theirs = table(one), table(other)
    assert len(mine) == len(theirs) > 0
    for number, (line, wanted) in enumerate(zip(mine, theirs, strict=True)):
        assert float(line.pop("seconds")) >= 0 and float(wanted.pop("seconds")) >= 0
        assert float(line.pop("value")) == pytest.approx(float(wanted.pop("value")), abs=1e-4)
        assert line == wanted
        assert losses(one, number) == pytest.approx(losses(other, number), rel=1e-5)


def test_trials_together_come_to_the_table_that_they_come_to_one_by_one(
    encoder: Path, rows: Path, tmp_path: Path, crews: list[list[Trial]]
) -> None:
    one_by_one = opened(encoder, rows, tmp_path / "alone", together=1, trials=5)
    tried(one_by_one)
    assert not crews
    opening = opened(encoder, rows, tmp_path / "together", trials=5)
    events = list(search.go(opening))
    assert isinstance(events[-1], Closed) and events[-1].state == "finished"
    assert list(map(len, crews)) == [3, 2]
    same_to_rounding(opening, one_by_one)
    assert len({line["train.learning_rate"] for line in table(opening)}) == 5
    for trials in crews:
        bases = [{n: p for n, p in t.prepared.model.net.named_parameters() if not p.requires_grad} for t in trials]
        assert all(base[name] is bases[0][name] for base in bases for name in bases[0]), "one base lies in memory"
    notes = opening.directory.json("report")["notes"]
    assert any(note.startswith("5 of 5 trials were trained together") for note in notes)
    assert [result(opening, k)["together"] for k in range(5)] == [3, 3, 3, 2, 2]
    assert [result(one_by_one, k)["together"] for k in range(5)] == [1] * 5


def test_a_trial_that_is_not_finite_fails_alone(
    encoder: Path, rows: Path, tmp_path: Path, crews: list[list[Trial]]
) -> None:
    space = {"train.learning_rate": [1e-2, 1e30, 3e-3]}
    opening = opened(encoder, rows, tmp_path, sampler="grid", trials=None, space=space)
    tried(opening)
    assert list(map(len, crews)) == [3]
    lines = {line["train.learning_rate"]: line for line in table(opening)}
    assert lines["1e+30"]["state"] == "failed" and "not finite" in lines["1e+30"]["said"]
    assert {lines[rate]["state"] for rate in ("0.01", "0.003")} == {"complete"}
    assert {lines[rate]["share"] for rate in ("0.01", "0.003")} == {"1.0"}


def test_a_trial_that_cannot_join_is_trained_alone_and_the_others_together(
    encoder: Path, rows: Path, tmp_path: Path, crews: list[list[Trial]]
) -> None:
    one_by_one = opened(encoder, rows, tmp_path / "alone", together=1, trials=6, space=SPACE)
    tried(one_by_one)
    opening = opened(encoder, rows, tmp_path / "together", together=6, trials=6, space=SPACE)
    tried(opening)
    same_to_rounding(opening, one_by_one)
    full = [line["method"] == "full" for line in table(opening)]
    assert 0 < sum(full) < 5
    assert list(map(len, crews)) == [6 - sum(full)]
    assert [result(opening, k)["together"] == 1 for k in range(6)] == full
    for number in range(6):
        if full[number]:
            assert losses(opening, number) == losses(one_by_one, number), "alone it is itself to the bit"


def test_a_point_that_comes_twice_among_trials_together_is_trained_once(
    encoder: Path, rows: Path, tmp_path: Path, crews: list[list[Trial]]
) -> None:
    space = {"train.learning_rate": [1e-2, 3e-3]}
    opening = opened(encoder, rows, tmp_path, together=6, trials=6, space=space)
    tried(opening)
    assert list(map(len, crews)) == [2]
    twins = [line for line in table(opening) if line["said"].startswith("the same as trial")]
    assert len(twins) == 4
    assert {line["state"] for line in table(opening)} == {"complete"}


def stopped(encoder: Path, rows: Path, out: Path) -> search.Opening:
    """A search that was asked to stop when the first of its trials had ended."""
    opening = opened(encoder, rows, out, space=SIZES, epochs=2)
    events: list[SearchEvent] = []
    for event in search.go(opening, lambda: any(isinstance(event, Ended) for event in events)):
        events.append(event)
    assert isinstance(events[-1], Closed) and events[-1].state == "stopped"
    return opening


def killed(encoder: Path, rows: Path, out: Path) -> search.Opening:
    """A search whose process was killed as soon as the first of its trials had ended."""
    opening = opened(encoder, rows, out, space=SIZES, epochs=2)
    pid = os.fork()
    if not pid:
        try:
            for event in search.go(opening):
                if isinstance(event, Ended):
                    os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    return opening


@pytest.mark.parametrize("ends", [stopped, killed])
def test_a_search_that_ends_among_trials_together_is_gone_on_with_and_repeats_none(
    ends: Callable[[Path, Path, Path], search.Opening], encoder: Path, rows: Path, tmp_path: Path
) -> None:
    whole = opened(encoder, rows, tmp_path / "whole", space=SIZES, epochs=2)
    tried(whole)
    opening = ends(encoder, rows, tmp_path / "ended")
    done = {path: path.stat().st_ino for path in opening.directory.path.glob("trials/*/result.json")}
    assert len(done) == 1, "of three, two were let go"
    again = [event.line.number for event in tried(search.reopen(opening.directory.path)) if isinstance(event, Ended)]
    assert sorted([*again, *(int(path.parent.name) for path in done)]) == [0, 1, 2, 3]
    assert {path: path.stat().st_ino for path in done} == done, "what had finished was not run again"
    same_to_rounding(opening, whole)


def test_a_member_that_falls_behind_leaves_and_the_others_go_on(
    encoder: Path, rows: Path, tmp_path: Path, crews: list[list[Trial]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which one does is said here: on so few rows, scores of trials are a matter of rounding."""
    real = Study.prune

    def prune(self: Study, claim: Claim, share: float, value: float) -> bool:
        real(self, claim, share, value)
        return claim.number == 4

    monkeypatch.setattr(Study, "prune", prune)
    opening = opened(encoder, rows, tmp_path, epochs=6, trials=6, pruner="asha")
    tried(opening)
    assert list(map(len, crews)) == [3, 3]
    lines = table(opening)
    assert [line["state"] == "pruned" for line in lines] == [number == 4 for number in range(6)]
    for number, line in enumerate(lines):
        assert len(losses(opening, number)) == result(opening, number)["step"]
        assert (float(line["share"]) < 1) == (line["state"] == "pruned") == ("fell behind" in line["said"])


def test_early_stopping_ends_a_member_where_it_ends_the_trial_alone(encoder: Path, rows: Path, tmp_path: Path) -> None:
    found: list[list[int]] = []
    for together in (1, 3):
        opening = opened(encoder, rows, tmp_path / str(together), together=together, trials=3, epochs=8, patience=1)
        tried(opening)
        found.append([result(opening, number)["step"] for number in range(3)])
        steps = result(opening, 0)["steps"]
    assert found[0] == found[1]
    assert min(found[0]) < steps


def test_trials_that_do_not_fit_into_memory_together_are_trained_one_by_one(
    encoder: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_by_one = opened(encoder, rows, tmp_path / "alone", together=1, trials=3)
    tried(one_by_one)

    real = work.together

    def together(trials: list[Trial]) -> Iterator[Any]:
        for number, made in real(trials):
            yield number, made
            if isinstance(made, Outcome):
                raise OutOfMemory("memory ran out: no more can be had")

    monkeypatch.setattr(work, "together", together)
    opening = opened(encoder, rows, tmp_path / "together", trials=3)
    said = [event.message for event in tried(opening) if isinstance(event, Warned)]
    assert any("one by one" in text for text in said)
    same_to_rounding(opening, one_by_one)
    assert [result(opening, number)["together"] for number in range(3)] == [3, 1, 1]
    assert [losses(opening, k) for k in (1, 2)] == [losses(one_by_one, k) for k in (1, 2)]
