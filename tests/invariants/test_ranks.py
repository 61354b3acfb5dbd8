"""Several processes make the update that one makes, and a run of theirs is a run as any other."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import samples
import tiny
from tunesmith import RunError, recipefile, run
from tunesmith.events import Updated
from tunesmith.rundir import RunDir
from tunesmith.train import checkpoint, ranks

CASES = {
    "an encoder": ("text-classification", "encoder", "full"),
    "an encoder's adapters": ("token-classification", "encoder", "lora"),
    "a decoder": ("chat", "decoder", "lora"),
    "a decoder whole": ("text-generation", "decoder", "full"),
    "an encoder-decoder": ("summarization", "encoder_decoder", "full"),
    "a vision net": ("image-classification", "vision", "full"),
    "a net with batch norm": ("image-classification", "resnet", "full"),
    "pairs of all rows": ("retrieval", "encoder", "full"),
}
"""Name -> task, family and method."""


def torchrun(count: int, *arguments: str, place: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *arguments], cwd=place, env=environment, capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.parametrize("count", [2, 3])
def test_gradients_and_losses_are_those_of_one_process(
    count: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Of 2 and 3, with ragged shares and with none for some: by norm to 5e-6, in double precision to 1e-10."""
    cases: dict[str, Any] = {}
    for name, (task, family, method) in CASES.items():
        place = tmp_path / name.replace(" ", "-")
        place.mkdir()
        made = family == "resnet"
        base = tiny.make_vision(place / "net", family) if made else request.getfixturevalue(family)
        values = tiny.recipe_values(base, samples.write(task, place), place / "runs", task=task, method=method)
        values["model"] = {"name": str(base), "dropout": 0}
        double = count == 2
        cases[place.name] = {"recipe": values, "double": double, "rows": 11, "budget": 60}
        if name == "a decoder":  # two rows for three processes
            cases["few"] = {"recipe": values, "double": double, "rows": 2, "budget": 10_000}
    given, out = tmp_path / "cases.json", tmp_path / "out"
    given.write_text(json.dumps(cases))
    out.mkdir()
    done = torchrun(count, str(Path(__file__).with_name("ranks.py")), str(given), str(out), place=tmp_path)
    assert done.returncode == 0, done.stderr
    shares = set()
    for name in cases:
        alone = load_file(out / f"{name}.alone.0.safetensors")
        alone.pop("counts")
        for number in range(count):
            found = load_file(out / f"{name}.together.{number}.safetensors")
            shares.add(tuple(found.pop("counts").tolist()))
            assert found.keys() == alone.keys(), name
            assert len(found) > 1
            most = 1e-10 if count == 2 else 5e-6
            for part in (lambda k: k.startswith("loss"), lambda k: not k.startswith("loss")):
                one, other = (torch.cat([made[k].double().flatten() for k in sorted(made) if part(k)])
                              for made in (alone, found))  # fmt: skip
                assert float(one.norm()) > 1e-4
                assert float((one - other).norm() / one.norm()) < most, name
    assert any(mine * count != every for mine, every in shares)
    if count == 3:
        assert any(mine == 0 for mine, _ in shares)


def recipe_of(tmp_path: Path, name: str, model: Path, rows: Path, **more: Any) -> Path:
    values = tiny.recipe_values(model, rows, tmp_path / name, method="lora", evaluate__compare=False,
                                train__learning_rate=3e-3, **more)  # fmt: skip
    values["model"] = {"name": str(model), "dropout": 0}
    values["evaluate"] |= {"answers": 0}
    place = tmp_path / f"{name}.yaml"
    place.write_text(recipefile.yaml.safe_dump(values))
    return place


def only(folder: Path) -> RunDir:
    (found,) = [RunDir(path) for path in folder.iterdir() if path.name[0] != "."]
    return found


def test_a_run_of_two_processes_is_that_of_one_and_one_can_go_on_with_it(
    decoder: Path, chats_jsonl: Path, tmp_path: Path
) -> None:
    alone = run.train_recipe(recipefile.load(recipe_of(tmp_path, "alone", decoder, chats_jsonl)).recipe)
    recipe = recipe_of(tmp_path, "two", decoder, chats_jsonl)
    done = torchrun(2, "-m", "tunesmith", "train", str(recipe), "--json", place=tmp_path)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)  # the first process alone is heard
    two = only(tmp_path / "two")
    assert printed["run"] == str(two.path)
    losses = [[e.losses["loss"] for e in r.events() if isinstance(e, Updated)] for r in (alone, two)]
    assert len(losses[0]) == alone.json("plan")["steps"]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    first, other = (checkpoint.read(r.checkpoints / "last")[0] for r in (alone, two))
    assert all(torch.allclose(first[name], other[name], atol=1e-5) for name in first)
    assert two.json("receipt")["machine"]["processes"] == "2"
    assert [p.name for p in (two.path / "logs").iterdir()] == ["attempt_1"]
    assert all(check["holds"] for check in printed["verified"])


def test_a_run_of_one_process_stopped_is_gone_on_with_by_three(
    decoder: Path, chats_jsonl: Path, tmp_path: Path
) -> None:
    alone = run.train_recipe(recipefile.load(recipe_of(tmp_path, "alone", decoder, chats_jsonl)).recipe)
    directory, prepared = run.begin(
        recipefile.load(recipe_of(tmp_path, "stopped", decoder, chats_jsonl)).recipe, None, []
    )
    seen = [0]
    for event in run.go(directory, prepared, lambda: seen[0] >= 2):
        seen[0] = event.step if isinstance(event, Updated) else seen[0]
    done = torchrun(3, "-m", "tunesmith", "resume", str(directory.path), place=tmp_path)
    assert done.returncode == 0, done.stderr
    first, other = (checkpoint.read(r.checkpoints / "last")[0] for r in (alone, directory))
    assert all(torch.allclose(first[name], other[name], atol=1e-5) for name in first)


def test_what_is_wrong_is_said_once_and_no_process_is_left_waiting(decoder: Path, tmp_path: Path) -> None:
    rows = tiny.write_jsonl(tmp_path / "bad.jsonl", [{"messages": [{"role": "king", "content": "a"}]}] * 4)
    recipe = recipe_of(tmp_path, "bad", decoder, rows)
    done = torchrun(2, "-m", "tunesmith", "train", str(recipe), place=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("error: message 1 has the role 'king'") == 1
    assert "the first process ended, and says why\n  at process 1" in done.stderr
    assert not (tmp_path / "bad").exists()


def test_a_world_size_without_a_place_to_meet_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(RunError, match="nothing says where they meet"):
        ranks.joined()
    monkeypatch.delenv("WORLD_SIZE")
    assert ranks.joined() is ranks.ALONE
