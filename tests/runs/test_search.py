"""A search from its recipe to its report: what it chooses, what it survives, and what it never does."""

import csv
import json
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

import tiny
from tunesmith import recipefile, run
from tunesmith.contracts import Metric
from tunesmith.errors import RecipeError, RunError, StorageError
from tunesmith.events import Updated
from tunesmith.reportshape import SHAPES
from tunesmith.search import report as report_of
from tunesmith.search import run as search
from tunesmith.search import work
from tunesmith.search.events import Closed, Ended, SearchEvent
from tunesmith.search.study import Study
from tunesmith.search.winner import held_against

SPACE: dict[str, Any] = {
    "train.learning_rate": {"from": 1e-3, "to": 1e-1, "log": True},
    "method": ["head", {"name": "lora", "rank": {"from": 2, "to": 16, "integer": True}}],
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_csv(tmp_path_factory.mktemp("rows") / "rows.csv", tiny.label_rows(60))


def values_of(encoder: Path, rows: Path, out: Path, **changes: Any) -> dict[str, Any]:
    asked = {"space": SPACE, "trials": 4, "seeds": 0, "dir": str(out)} | changes.pop("search", {})
    return tiny.recipe_values(
        encoder, rows, out, method="lora", train={"epochs": 1, "batch_size": 16, "learning_rate": 1e-2},
        evaluate={"compare": False, "verify": False}, search=asked, **changes,
    )  # fmt: skip


def opened(values: dict[str, Any]) -> search.Opening:
    return search.begin(recipefile.build(values), None)


def searched(values: dict[str, Any]) -> tuple[Path, list[SearchEvent]]:
    opening = opened(values)
    return opening.directory.path, list(search.go(opening))


def tried(opening: search.Opening) -> Path:
    """Run all trials, and leave before the winner is run."""
    for event in search.go(opening):
        if "is the best" in getattr(event, "name", ""):
            break
    return opening.directory.path


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "table.csv", newline="") as file:
        return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def report(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "report.json").read_text())
    jsonschema.validate(value, SHAPES["search"].model_json_schema())
    return value


