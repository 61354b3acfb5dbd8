"""One model of repeated trainings: it is the mean that it says it is, and no row that a member has seen scores it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

import samples
import tiny
from tunesmith import combining, load, recipefile, repeated
from tunesmith.cli import main
from tunesmith.combined import Combination, Trained
from tunesmith.data import spans, splits
from tunesmith.errors import RunError, UserError
from tunesmith.events import Updated
from tunesmith.metrics import calibrating
from tunesmith.metrics.measured import Score
from tunesmith.models import vocabulary
from tunesmith.predictor import named_task
from tunesmith.recipefile import make_plugin
from tunesmith.reportshape import SHAPES
from tunesmith.rundir import RunDir, list_runs
from tunesmith.train import checkpoint
from tunesmith.train.evaluate import outputs_of

TEXTS = ["where is my parcel", "i paid twice", "reset my password please", "the box is late"]


def written(place: Path, model: Path, task: str = "text-classification", **changes: Any) -> Path:
    rows = samples.write(task, place)
    task_options = changes.pop("options", {})
    quick = {"evaluate__evidence": False, "evaluate__answers": 2, "train__epochs": 1, "train__learning_rate": 3e-3}
    values = tiny.recipe_values(
        model, rows, place / "runs", task={"name": task, **task_options}, run__name="many", **{**quick, **changes}
    )
    (place / "recipe.yaml").write_text(recipefile.yaml.safe_dump(values))
    return place / "recipe.yaml"


def trained(place: Path, model: Path, task: str = "text-classification", **changes: Any) -> Path:
    return trained_by(written(place, model, task, **changes))


def trained_by(path: Path) -> Path:
    recipe = recipefile.load(path, ()).recipe
    folder, recipe = repeated.begin(recipe, None, lambda _: None)
    for _ in repeated.go(folder, recipe, [], lambda _: None, lambda: False):
        pass
    return folder


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--json"])
    assert isinstance(caught.value.code, int)
    return caught.value.code, json.loads(capsys.readouterr().out)


def combined(folder: Path, how: Any) -> tuple[dict[str, Any], Combination]:
    for _ in repeated.combine(folder, repeated.recipe_of(folder), how, lambda: False):
        pass
    made = load(folder / "combined" / how)
    assert isinstance(made, Combination)
    found = json.loads((folder / "combined" / how / "combined.json").read_text())["result"]
    SHAPES["combine"].model_validate(found)
    return found, made


@pytest.fixture(scope="module")
def seeds(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("seeds"), encoder, evaluate__seeds=3, train__epochs=3)


@pytest.fixture(scope="module")
def folds(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("folds"), encoder, evaluate__folds=2, method={"name": "lora", "rank": 4})


def probabilities(model: Any, texts: Any) -> list[dict[str, float]]:
    return [answer["probabilities"] for answer in model.predict(list(texts))]


def test_an_ensembles_probabilities_are_the_mean_of_its_members_each_as_it_answers(seeds: Path) -> None:
    _, made = combined(seeds, "ensemble")
    members = [probabilities(load(run.path), TEXTS) for run in list_runs(seeds)]
    assert len(members) == 3 and len({load(run.path).task.temperature for run in list_runs(seeds)}) > 1  # type: ignore[attr-defined]
    assert made.task.temperature == 1.0  # type: ignore[attr-defined]
    for k, found in enumerate(probabilities(made, TEXTS)):
        for label, chance in found.items():
            assert chance == pytest.approx(np.mean([member[k][label] for member in members]), abs=1e-12)
        assert members[0][k] != members[1][k]


def test_averaged_weights_are_the_mean_of_what_the_members_learned(seeds: Path) -> None:
    _, made = combined(seeds, "weights")
    nets = [load(run.path).model.net for run in list_runs(seeds)]
    for net in (*nets, made.model.net):
        vocabulary.settle(net)
    held = [{name: value.numpy().astype(np.float64) for name, value in net.state_dict().items()} for net in nets]
    apart = 0
    for name, value in made.model.net.state_dict().items():
        wanted = sum(one[name] for one in held) / 3
        assert np.abs(value.numpy() - wanted).max() <= 1e-7 * max(1.0, np.abs(wanted).max()), name
        apart += bool((held[0][name] != held[1][name]).any())
    assert apart > 5


def test_a_training_combined_with_itself_is_itself_to_the_bit(seeds: Path, tmp_path: Path) -> None:
    run = RunDir(seeds / "seed_0")
    members = [Trained(name, None, 0, run) for name in ("one", "two", "three")]
    single = Score(0.5, 0.4, 0.6, 9)
    for _ in combining.combine(tmp_path, members, "weights", single, lambda: False):
        pass
    made, alone = load(tmp_path / "combined" / "weights"), load(run.path)
    mine = dict(made.model.net.named_parameters())
    vocabulary.settle(alone.model.net)
    for name, value in alone.model.net.named_parameters():
        assert torch.equal(mine[name], value), name
    assert made.predict(TEXTS) == alone.predict(TEXTS)


@pytest.mark.parametrize("task", ["multi-label-classification", "text-regression", "image-classification"])
def test_ensembles_of_every_task_with_a_mean_give_it(task: str, encoder: Path, vision: Path, tmp_path: Path) -> None:
    folder = trained(tmp_path, vision if task.startswith("image") else encoder, task, evaluate__seeds=2)
    found, made = combined(folder, "ensemble")
    rows = [json.loads(line) for line in (tmp_path / f"{task}.jsonl").read_text().splitlines()][:5]
    members = [load(run.path).predict(rows, tmp_path) for run in list_runs(folder)]
    for k, answer in enumerate(made.predict(rows, tmp_path)):
        both = [member[k] for member in members]
        if task == "text-regression":
            assert answer["value"] == pytest.approx(np.mean([one["value"] for one in both]), rel=1e-9)
            continue
        for label, chance in answer["probabilities"].items():
            assert chance == pytest.approx(np.mean([one["probabilities"][label] for one in both]), abs=1e-12)
    assert found["split"] == "test" and len(found["against"]) == 2


def test_an_ensemble_of_taggers_averages_the_tags_of_each_word(encoder: Path, tmp_path: Path) -> None:
    folder = trained(tmp_path, encoder, "token-classification", evaluate__seeds=2, options={"stride": 16})
    _, made = combined(folder, "ensemble")
    row = made.row(0, {"tokens": [*tiny.WORDS, *tiny.WORDS]})
    outputs = [outputs_of(net.model, net.task, [row])[0] for net in made.nets]
    assert len(outputs[0]) > 1  # several windows
    logs = np.full((len(row["words"]), len(made.task.labels)), -30.0)  # type: ignore[attr-defined]
    for first, second in zip(*outputs, strict=True):
        logs[first[0]] = np.log((np.exp(first[1]) + np.exp(second[1])) / 2)
    path = [made.task.labels[k] for k in spans.likeliest(logs)]  # type: ignore[attr-defined]
    (answer,) = made.answers([row]).values()
    assert answer["tags"] == spans.to_tags(spans.from_tags(path)[0], len(path))


def test_over_seeds_it_is_scored_on_the_test_rows_beside_the_mean_and_the_best_member(
    seeds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = ended(capsys, "combine", str(seeds), "--how", "ensemble")
    assert code == 0
    SHAPES["combine"].model_validate(found)
    made = load(seeds / "combined" / "ensemble")
    lines = (seeds / "seed_0" / "predictions" / "test.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    said = [answer["label"] for answer in made.predict([row["text"] for row in rows])]
    own = found["scores"]["macro_f1"]
    assert own["value"] == pytest.approx(f1_score([row["label"] for row in rows], said, average="macro"))
    assert own["n"] == len(rows) and own["low"] <= own["value"] <= own["high"]
    reports = {run.path.name: json.loads((run.report / "report.json").read_text()) for run in list_runs(seeds)}
    chosen = max(reports, key=lambda name: reports[name]["scores"]["validation"]["macro_f1"]["value"])
    mean, best = found["against"]
    assert found["best"] == chosen and best["name"] == f"the best member ({chosen})"
    assert best["score"]["value"] == pytest.approx(reports[chosen]["scores"]["test"]["macro_f1"]["value"])
    assert best["difference"] == pytest.approx(own["value"] - best["score"]["value"])
    tested = [report["scores"]["test"]["macro_f1"]["value"] for report in reports.values()]
    assert mean["name"] == "the mean member" and mean["score"]["value"] == pytest.approx(np.mean(tested))
    assert mean["difference"] == pytest.approx(own["value"] - np.mean(tested))
    assert mean["corrected"] >= mean["p"] and "macro_f1" in found["says"]
    again = ended(capsys, "evaluate", str(seeds / "combined" / "ensemble"))[1]
    assert again["scores"]["test"]["macro_f1"]["value"] == pytest.approx(own["value"])
    whole = json.loads((seeds / repeated.FILE).read_text())
    SHAPES["repeated"].model_validate(whole)
    assert found in whole["combined"]
    card = (seeds / "combined" / "ensemble" / "README.md").read_text()
    assert all(member["sha256"] in card and member["name"] in card for member in found["members"])


def test_a_temperature_is_fitted_anew_to_averaged_weights_and_left_out_where_no_row_tells(
    seeds: Path, folds: Path
) -> None:
    found, made = combined(seeds, "weights")
    task: Any = made.task
    rows = splits_of(made)["validation"]
    logs = [output[0] for output in (outputs_of(made.model, task, rows)[row.id] for row in rows)]
    wanted = calibrating.temperature(logs, [task.labels.index(row["label"]) for row in rows])
    assert task.temperature == pytest.approx(wanted) and wanted != 1.0
    saved = json.loads((seeds / "combined" / "weights" / "model" / "task.json").read_text())
    assert saved["temperature"] == task.temperature
    assert any("fitted anew" in note for note in found["notes"])
    found, made = combined(folds, "weights")
    assert made.task.temperature == 1.0  # type: ignore[attr-defined]
    assert any("no row to fit" in note for note in found["notes"])


def splits_of(made: Combination) -> Any:
    return splits.load(made.recipe, make_plugin("tasks", *named_task(made.recipe))).rows


@pytest.mark.parametrize("how", ["weights", "ensemble"])
def test_over_folds_no_row_that_a_member_has_seen_scores_it(
    how: str, folds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = combined(folds, how)
    assert found["split"] is None and found["scores"] == {} and found["against"] == []
    whole = json.loads((folds / repeated.FILE).read_text())
    assert found["single"] == whole["scores"]["macro_f1"] and "No row is unseen" in found["says"]
    place = str(folds / "combined" / how)
    code, said = ended(capsys, "evaluate", place)
    assert code == 2 and "there is none to score this on" in said["error"]["problem"]
    rows = samples.ROWS["text-classification"]()
    old = tiny.write_csv(tmp_path / "old.csv", rows)
    code, said = ended(capsys, "evaluate", place, "--data", str(old))
    assert code == 2 and "every one of these rows" in said["error"]["problem"]
    new = [{**row, "text": f"{row['text']} again"} for row in rows[:7]]
    mixed = tiny.write_csv(tmp_path / "mixed.csv", [*rows[:20], *new])
    code, said = ended(capsys, "evaluate", place, "--data", str(mixed))
    assert code == 0 and said["scores"]["data"]["macro_f1"]["n"] == 7
    assert any("20 of 27 rows were seen" in note for note in said["notes"])


@pytest.mark.parametrize("how", ["weights", "ensemble"])
def test_a_combination_can_be_moved_and_its_members_lost(how: str, encoder: Path, tmp_path: Path, seeds: Path) -> None:
    combined(seeds, how)
    wanted = load(seeds / "combined" / how).predict(TEXTS)
    shutil.copytree(seeds / "combined" / how, tmp_path / "moved", symlinks=False)
    for link in (tmp_path / "moved").rglob("best"):
        shutil.rmtree(link)
    assert load(tmp_path / "moved").predict(TEXTS) == wanted
    about = json.loads((tmp_path / "moved" / "combined.json").read_text())
    assert not any(str(seeds) in net["path"] for net in about["nets"])


def spoil(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def spoiled(place: Path) -> None:
        about = json.loads((place / "combined.json").read_text())
        change(about)
        (place / "combined.json").write_text(json.dumps(about))

    return spoiled


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (spoil(lambda about: about["nets"][0].update(sha256="0" * 64)), "another than it was made of"),
        (spoil(lambda about: about["nets"][0].update(path="../weights/net")), "no folder in the combination"),
        (spoil(lambda about: about["nets"][0].update(path="/tmp")), "no folder in the combination"),
        (spoil(lambda about: about.update(nets=[])), "names no nets"),
        (spoil(lambda about: about.pop("nets")), "lacks `nets`"),
        (lambda place: shutil.rmtree(place / "members" / "seed_1"), "no folder in the combination"),
    ],
)
def test_a_damaged_combination_and_one_that_leads_out_of_its_folder_are_refused(
    change: Callable[[Path], None], said: str, seeds: Path, tmp_path: Path
) -> None:
    combined(seeds, "ensemble")
    shutil.copytree(seeds / "combined" / "ensemble", tmp_path / "other", symlinks=True)
    change(tmp_path / "other")
    with pytest.raises(RunError, match=said):
        load(tmp_path / "other")


@pytest.mark.parametrize("folder", ["seeds", "folds"])
def test_the_saved_mean_opens_elsewhere_and_answers_the_same(folder: str, request: pytest.FixtureRequest) -> None:
    place: Path = request.getfixturevalue(folder)
    found, made = combined(place, "weights")
    assert {check["name"]: check["holds"] for check in found["verified"]}["saved folder"] is True
    model = place / "combined" / "weights" / "model"
    assert "A combination of trainings" in (model / "README.md").read_text()
    if folder == "folds":
        assert found["form"] == "adapters"
        config = json.loads((model / "adapter_config.json").read_text())
        own = json.loads((place / "fold_0_seed_0" / "model" / "adapter_config.json").read_text())
        assert config["r"] == 2 * own["r"] and config["lora_alpha"] == own["lora_alpha"]
    assert json.loads((model / "labels.json").read_text()) == list(made.task.labels)  # type: ignore[attr-defined]


def test_one_that_was_killed_is_made_again_and_no_part_is_trained_again(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, encoder, evaluate__seeds=2, evaluate__combine="weights")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tunesmith.combining._write_about", killed)
        with pytest.raises(SystemExit) as caught:
            main(["train", str(path)])
    folder = tmp_path / "runs" / "many"
    assert caught.value.code == 130
    assert not (folder / repeated.FILE).exists()
    assert [entry.name for entry in (folder / "combined").iterdir()] == ["lock"]
    with pytest.raises(UserError, match="several trainings"):
        load(folder)
    (folder / "combined" / ".weights.tmp").mkdir()
    with pytest.raises(SystemExit) as caught:
        main(["resume", str(folder)])
    assert caught.value.code == 0
    assert {entry.name for entry in (folder / "combined").iterdir()} == {"lock", "weights"}
    assert [len(list((run.path / "logs").iterdir())) for run in list_runs(folder)] == [1, 1]
    found = json.loads((folder / repeated.FILE).read_text())["combined"]
    assert [one["how"] for one in found] == ["weights"]
    before = (folder / "combined" / "weights" / "combined.json").stat().st_mtime_ns
    with pytest.raises(SystemExit):
        main(["resume", str(folder)])
    assert (folder / "combined" / "weights" / "combined.json").stat().st_mtime_ns == before


def test_what_cannot_be_combined_is_refused_before_anything_is_trained(
    encoder: Path, decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, encoder)
    code, said = ended(capsys, "train", str(path), "--set", "evaluate.combine=weights")
    assert code == 2 and "this is one" in said["error"]["problem"]
    chats = tmp_path / "chats"
    chats.mkdir()
    code, said = ended(
        capsys, "train", str(written(chats, decoder, "chat", evaluate__seeds=2, evaluate__combine="ensemble"))
    )
    assert code == 2 and "answers of chat have no mean" in said["error"]["problem"]
    assert not (chats / "runs").exists()
    more = ("--set", "evaluate.seeds=2", "--set", "evaluate.combine=weights", "--method", "bottleneck")
    code, said = ended(capsys, "train", str(path), *more)
    assert code == 2 and "no part of the model's weights" in said["error"]["problem"]
    assert not (tmp_path / "runs" / "many").exists()
    assert ended(capsys, "combine", str(tmp_path), "--how", "weights")[0] == 2


def test_members_that_learned_other_labels_or_have_not_finished_are_not_combined(
    seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "many"
    shutil.copytree(seeds, folder, symlinks=True)
    shutil.rmtree(folder / "combined", ignore_errors=True)
    task = json.loads((folder / "seed_1" / "task.json").read_text())
    (folder / "seed_1" / "task.json").write_text(json.dumps({**task, "labels": ["x", *task["labels"][1:]]}))
    for how in ("weights", "ensemble"):
        code, said = ended(capsys, "combine", str(folder), "--how", how)
        assert code == 2 and "learned other labels than the first" in said["error"]["problem"]
    (folder / "seed_1" / "task.json").write_text(json.dumps(task))
    shutil.rmtree(folder / "seed_2")
    code, said = ended(capsys, "combine", str(folder), "--how", "weights")
    assert code == 2 and "never trained" in said["error"]["problem"]
    assert not list((folder / "combined").glob("*/combined.json"))


def test_nets_that_write_are_averaged_by_their_weights_and_scored(decoder: Path, tmp_path: Path) -> None:
    folder = trained(tmp_path, decoder, "chat", evaluate__seeds=2, train__epochs=1)
    found, made = combined(folder, "weights")
    assert found["split"] == "test" and found["form"] == "adapters" and found["scores"]
    assert isinstance(made.predict([{"messages": [{"role": "user", "content": "where is my parcel"}]}])[0], dict)


@pytest.mark.parametrize(
    ("task", "options", "model", "form"),
    [
        ("question-answering", {}, {}, "tensors"),
        ("retrieval", {}, {}, "tensors"),
        ("text-classification", {"method": {"name": "lora", "rank": 2, "init": "pissa"}}, {}, "adapters"),
        ("text-classification", {"method": {"name": "lora", "rank": 2, "kind": "dora"}}, {}, "folded"),
        ("text-classification", {"method": {"name": "lora", "rank": 2}, "train__freeze": ["head.*"]}, {}, "folded"),
        ("text-classification", {"method": "head"}, {"new_tokens": ["parcel9"]}, "tensors"),
        (
            "text-classification",
            {"method": {"name": "lora", "rank": 2}},
            {"new_tokens": ["zz9"], "blocks": 1},
            "adapters",
        ),
    ],
    ids=str,
)
def test_what_is_saved_of_a_mean_is_the_net_that_was_scored(
    task: str, options: dict[str, Any], model: dict[str, Any], form: str, encoder: Path, tmp_path: Path
) -> None:
    path = written(tmp_path, encoder, task, evaluate__seeds=2, **options)
    values = recipefile.yaml.safe_load(path.read_text())
    path.write_text(recipefile.yaml.safe_dump({**values, "model": {"name": str(encoder), **model}}))
    folder = trained_by(path)
    found, made = combined(folder, "weights")
    assert found["form"] == form and found["split"] == "test"
    assert all(check["holds"] for check in found["verified"]) and len(found["verified"]) >= 2
    again = made.evaluate()["scores"]["test"]
    for name, score in found["scores"].items():
        assert again[name]["value"] == pytest.approx(score["value"], abs=1e-6), name
    named = folder / "combined" / "weights" / "model" / "adapter_config.json"
    if model.get("blocks"):
        assert json.loads(named.read_text())["base_model_name_or_path"] == str(named.parent / "base")


def test_without_test_rows_it_is_scored_on_validation_rows_and_that_is_said(encoder: Path, tmp_path: Path) -> None:
    other = tiny.write_jsonl(tmp_path / "validation.jsonl", [
        {**row, "text": f"{row['text']} again"} for row in samples.ROWS["text-classification"]()[:20]
    ])  # fmt: skip
    folder = trained(tmp_path, encoder, evaluate__seeds=2, data__validation=str(other))
    found, made = combined(folder, "ensemble")
    assert found["split"] == "validation" and found["scores"]["macro_f1"]["n"] == 20
    assert any("flatter" in note for note in found["notes"])
    assert made.evaluate()["scores"]["validation"]["macro_f1"]["value"] == found["scores"]["macro_f1"]["value"]


def test_stopping_leaves_nothing_of_it(seeds: Path, tmp_path: Path) -> None:
    members = [Trained(run.path.name, None, k, run) for k, run in enumerate(list_runs(seeds))]
    running = combining.combine(tmp_path, members, "weights", Score(0.5, 0.4, 0.6, 9), lambda: True)
    assert [event for event in running if isinstance(event, Updated)] == []
    assert [entry.name for entry in (tmp_path / "combined").iterdir()] == ["lock"]


def test_regressions_with_units_of_their_own_have_no_mean_of_weights(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(tmp_path, encoder, "text-regression", evaluate__folds=2)
    code, said = ended(capsys, "combine", str(folder), "--how", "weights")
    assert code == 2 and "numbers in other units" in said["error"]["problem"]
    assert said["error"]["hint"] == "take `ensemble`"
    made = combined(folder, "ensemble")[1]
    members = [load(run.path).predict(TEXTS) for run in list_runs(folder)]
    for k, answer in enumerate(made.predict(TEXTS)):
        assert answer["value"] == pytest.approx(np.mean([one[k]["value"] for one in members]), rel=1e-9)


def test_a_moving_average_is_what_is_averaged_where_trainings_keep_one(encoder: Path, tmp_path: Path) -> None:
    folder = trained(tmp_path, encoder, evaluate__seeds=2, train__ema=0.9)
    _, made = combined(folder, "ensemble")
    for net, run in zip(made.nets, list_runs(folder), strict=True):
        best = checkpoint.read_best(run)
        own = checkpoint.read_best(net.run)
        assert best.keys() == own.keys() and all(torch.equal(best[name], own[name]) for name in best)
