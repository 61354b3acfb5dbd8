"""Optimizers, rates by block, pulls, holds and averages: each step is the one that its source has, by hand."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunesmith import recipefile
from tunesmith.contracts import Tokens
from tunesmith.errors import RecipeError
from tunesmith.models.model import Model
from tunesmith.prepare import Prepared, prepare
from tunesmith.recipe import Train
from tunesmith.train.average import Average, Ema, Tail, averaged, without_average
from tunesmith.train.optimizer import KINDS, Name, Schedule, clip, load_optimizer_state, make_optimizer, optimizer_state
from tunesmith.train.shape import shape_of, start_of


def ready(model: Path, rows: Path, out: Path, **changes: Any) -> Prepared:
    return prepare(recipefile.build(tiny.recipe_values(model, rows, out, **changes)))


def stepped(kind: Name, grads: list[list[float]], rate: float, decay: float) -> list[float]:
    weight = torch.nn.Parameter(torch.tensor([[1.0, -2.0]]))
    optimizer = make_optimizer([("w", weight)], frozenset(), rate, rate, decay, kind=kind)
    for grad in grads:
        Schedule(1, 0, "constant", 1.0).apply(optimizer, 0)
        weight.grad = torch.tensor([grad])
        optimizer.step()
    found: list[float] = weight.detach().flatten().tolist()
    return found


def test_two_steps_of_lion_are_those_of_its_algorithm() -> None:
    # step 1: m = 0, signs of .1 g: +, -; w = w (1 - .1 * .5) - .1 sign -> .95 - .1, -1.9 + .1; m = .01 g = .02, -.01
    # step 2: .9 m + .1 g = .018 - .03, -.009 + .2: -, +; w = .85 * .95 + .1, -1.8 * .95 - .1
    assert stepped("lion", [[2.0, -1.0], [-0.3, 2.0]], 0.1, 0.5) == pytest.approx([0.9075, -1.81])


def test_two_steps_of_sgd_are_those_of_momentum() -> None:
    # step 1: v = g + wd w = .5 + .1, -4 - .2; step 2: v = .9 v + g + wd w
    first = [1.0 - 0.1 * 0.6, -2.0 + 0.1 * 4.2]
    second = [first[0] - 0.1 * (0.9 * 0.6 + 1 + 0.1 * first[0]), first[1] - 0.1 * (0.9 * -4.2 + 0.1 * first[1])]
    assert stepped("sgd", [[0.5, -4.0], [1.0, 0.0]], 0.1, 0.1) == pytest.approx(second)


def test_a_step_of_adafactor_is_of_the_size_of_the_tensor() -> None:
    # one row: the factored second moment is g^2, so that the step is the rate times the tensor's root mean square
    size = (5.0 / 2) ** 0.5
    assert stepped("adafactor", [[0.5, -4.0]], 0.01, 0.0) == pytest.approx([1.0 - 0.01 * size, -2.0 + 0.01 * size])


def test_moments_in_eight_bits_step_as_adamw_does_with_a_byte_a_moment() -> None:
    weights = {}
    kinds: tuple[Name, ...] = ("adamw", "adamw-8bit")
    for kind in kinds:
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 8192).view(64, 128))
        optimizer = make_optimizer([("w", weight)], frozenset(), 0.1, 0.1, 0.0, kind=kind)
        generator = torch.Generator().manual_seed(0)
        for _ in range(8):
            Schedule(1, 0, "constant", 1.0).apply(optimizer, 0)
            weight.grad = torch.randn(weight.shape, generator=generator)
            optimizer.step()
        weights[kind] = weight.detach() - torch.linspace(-1, 1, 8192).view(64, 128)
    kept = optimizer_state(optimizer)
    assert {kept["w/state1"].dtype, kept["w/state2"].dtype} == {torch.uint8}
    apart = weights["adamw-8bit"] - weights["adamw"]
    assert 0 < float(apart.norm() / weights["adamw"].norm()) < 0.05


def test_eight_bits_without_their_library_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(RecipeError, match="pip install bitsandbytes"):
        make_optimizer([("w", torch.nn.Parameter(torch.ones(2)))], frozenset(), 0.1, 0.1, 0.0, kind="adamw-8bit")


@pytest.mark.parametrize("kind", KINDS)
def test_every_optimizer_clips_passes_over_what_is_not_finite_and_goes_on_from_its_state(kind: Name) -> None:
    torch.manual_seed(0)
    grads = [torch.randn(4, 3) for _ in range(6)]

    def learn(count: int, state: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        weight = torch.nn.Parameter(torch.ones(4, 3) if state is None else state[0].clone())
        optimizer = make_optimizer([("w", weight)], frozenset(), 0.01, 0.01, 0.1, kind=kind)
        if state is not None:
            load_optimizer_state(optimizer, state[1])
        for k in range(0 if state is None else 3, count):
            Schedule(1, 0, "constant", 1.0).apply(optimizer, 0)
            weight.grad = grads[k].clone()
            if clip(optimizer, torch.stack([weight.grad.norm(), torch.tensor(float("nan"))]), 0.5):
                optimizer.step()
            weight.grad = grads[k].clone()
            assert clip(optimizer, weight.grad.norm()[None].double(), 0.5)
            optimizer.step()
        return weight.detach(), {name: value.clone() for name, value in optimizer_state(optimizer).items()}

    whole, half = learn(6), learn(3)
    resumed = learn(6, half)
    assert torch.equal(whole[0], resumed[0])
    assert bool((whole[0] != 1).any()) and bool(whole[0].isfinite().all())


def test_blocks_learn_at_rates_that_fall_with_their_distance_from_the_answer(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    prepared = ready(encoder, labels_csv, tmp_path, train__layer_decay=0.5, train__learning_rate=8e-4)
    model = prepared.model
    optimizer = make_optimizer(model.learned(), model.fresh, *prepared.rates(), 0.01, share=prepared.share_of)
    rates = {name: group["peak"] for group in optimizer.param_groups for name in group["names"]}
    assert model.depth == 2 and {model.height(name) for name in rates} == {0, 1, 2, 3}
    for name, rate in rates.items():
        wanted = {0: None, 1: 8e-4, 2: 4e-4, 3: 2e-4}[model.height(name)]
        assert rate == pytest.approx(wanted if name not in model.fresh and wanted else prepared.rates()[1])


def test_the_pull_to_the_start_is_the_gradient_of_half_the_squared_distance(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    model = ready(encoder, labels_csv, tmp_path).model
    start = start_of(model, 0.3)
    assert start.values.keys() == {name for name, _ in model.learned()} - model.fresh
    with torch.no_grad():
        for _, parameter in model.learned():
            parameter.add_(0.5)
            parameter.grad = torch.full_like(parameter, 2.0)
    start.pull(model)
    for name, parameter in model.learned():
        assert parameter.grad is not None
        wanted = 2.0 if name in model.fresh else 2.0 + 0.3 * 0.5
        assert torch.allclose(parameter.grad, torch.full_like(parameter, wanted), atol=1e-6)


def heights(model: Model) -> set[int]:
    return {model.height(name) for name, parameter in model.learned() if parameter.grad is not None}


def test_blocks_begin_to_learn_one_after_the_other_from_the_last(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    model = ready(encoder, labels_csv, tmp_path).model
    shape = shape_of(model, Train(unfreeze_every=0.5), per_epoch=8)
    seen = []
    for step in (0, 3, 4, 7, 8, 11, 12, 40):
        for _, parameter in model.learned():
            parameter.grad = torch.ones_like(parameter)
        shape(step)
        seen.append(max(heights(model)))
    assert seen == [0, 0, 1, 1, 2, 2, 3, 3]


def test_averages_are_those_of_their_formulas(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    model = ready(encoder, labels_csv, tmp_path, method="head").model
    ema, tail = Average(model, Ema(0.5)), Average(model, Tail(first=2))
    name, parameter = model.learned()[0]
    shadow = None
    for step in range(5):
        with torch.no_grad():
            parameter.fill_(float(step))
        ema.update(step)
        tail.update(step)
        decay = 0.0 if step == 0 else min(0.5, (1 + step) / (10 + step))
        shadow = float(step) if shadow is None else decay * shadow + (1 - decay) * step
        assert ema.held[name].flatten()[0].item() == pytest.approx(shadow)
        assert tail.held[name].flatten()[0].item() == pytest.approx(step if step < 2 else (2 + step) / 2)
    with tail.in_place():
        assert parameter.flatten()[0].item() == pytest.approx(3.0)
    assert parameter.flatten()[0].item() == 4.0
    state = {**tail.state(), "x/exp_avg": torch.zeros(1)}
    assert averaged(state).keys() == tail.held.keys() and without_average(state).keys() == {"x/exp_avg"}


@pytest.mark.parametrize("which", [{"ema": 0.9}, {"average": 0.5}])
def test_what_is_scored_saved_and_used_is_the_average(
    encoder: Path, labels_csv: Path, tmp_path: Path, which: dict[str, float]
) -> None:
    from tunesmith import predictor
    from tunesmith.train import checkpoint

    values = tiny.recipe_values(encoder, labels_csv, tmp_path, train__epochs=2, train__learning_rate=3e-3)
    values["train"] |= which
    values["evaluate"] = {"every": 1000}  # one look, at the end
    made = tiny.train_to_end(values)
    trained, beside = checkpoint.read(made.checkpoints / "best")
    average = averaged(beside)
    assert average.keys() == {name for name in trained if not name.endswith("ids")}
    assert any(not torch.equal(average[name], trained[name]) for name in average)
    loaded = predictor.load(made.path)
    for name, parameter in loaded.model.learned():
        assert torch.equal(parameter, average[name])
    report = made.json("report/report")
    again = loaded.evaluate()["scores"]["test"]["accuracy"]["value"]
    assert again == report["scores"]["test"]["accuracy"]["value"]


def test_what_is_named_stays_as_it_was_and_a_pattern_of_nothing_is_refused(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    values = tiny.recipe_values(encoder, labels_csv, tmp_path, train__epochs=1, train__learning_rate=3e-3)
    values["train"]["freeze"] = ["*embeddings*", "*.layer.0.*"]
    before = prepare(recipefile.build(values)).model.net.state_dict()
    made = tiny.train_to_end(values)
    from tunesmith import predictor

    after = predictor.load(made.path).model.net.state_dict()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert moved and not any("embeddings" in name or ".layer.0." in name for name in moved)
    for patterns, problem in ((["*.layer.9.*"], "nothing that learns is called"), (["*"], "nothing is left")):
        with pytest.raises(RecipeError, match=problem) as caught:
            ready(encoder, labels_csv, tmp_path, train__freeze=patterns)
        assert caught.value.where == "train.freeze"


@pytest.mark.parametrize("stock", [False, True])
def test_noise_on_embeddings_is_of_the_size_that_its_source_has_and_only_while_learning(
    decoder: Path, chats_jsonl: Path, tmp_path: Path, stock: bool
) -> None:
    from tunesmith.models.noise import with_noise

    model = ready(decoder, chats_jsonl, tmp_path, method="lora", train__noise=5.0).model
    model.stock = stock
    rows = [Tokens(tuple(range(5, 5 + length))) for length in (4, 9, 30)]
    stream = model.stream(rows)
    torch.manual_seed(1)
    moved = with_noise(torch.zeros(len(stream.ids), 64), stream, 5.0)
    at = 0
    for length in (4, 9, 30):
        bound = 5.0 / (length * 64) ** 0.5
        assert 0.9 * bound < moved[at : at + length].abs().max() <= bound
        at += length
    model.net.eval()
    calm = model.states(rows)[0]
    assert torch.equal(calm, model.states(rows)[0])
    model.train()
    torch.manual_seed(2)
    first = model.states(rows)[0]
    torch.manual_seed(2)
    assert torch.equal(first, model.states(rows)[0]) and not torch.allclose(first, calm, atol=1e-3)
    torch.manual_seed(3)
    assert not torch.allclose(first, model.states(rows)[0], atol=1e-3)
    model.noise = 0.0
    assert torch.allclose(model.states(rows)[0], calm, atol=1e-6)


def test_embeddings_that_are_given_make_the_states_that_ids_make(
    encoder: Path, decoder: Path, labels_csv: Path, chats_jsonl: Path, tmp_path: Path
) -> None:
    for path, file in ((encoder, labels_csv), (decoder, chats_jsonl)):
        model = ready(path, file, tmp_path, train__noise=1e-9).model
        rows = [Tokens(tuple(range(5, 5 + length))) for length in (4, 9)]
        model.train()
        for module in model.net.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for stock in (False, True):
            model.stock, model.noise = stock, 0.0
            plain = model.states(rows)[0]
            model.noise = 1e-9
            assert torch.allclose(model.states(rows)[0], plain, atol=1e-5)


def test_noise_is_refused_where_nothing_is_embedded_in_one_place(tmp_path: Path, encoder_decoder: Path) -> None:
    rows = [{"document": f"{row['text']} {k}", "summary": row["label"]} for k, row in enumerate(tiny.label_rows(40))]
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(RecipeError, match="noise goes on the embeddings") as caught:
        ready(encoder_decoder, file, tmp_path, task="summarization", train__noise=5.0)
    assert caught.value.where == "train.noise"


def test_without_a_head_the_last_block_that_learns_begins_at_once(
    decoder: Path, chats_jsonl: Path, tmp_path: Path
) -> None:
    values = tiny.recipe_values(decoder, chats_jsonl, tmp_path, method="lora", train__unfreeze_every=0.5)
    model = prepare(recipefile.build(values)).model
    shape = shape_of(model, Train(unfreeze_every=0.5), per_epoch=8)
    seen = []
    for step in (0, 3, 4):
        for _, parameter in model.learned():
            parameter.grad = torch.ones_like(parameter)
        shape(step)
        seen.append(heights(model))
    assert seen == [{1}, {1}, {1, 2}]


def test_what_is_fresh_learns_from_the_beginning_wherever_it_is(tmp_path: Path) -> None:
    folder = tiny.make_encoder(tmp_path / "one")
    rows = [{"document": f"{row['text']} {k}", "summary": row["label"]} for k, row in enumerate(tiny.label_rows(40))]
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    values = tiny.recipe_values(folder, file, tmp_path, task="summarization", train__unfreeze_every=0.1)
    values["model"] = {"encoder": str(folder), "decoder": str(folder)}
    model = prepare(recipefile.build(values)).model
    for _, parameter in model.learned():
        parameter.grad = torch.ones_like(parameter)
    shape_of(model, Train(unfreeze_every=0.1), per_epoch=8)(0)
    learns = {name for name, parameter in model.learned() if parameter.grad is not None}
    assert model.fresh <= learns and any(model.height(name) > 0 for name in model.fresh)
    assert not any(model.height(name) > 0 for name in learns - model.fresh)


@pytest.mark.parametrize(("every", "epochs"), [(1.0, 2), (0.7, 2), (5.0, 12)])
def test_blocks_that_would_never_learn_are_an_error(
    encoder: Path, labels_csv: Path, tmp_path: Path, every: float, epochs: int
) -> None:
    changes = {"train__unfreeze_every": every, "train__epochs": epochs}
    with pytest.raises(RecipeError, match="does not reach the first of 3") as caught:
        ready(encoder, labels_csv, tmp_path, **changes)
    assert caught.value.where == "train.unfreeze_every" and "less than" in (caught.value.hint or "")


def test_a_probed_head_cannot_be_frozen_and_noise_and_a_kept_trunk_not_be_had_together(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    values = tiny.recipe_values(encoder, labels_csv, tmp_path, train__freeze=["head.*"])
    values["model"] = {"name": str(encoder), "head": "probe"}
    with pytest.raises(RecipeError, match="in no checkpoint"):
        prepare(recipefile.build(values))
    with pytest.raises(RecipeError, match="nothing can be kept"):
        recipefile.build(tiny.recipe_values(encoder, labels_csv, tmp_path, train__noise=5, train__cache="fp16"))


@pytest.mark.parametrize("kind", ["t5", "mbart"])
def test_what_follows_the_reading_blocks_is_as_far_from_the_answer_as_the_last_of_them(
    kind: str, tmp_path: Path
) -> None:
    folder = tiny.make_seq2seq(tmp_path / kind, kind)
    rows = [{"document": f"{row['text']} {k}", "summary": row["label"]} for k, row in enumerate(tiny.label_rows(40))]
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    model = ready(folder, file, tmp_path, task="summarization").model
    norm = {"t5": "final_layer_norm", "mbart": "layer_norm"}[kind]
    found = {name: model.height(name) for name, _ in model.learned()}
    reading, writing = (
        [height for name, height in found.items() if f"{half}.{norm}." in name] for half in ("encoder", "decoder")
    )
    blocks = {
        height for name, height in found.items() if ".encoder." in f".{name}" and model.depth_of(name) is not None
    }
    assert set(reading) == {min(blocks)} and set(writing) == {0}
    top = ready(folder, file, tmp_path, task="summarization", method={"name": "top-layers", "layers": 1}).model
    assert any(f"decoder.{norm}." in name for name, _ in top.trained())


def test_factors_are_not_decayed_to_nothing(encoder: Path, labels_csv: Path, tmp_path: Path) -> None:
    model = ready(encoder, labels_csv, tmp_path, method="ia3").model
    optimizer = make_optimizer(model.learned(), model.fresh, 1e-3, 1e-3, 0.1)
    decayed = {name for group in optimizer.param_groups if group["weight_decay"] for name in group["names"]}
    assert decayed and not any("ia3_l" in name for name in decayed)


def test_r_drop_is_the_mean_of_two_runs_and_what_they_differ_by(
    encoder: Path, labels_csv: Path, tmp_path: Path
) -> None:
    values = tiny.recipe_values(encoder, labels_csv, tmp_path)
    values["model"] = {"name": str(encoder), "dropout": 0.3}
    values["task"] = {"name": "text-classification", "r_drop": 2.0, "balance": "weights"}
    prepared = prepare(recipefile.build(values))
    model, task = prepared.model, prepared.task
    examples = [example for row in prepared.examples[:12] for example in row]
    model.train()
    torch.manual_seed(4)
    found = task.loss(model, examples)["loss"]
    torch.manual_seed(4)
    with torch.no_grad():
        first, second = (task.logits(model, examples) for _ in range(2))  # type: ignore[attr-defined]
    wanted = 0.0
    for k, example in enumerate(examples):
        p, q = first[k].softmax(-1), second[k].softmax(-1)
        weight = task.weights([example])["loss"]
        entropy = -(p[example.target].log() + q[example.target].log()) / 2
        apart = ((p * (p / q).log()).sum() + (q * (q / p).log()).sum()) / 2
        assert float(apart) > 0
        wanted += weight * float(entropy + 2.0 * apart)
    assert found.total.item() == pytest.approx(wanted, rel=1e-5)
    model.net.eval()
    plain = prepare(recipefile.build({**values, "task": {"name": "text-classification", "balance": "weights"}})).task
    assert torch.equal(task.loss(model, examples)["loss"].total, plain.loss(model, examples)["loss"].total)
