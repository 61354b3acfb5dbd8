"""LLaMA-Factory's side: its own entry point on a job's rows, watched by a callback.

    factory.py JOB.json OUT.json

Runs in LLaMA-Factory's environment. The package needs torchaudio, which has no build for a torch without CUDA; it is
imported for reading sound only, so an empty module of that name stands in its place.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import types
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))  # after transformers has found that it is missing
from llamafactory.train.tuner import run_exp  # noqa: E402


class Watch(TrainerCallback):  # type: ignore[misc]
    """The loss and the tokens of every update, and the time from the first to the last."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.ids: list[list[int]] = []
        self.trained: list[list[bool]] = []
        self.tokens: list[int] = []
        self.labels: list[int] = []
        self.padded = 0
        self.began = self.ended = self.first = 0.0
        self.before: dict[str, torch.Tensor] = {}
        self.moved = 0.0
        self.parameters = 0

    def on_train_begin(self, *_: Any, model: torch.nn.Module, **__: Any) -> None:
        """The first batch is about to be fetched."""
        learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.parameters = sum(p.numel() for p in learning.values())
        self.before = {name: p.detach().clone() for name, p in learning.items()}
        model.register_forward_hook(self.seen, with_kwargs=True)
        self.began = time.perf_counter()

    def seen(self, _: Any, __: Any, given: dict[str, torch.Tensor], found: Any) -> None:
        """One batch went through the net."""
        mask, labels = given["attention_mask"].bool(), given["labels"]
        for ids, label, real in zip(given["input_ids"], labels, mask, strict=True):
            self.ids.append(ids[real].tolist())
            self.trained.append((label[real] != -100).tolist())
        self.tokens.append(int(mask.sum()))
        self.labels.append(int((labels != -100).sum()))
        self.padded += int((~mask).sum())
        self.losses.append(float(found.loss))

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """An update is done."""
        self.ended = time.perf_counter()
        self.first = self.first or time.time() - float(os.environ["TUNESMITH_BENCH_BEGAN"])

    def on_train_end(self, *_: Any, model: torch.nn.Module, **__: Any) -> None:
        """The last update is done."""
        moved = [(p.detach() - self.before[name]).norm() for name, p in model.named_parameters() if name in self.before]
        self.moved = float(torch.stack(moved).norm())


def main(job: Path, out: Path) -> None:
    """Write the rows where LLaMA-Factory finds data sets, train, say what was seen."""
    asked = json.loads(job.read_text(encoding="utf-8"))
    data = Path(asked["data"])
    data.mkdir(parents=True, exist_ok=True)
    columns = {"messages": "messages"}
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    known = {"rows": {"file_name": asked["train"], "formatting": "sharegpt", "columns": columns, "tags": tags}}
    (data / "dataset_info.json").write_text(json.dumps(known), encoding="utf-8")
    shutil.rmtree(asked["arguments"]["output_dir"], ignore_errors=True)  # of an earlier round: it would refuse
    watch = Watch()
    run_exp({**asked["arguments"], "dataset": "rows", "dataset_dir": str(data)}, [watch])
    found = {
        "losses": watch.losses,
        "ids": watch.ids,
        "trained": watch.trained,
        "tokens": watch.tokens,
        "labels": watch.labels,
        "padded": watch.padded,
        "train_seconds": watch.ended - watch.began,
        "first_update_seconds": watch.first,
        "device_peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        "moved": watch.moved,
        "trained_parameters": watch.parameters,
        "threads": torch.get_num_threads(),
    }
    out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
