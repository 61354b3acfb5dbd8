"""Our blocks beside the stock ones of Transformers, both without padding: `python bench/blocks.py [KIND ...] [--save]`.

Nets of every shape that `models/bodies.py` knows, drawn at random, 768 wide and six blocks deep, learn the same rows;
the two sides take turns in one process, so that a slow spell of the machine meets both. Printed and, with `--save`,
kept in results/blocks.json: seconds of an update, bytes that autograd keeps for the backward, the losses of both sides
and how far the gradients are apart. Exit status 1 where losses or gradients differ by more than rounding.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import peers  # noqa: E402
from bench.measure import THREADS, work_folder  # noqa: E402

if TYPE_CHECKING:
    import torch

    from tunesmith.contracts import Tokens
    from tunesmith.models.model import Model

RESULT = ROOT / "bench" / "results" / "blocks.json"
WIDTH, BLOCKS, HEADS, RANK = 768, 6, 12, 16
LENGTHS = (24, 180, 61, 133, 90, 47, 210, 112)
"""Tokens of the rows of an update, as those of a chat; of an encoder half of each."""
ANSWER = 40
"""Tokens at the end of a row that a decoder learns."""
ROUNDS = 7
CLOSE = 1e-3
"""Gradients in single precision, by their norm; the stock blocks round otherwise."""


def main() -> int:
    """Measure each kind, print, keep."""
    from tunesmith.models.anatomy import TABLE

    kinds = [kind for kind, parts in TABLE.items() if parts.shape]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=kinds, help=f"of {', '.join(kinds)}; all by default")
    parser.add_argument("--save", action="store_true", help="keep the result")
    asked = parser.parse_args()
    work, good = work_folder("blocks"), True
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    for kind in asked.kinds:
        found = measured(kind, work)
        print(kind, json.dumps(found), flush=True)
        result[kind] = {**peers.setting(), **found}
        good = good and found["losses"]["ours"] != 0 and found["gradients_apart"] < CLOSE
        if asked.save:
            RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if good else 1


def measured(kind: str, work: Path) -> dict[str, Any]:
    """Both sides of a kind, in turn."""
    import torch

    from tunesmith.models.matmul import fastest

    torch.set_num_threads(THREADS)
    seconds: dict[str, list[float]] = {"ours": [], "stock": []}
    folder = _drawn(kind, work)
    sides: dict[str, tuple[Model, Callable[[], float]]] = {}
    matmul = fastest(torch.device("cpu"))
    for side in seconds:
        model, _ = sides[side] = _ready(kind, folder, stock=side == "stock")
        model.matmul = matmul
    losses, kept, gradients = dict[str, float](), dict[str, int](), dict[str, torch.Tensor]()
    for number in range(ROUNDS + 1):
        for side in seconds:
            model, update = sides[side]
            began = time.perf_counter()
            losses[side] = update()
            if number:  # the first warms up
                seconds[side].append(time.perf_counter() - began)
            gradients[side] = torch.cat([p.grad.flatten() for _, p in model.trained() if p.grad is not None])
            model.net.zero_grad(set_to_none=True)
    for side, (model, update) in sides.items():
        kept[side] = _kept(update)
        model.net.zero_grad(set_to_none=True)
    wanted = gradients["stock"]
    return {
        "learns": "lora" if model.family == "decoder" else "all",
        "matmul": matmul.name,
        "seconds": {side: round(min(taken), 4) for side, taken in seconds.items()},
        "times": round(min(seconds["stock"]) / min(seconds["ours"]), 3),
        "kept_mb": {side: round(taken / 2**20, 1) for side, taken in kept.items()},
        "losses": losses,
        "gradients_apart": float((gradients["ours"] - wanted).norm() / wanted.norm()),
    }


def _ready(kind: str, folder: str, *, stock: bool) -> tuple[Model, Callable[[], float]]:
    """A net of a kind, and an update of it up to its gradients, which gives the loss. The stock blocks multiply by the
    same library as ours."""

    from tunesmith.contracts import Tokens
    from tunesmith.models import catalog, load, loss
    from tunesmith.models.anatomy import TABLE
    from tunesmith.recipe import ModelChoice

    source, choice = catalog.find(folder), ModelChoice(name=kind, dropout=0.0)
    if TABLE[kind].family != "decoder":
        model = load.load_classifier(source, choice, ("a", "b", "c"), None, 0)
        _as_stock(model, stock)
        rows = [Tokens(tuple(range(1000, 1000 + length // 2))) for length in LENGTHS]
        model.net.train()
        return model, lambda: _learn(loss.class_loss(model.class_logits(rows), [k % 3 for k in range(len(rows))]))
    model = load.load_causal_lm(source, choice, None)
    _as_stock(model, stock)
    adapt(model)
    told = [(tuple(range(k, k + length)), max(length - ANSWER, 1)) for k, length in enumerate(LENGTHS)]
    written = [Tokens(ids, trained=tuple(at >= start for at in range(len(ids)))) for ids, start in told]
    model.net.train()

    def update() -> float:
        return _learn(losses_of(model, written).mean())

    return model, update


def adapt(model: Model) -> None:
    """Give a net adapters that do something: the second matrix is zeros at first, so that nothing reaches the first."""
    import torch

    from tunesmith.methods.lora import Lora

    Lora(rank=RANK).apply(model, 0)
    for name, parameter in model.trained():
        if name.endswith("lora_B"):
            torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(0))


def losses_of(model: Model, rows: Sequence[Tokens]) -> torch.Tensor:
    """The loss of each token that is learned."""
    from tunesmith.models import loss

    positions, labels, _ = loss.label_positions(rows, model.device)
    return loss.label_losses(model.states_at(rows, positions), model.output_layer, labels, model.matmul)


def _as_stock(model: Model, stock: bool) -> None:
    from tunesmith.models import anatomy
    from tunesmith.models.fused import quicken

    model.stock = stock
    if stock:
        quicken(anatomy.blocks(model.base, model.anatomy))


def _drawn(kind: str, work: Path) -> str:
    """A folder with a net of a kind and another model's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    from tunesmith.models.anatomy import TABLE
    from tunesmith.models.catalog import find

    folder, writes = work / kind, TABLE[kind].family == "decoder"
    source = find("smollm2-135m" if writes else "minilm", print).folder
    folder.mkdir()
    for file in source.iterdir():
        if "token" in file.name or file.name in ("vocab.txt", "merges.txt", "vocab.json"):
            shutil.copy(file, folder)
    words = json.loads((source / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    common: dict[str, Any] = {
        "vocab_size": words, "hidden_size": WIDTH, "num_hidden_layers": BLOCKS, "num_attention_heads": HEADS,
        "intermediate_size": 4 * WIDTH, "max_position_embeddings": 514, "bos_token_id": 0, "eos_token_id": 2,
        "pad_token_id": 0,
    }  # fmt: skip
    own = {
        "gpt2": {"vocab_size": words, "n_embd": WIDTH, "n_layer": BLOCKS, "n_head": HEADS, "n_positions": 514,
                 "bos_token_id": 0, "eos_token_id": 2},
        "distilbert": {"vocab_size": words, "dim": WIDTH, "n_layers": BLOCKS, "n_heads": HEADS,
                       "hidden_dim": 4 * WIDTH},
        "electra": {**common, "embedding_size": WIDTH},
        **{kind: {**common, "num_key_value_heads": HEADS // 3} for kind in ("mistral", "smollm3")},
        **{kind: {**common, "num_key_value_heads": HEADS // 3, "head_dim": WIDTH // HEADS}
           for kind in ("qwen3", "gemma2", "gemma3_text")},
    }  # fmt: skip
    config = AutoConfig.for_model(kind, **own.get(kind, common))
    torch.manual_seed(0)
    make = AutoModelForCausalLM if writes else AutoModel
    make.from_config(config).save_pretrained(folder)
    return str(folder)


def _learn(loss: Any) -> float:
    loss.backward()
    return float(loss.detach())


def _kept(update: Callable[[], float]) -> int:
    """Bytes that autograd keeps of an update, each once, but for parameters."""
    import torch
    from torch import Tensor, nn

    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        root = tensor if tensor._base is None else tensor._base
        if not isinstance(root, nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        update()
    return sum(kept.values())


if __name__ == "__main__":
    sys.exit(main())
