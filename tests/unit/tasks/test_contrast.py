"""Learning by pairs of rows, and the head that is fitted afterwards."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import samples
import tiny
from tunesmith import load as load_run
from tunesmith import recipefile
from tunesmith.data.batches import Plan
from tunesmith.errors import RecipeError
from tunesmith.models.loss import contrast
from tunesmith.prepare import Prepared, prepare
from tunesmith.train import evaluate
from tunesmith.train.accumulate import Piece, accumulate


def values(request: pytest.FixtureRequest, tmp_path: Path, family: str = "encoder", **changes: Any) -> dict[str, Any]:
    task = "image-classification" if family == "vision" else "text-classification"
    options = {"name": task, "contrast": True, **changes.pop("options", {})}
    model = {"name": str(request.getfixturevalue(family)), **changes.pop("model", {})}
    made = tiny.recipe_values(Path("x"), samples.write(task, tmp_path), tmp_path / "runs", task=options, **changes)
    return {**made, "model": model}


def ready(*given: Any, **changes: Any) -> Prepared:
    return prepare(recipefile.build(values(*given, **changes)))


def test_the_loss_is_what_a_hand_computes() -> None:
    vectors = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 2.0], [-1.0, 0.0], [0.0, -4.0]], dtype=torch.float64)
    # Cosines of the pairs alike, (0, 1) and (2, 3): .7071 and 0; of those apart: 0, -1, .7071, -.7071; the last row is
    # of a label that training never saw.
    alike = ((1 - 0.5**0.5) ** 2 + 1) / 2
    apart = (0 + 1 + 0.5 + 0.5) / 4
    assert float(contrast(vectors, [0, 0, 1, 1, -1])) == pytest.approx((alike + apart) / 2)
    assert float(contrast(vectors[:1], [0])) == 0.0


@settings(max_examples=100)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=40), st.integers(0, 5))
def test_every_row_comes_once_an_epoch_and_two_of_a_label_stand_together(labels: list[int], epoch: int) -> None:
    plan = Plan(len(labels), len(labels), 3, True, tuple(labels), pairs=True)
    order = plan.at(epoch)
    assert sorted(order) == list(range(len(labels)))
    paired = sum(count // 2 for count in Counter(labels).values())
    assert all(labels[order[2 * k]] == labels[order[2 * k + 1]] for k in range(paired))
    alone = [labels[k] for k in order[2 * paired :]]
    assert len(alone) == len(set(alone))


@pytest.mark.parametrize("family", ["encoder", "decoder", "vision"])
def test_cutting_a_batch_does_not_change_the_update(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    prepared = ready(request, tmp_path, family, model={"dropout": 0.0} if family != "vision" else {})
    model, task = prepared.model, prepared.task
    model.net.double()
    examples = [example for row in prepared.examples[:13] for example in row]
    found = []
    for size in (13, 5, 1):
        model.train()
        for module in model.net.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        pieces = [Piece(k, examples[at : at + size]) for k, at in enumerate(range(0, 13, size))]
        losses = accumulate(model, task, pieces, task.weights(examples))
        grads = torch.cat([p.grad.flatten() for _, p in model.trained() if p.grad is not None])
        found.append((float(losses["loss"]), grads.clone()))
        model.forget_gradients()
    assert found[0][0] > 0.1
    for loss, grads in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-10)
        assert float((grads - found[0][1]).norm() / found[0][1].norm()) < 1e-9


@pytest.mark.parametrize("family", ["encoder", "decoder", "vision"])
def test_a_run_brings_texts_of_a_label_together_and_fits_the_head_to_what_they_became(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    made = values(request, tmp_path, family, train__epochs=8, train__learning_rate=3e-3, train__batch_size=16)
    directory = tiny.train_to_end(made)
    losses = [event.losses["loss"] for event in directory.events() if hasattr(event, "losses")]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    model, task = load_run(directory.path).model, load_run(directory.path).task
    before = {name: p.clone() for name, p in model.net.named_parameters() if name in model.fresh}
    prepared = prepare(recipefile.build(made))
    task.refit(model, prepared.train_rows)
    for name, parameter in model.net.named_parameters():
        if name in before:
            assert torch.allclose(parameter, before[name], atol=1e-4) and bool(parameter.any())
    learned = evaluate.judge(model, task, prepared.train_rows, answers=0).measured
    assert evaluate.value_of(task, learned)["macro_f1"] > 0.5


def test_a_stopped_run_ends_in_the_same_bits(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    made = values(request, tmp_path, train__epochs=2)
    assert tiny.last_bits(made) == tiny.last_bits(made, stop_at=7)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"options": {"smoothing": 0.1}}, "no cross entropy"),
        ({"options": {"balance": "sampling"}}, "no cross entropy"),
        ({"model": {"pooling": "cls"}}, "linear head"),
        ({"model": {"head_layers": 2}}, "linear head"),
        ({"method": "head"}, "nothing else learns"),
        ({"train__batch_size": 1}, "hardly any"),
        ({"train__ema": 0.9}, "no average"),
        ({"train__average": 0.5}, "no average"),
        ({"train__freeze": ["head*"]}, "in no checkpoint"),
        ({"family": "vision", "options": {"mixup": 0.2}}, "mixed of two"),
    ],
)
def test_what_contradicts_it_is_refused(
    changes: dict[str, Any], said: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=said):
        ready(request, tmp_path, **changes)


@pytest.mark.parametrize(("family", "method"), [("encoder", "full"), ("decoder", "lora"), ("encoder", "bottleneck")])
def test_the_fitted_head_reads_states_of_length_one_here_and_where_the_model_is_opened(
    family: str, method: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    made = values(request, tmp_path, family, method=method, train__epochs=1)
    run = load_run(tiny.train_to_end(made).path)
    model, text = run.model, "where is my parcel"
    row = model.text.text(text)
    wanted = model.class_logits([row])[0]
    unit = torch.nn.functional.normalize(model.embeddings([row]), dim=1)[0]
    net: Any = model.net
    assert torch.allclose(net.head.weight @ unit + net.head.bias, wanted, atol=1e-5)
    folder = run.run.path / "model"
    if method == "bottleneck":
        code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
        names: dict[str, Any] = {}
        exec(code.replace('folder = "."', f"folder = {str(folder)!r}"), names)
        found = names["logits"](names["net"].eval()(input_ids=torch.tensor([row.ids])).last_hidden_state[0])
    else:
        encoded = SentenceTransformer(str(folder), device="cpu").encode([text], convert_to_tensor=True)
        found = torch.as_tensor(encoded)[0]
    assert torch.allclose(found, wanted, atol=1e-4)
