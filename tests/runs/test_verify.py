"""`verify` and `reproduce`: each promise holds for a run that keeps it, and is found broken where it was broken."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import samples
import tiny
from tunesmith import plugins, promises, recipefile, reproduce, run, verify
from tunesmith.cli import main
from tunesmith.predictor import Predictor
from tunesmith.rundir import RunDir

NAMES = ("rendering", "saved folder", "batch size", "scores", "resume", "first updates")
CASES = [
    ("chat", "decoder", "lora"),
    ("text-classification", "encoder", "full"),
    ("text-classification", "decoder", "prompt-tuning"),
    ("question-answering", "encoder-decoder", "ia3"),
    ("retrieval", "encoder", "lora"),
    ("fill-mask", "encoder", "bottleneck"),
    ("image-classification", "vision", "lora"),
]


def made(request: pytest.FixtureRequest, place: Path, task: str, family: str, method: Any, **more: Any) -> RunDir:
    base = request.getfixturevalue(family.replace("-", "_"))
    values = tiny.recipe_values(base, samples.write(task, place), place / "runs", task=task, method=method,
                                **{"evaluate__compare": False, "evaluate__answers": 2, **more})  # fmt: skip
    return run.train_recipe(recipefile.build(values))


@pytest.fixture(scope="module")
def chat_run(tmp_path_factory: pytest.TempPathFactory, decoder: Path) -> RunDir:
    place = tmp_path_factory.mktemp("verify")
    rows = tiny.write_jsonl(place / "chats.jsonl", tiny.chat_rows())
    values = tiny.recipe_values(decoder, rows, place / "runs", method="lora", evaluate__compare=False)
    return run.train_recipe(recipefile.build({**values, "evaluate": {"compare": False, "answers": 2}}))


@pytest.fixture
def copied(chat_run: RunDir, tmp_path: Path) -> RunDir:
    """A copy of a run, to be broken."""
    return RunDir(Path(shutil.copytree(chat_run.path, tmp_path / "copy", symlinks=True)))


def found_in(directory: RunDir) -> dict[str, promises.Check]:
    return {check.name: check for check in verify.whole(directory.path)}


@pytest.mark.parametrize(("task", "family", "method"), CASES)
def test_every_promise_holds_for_runs_of_many_tasks_families_and_methods(
    request: pytest.FixtureRequest, tmp_path: Path, task: str, family: str, method: str
) -> None:
    directory = made(request, tmp_path, task, family, method)
    found = found_in(directory)
    assert {name: found[name].holds for name in NAMES} == dict.fromkeys(NAMES, True), found
    merges = method in ("lora", "ia3")
    assert found["merged"].holds is (True if merges else None), found
    assert ("merged by PEFT" in found) == merges
    short = directory.json("report/report")["verified"]
    assert [(check["name"], check["holds"]) for check in short] == [
        (name, True) for name in ("rendering", "saved folder", *(["merged by PEFT"] if merges else []))
    ]


def test_a_run_that_was_moved_is_verified_where_it_lies(copied: RunDir) -> None:
    assert all(check.holds for check in found_in(copied).values())


def test_a_saved_tensor_that_differs_is_found(copied: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    file = copied.model / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(name for name in sorted(tensors) if "lora_B" in name)
    save_file({**tensors, name: tensors[name] + 0.05}, file, metadata={"format": "pt"})
    found = found_in(copied)
    assert found["saved folder"].holds is False
    assert found["merged by PEFT"].holds is False
    assert found["scores"].holds is True
    with pytest.raises(SystemExit) as caught:
        main(["verify", str(copied.path), "--json"])
    assert caught.value.code == 1
    printed = json.loads(capsys.readouterr().out)
    assert {check["name"] for check in printed["verified"] if check["holds"] is False} >= {"saved folder"}


def test_a_saved_file_that_nobody_can_open_is_found_and_stops_nothing(copied: RunDir) -> None:
    (copied.model / "adapter_model.safetensors").write_bytes(b"torn")
    found = found_in(copied)
    assert found["saved folder"].holds is False
    assert "others cannot open it" in found["saved folder"].said
    assert found["resume"].holds is True


def test_scores_that_are_not_the_models_are_found(copied: RunDir) -> None:
    report = copied.json("report/report")
    report["scores"]["test"]["mean_token_loss"]["value"] -= 0.01
    (copied.report / "report.json").write_text(json.dumps(report))
    found = found_in(copied)
    assert found["scores"].holds is False
    assert found["saved folder"].holds is True


def test_a_template_that_use_renders_otherwise_is_found(copied: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Predictor.row

    def drifted(self: Predictor, number: int, given: Any, folder: Path = Path()) -> Any:
        messages = [{**m, "content": m["content"] + " "} for m in given["messages"]]
        return real(self, number, {**given, "messages": messages}, folder)

    monkeypatch.setattr(Predictor, "row", drifted)
    assert found_in(copied)["rendering"].holds is False


def test_losses_that_another_run_wrote_are_found(copied: RunDir) -> None:
    events = (copied.path / "events.jsonl").read_text().splitlines()
    changed = [line.replace('"loss": ', '"loss": 0.5') if '"Updated"' in line else line for line in events]
    (copied.path / "events.jsonl").write_text("\n".join(changed) + "\n")
    found = found_in(copied)
    assert found["first updates"].holds is False
    assert found["resume"].holds is True


def test_a_run_that_has_not_finished_is_refused(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str], labels_csv: Path
) -> None:
    values = tiny.recipe_values(request.getfixturevalue("encoder"), labels_csv, tmp_path / "runs")
    directory, prepared = run.begin(recipefile.build(values), None, [])
    list(run.go(directory, prepared, lambda: True))
    for command in ("verify", "reproduce"):
        with pytest.raises(SystemExit) as caught:
            main([command, str(directory.path)])
        assert caught.value.code == 2
        assert "the run has not finished" in capsys.readouterr().err


def test_training_ends_with_exit_code_1_where_the_saved_model_is_not_the_tuned_one(
    labels_csv: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tunesmith.models import reopened

    real = reopened.theirs
    monkeypatch.setattr(reopened, "theirs", lambda *given: [logits + 1 for logits in real(*given)])
    recipe = tmp_path / "r.yaml"
    values = tiny.recipe_values(encoder, labels_csv, tmp_path / "runs", evaluate__compare=False)
    recipe.write_text(recipefile.yaml.safe_dump(values))
    with pytest.raises(SystemExit) as caught:
        main(["train", str(recipe)])
    assert caught.value.code == 1
    assert "saved folder DOES NOT HOLD" in capsys.readouterr().out


def test_numbers_that_differ_and_values_of_another_shape_are_told_apart() -> None:
    assert promises.difference({"a": [1.0, torch.tensor([2.0])]}, {"a": [1.0, torch.tensor([2.5])]}) == 0.5
    assert promises.difference([float("nan"), float("inf")], [float("nan"), float("inf")]) == 0.0
    for one, two in (("a", "b"), ([1.0], [1.0, 2.0]), ({"a": 1}, {"b": 1}), (1.0, float("nan")),
                     (torch.zeros(2), torch.zeros(3)), (float("inf"), 1.0)):  # fmt: skip
        assert promises.difference(one, two) == float("inf")
    assert promises.largest([{"a": -3.0}, [2.0, float("inf")]]) == 3.0


@pytest.mark.parametrize("kind", ["labels", "chat"])
def test_a_run_is_reproduced_to_the_bit_in_another_folder(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, family, method = {"labels": ("text-classification", "encoder", "full"), "chat": ("chat", "decoder", "lora")}[
        kind
    ]
    directory = made(request, tmp_path, task, family, method, evaluate__compare=True)
    with pytest.raises(SystemExit) as caught:
        main(["reproduce", str(directory.path), "--json", "--keep", str(tmp_path / "second")])
    assert caught.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["same"] is True
    assert printed["changed"] == []
    assert [check["name"] for check in printed["compared"]] == [
        "losses", "best weights", "last weights", "saved model", "scores"
    ]  # fmt: skip
    second = RunDir(tmp_path / "second" / directory.path.name)
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    assert (second.model / name).read_bytes() == (directory.model / name).read_bytes()


def test_what_has_changed_since_is_named(chat_run: RunDir, copied: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.changes(copied) == []
    receipt = copied.json("receipt")
    (rows,) = receipt["data_sha256"]
    folder = json.loads((copied.path / "resolved.json").read_text())["model"]["name"]
    changed = {
        **receipt,
        "data_sha256": {rows: "0" * 64, rows + ".more": "1" * 64},
        "model_sha256": {**receipt["model_sha256"], "config.json": "2" * 64},
        "versions": {**receipt["versions"], "torch": "2.0.0"},
        "code_sha256": "3" * 64,
        "machine": {**receipt["machine"], "processor": "another"},
    }
    (copied.path / "receipt.json").write_text(json.dumps(changed))
    found = {(change.what, change.name): change.then for change in reproduce.changes(copied)}
    assert found == {
        ("data", rows): "0" * 12,
        ("data", rows + ".more"): "1" * 12,
        ("model", f"{folder}/config.json"): "2" * 12,
        ("versions", "torch"): "2.0.0",
        ("code", "tunesmith"): "3" * 12,
        ("machine", "processor"): "another",
    }
    with pytest.raises(SystemExit) as caught:
        main(["reproduce", str(copied.path)])
    assert caught.value.code == 1
    said = capsys.readouterr().out
    assert f"changed since: data: {rows} was 000000000000" in said
    assert "it would be another run" in said


@pytest.mark.parametrize("part", ["losses", "weights", "saved model", "scores"])
def test_what_came_out_otherwise_is_named(part: str, chat_run: RunDir, copied: RunDir) -> None:
    assert all(check.holds for check in reproduce.compared(chat_run, copied))
    if part == "losses":
        events = (copied.path / "events.jsonl").read_text()
        (copied.path / "events.jsonl").write_text(events.replace('"loss": ', '"loss": 0.5', 1))
    elif part == "scores":
        report = copied.json("report/report")
        report["scores"]["test"]["mean_token_loss"]["low"] += 1e-9
        (copied.report / "report.json").write_text(json.dumps(report))
    elif part == "saved model":
        file = copied.model / "adapter_model.safetensors"
        save_file({k: v.add(1e-7) for k, v in load_file(file).items()}, file)
    else:
        place = copied.checkpoints / "last"
        file = place / "trained.safetensors"
        save_file({k: v.add(1e-7) for k, v in load_file(file).items()}, file)
        import hashlib

        sums = json.loads((place / "manifest.json").read_text())
        sums[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
        (place / "manifest.json").write_text(json.dumps(sums))
    found = [check.name for check in reproduce.compared(chat_run, copied) if not check.holds]
    assert found == (["best weights", "last weights"] if part == "weights" else [part])


def test_every_task_has_a_run_that_is_verified_here_or_in_the_battery() -> None:
    battery = (Path(__file__).parent.parent / "contracts" / "test_battery.py").read_text()
    assert '["verified"]' in battery
    assert {task for task, _, _ in CASES} <= set(plugins.names("tasks"))
