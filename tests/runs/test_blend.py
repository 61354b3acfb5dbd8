"""Between the untuned and the tuned weights: the ends are what they should be, what is between is saved as it is."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import samples
import tiny
from tunesmith import load as load_run
from tunesmith import recipefile
from tunesmith.blending import Blend
from tunesmith.cli import app
from tunesmith.contracts import Tokens
from tunesmith.errors import ModelError, RunError, UserError
from tunesmith.models import catalog, load
from tunesmith.prepare import prepare
from tunesmith.recipe import ModelChoice
from tunesmith.results import Blend as Shape

ROWS = [Tokens(tuple(range(5, 5 + length))) for length in (4, 9, 17)]


def finished(folder: Path, tmp_path: Path, method: Any, task: str = "text-classification", **model: Any) -> Path:
    rows = samples.write(task, tmp_path)
    values = tiny.recipe_values(folder, rows, tmp_path / "runs", task=task, method=method, evaluate__answers=0)
    path: Path = tiny.train_to_end({**values, "model": {"name": str(folder), **model}}).path
    return path


@pytest.mark.parametrize(
    "method", ["full", {"name": "lora", "rank": 4}, "ia3", {"name": "peft", "type": "LOHA", "config": {"r": 2}}]
)
def test_the_ends_are_the_untuned_trunk_and_the_tuned_model(method: Any, encoder: Path, tmp_path: Path) -> None:
    run = finished(encoder, tmp_path, method)
    tuned = load_run(run).model
    wanted, states = tuned.class_logits(ROWS), tuned.states(ROWS)[0]
    untuned = load.load_classifier(catalog.find(str(encoder)), ModelChoice(name="x"), ("a", "b"), None, 0)
    mixed = Blend(run)
    with torch.no_grad():
        assert torch.allclose(mixed.set(1.0).class_logits(ROWS), wanted, atol=1e-4)
        assert torch.allclose(mixed.set(0.0).states(ROWS)[0], untuned.states(ROWS)[0], atol=1e-6)
        halves = dict(mixed.set(0.5).net.named_parameters())
    for name, parameter in halves.items():
        assert torch.allclose(parameter, (mixed.start[name] + mixed.end[name]) / 2, atol=1e-6), name
    assert not torch.allclose(states, untuned.states(ROWS)[0], atol=1e-3)


def test_a_head_that_began_as_the_probe_is_mixed_with_it_and_one_that_was_drawn_stays(
    encoder: Path, tmp_path: Path
) -> None:
    drawn = Blend(finished(encoder, tmp_path, "full"))
    assert all(torch.equal(drawn.start[name], drawn.end[name]) for name in ("head.weight", "head.bias"))
    run = finished(encoder, tmp_path, "full", head="probe")
    probed = Blend(run)
    begun = prepare(recipefile.build(json.loads((run / "resolved.json").read_text()))).model
    assert torch.allclose(probed.start["head.weight"], dict(begun.net.named_parameters())["head.weight"], atol=1e-4)
    assert not torch.equal(probed.start["head.weight"], probed.end["head.weight"])


def test_the_command_prints_a_curve_draws_it_and_saves_a_model_that_answers_as_it_was_scored(
    encoder: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    run = finished(encoder, tmp_path, "full", head="probe")
    other = tiny.write_csv(
        tmp_path / "other.csv", [{"text": f"the red box {k} now", "label": "ab"[k % 2]} for k in range(40)]
    )
    arguments = ["blend", str(run), "--steps", "4", "--keep", str(other), "--save", "0.5", "--json"]
    result = CliRunner().invoke(app, arguments, standalone_mode=False)
    assert result.exit_code == 0, result.output
    found = Shape.model_validate(json.loads(result.stdout))
    assert [point.share for point in found.points] == [0, 0.25, 0.5, 0.75, 1]
    assert all(point.kept is not None and 0 <= point.kept <= 1 for point in found.points)
    assert Path(found.plot).read_bytes()[:4] == b"\x89PNG"
    assert found.saved is not None and found.saved.split == "test"
    model = Blend(run).set(0.5)
    wanted = model.class_logits([model.text.text("where is my parcel")])
    encoded = SentenceTransformer(found.saved.folder, device="cpu").encode(
        ["where is my parcel"], convert_to_tensor=True
    )
    assert torch.allclose(torch.as_tensor(encoded), wanted, atol=1e-4)


def test_what_a_decoder_keeps_is_the_loss_of_other_texts(decoder: Path, tmp_path: Path) -> None:
    run = finished(decoder, tmp_path, "lora", "chat")
    other = tiny.write_jsonl(tmp_path / "other.jsonl", [{"text": f"where is the box {k} please"} for k in range(6)])
    points = list(Blend(run, other).curve([0.0, 1.0]))
    assert all(point.kept is not None and point.kept > 0 for point in points)
    assert points[0].kept != points[1].kept


@pytest.mark.parametrize(("method", "error"), [("prompt-tuning", RunError), ("bottleneck", ModelError)])
def test_adapters_that_are_no_weights_are_refused(
    method: str, error: type[Exception], encoder: Path, tmp_path: Path
) -> None:
    run = finished(encoder, tmp_path, method)
    with pytest.raises(error, match=r"no weights|cannot be merged"):
        Blend(run)


@pytest.mark.parametrize("task", ["reranking", "retrieval", "token-classification"])
def test_rows_that_need_each_other_are_put_together_first(task: str, encoder: Path, tmp_path: Path) -> None:
    run = finished(encoder, tmp_path, "full", task)
    points = list(Blend(run).curve([0.0, 1.0]))
    wanted = load_run(run).evaluate()["scores"]["test"]
    _, scores = Blend(run).keep(1.0, tmp_path / "saved")
    assert scores.keys() == wanted.keys() and len(points) == 2
    for name, score in scores.items():
        assert score.value == pytest.approx(wanted[name]["value"], abs=1e-4)


def test_an_unfinished_run_changed_rows_and_rows_that_tell_nothing_are_refused(encoder: Path, tmp_path: Path) -> None:
    run = finished(encoder, tmp_path, "full")

    def refused(*arguments: str) -> str:
        with pytest.raises(UserError) as fault:
            CliRunner().invoke(app, ["blend", str(run), "--steps", "1", *arguments], standalone_mode=False,
                               catch_exceptions=False)  # fmt: skip
        return str(fault.value)

    few = tiny.write_csv(tmp_path / "few.csv", [{"text": f"box {k}", "label": str(k % 3)} for k in range(9)])
    assert "a probe needs 5 rows of every label, and some have 3" in refused("--keep", str(few))
    odd = tiny.write_csv(tmp_path / "odd.csv", [{"headline": f"box {k}", "section": str(k % 2)} for k in range(20)])
    assert "call its columns a `text` and a `label`" in refused("--keep", str(odd))
    rows = Path(json.loads((run / "data.json").read_text())["train"]["files"][0]["path"])
    whole = rows.read_text()
    rows.write_text("\n".join(whole.splitlines()[:60]) + "\n")
    assert "have changed since the run began" in refused()
    rows.write_text(whole)
    status = run / "status.json"
    status.write_text(status.read_text().replace("finished", "stopped"))
    assert "the run has not finished" in refused()


def test_the_base_of_a_net_with_fewer_blocks_is_the_net_as_published(encoder: Path, tmp_path: Path) -> None:
    from tunesmith import judgement

    made = tiny.recipe_values(encoder, samples.write("retrieval", tmp_path), tmp_path, task="retrieval")
    prepared = prepare(recipefile.build({**made, "model": {"name": str(encoder), "blocks": 1}}))
    assert prepared.model.depth == 1
    base = judgement.untuned(prepared.task, prepared.recipe, prepared.source, prepared.train_rows)
    assert base.depth == 2
