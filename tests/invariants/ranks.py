"""What each process of tests/invariants/test_ranks.py does: gradients of an update, computed together and alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from tunesmith import recipefile
from tunesmith.data.batches import Plan
from tunesmith.prepare import prepare
from tunesmith.train import ranks as together
from tunesmith.train.accumulate import accumulate
from tunesmith.train.loop import Batches
from tunesmith.train.ranks import ALONE


def main(given: Path, out: Path) -> None:
    """Every case of a file: its gradient by this many processes, and by one, from the first."""
    torch.set_num_threads(1)
    ranks = together.joined()
    for name, case in json.loads(given.read_text()).items():
        prepared = prepare(recipefile.build(case["recipe"]))
        model = prepared.model
        if case["double"]:
            model.net.double()
        plan = Plan(len(prepared.train_rows), case["rows"], 0, True)
        batches = Batches(prepared.train_rows, prepared.examples, plan, case["budget"])
        for how, processes in (("together", ranks), ("alone", ALONE)):
            pieces = batches.at(0, model.layout, processes.count)
            weights = prepared.task.weights([example for piece in pieces for example in piece.examples])
            model.train()
            losses = accumulate(model, prepared.task, pieces, weights, processes)
            found = {name: p.grad for name, p in model.learned() if p.grad is not None}
            found |= {f"loss {name}": value.reshape(1) for name, value in losses.items()}
            counts = torch.tensor([len(ranks.share(pieces)), len(pieces)])
            if how == "together" or ranks.first:
                place = out / f"{name}.{how}.{ranks.number}.safetensors"
                save_file({**{k: v.contiguous() for k, v in found.items()}, "counts": counts}, place)
            model.forget_gradients()
    together.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
