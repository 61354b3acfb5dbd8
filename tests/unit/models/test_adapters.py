"""Low-rank adapters, their kin, and factors: what runs is what is saved, merged and read by the PEFT library."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import tiny
from tunesmith import recipefile
from tunesmith.contracts import Tokens
from tunesmith.errors import ModelError, RecipeError
from tunesmith.models import adapted, peftfiles
from tunesmith.models.ia3 import Ia3Linear
from tunesmith.models.lora import LoraKind, LoraLinear
from tunesmith.models.model import Model
from tunesmith.prepare import Prepared, prepare
from tunesmith.train.optimizer import make_optimizer

KINDS: dict[str, Any] = {
    "lora": {"name": "lora", "rank": 4},
    "root": {"name": "lora", "rank": 9, "alpha": 6.0, "scaling": "root"},
    "dora": {"name": "lora", "rank": 4, "kind": "dora"},
    "pissa": {"name": "lora", "rank": 4, "init": "pissa"},
    "dora from singular vectors": {"name": "lora", "rank": 3, "kind": "dora", "init": "pissa", "scaling": "root"},
    "ranks": {"name": "lora", "rank": 4, "ranks": {"*att*": 7, "*.1.*": 2}},
    "ia3": "ia3",
}
ROWS = [Tokens(tuple(range(5, 5 + length))) for length in (4, 9, 17)]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_decoder(tmp_path_factory.mktemp("models") / "gpt2", "gpt2")


def ready(model: Path, tmp_path: Path, method: Any, **changes: Any) -> Prepared:
    chat = "bert" not in model.name
    rows = (
        tiny.write_jsonl(tmp_path / "r.jsonl", tiny.chat_rows(40))
        if chat
        else tiny.write_csv(tmp_path / "r.csv", tiny.label_rows())
    )
    return prepare(recipefile.build(tiny.recipe_values(model, rows, tmp_path, method=method, **changes)))


def moved(model: Model) -> Model:
    """With what learns changed, as by training."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in model.trained():
            parameter.add_(0.1 * parameter.std().nan_to_num(0.5).clamp(0.4, 0.5) * torch.randn(
                parameter.shape, generator=generator))  # fmt: skip
    model.net.eval()
    return model


