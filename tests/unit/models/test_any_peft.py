"""Every adapter of the PEFT library learns, comes back, is saved as the library reads it and merges; or is refused."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

import tiny
from tunesmith import recipefile
from tunesmith.contracts import Tokens
from tunesmith.errors import ModelError, RecipeError
from tunesmith.models import anypeft, save
from tunesmith.prepare import Prepared, prepare
from tunesmith.train.accumulate import Piece, accumulate

SMALL: dict[str, dict[str, Any]] = {
    "C3A": {"block_size": 8},
    "FOURIERFT": {"n_frequency": 40},
    "MISS": {"r": 4},
    "PSOFT": {"r": 4},
    "ROAD": {"group_size": 4},
    "SHIRA": {"r": 2},
    "WAVEFT": {"n_frequency": 40},
    "RANDLORA": {"r": 4},
    "VERA": {"r": 8},
    "PVERA": {"r": 8},
    "VBLORA": {"num_vectors": 20, "vector_length": 8, "topk": 2},
    "TRAINABLE_TOKENS": {"token_indices": [6, 7, 8]},
    "IA3": {"feedforward_modules": []},
}
"""Options that fit a net 32 wide, where the library's own are too large for it."""
KINDS = [kind for kind in anypeft.kinds() if kind not in anypeft._REFUSED]
ROWS = [Tokens(tuple(range(5, 5 + length))) for length in (4, 9, 17)]


def ready(request: pytest.FixtureRequest, tmp_path: Path, family: str, **method: Any) -> Prepared:
    rows = (
        tiny.write_jsonl(tmp_path / "r.jsonl", tiny.chat_rows(40))
        if family == "decoder"
        else tiny.write_csv(tmp_path / "r.csv", tiny.label_rows())
    )
    values = tiny.recipe_values(request.getfixturevalue(family), rows, tmp_path, method={"name": "peft", **method})
    return prepare(recipefile.build(values))


@pytest.mark.filterwarnings("ignore")  # the library's own, as it runs and loads its adapters
@pytest.mark.parametrize("family", ["encoder", "decoder"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_the_library_learns_comes_back_and_is_read_by_it(
    kind: str, family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    prepared = ready(request, tmp_path, family, type=kind, config=SMALL.get(kind, {}))
    model, task = prepared.model, prepared.task
    before = {name: p.detach().clone() for name, p in model.net.named_parameters()}
    examples = [example for row in prepared.examples[:12] for example in row]
    optimizer = torch.optim.AdamW([p for _, p in model.trained()], lr=1e-2)
    for step in range(3):
        model.train()
        accumulate(model, task, [Piece(step, examples)], task.weights(examples))
        optimizer.step()
        model.forget_gradients()
    moved = {name for name, p in model.net.named_parameters() if not torch.equal(p, before[name])}
    assert moved and moved <= {name for name, _ in model.trained()} and model.fresh <= moved

    model.net.eval()
    with torch.no_grad():
        learned = model.states(ROWS)[0]
        again = ready(request, tmp_path, family, type=kind, config=SMALL.get(kind, {})).model
        again.load_state(model.state())
        again.net.eval()
        assert torch.equal(again.states(ROWS)[0], learned)

        alone = torch.cat([model.states([row])[0] for row in ROWS])
        assert torch.allclose(learned, alone, atol=1e-5)  # no row is heard by those beside it
        save.save(model, tmp_path / "saved", (), "# card\n", {})
        base = request.getfixturevalue(family)
        net = (AutoModel if family == "encoder" else AutoModelForCausalLM).from_pretrained(base)
        theirs: Any = peft.PeftModel.from_pretrained(net, str(tmp_path / "saved")).eval()
        for row, wanted in zip(ROWS, learned.split([len(row.ids) for row in ROWS]), strict=True):
            states = theirs(input_ids=torch.tensor([row.ids]), output_hidden_states=True).hidden_states[-1][0]
            assert torch.allclose(states, wanted, atol=1e-4)
        try:
            anypeft.merge(model)
        except ModelError as fault:
            said = str(fault)
            assert "cannot merge" in said
        else:
            assert torch.allclose(model.states(ROWS)[0], learned, atol=1e-4)
            assert not any("base_layer" in name for name, _ in model.net.named_modules())


@pytest.mark.parametrize("kind", sorted(anypeft._REFUSED))
def test_a_kind_that_is_more_than_modules_is_refused_with_the_reason(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=f"`{kind}` (is|has|moves|mixes|must|chooses)"):
        ready(request, tmp_path, "decoder", type=kind)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({}, "no kind of adapter is named"),
        ({"type": "LOHAA"}, "no adapter `LOHAA`"),
        ({"type": "loha", "config": {"rank": 3}}, "a LOHA config has no `rank`"),
        ({"type": "loha", "config": {"r": -1}}, "refuses"),
        ({"type": "loha", "config": {"target_modules": ["nowhere"]}}, "refuses this LOHA adapter"),
        ({"file": "missing.json"}, "cannot be read"),
    ],
)
def test_what_the_library_refuses_is_said_in_its_words(
    method: dict[str, Any], said: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=said):
        ready(request, tmp_path, "decoder", **method)


def test_a_saved_config_can_be_used_again(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    peft.LoHaConfig(r=3, alpha=6, target_modules=["q_proj"]).save_pretrained(str(folder))
    model = ready(request, tmp_path, "decoder", file=str(folder), config={"alpha": 9}).model
    held = model.peft.peft_config["default"]
    assert (held.r, held.alpha, held.target_modules) == (3, 9, {"q_proj"})
    assert {name.split(".")[-3] for name, _ in model.trained()} == {"q_proj"}
    (folder / "adapter_config.json").write_text(json.dumps([1]))
    with pytest.raises(RecipeError, match="not an object"):
        ready(request, tmp_path, "decoder", file=str(folder))
