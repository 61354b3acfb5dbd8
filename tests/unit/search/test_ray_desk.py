"""The two sides of a search over several machines, brought together without a cluster: orders and reports are JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith import recipefile
from tunesmith.errors import RecipeError, RunError
from tunesmith.events import Phase, Warned
from tunesmith.search import ray_worker
from tunesmith.search import run as search
from tunesmith.search.events import Ended, SearchEvent
from tunesmith.search.ray_desk import Desk
from tunesmith.search.study import Study

SPACE: dict[str, Any] = {"train.learning_rate": {"from": 1e-6, "to": 3e-2, "log": True}}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_csv(tmp_path_factory.mktemp("rows") / "rows.csv", tiny.label_rows(60))


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's process knows no search yet."""
    monkeypatch.setattr(ray_worker, "_SHARED", {})


def opened(encoder: Path, rows: Path, out: Path, **asked: Any) -> search.Opening:
    searched = {"space": SPACE, "sampler": "random", "trials": 6, "startup": 1, "seeds": 0, "dir": str(out)} | asked
    values = tiny.recipe_values(
        encoder, rows, out, method="full", train={"epochs": 6, "batch_size": 8, "learning_rate": 3e-2},
        evaluate={"compare": False, "verify": False}, search=searched,
    )  # fmt: skip
    return search.begin(recipefile.build(values), None)


def desk_of(opening: search.Opening) -> tuple[Desk, Study, list[SearchEvent]]:
    assert opening.recipe.search is not None
    said: list[SearchEvent] = []
    study = Study(opening.directory, opening.recipe.search, opening.space, opening.metric.higher_is_better)
    return Desk(opening, study, said.append), study, said


def worked(desk: Desk, name: str, order: str, change: Callable[[dict[str, Any]], Any] = lambda told: None) -> None:
    """Carry an order out as a worker would, and leave."""

    def report(told: dict[str, Any]) -> None:
        change(told)
        if desk.hear(name, json.loads(json.dumps(told))):
            raise SystemExit  # as Ray Tune ends a trial

    with pytest.raises(SystemExit):
        ray_worker.carry_out(json.loads(order), report)
    desk.leave(name)


def table(opening: search.Opening) -> list[dict[str, Any]]:
    """What came of each trial, but for what it took."""
    _, study, _ = desk_of(opening)
    return [{key: value for key, value in vars(line).items() if key != "seconds"} for line in study.lines()]


