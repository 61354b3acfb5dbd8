"""What it saves to compute once what rows begin with in common: `python bench/beginnings.py [--save]`.

SmolLM2-135M, real rows, both sides in one process and in turn: the same rows with their beginnings shared, and each row
by itself. `chats` and `questions` are updates of LoRA adapters up to their gradients, `labels` is what a prompt that
lists labels is asked (evidence/prompted.py). Printed and, with `--save`, kept in results/beginnings.json. Exit status 1
where losses or gradients differ by more than rounding, or sharing takes longer.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import peers  # noqa: E402
from bench.blocks import adapt, losses_of  # noqa: E402
from bench.measure import THREADS, data_folder  # noqa: E402

if TYPE_CHECKING:
    import torch

    from tunesmith.contracts import Tokens
    from tunesmith.models.model import Model

RESULT = ROOT / "bench" / "results" / "beginnings.json"
ROUNDS = {"chats": 6, "questions": 4, "labels": 2}
"""Of which the fastest counts; one more warms up."""
CLOSE = 1e-4
"""Losses and gradients in single precision, by their norm."""


def main() -> int:
    """Measure each work, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="keep the result")
    asked = parser.parse_args()
    model = _model()
    result: dict[str, Any] = peers.setting()
    good = True
    for work, said in (("chats", _chats()), ("questions", _questions()), ("labels", _labels())):
        found = result[work] = measured(work, model, _encoded(model, said))
        print(work, json.dumps(found), flush=True)
        good = good and max(found["losses_apart"], found["gradients_apart"] or 0) < CLOSE and found["times"] > 1
    if asked.save:
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if good else 1


def measured(work: str, model: Model, rows: Sequence[Tokens]) -> dict[str, Any]:
    """Both sides of a work, in turn."""
    import torch

    learns = work != "labels"
    seconds: dict[bool, list[float]] = {True: [], False: []}
    losses: dict[bool, torch.Tensor] = {}
    gradients: dict[bool, torch.Tensor] = {}
    model.net.train(learns)
    for number in range(ROUNDS[work] + 1):
        for shared in seconds:
            model.sharing = shared
            model.net.zero_grad(set_to_none=True)
            began = time.perf_counter()
            with torch.set_grad_enabled(learns):
                losses[shared] = losses_of(model, rows)
                if learns:
                    losses[shared].sum().backward()
            if number:
                seconds[shared].append(time.perf_counter() - began)
            if learns:
                gradients[shared] = torch.cat([p.grad.flatten() for _, p in model.trained() if p.grad is not None])
    model.sharing = True
    best = {shared: min(taken) for shared, taken in seconds.items()}
    return {
        "rows": len(rows),
        "tokens": sum(len(row.ids) for row in rows),
        "computed": len(model.stream(rows).ids),
        "seconds": {"shared": round(best[True], 3), "apart": round(best[False], 3)},
        "times": round(best[False] / best[True], 2),
        "loss": float(losses[True].detach().mean()),
        "losses_apart": _apart(losses),
        "gradients_apart": _apart(gradients) if learns else None,
    }


def _apart(sides: dict[bool, torch.Tensor]) -> float:
    ours, wanted = sides[True].detach(), sides[False].detach()
    return float((ours - wanted).norm() / wanted.norm())


def _model() -> Model:
    import torch

    from tunesmith.models import catalog, load
    from tunesmith.models.matmul import fastest
    from tunesmith.recipe import ModelChoice

    torch.set_num_threads(THREADS)
    model = load.load_causal_lm(catalog.find("smollm2-135m"), ModelChoice(name="smollm2-135m"), None)
    adapt(model)
    model.matmul = fastest(model.device)
    return model


def _encoded(model: Model, said: Sequence[tuple[str, str]]) -> list[Tokens]:
    """What was asked and answered, as the model's template writes it."""
    from tunesmith.contracts import Row
    from tunesmith.recipefile import make_plugin

    chat: Any = make_plugin("tasks", "chat", {})
    rows: list[Tokens] = []
    for number, (asked, answer) in enumerate(said):
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        (one,) = chat.encode(Row(number, chat.normalize({"messages": messages}), "row", number + 1), model, "learn")
        rows += one.parts.values()
    return rows


def _lines(data: str, file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (data_folder(data) / file).read_text(encoding="utf-8").splitlines()]


def _chats() -> list[tuple[str, str]]:
    """Eight rows of dialogsum: only the template's system prompt is common to all."""
    return [(row["document"], row["summary"]) for row in _lines("dialogsum", "train.jsonl")[:8]]


def _questions() -> list[tuple[str, str]]:
    """Four questions about each of three paragraphs."""
    groups = [list(group) for _, group in groupby(_lines("squad_v1", "train.jsonl"), itemgetter("context"))]
    chosen = [group[:4] for group in groups if len(group) >= 4][:3]
    return [(f"{row['context']}\n\n{row['question']}", row["answers"]["text"][0]) for group in chosen for row in group]


def _labels() -> list[tuple[str, str]]:
    """A text of banking77 with every sixth label as its answer."""
    from tunesmith.evidence.prompted import in_words

    with (data_folder("banking77") / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["label"] for row in rows})
    return [(in_words(labels, rows[0]["text"]), label) for label in labels[::6]]


if __name__ == "__main__":
    sys.exit(main())