FAMILIES = ["encoder", "decoder", "gpt2"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_begins_as_nothing_and_is_the_same_in_our_blocks_in_stock_ones_merged_and_in_peft(
    kind: str, family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = request.getfixturevalue(family)
    bare = ready(path, tmp_path, "full").model
    bare.net.eval()
    model = ready(path, tmp_path, KINDS[kind]).model
    model.net.eval()
    with torch.no_grad():
        assert torch.allclose(model.states(ROWS)[0], bare.states(ROWS)[0], atol=2e-5)
        moved(model)
        learned = model.states(ROWS)[0]
        assert not torch.allclose(learned, bare.states(ROWS)[0], atol=1e-2)
        model.stock = True
        assert torch.allclose(model.states(ROWS)[0], learned, atol=2e-5)
        model.stock = False
        root = model.root if family == "encoder" else ""
        peftfiles.save_peft(model.net, root, tmp_path / "saved", base_name=str(path), task_type=None, in_full=[])
        theirs = _in_peft(path, tmp_path / "saved", family)
        for row, wanted in zip(ROWS, learned.split([len(row.ids) for row in ROWS]), strict=True):
            states = theirs(input_ids=torch.tensor([row.ids]), output_hidden_states=True).hidden_states[-1][0]
            assert torch.allclose(states, wanted, atol=5e-5)
        adapted.merge(model.net)
        assert not list(adapted.found(model.net))
        assert torch.allclose(model.states(ROWS)[0], learned, atol=5e-5)


def _in_peft(base: Path, folder: Path, family: str) -> Any:
    if family == "encoder":
        net = AutoModelForSequenceClassification.from_pretrained(base).base_model
    else:
        net = AutoModelForCausalLM.from_pretrained(base)
    loaded = peft.PeftModel.from_pretrained(net, str(folder))
    assert not any(value.device.type == "meta" for value in loaded.parameters())
    return loaded.eval()


@pytest.mark.parametrize("kind", ["dora", "ia3", "pissa"])
@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_gradients_in_our_blocks_are_those_of_stock_ones(
    kind: str, family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = moved(ready(request.getfixturevalue(family), tmp_path, KINDS[kind]).model)
    found = []
    for stock in (False, True):
        model.stock = stock
        model.forget_gradients()
        model.states(ROWS)[0].square().sum().backward()
        found.append({name: p.grad.clone() for name, p in model.trained() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and any("lora_A" in name or "ia3" in name for name in found[0])
    for name, grad in found[0].items():
        assert torch.allclose(grad, found[1][name], atol=1e-4 * float(grad.abs().max()) + 1e-7), name


def test_doras_gradients_are_pefts(decoder: Path, tmp_path: Path) -> None:
    model = moved(ready(decoder, tmp_path, KINDS["dora"]).model)
    peftfiles.save_peft(model.net, "", tmp_path / "saved", base_name=str(decoder), task_type=None, in_full=[])
    net = AutoModelForCausalLM.from_pretrained(decoder)
    theirs = peft.PeftModel.from_pretrained(net, str(tmp_path / "saved"), is_trainable=True).eval()
    ids = torch.tensor([ROWS[2].ids])
    theirs(input_ids=ids, output_hidden_states=True).hidden_states[-1].square().sum().backward()
    model.states([ROWS[2]])[0].square().sum().backward()
    wanted = {
        name.removeprefix("base_model.model.").replace(".default", "").replace(".weight", ""): p.grad
        for name, p in theirs.named_parameters()
        if p.grad is not None
    }
    for name, parameter in model.trained():
        other = wanted[name.replace("magnitude", "lora_magnitude_vector")]
        assert parameter.grad is not None and other is not None
        assert torch.allclose(parameter.grad, other, atol=1e-3 * float(other.abs().max())), name


def test_pissa_begins_as_the_largest_part_of_the_matrix() -> None:
    torch.manual_seed(0)
    base = nn.Linear(12, 20)
    adapter = LoraLinear(base, LoraKind(3, 2.0, pissa=True), seed=1)
    u, s, v = torch.linalg.svd(base.weight.detach(), full_matrices=False)
    wanted = u[:, :3] @ torch.diag(s[:3]) @ v[:3]
    assert torch.allclose(2.0 * adapter.lora_B @ adapter.lora_A, wanted, atol=1e-5)
    again = LoraLinear(base, LoraKind(3, 2.0, pissa=True), seed=1)
    assert torch.equal(again.lora_A, adapter.lora_A)
    x = torch.randn(5, 12)
    assert torch.allclose(adapter(x), base(x), atol=1e-6)


def test_a_run_from_singular_vectors_is_used_as_it_was_trained(encoder: Path, tmp_path: Path) -> None:
    from tunesmith import load

    rows = tiny.write_csv(tmp_path / "r.csv", tiny.label_rows())
    made = tiny.train_to_end(tiny.recipe_values(encoder, rows, tmp_path, method=KINDS["pissa"]))
    again = load(made.path)
    assert again.evaluate()["scores"]["test"] == made.json("report/report")["scores"]["test"]
    starts = [name for name in again.model.state() if name.endswith(".start_A")]
    assert len(starts) == 12  # six products in each of two blocks


def test_the_second_matrix_learns_faster_and_ranks_are_those_of_the_last_pattern(encoder: Path, tmp_path: Path) -> None:
    method = {"name": "lora", "rank": 4, "b_rate": 16.0, "ranks": {"*.layer.1.*": 2, "*.value": 7}}
    prepared = ready(encoder, tmp_path, method, train__learning_rate=1e-4, train__layer_decay=0.5)
    model = prepared.model
    optimizer = make_optimizer(model.learned(), model.fresh, *prepared.rates(), 0.0, share=prepared.share_of)
    rates = {name: group["peak"] for group in optimizer.param_groups for name in group["names"]}
    for name, module in adapted.found(model.net):
        assert isinstance(module, LoraLinear)
        assert module.rank == (7 if name.endswith("value") else 2 if ".layer.1." in name else 4)
        lower = 1.0 if ".layer.1." in name else 0.5
        assert rates[f"{name}.lora_A"] == pytest.approx(1e-4 * lower)
        assert rates[f"{name}.lora_B"] == pytest.approx(16e-4 * lower)


@pytest.mark.parametrize(
    ("method", "problem", "where"),
    [
        ("bitfit", "have no biases", "method"),
        ({"name": "lora", "ranks": {"*.nothing": 3}}, r"called like `\*.nothing`", "method.ranks"),
        ({"name": "lora", "init": "pissa", "start": "x"}, "two starts", "method.start"),
    ],
)
def test_what_a_net_does_not_have_is_refused_with_what_would_do(
    decoder: Path, tmp_path: Path, method: Any, problem: str, where: str
) -> None:
    with pytest.raises(RecipeError, match=problem) as caught:
        ready(decoder, tmp_path, method)
    assert caught.value.where == where and caught.value.hint


def test_bitfit_moves_biases_and_the_head_alone(encoder: Path, tmp_path: Path) -> None:
    model = ready(encoder, tmp_path, "bitfit").model
    assert {name.rpartition(".")[2] for name, _ in model.trained() if name not in model.fresh} == {"bias"}
    assert model.fresh <= {name for name, _ in model.trained()}


@pytest.mark.parametrize("kind", ["pissa", "dora from singular vectors"])
def test_in_half_precision_an_adapter_from_singular_vectors_begins_as_nothing(
    kind: str, decoder: Path, tmp_path: Path
) -> None:
    bare = ready(decoder, tmp_path, "full", train__precision="bf16").model
    model = ready(decoder, tmp_path, KINDS[kind], train__precision="bf16").model
    for made in (bare, model):
        made.net.eval()
    with torch.no_grad():
        difference = (model.states(ROWS)[0] - bare.states(ROWS)[0]).abs().mean()
    assert float(difference) < 0.02


@pytest.mark.parametrize(
    "method",
    [
        {"name": "lora", "rank": 5, "alpha": 8, "scaling": "root"},
        {"name": "lora", "rank": 4, "ranks": {"*att*": 7, "*.1.*": 2}},
        {"name": "lora", "rank": 4, "ranks": {"*.v_proj": 8}, "scaling": "root"},
    ],
)
def test_what_was_saved_can_be_gone_on_from_with_the_same_method(decoder: Path, tmp_path: Path, method: Any) -> None:
    first = moved(ready(decoder, tmp_path, method).model)
    peftfiles.save_peft(first.net, "", tmp_path / "saved", base_name=str(decoder), task_type=None, in_full=[])
    again = ready(decoder, tmp_path, {**method, "start": str(tmp_path / "saved")}).model
    for (name, a), (_, b) in zip(first.trained(), again.trained(), strict=True):
        assert torch.equal(a, b), name
    with pytest.raises(ModelError, match="does not fit"):
        ready(decoder, tmp_path, {**method, "alpha": 9.0, "start": str(tmp_path / "saved")})


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert", "deberta-v2"])
def test_factors_are_on_keys_values_and_the_feed_forward_part_of_every_block(kind: str, tmp_path: Path) -> None:
    folder = tiny.make_encoder(tmp_path / f"bert-{kind}", kind)
    model = ready(folder, tmp_path, "ia3").model
    found = [(name, module.reads) for name, module in adapted.found(model.net) if isinstance(module, Ia3Linear)]
    assert sum(not reads for _, reads in found) == 2 * model.depth and sum(reads for _, reads in found) == model.depth


def test_frozen_adapters_are_part_of_what_a_kept_trunk_is_known_by(decoder: Path, tmp_path: Path) -> None:
    frozen = {"train__freeze": ["*.layers.0.*"]}
    plain, other, pissa = (ready(decoder, tmp_path, KINDS[kind], **frozen).model for kind in ("lora", "lora", "pissa"))
    sums = [adapted.frozen_sum(model.net) for model in (plain, other, pissa)]
    assert sums[0] == sums[1] != sums[2]
    name, module = next(adapted.found(other.net))
    assert ".layers.0." in name and isinstance(module, LoraLinear)
    module.lora_B.data += 0.1
    assert adapted.frozen_sum(other.net) != sums[0]
    last = [module for _, module in adapted.found(plain.net)][-1]
    assert isinstance(last, LoraLinear)
    last.lora_B.data += 0.1  # learns: is in no table
    assert adapted.frozen_sum(plain.net) == sums[0]


def _opened(folder: Path) -> dict[str, Any]:
    """What the lines of code in a saved folder's README leave behind."""
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code.replace('folder = "."', f"folder = {str(folder)!r}"), names)
    return names


@pytest.mark.parametrize("method", ["bottleneck", "prompt-tuning"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_lines_in_the_readme_open_a_saved_classifier_without_tunesmith(
    method: str, pooling: str, encoder: Path, tmp_path: Path
) -> None:
    from tunesmith.models import save

    made = ready(encoder, tmp_path, method)
    recipe = made.recipe.model_copy(update={"model": made.recipe.model.model_copy(update={"pooling": pooling})})
    model = moved(prepare(recipe).model)
    save.save(model, tmp_path / "saved", ("a",), "# card\n", {})
    names = _opened(tmp_path / "saved")
    net = names["net"].eval()
    ids = torch.tensor([ROWS[1].ids])
    read = {"inputs_embeds": names["embedded"](ids)} if method == "prompt-tuning" else {"input_ids": ids}
    with torch.no_grad():
        wanted = model.class_logits([ROWS[1]])[0]
        if pooling == "mean":
            found = names["logits"](net(**read).last_hidden_state[0][len(model.prefix) :])
        elif method == "prompt-tuning":
            states = net.base_model(**read).last_hidden_state[:, len(model.prefix) :]
            found = net.classifier(net.base_model.pooler(states))[0]
        else:
            found = net(**read).logits[0]
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bottleneck_begins_as_nothing_and_is_the_same_in_stock_blocks_and_by_the_readme(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from tunesmith.models import save

    path = request.getfixturevalue(family)
    bare = ready(path, tmp_path, "full").model
    model = ready(path, tmp_path, {"name": "bottleneck", "width": 7}).model
    model.net.eval()
    bare.net.eval()
    with torch.no_grad():
        assert torch.allclose(model.states(ROWS)[0], bare.states(ROWS)[0], atol=2e-5)
        learned = moved(model).states(ROWS)[0]
        assert not torch.allclose(learned, bare.states(ROWS)[0], atol=1e-2)
        model.stock = True
        assert torch.allclose(model.states(ROWS)[0], learned, atol=2e-5)
        save.save(model, tmp_path / "saved", (), "# card\n", {})
        net = _opened(tmp_path / "saved")["net"].eval()
        states = net(input_ids=torch.tensor([ROWS[2].ids]), output_hidden_states=True).hidden_states[-1][0]
        assert torch.allclose(states, learned[-len(ROWS[2].ids) :], atol=2e-5)
    with pytest.raises(ModelError, match="cannot be merged"):
        adapted.merge(model.net)


def test_bottlenecks_stand_where_they_are_asked_for(encoder: Path, tmp_path: Path) -> None:
    def places(**options: Any) -> list[str]:
        return [
            path for path, _ in adapted.found(ready(encoder, tmp_path, {"name": "bottleneck", **options}).model.net)
        ]

    assert len(places()) == 4 and len(places(behind="feed-forward")) == 2
    assert [path.split("layer.")[1] for path in places(layers=1)] == ["1.attention.output.dense", "1.output.dense"]
