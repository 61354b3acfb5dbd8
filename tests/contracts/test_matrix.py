"""Every architecture with every task that fits it and every method: it trains, moves what it should, freezes the rest
to the bit, comes back, and merges where it can; or it is refused with a reason.

`make test-matrix` runs all of it, `make test` a sample in which every architecture, task and method comes three times.
"""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import samples
import tiny
from tunesmith import plugins, recipefile
from tunesmith.errors import ModelError, RecipeError, UserError
from tunesmith.models import adapted, anatomy, anypeft
from tunesmith.models.model import Model
from tunesmith.prepare import Prepared, prepare
from tunesmith.train.accumulate import Piece, accumulate
from tunesmith.train.optimizer import Schedule, make_optimizer

OPTIONS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 2},
    "bottleneck": {"width": 4},
    "prompt-tuning": {"tokens": 3},
    "top-layers": {"layers": 1},
    "peft": {"type": "LOHA", "config": {"r": 2, "alpha": 4}},
}
CASES = [
    (kind, task, method)
    for kind, parts in anatomy.TABLE.items()
    for task in plugins.names("tasks")
    if parts.family in plugins.load("tasks", task).families
    for method in plugins.names("methods")
]
REFUSED = (
    # (architectures, tasks, methods, what is said), each a pattern; the first that fits a refusal must say this.
    ("olmo2|gemma3_text", "token-classification", ".*", "has no class"),
    ("gpt2", ".*", "peft", "PEFT library refuses"),  # LoHa knows no Conv1D of Transformers' own
    ("resnet|efficientnet", ".*", "lora|ia3|bottleneck|peft", "have no|end in no"),
    ("convnext", ".*", "ia3", "no keys and values"),
    (".*", "image-classification", "prompt-tuning", "reads images"),
    (".*", ".*", "bitfit", "have no biases"),
    (".*", "retrieval", "head", "has no head"),
    (".*", ".*", "head", "output layer is its input embedding"),
)
NO_BIASES = "llama|mistral|qwen3|smollm3|olmo2|phi3|gemma2|gemma3_text|t5|mt5|modernbert"
"""Architectures of whose blocks none has a bias: only these may be refused for that."""
_made: dict[str, Path] = {}


def folder_of(kind: str, tmp: pytest.TempPathFactory) -> Path:
    if kind not in _made:
        make: Any = {
            "encoder": tiny.make_encoder, "decoder": tiny.make_decoder, "encoder-decoder": tiny.make_seq2seq,
            "vision": tiny.make_vision,
        }[anatomy.TABLE[kind].family]  # fmt: skip
        _made[kind] = make(tmp.mktemp("matrix") / kind, kind)
    return _made[kind]


def ready(kind: str, task: str, method: str, tmp_path: Path, tmp: pytest.TempPathFactory) -> Prepared:
    values = tiny.recipe_values(
        folder_of(kind, tmp), samples.write(task, tmp_path), tmp_path, task=task,
        method={"name": method, **OPTIONS.get(method, {})},
    )  # fmt: skip
    return prepare(recipefile.build(values))


def answers(prepared: Prepared, model: Model) -> list[Any]:
    model.net.eval()
    with torch.no_grad():
        rows = prepared.splits.rows["validation"][:3]
        examples = [example for row in rows for example in prepared.task.encode(row, model, "learn")]
        if prepared.task.joint:
            return [prepared.task.represent(model, examples)]
        return [loss.total for loss in prepared.task.loss(model, examples).values()]


@pytest.mark.parametrize(("kind", "task", "method"), CASES)
def test_an_architecture_does_a_task_by_a_method_or_says_why_not(
    kind: str, task: str, method: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected = next(
        (said for *patterns, said in REFUSED if all(map(re.fullmatch, patterns, (kind, task, method)))), None
    )
    refusal: UserError | None = None
    try:
        prepared = ready(kind, task, method, tmp_path, tmp_path_factory)
    except (RecipeError, ModelError) as fault:
        refusal = fault
    if refusal is not None:
        assert expected is not None and re.search(expected, str(refusal)), str(refusal)
        assert "no biases" not in str(refusal) or re.fullmatch(NO_BIASES, kind)
        return
    model, known = prepared.model, prepared.task
    before = {name: p.detach().clone() for name, p in model.net.named_parameters()}
    examples = [example for row in prepared.examples[:6] for example in row]
    optimizer = make_optimizer(model.trained(), model.fresh, 1e-2, 1e-2, 0.01)
    Schedule(9, 0, "constant", 1.0).apply(optimizer, 0)
    for step in range(2):
        model.train()
        losses = accumulate(model, known, [Piece(step, examples)], known.weights(examples))
        assert all(math.isfinite(float(loss)) for loss in losses.values())
        optimizer.step()
        model.forget_gradients()
    learns = {name for name, _ in model.trained()}
    moved = {name for name, p in model.net.named_parameters() if not torch.equal(p, before[name])}
    assert moved <= learns and model.fresh <= moved and len(moved) > 0.5 * len(learns)
    assert set(model.state()) >= learns - {name for name in learns if name.endswith(".rows")}

    found = answers(prepared, model)
    again = ready(kind, task, method, tmp_path, tmp_path_factory)
    again.model.load_state(model.state())
    for mine, theirs in zip(found, answers(again, again.model), strict=True):
        assert torch.equal(mine, theirs)

    if model.peft is not None:
        anypeft.merge(model)
    elif method == "bottleneck":
        with pytest.raises(ModelError, match="cannot be merged"):
            adapted.merge(model.net)
        return
    elif any(True for _ in adapted.found(model.net)):
        adapted.merge(model.net)
    else:
        return
    for mine, merged in zip(found, answers(prepared, model), strict=True):
        assert torch.allclose(mine, merged, rtol=1e-3, atol=1e-3)