def child(work: Callable[[], Any]) -> int:
    """A forked process that does some work; its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def test_a_search_tries_its_space_runs_the_winner_and_says_what_it_is_worth(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    folder, events = searched(values_of(encoder, rows, tmp_path, search={"seeds": 2}))
    assert isinstance(events[-1], Closed) and events[-1].state == "finished"
    found = report(folder)
    trials = found["trials"]
    assert [trial["state"] for trial in trials] == ["complete"] * 4
    own = {"train.learning_rate": 1e-2, "method": "lora", "method.lora.rank": 16}
    assert trials[0]["start"] and trials[0]["params"] == own
    best = max(trials, key=lambda trial: (trial["value"], -trial["number"]))
    assert found["best"] == best["number"]
    assert len(found["seeds"]["values"]) == len(found["seeds"]["rival_values"]) == 2
    assert found["optimism"]["rows"] == "test"
    assert found["optimism"]["by"] == pytest.approx(
        found["optimism"]["chose"]["value"] - found["optimism"]["fresh"]["value"]
    )
    pages = ("report.html", "report.md", "history.png", "coordinates.png")
    for name in (*pages, "journal.log", "recipe.yaml", "resolved.json"):
        assert (folder / name).stat().st_size, name
    page = (folder / "report.html").read_text()
    links = [link for link in re.findall(r'href="([^"]*)"', page) if not link.startswith("#")]
    assert len(links) >= 9 and all((folder / link).is_file() for link in links), "every link leads to a file"
    assert all([look["share"] for look in trial["looks"]] == [1.0] for trial in trials)
    assert [trial["looks"][0]["value"] for trial in trials] == [trial["value"] for trial in trials]
    assert [axis["name"] for axis in found["axes"]] == [*SPACE, "method.lora.rank"]
    assert found["advice"] == [], "four trials tell nothing"
    as_it_was = recipefile.build(json.loads((folder / "resolved.json").read_text()))
    winner = recipefile.load(folder / "best.yaml").recipe
    changed = recipefile.changed(as_it_was, found["changes"])
    assert (found["changes"] == {}) == best["start"]
    assert changed.train == winner.train and (best["start"] or changed.method == winner.method)
    made = run.open_run(Path(found["run"]))
    looks = [event.scores["macro_f1"] for event in made.updates().values() if event.scores]
    assert max(looks) == best["value"], "the run of the winner repeats its trial"


def test_the_winning_recipe_is_trained_by_train_to_the_score_of_its_trial(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    folder = tried(opened(values_of(encoder, rows, tmp_path)))
    file = recipefile.load(folder / "best.yaml", (f"run.dir={tmp_path / 'again'}",))
    made = run.train_recipe(file.recipe, file.text)
    looks = [event.scores["macro_f1"] for event in made.updates().values() if event.scores]
    assert max(looks) == max(float(line["value"]) for line in table(folder))


def test_test_rows_are_scored_by_the_run_of_the_winner_alone(
    encoder: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith import judgement
    from tunesmith.search import trial

    asked: list[int] = []
    real = trial.judge

    def judge(model: Any, task: Any, looked: Any, **more: Any) -> Any:
        asked.append(len(looked))
        return real(model, task, looked, **more)

    monkeypatch.setattr(trial, "judge", judge)
    opening = opened(values_of(encoder, rows, tmp_path, search={"seeds": 1}))
    counts = {name: len(part) for name, part in opening.shared.prepare(opening.base).splits.rows.items()}
    scored: list[str] = []
    real_score = judgement.score

    def score(model: Any, task: Any, split: str, looked: Any, answers: int) -> Any:
        scored.append(split)
        return real_score(model, task, split, looked, answers)

    monkeypatch.setattr(judgement, "score", score)
    list(search.go(opening))
    assert counts["test"] != counts["validation"]
    assert set(asked) == {counts["validation"]}
    assert scored == ["test", "validation"]


def test_the_same_search_twice_has_the_same_trials(encoder: Path, rows: Path, tmp_path: Path) -> None:
    for sampler in ("tpe", "cma-es"):
        asked = {"sampler": sampler, "trials": 6, "startup": 2, "pruner": "hyperband"}
        values = values_of(encoder, rows, tmp_path, search=asked)
        values["train"]["epochs"] = 2
        values["search"]["space"] = {"train.learning_rate": SPACE["train.learning_rate"],
                                     "train.warmup": {"from": 0.0, "to": 0.3}}  # fmt: skip
        tables = []
        for name in ("a", "b"):
            values["search"]["dir"] = str(tmp_path / sampler / name)
            opening = opened(values)
            for event in search.go(opening):
                if isinstance(event, Ended) and event.line.number == 5:
                    break
            tables.append(table(opening.directory.path))
        assert tables[0] == tables[1]
        assert len({row["train.learning_rate"] for row in tables[0]}) == 6


def test_another_seed_is_another_search_and_the_same_recipe_is_the_same(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    first, again, other = (opened(values_of(encoder, rows, tmp_path, search={"seed": k})) for k in (0, 0, 1))
    assert first.directory == again.directory != other.directory


def test_a_search_that_was_killed_goes_on_without_losing_a_finished_trial(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    whole = tried(opened(values_of(encoder, rows, tmp_path / "whole")))
    values = values_of(encoder, rows, tmp_path / "killed")
    values["search"]["dir"] = str(tmp_path / "killed")
    opening = opened(values)
    folder = opening.directory.path
    for number in (0, 2):  # while a trial is at work after the first, and after the third
        pid = child(lambda: [None for _ in search.go(opened(values))])
        while not (folder / "trials" / f"{number:04d}").exists():
            time.sleep(0.01)
        time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    done = {path: path.stat().st_ino for path in folder.glob("trials/*/result.json")}
    assert 3 <= len(done) <= 4
    assert not (folder / "report.json").exists()
    tried(opened(values))
    assert table(folder) == table(whole)
    assert {path: path.stat().st_ino for path in done} == done, "what had finished was not run again"


def test_a_trial_that_is_stopped_is_let_go_and_run_again(encoder: Path, rows: Path, tmp_path: Path) -> None:
    values = values_of(encoder, rows, tmp_path)
    opening = opened(values)
    ended: list[int] = []

    events = search.go(opening, lambda: len(ended) == 2)
    for event in events:
        ended += [event.line.number] if isinstance(event, Ended) else []
        last = event
    assert isinstance(last, Closed) and last.state == "stopped"
    value = search.so_far(opening)
    jsonschema.validate(value, SHAPES["search"].model_json_schema())
    assert [trial["state"] for trial in value["trials"]] == ["complete"] * 2
    for event in search.go(opening):  # left while the third is at work
        if type(event).__name__ == "Began":
            break
    study = Study(opening.directory, opening.recipe.search, opening.space, True)  # type: ignore[arg-type]
    left = study.lines()[2]
    assert left.state == "running"
    tried(search.reopen(opening.directory.path))
    again = table(opening.directory.path)[2]
    assert float(again["train.learning_rate"]) == left.params["train.learning_rate"]
    assert again["state"] == "complete"


def test_a_trial_that_finished_before_the_study_was_told_is_not_run_again(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    opening = opened(values_of(encoder, rows, tmp_path))
    assert opening.recipe.search is not None
    study = Study(opening.directory, opening.recipe.search, opening.space, True)
    claim = study.claim()
    assert claim is not None
    told = {"state": "complete", "value": 0.75, "share": 1.0, "seconds": 1.0, "said": "", "digest": "d"}
    opening.directory.keep(claim.number, "", told, [])
    claim.release()  # as a death would
    following = study.claim()
    assert following is not None and following.number == 1
    assert study.lines()[0].state == "complete" and study.lines()[0].value == 0.75
    following.release()


def test_a_death_between_the_end_of_the_last_trial_and_its_line_leaves_no_hole_in_the_table(
    encoder: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = values_of(encoder, rows, tmp_path, search={"trials": 2})

    class Killed(BaseException):
        pass

    real = report_of.table

    def die(directory: Any, lines: Any) -> None:
        if all(line.ended for line in lines) and len(lines) == 2:
            raise Killed
        real(directory, lines)

    with monkeypatch.context() as patch:
        patch.setattr(report_of, "table", die)
        with pytest.raises(Killed):
            tried(opened(values))
    folder = opened(values).directory.path
    assert [line["state"] for line in table(folder)] == ["complete"]
    assert [line["state"] for line in table(tried(opened(values)))] == ["complete"] * 2


def test_a_trial_whose_process_died_among_its_proposals_gets_the_same_ones(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    space = {f"train.{key}": {"from": 0.0, "to": 0.5} for key in ("warmup", "weight_decay", "l2_sp")}

    def proposed(place: str, known: int) -> dict[str, Any]:
        """What is proposed for the second trial, of which a process asked for as many axes and died."""
        asked = {"space": space, "dir": str(tmp_path / place)}
        opening = opened(values_of(encoder, rows, tmp_path, search=asked))
        assert opening.recipe.search is not None
        dying = Study(opening.directory, opening.recipe.search, opening.space, True)
        claims = [dying.claim(), dying.claim()]
        dying.space = replace(dying.space, axes=dying.space.axes[:known])
        assert claims[1] is not None and len(dying.pick(claims[1])) == known
        claims[1].release()
        study = Study(opening.directory, opening.recipe.search, opening.space, True)
        again = study.claim()
        assert again is not None and again.number == 1
        return study.pick(again)

    whole = proposed("whole", 0)
    assert len(set(whole.values())) == 3
    assert proposed("died", 1) == proposed("died later", 2) == whole


def test_two_processes_share_the_trials_and_one_of_them_runs_the_winner(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    values = values_of(encoder, rows, tmp_path, search={"trials": 6})
    opening = opened(values)
    folder = opening.directory.path

    def work(name: str) -> Callable[[], None]:
        def doing() -> None:
            began = [event.number for event in search.go(opened(values)) if type(event).__name__ == "Began"]
            (tmp_path / name).write_text(json.dumps(began))

        return doing

    pids = [child(work(name)) for name in ("one", "two")]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one", "two"))
    assert sorted([*one, *two]) == list(range(6)), "each trial was run once"
    assert one and two
    assert len(report(folder)["trials"]) == 6
    assert len(list((folder / "runs").iterdir())) == 1


def test_what_fails_is_a_line_of_the_table_and_the_search_goes_on(encoder: Path, rows: Path, tmp_path: Path) -> None:
    space = {"train.learning_rate": [1e-2, 1e18], "method": ["full", {"name": "top-layers", "layers": 9}]}
    values = values_of(encoder, rows, tmp_path, search={"space": space, "sampler": "grid", "trials": None})
    opening = opened(values)
    assert opening.space.start is None, "its own method is none of the choices"
    lines = table(tried(opening))
    assert lines[0]["state"] == "complete" and not lines[0]["method"]
    assert [line["state"] for line in lines].count("failed") == 3
    said = " ".join(line["said"] for line in lines)
    assert "not finite" in said and "block" in said


def test_where_every_trial_fails_the_commonest_reason_is_the_error(encoder: Path, rows: Path, tmp_path: Path) -> None:
    values = values_of(encoder, rows, tmp_path, search={"space": {"train.learning_rate": [1e17, 1e18]}, "trials": 3})
    values["train"]["learning_rate"] = 1e18
    values["method"] = "full"
    with pytest.raises(RunError, match=r"every trial failed; the commonest reason, \d of 3 times: .*not finite"):
        searched(values)


def test_a_point_that_comes_twice_is_not_trained_twice(encoder: Path, rows: Path, tmp_path: Path) -> None:
    asked = {"space": {"train.batch_size": [8, 16]}, "sampler": "random", "trials": 5}
    folder, _ = searched(values_of(encoder, rows, tmp_path, search=asked))
    lines = table(folder)
    first = {line["train.batch_size"]: line for line in reversed(lines)}
    twins = [line for line in lines if line["said"].startswith("the same as trial")]
    assert len(twins) == 5 - len(first) >= 3
    assert all(line["value"] == first[line["train.batch_size"]]["value"] for line in lines)
    assert any("proposed a second time" in note for note in report(folder)["notes"])


def test_a_trial_that_falls_behind_is_ended_early_and_the_recipes_own_point_never_is(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    asked = {"space": {"train.learning_rate": {"from": 1e-6, "to": 3e-2, "log": True}}, "sampler": "random",
             "trials": 6}  # fmt: skip
    values = values_of(encoder, rows, tmp_path, search=asked)
    values["train"] = {"epochs": 6, "batch_size": 8, "learning_rate": 3e-2}
    values["method"] = "full"
    folder = tried(opened(values))
    lines = table(folder)
    behind = [line for line in lines if line["state"] == "pruned"]
    assert behind and lines[0]["state"] == "complete"
    for line in behind:
        assert float(line["share"]) < 1
        assert "fell behind" in line["said"] and "updates" in line["said"]
    best = yaml.safe_load((folder / "best.yaml").read_text())["train"]["learning_rate"]
    assert str(best) in [line["train.learning_rate"] for line in lines if line["state"] == "complete"]


def test_a_grid_is_every_point_and_the_recipes_own(encoder: Path, rows: Path, tmp_path: Path) -> None:
    space = {"train.batch_size": [8, 16], "train.warmup": {"from": 0, "to": 0.1, "points": 2}}
    values = values_of(encoder, rows, tmp_path, search={"space": space, "sampler": "grid", "trials": None})
    folder, _ = searched(values)
    lines = table(folder)
    assert len(lines) == 5, "its own warm-up of .06 is not on the grid"
    assert {(line["train.batch_size"], line["train.warmup"]) for line in lines[1:]} == {
        (size, warmup) for size in ("8", "16") for warmup in ("0.0", "0.1")
    }


def test_without_test_rows_the_winner_is_also_scored_on_validation_rows_that_chose_nothing(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    other = tiny.write_csv(tmp_path / "other.csv", tiny.label_rows(90)[60:])
    folder, _ = searched(values_of(encoder, rows, tmp_path, data__validation=str(other), search={"trials": 2}))
    found = report(folder)
    assert found["chosen_on"] == "half of validation"
    assert found["optimism"]["chose"]["n"] + found["optimism"]["fresh"]["n"] == 30
    assert any("no test rows" in note for note in found["notes"])


def test_rows_that_have_changed_are_refused(encoder: Path, tmp_path: Path) -> None:
    file = tiny.write_csv(tmp_path / "rows.csv", tiny.label_rows(60))
    values = values_of(encoder, file, tmp_path)
    folder = opened(values).directory.path
    tiny.write_csv(file, tiny.label_rows(59))
    for again in (lambda: opened(values), lambda: search.reopen(folder)):
        with pytest.raises(RunError, match="the rows have changed since the search began"):
            again()


def test_a_journal_that_a_death_has_torn_is_gone_on_with(encoder: Path, rows: Path, tmp_path: Path) -> None:
    values = values_of(encoder, rows, tmp_path, search={"trials": 2})
    opening = opened(values)
    for event in search.go(opening):
        if isinstance(event, Ended):
            break
    with open(opening.directory.journal, "ab") as file:
        file.write(b'{"op_code":4,"worker_id":"x","study_')
    tried(opened(values))
    assert [line["state"] for line in table(opening.directory.path)] == ["complete"] * 2


def test_a_database_holds_the_study_and_its_password_is_kept_nowhere(encoder: Path, rows: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    folder = tried(opened(values_of(encoder, rows, tmp_path, search={"storage": url, "trials": 2})))
    assert not (folder / "journal.log").exists()
    assert len(table(folder)) == 2
    secret = values_of(encoder, rows, tmp_path, search={"storage": "postgresql://me:hush@nowhere.invalid/x"})
    opening = opened(secret)
    assert not [path for path in opening.directory.path.rglob("*") if path.is_file() and "hush" in path.read_text()]
    with pytest.raises(RunError, match="the password of the database is not kept"):
        search.reopen(opening.directory.path)


def test_a_database_that_no_longer_answers_stops_the_search_and_fails_no_trial(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    file = tmp_path / "trials.db"
    opening = opened(values_of(encoder, rows, tmp_path, search={"storage": f"sqlite:///{file}", "trials": 2}))
    events = search.go(opening)
    next(event for event in events if isinstance(event, Ended))
    content = file.read_bytes()
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match="the database of the search refused"):
        list(events)
    file.write_bytes(content)
    tried(opening)
    assert [line["state"] for line in table(opening.directory.path)] == ["complete"] * 2


def test_no_database_at_all_is_an_error_of_ours(encoder: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is no database URL"):
        searched(values_of(encoder, rows, tmp_path, search={"storage": "nosuch://x"}))


def test_train_refuses_a_recipe_that_has_a_search(encoder: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has a `search`") as caught:
        run.begin(recipefile.build(values_of(encoder, rows, tmp_path)), None, [])
    assert "tunesmith search" in str(caught.value.hint)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("key", "value"), [("folds", 3), ("seeds", 2)])
def test_what_trains_a_recipe_several_times_and_what_searches_it_are_not_mixed(
    key: str, value: int, encoder: Path, rows: Path, tmp_path: Path
) -> None:
    from tunesmith import repeated

    values = values_of(encoder, rows, tmp_path)
    values["evaluate"][key] = value
    recipe = recipefile.build(values)
    with pytest.raises(RecipeError, match="trains each trial once"):
        search.begin(recipe, None)
    with pytest.raises(RecipeError, match="has a `search`"):
        repeated.begin(recipe, None, lambda _: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["full", "lora", "top-layers", "head", "bottleneck", "prompt-tuning"])
def test_an_automatic_space_holds_the_recipes_own_point(method: str, encoder: Path, rows: Path, tmp_path: Path) -> None:
    values = values_of(encoder, rows, tmp_path)
    del values["train"]["learning_rate"]
    opening = opened({**values, "method": method, "search": {"dir": str(tmp_path)}})
    keys = [axis.key for axis in opening.space.axes]
    assert keys[:2] == ["train.learning_rate", "train.batch_size"]
    assert opening.space.start is not None
    low, high, log = opening.space.ends()["train.learning_rate"]
    assert log and low * 10 == pytest.approx(opening.space.start["train.learning_rate"]) == pytest.approx(high / 10)
    if method in ("lora", "top-layers", "bottleneck", "prompt-tuning"):
        assert keys[2].startswith("method.")


def test_a_difference_is_told_only_beyond_the_spread_of_seeds_and_rows() -> None:
    metric = Metric("macro_f1", higher_is_better=True)

    def repeats(values: list[float], noise: float) -> list[dict[str, Any]]:
        rng = np.random.default_rng(0)
        return [{"value": v, "draws": (v + noise * rng.standard_normal(500)).tolist()} for v in values]

    rival = repeats([0.80, 0.81, 0.80], 0.0)
    assert held_against(repeats([0.90, 0.91, 0.905], 0.0), rival, metric)["outcome"] == "better"  # type: ignore[index]
    assert held_against(repeats([0.70, 0.71, 0.705], 0.0), rival, metric)["outcome"] == "worse"  # type: ignore[index]
    assert held_against(repeats([0.95, 0.70, 0.85], 0.0), rival, metric)["outcome"] == "unclear"  # type: ignore[index]
    noisy = held_against(repeats([0.90, 0.91, 0.905], 0.4), rival, metric)
    assert noisy is not None and noisy["outcome"] == "unclear", "few rows cannot tell it either"
    single = held_against(repeats([0.9], 0.0), rival[:1], metric)
    assert single is not None and single["low"] is None and single["outcome"] == "unclear"
    lower = Metric("loss", higher_is_better=False)
    assert held_against(repeats([0.90, 0.91, 0.905], 0.0), rival, lower)["outcome"] == "worse"  # type: ignore[index]
    assert held_against([], [], metric) is None


def test_the_command_prints_the_documented_object_and_goes_on_where_it_was(
    encoder: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tunesmith import cli

    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump(values_of(encoder, rows, tmp_path, search={"trials": 2})))
    printed = []
    for what in (str(file), str(file)):
        with pytest.raises(SystemExit) as caught:
            cli.main(["search", what, "--json"])
        out = capsys.readouterr()
        assert caught.value.code == 0, out.err
        printed.append(json.loads(out.out))
        jsonschema.validate(printed[-1], SHAPES["search"].model_json_schema())
    assert printed[0] == printed[1]
    assert "nothing is left to do" in out.err
    with pytest.raises(SystemExit) as caught:
        cli.main(["search", printed[0]["search"]])
    assert caught.value.code == 0
    assert "best: trial" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        cli.main(["search", printed[0]["search"], "--set", "train.epochs=3"])
    assert caught.value.code == 2
    assert "keeps its recipe" in capsys.readouterr().err


def test_trials_keep_what_happened(encoder: Path, rows: Path, tmp_path: Path) -> None:
    folder = tried(opened(values_of(encoder, rows, tmp_path, search={"trials": 1})))
    trial = folder / "trials" / "0000"
    assert {path.name for path in trial.iterdir()} == {"recipe.yaml", "result.json", "events.jsonl"}
    from tunesmith.events import from_line

    events = [from_line(line) for line in (trial / "events.jsonl").read_text().splitlines()]
    assert (
        sum(isinstance(event, Updated) for event in events) == json.loads((trial / "result.json").read_text())["steps"]
    )


def test_the_example_of_a_search_runs(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tunesmith import cli

    example = Path(__file__).parents[2] / "examples" / "search.yaml"
    changes = {"model": encoder, "search.dir": tmp_path, "run.dir": tmp_path, "search.trials": 2, "search.seeds": 0,
               "data.limit": 40, "evaluate.compare": "false", "train.epochs": 1}  # fmt: skip
    changes["search.space.method"] = "[head, full]"
    sets = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    with pytest.raises(SystemExit) as caught:
        cli.main(["search", str(example), *sets])
    out = capsys.readouterr()
    assert caught.value.code == 0, out.err
    assert "best: trial" in out.out


def test_a_search_that_is_stopped_at_its_winner_goes_on_there(encoder: Path, rows: Path, tmp_path: Path) -> None:
    values = values_of(encoder, rows, tmp_path, search={"seeds": 1, "trials": 2})
    values["train"]["epochs"] = 2
    opening = opened(values)
    folder = opening.directory.path
    seen: list[str] = []
    for wanted in ("what it is compared with", "update 3"):  # the second repeat, then the run itself
        for event in search.go(opening, lambda wanted=wanted: bool(seen) and seen[-1].startswith(wanted)):  # type: ignore[misc]
            seen.append(getattr(event, "name", ""))
        assert isinstance(event, Closed) and event.state == "stopped"
        assert (folder / "repeats" / "winner_1.json").exists()
    first = (folder / "repeats" / "winner_1.json").stat().st_ino
    (made,) = (folder / "runs").iterdir()
    assert json.loads((made / "status.json").read_text())["state"] == "stopped"
    list(search.go(opening))
    assert (folder / "repeats" / "winner_1.json").stat().st_ino == first
    assert report(folder)["run"] == str(made) and len(list((folder / "runs").iterdir())) == 1
    assert json.loads((made / "status.json").read_text())["attempt"] == 2


def test_a_machine_that_joins_a_database_runs_what_is_left(encoder: Path, rows: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    values = values_of(encoder, rows, tmp_path, search={"storage": url, "trials": 3})
    first = opened(values)
    for event in search.go(first):
        if isinstance(event, Ended):
            break
    first.directory.path.rename(tmp_path / "of another machine")
    folder, events = searched(values)
    assert [event.line.number for event in events if isinstance(event, Ended)] == [1, 2]
    assert [trial["number"] for trial in report(folder)["trials"]] == [0, 1, 2]
    assert not (folder / "trials" / "0000").exists()


def test_models_may_be_searched_and_each_is_read_once(encoder: Path, rows: Path, tmp_path: Path) -> None:
    other = tiny.make_encoder(tmp_path / "other", hidden_size=16)
    space = {"model": [str(encoder), str(other)], "train.batch_size": [8, 16]}
    values = values_of(encoder, rows, tmp_path, search={"space": space, "sampler": "grid", "trials": None})
    opening = opened(values)
    lines = table(tried(opening))
    assert [line["state"] for line in lines] == ["complete"] * 4
    assert {line["model"] for line in lines} == {str(encoder), str(other)}
    assert opening.shared.nets.made == 2
    assert opening.shared.rows.made == 1


def test_all_processes_of_a_search_multiply_by_the_library_that_the_first_found_faster(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    values = values_of(encoder, rows, tmp_path, search={"trials": 1})
    folder = opened(values).directory.path
    told = json.loads((folder / "made_of.json").read_text())
    other = {"blas": "onednn", "onednn": "blas"}[told["matmul"]]
    (folder / "made_of.json").write_text(json.dumps({**told, "matmul": other}))
    list(search.go(search.reopen(folder)))
    assert json.loads((folder / "trials" / "0000" / "result.json").read_text())["plan"]["matmul"] == other
    assert run.open_run(Path(report(folder)["run"])).json("plan")["matmul"] == other


def test_a_search_whose_best_rate_is_at_the_end_of_its_range_says_so_and_what_to_search_instead(
    encoder: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = work.result_of
    monkeypatch.setattr(  # as if more were better, without a training that shows it
        work, "result_of", lambda outcome, beside=1: {**real(outcome, beside), "value": outcome.plan["learning_rate"]}
    )
    asked = {"sampler": "grid", "pruner": "none", "space": {
        "train.learning_rate": {"from": 1e-6, "to": 3e-3, "log": True, "points": 8}}}  # fmt: skip
    values = values_of(encoder, rows, tmp_path, search=asked | {"trials": None})
    values["train"]["learning_rate"] = 1e-4
    folder, _ = searched(values)
    found = report(folder)
    (advised,) = found["advice"]
    assert found["trials"][found["best"]]["params"]["train.learning_rate"] == 3e-3
    (changed,) = advised["change"].values()
    assert changed == {"from": 1e-6, "to": 0.16, "log": True, "points": 8}
    for name in ("report.html", "report.md"):
        assert "at the upper end of 1e-06 to 0.003" in (folder / name).read_text()
    values["search"]["space"] = {key.removeprefix("search.space."): value for key, value in advised["change"].items()}
    assert opened(values).space.axes[0].range.high == 0.16  # type: ignore[union-attr]