def events_of(opening: search.Opening, number: int) -> list[dict[str, Any]]:
    lines = (opening.directory.trial(number) / "events.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def test_trials_that_workers_train_are_those_of_one_process_to_the_bit_the_pruned_ones_too(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    here = opened(encoder, rows, tmp_path / "here")
    for event in search.go(here):
        if isinstance(event, Phase) and "is the best" in event.name:
            break
    there = opened(encoder, rows, tmp_path / "there", ray={"workers": 1})
    desk, _, said = desk_of(there)
    while not desk.done():
        order = desk.next("one", 1)
        assert order is not None
        worked(desk, "one", order)
    assert table(here) == table(there)
    assert {"complete", "pruned"} == {line["state"] for line in table(there)}
    for number in range(6):
        assert events_of(here, number) == events_of(there, number)
        mine, its = here.directory.result(number), there.directory.result(number)
        assert mine is not None and its is not None
        assert mine.keys() == its.keys() - {"worker"} and mine["looks"] == its["looks"]
    assert [event.line.number for event in said if isinstance(event, Ended)] == list(range(6))
    assert here.directory.path.name == there.directory.path.name, "where trials are trained is no part of the search"
    assert (here.directory.path / "table.csv").read_text().count("\n") == 7
    assert (there.directory.path / "table.csv").read_text().count("\n") == 7


def test_what_a_trial_is_refused_for_is_a_line_of_the_table_and_the_worker_goes_on(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    space = {"method": ["full", {"name": "top-layers", "layers": 9}], "train.learning_rate": [1e-2, 1e18]}
    opening = opened(encoder, rows, tmp_path, space=space, sampler="grid", trials=None, ray={})
    desk, _, _ = desk_of(opening)
    while not desk.done():
        order = desk.next("one", 1)
        assert order is not None
        worked(desk, "one", order)
    failed = [line["said"] for line in table(opening) if line["state"] == "failed"]
    assert len(failed) == 3
    assert any("not finite" in said for said in failed) and any("block" in said for said in failed)


def test_one_of_the_same_recipe_as_one_that_is_out_waits_for_its_result(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    opening = opened(encoder, rows, tmp_path, space={"train.batch_size": [8, 16]}, trials=8, ray={}, pruner="none")
    desk, _, _ = desk_of(opening)
    orders: list[str] = []
    for name in ("one", "two"):
        order = desk.next(name, 3)
        assert order is not None
        orders.append(order)
    assert desk.next("three", 3) is None, "there are two recipes, and both are out"
    for name, order in zip(("one", "two"), orders, strict=True):
        worked(desk, name, order)
    while not desk.done():
        assert desk.next("three", 3) is None, "nothing else is trained"
        desk._rest = 0.0
    said = [line["said"] for line in table(opening)]
    assert len(said) == 8 and sum(line.startswith("the same as trial") for line in said) == 6


def test_a_trial_whose_worker_died_goes_out_again_and_fails_when_three_have(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    opening = opened(encoder, rows, tmp_path, trials=2, ray={}, pruner="none")
    desk, _, said = desk_of(opening)
    first = desk.next("a", 1)
    desk.leave("a", "the node is gone")
    second = desk.next("b", 1)
    assert first == second is not None, "the same trial, with the same parameters"
    worked(desk, "b", second)
    assert [str(event.message) for event in said if isinstance(event, Warned)] == [
        "the worker of trial 0 died, and it is run again: the node is gone"
    ]
    for name in ("c", "d", "e"):
        assert desk.next(name, 1) is not None
        desk.leave(name, "out of memory")
    assert desk.done()
    lines = table(opening)
    assert [line["state"] for line in lines] == ["complete", "failed"]
    assert lines[1]["said"] == "its worker died 3 times: out of memory"


def test_a_twin_is_trained_where_the_worker_of_the_first_died_for_good(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    opening = opened(encoder, rows, tmp_path, space={"train.batch_size": [8, 16]}, trials=8, ray={}, pruner="none")
    desk, _, _ = desk_of(opening)
    out = {name: desk.next(name, 3) for name in ("one", "two", "three")}
    assert out.pop("three") is None
    desk.leave("one", "gone")  # its trial is claimed again behind its twins
    again = desk.next("one", 3)
    assert again is not None
    for name, order in (("one", again), ("two", out["two"])):
        assert order is not None
        worked(desk, name, order)
    while not desk.done():
        desk._rest = 0.0
        order = desk.next("one", 3)
        assert order is None, "its twin was trained, and it takes the result"
    assert {line["state"] for line in table(opening)} == {"complete"}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("code_sha256", "of another", "Tunesmith is of another version there"),
        ("folder", "/nowhere", "the folder of the command is not there"),
        ("rows", "of another", "the rows are not those of the search"),
        ("model", "of another", "the pretrained model are not those of the search"),
    ],
)
def test_a_machine_with_other_files_ends_the_search_and_no_trial_fails(
    key: str, value: str, said: str, encoder: Path, rows: Path, tmp_path: Path
) -> None:
    opening = opened(encoder, rows, tmp_path, ray={})
    desk, study, _ = desk_of(opening)
    order = json.loads(str(desk.next("one", 1)))
    sums = {"rows": "data_sha256", "model": "model_sha256"}
    changed = order["made_of"][sums[key]] if key in sums else order
    changed[next(iter(changed)) if key in sums else key] = value
    with pytest.raises(RunError, match=said) as caught:
        ray_worker.carry_out(order, lambda told: desk.hear("one", told))  # type: ignore[arg-type,return-value]
    assert str(caught.value.where).startswith("worker ") and caught.value.hint
    desk.close()
    assert [line.state for line in study.lines()] == ["running"]
    claim = study.claim()
    assert claim is not None and claim.number == 0, "it was let go"
    claim.release()


def test_a_mistake_of_ours_on_a_worker_comes_with_its_trace(
    encoder: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.search import trial

    opening = opened(encoder, rows, tmp_path, ray={})
    desk, _, _ = desk_of(opening)
    order = desk.next("one", 1)
    monkeypatch.setattr(trial, "Trial", lambda *_: {}["no such key"])
    with pytest.raises(RuntimeError, match=r"on worker .*\n[\s\S]*KeyError: 'no such key'"):
        ray_worker.carry_out(json.loads(str(order)), lambda told: desk.hear("one", told))  # type: ignore[arg-type,return-value]
    desk.close()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"ray": {"address": "ray://head:10001"}}, "is a Ray client's"),
        ({"ray": {"address": "somewhere"}}, "write `auto`, `local`, or `host:port`"),
        ({"ray": {"gpus": 1.5}}, "a part of one GPU, or whole ones"),
        ({"ray": {"cpu": 1}}, "did you mean `cpus`"),
        ({"ray": {}, "together": 2}, "leave one of them out"),
    ],
)
def test_what_ray_cannot_be_asked_for_is_refused_at_the_recipe(
    asked: dict[str, Any], said: str, encoder: Path, rows: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as caught:
        opened(encoder, rows, tmp_path, **asked)
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_without_the_package_the_recipe_is_refused_with_what_to_install(
    encoder: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = search.find_spec
    monkeypatch.setattr(search, "find_spec", lambda name: None if name == "ray" else real(name))
    with pytest.raises(RecipeError, match="needs the package ray") as caught:
        opened(encoder, rows, tmp_path, ray={"workers": 2})
    assert "pip install 'tunesmith[ray]'" in str(caught.value.hint)
    assert not list(tmp_path.iterdir())
