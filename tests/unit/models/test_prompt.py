"""Virtual tokens: what is learned lowers the loss, and states are those of a net that reads them before the row."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

import samples
import tiny
from tunesmith import recipefile
from tunesmith.contracts import Tokens
from tunesmith.errors import RecipeError
from tunesmith.models import peftfiles
from tunesmith.models.prompt import Prompted
from tunesmith.prepare import Prepared, prepare
from tunesmith.train.accumulate import Piece, accumulate

TASKS = {
    "encoder": "text-classification",
    "padded": "token-classification",
    "decoder": "chat",
    "encoder_decoder": "translation",
}
ROWS = [Tokens(tuple(range(5, 5 + length))) for length in (4, 9, 17, 9)]


def ready(request: pytest.FixtureRequest, tmp_path: Path, family: str, **options: Any) -> Prepared:
    task = TASKS[family]
    method = {"name": "prompt-tuning", "tokens": 5, **options}
    values = tiny.recipe_values(
        request.getfixturevalue(family), samples.write(task, tmp_path), tmp_path, task=task, method=method
    )
    return prepare(recipefile.build({**values, "model": {"name": values["model"], "dropout": 0.0}}))


@pytest.mark.parametrize("family", TASKS)
def test_they_lower_the_loss_of_the_rows_they_stand_before(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    prepared = ready(request, tmp_path, family)
    model, task = prepared.model, prepared.task
    examples = [example for row in prepared.examples[:4] for example in row]
    prompt = next(module for module in model.net.modules() if isinstance(module, Prompted)).prompt
    optimizer = torch.optim.AdamW([prompt], lr=0.2)  # the head stays: what falls is of the prompt
    model.train()
    losses = []
    for step in range(40):
        losses.append(float(accumulate(model, task, [Piece(step, examples)], task.weights(examples))["loss"]))
        optimizer.step()
        model.forget_gradients()
    assert losses[-1] < losses[0] - 0.01


@pytest.mark.parametrize("family", ["encoder", "padded", "decoder"])
@torch.no_grad()
def test_states_are_those_of_a_stock_net_that_is_given_the_prompt_before_each_row(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = ready(request, tmp_path, family).model
    model.net.eval()
    module = next(module for module in model.net.modules() if isinstance(module, Prompted))
    module.prompt.add_(0.3 * torch.randn(module.prompt.shape, generator=torch.Generator().manual_seed(0)))
    states, lengths = model.states(ROWS)
    assert lengths.tolist() == [len(row.ids) for row in ROWS]
    places = torch.tensor([0, 3, 4, 20, 38])
    assert torch.allclose(model.states_at(ROWS, places), states[places], atol=1e-5)
    stock: Any = model.base
    stock.set_attn_implementation("eager")
    for row, found in zip(ROWS, states.split(lengths.tolist()), strict=True):
        words = module.table(torch.tensor([row.ids]))
        out = stock(inputs_embeds=torch.cat([module.prompt[None], words], 1)).last_hidden_state[0]
        assert torch.allclose(found, out[5:], atol=1e-5)


@pytest.mark.filterwarnings("ignore:Position ids are not supported")  # the library's own call of its model
@pytest.mark.parametrize(
    ("family", "auto"), [("decoder", AutoModelForCausalLM), ("encoder_decoder", AutoModelForSeq2SeqLM)]
)
def test_the_saved_prompt_gives_the_same_answers_in_peft(
    family: str, auto: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from tunesmith.models import generate
    from tunesmith.models.seq2seq import Told

    model = ready(request, tmp_path, family).model
    model.net.eval()
    module = next(module for module in model.net.modules() if isinstance(module, Prompted))
    with torch.no_grad():
        module.prompt.add_(0.5 * torch.randn(module.prompt.shape, generator=torch.Generator().manual_seed(0)))
    kind = "CAUSAL_LM" if family == "decoder" else "SEQ_2_SEQ_LM"
    base = request.getfixturevalue(family)
    peftfiles.save_prompt(model, tmp_path / "saved", base_name=str(base), task_type=kind)
    theirs = peft.PeftModel.from_pretrained(auto.from_pretrained(base), str(tmp_path / "saved")).eval()
    stops = generate.stop_tokens(model)
    ours = (
        generate.answers(model, ROWS, 8, stops)
        if family == "decoder"
        else generate.translations(model, ROWS, 8, Told())
    )
    for row, answer in zip(ROWS, ours, strict=True):
        ids = torch.tensor([row.ids])
        out = theirs.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, eos_token_id=stops,
            pad_token_id=stops[0],
        )[0].tolist()  # fmt: skip
        written = out[len(row.ids) :] if family == "decoder" else out[1:]
        assert answer.text == model.text.decode([k for k in written if k not in stops]).strip()
        assert answer.tokens > 0


def test_a_text_to_begin_from_is_repeated_and_one_without_tokens_is_refused(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = ready(request, tmp_path, "encoder", text="where is my parcel").model
    module = next(module for module in model.net.modules() if isinstance(module, Prompted))
    ids = model.text.backend.encode("where is my parcel", add_special_tokens=False).ids
    assert torch.equal(module.prompt, module.weight[torch.tensor([*ids, ids[0]])])
    with pytest.raises(RecipeError, match="has no tokens"):
        ready(request, tmp_path, "encoder", text=" ")


def test_a_prompt_that_leaves_no_room_is_refused_and_rows_are_cut_to_what_is_left(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = ready(request, tmp_path, "encoder", tokens=50).model
    assert model.text.max_tokens == 14
    with pytest.raises(RecipeError, match="57 virtual tokens leave 7 of the 64"):
        ready(request, tmp_path, "encoder", tokens=57)


def test_images_have_no_place_for_virtual_tokens(vision: Path, tmp_path: Path) -> None:
    rows = samples.write("image-classification", tmp_path)
    values = tiny.recipe_values(vision, rows, tmp_path, task="image-classification", method="prompt-tuning")
    with pytest.raises(RecipeError, match="reads images"):
        prepare(recipefile.build(values))
