"""The peers' side for images: Trainer on a stock image classifier, fed as the library's own example does it.

    images.py JOB.json OUT.json

Runs in the peers' environment. The job's `do` names what to do; the rest is its arguments.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.sides.theirs import Watch


class _Watch(Watch):
    """An image counts once."""

    def training_step(self, model: Any, inputs: dict[str, torch.Tensor], *more: Any, **named: Any) -> torch.Tensor:
        """The trainer's own, watched."""
        images = len(inputs["labels"])
        self.tokens.append(images)
        self.labels.append(images)
        loss = self.step(model, inputs, *more, **named)
        self.losses.append(float(loss))
        return loss


class _Stored(TrainerCallback):  # type: ignore[misc]
    """BatchNorm on its stored statistics, as Tunesmith runs it: else the losses would be of two different nets."""

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """The trainer has just put the whole net into training mode, or will: its forward is patched once."""
        if state.global_step == 0:
            stock = model.train

            def train(mode: bool = True) -> Any:
                stock(mode)
                for module in model.modules():
                    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                        module.eval()
                return model

            model.train = train
        model.train()


def head(folder: str, out: str, labels: list[str], size: int, seed: int) -> dict[str, Any]:
    """A stock net with its head drawn once, without dropout, and a processor of the size that is read."""
    torch.manual_seed(seed)
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: k for k, name in enumerate(labels)}}
    net = AutoModelForImageClassification.from_pretrained(
        folder, dtype=torch.float32, **names, ignore_mismatched_sizes=True, dropout_rate=0.0, drop_connect_rate=0.0
    )
    net.save_pretrained(out)
    processor = AutoImageProcessor.from_pretrained(folder)
    both = {"height": size, "width": size}
    processor.crop_size = both
    processor.size = {"shortest_edge": round(size * 8 / 7)}
    processor.save_pretrained(out)
    return {}


def images(folder: str, rows: str, labels: list[str], save: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Images are opened and prepared when a batch asks for them."""
    from PIL import Image

    processor = AutoImageProcessor.from_pretrained(folder)
    table = json.loads(Path(rows).read_text(encoding="utf-8"))

    class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(table)

        def __getitem__(self, at: int) -> dict[str, Any]:
            with Image.open(table[at]["image"]) as image:
                pixels = processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
            return {"pixel_values": pixels, "labels": labels.index(table[at]["label"])}

    args = TrainingArguments(output_dir=save, disable_tqdm=True, use_cpu=True, remove_unused_columns=False, **arguments)
    set_seed(args.seed)
    net = AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32)
    made = Trainer(model=net, args=args, train_dataset=Rows(), callbacks=[_Stored()])
    watch = _Watch(made)
    made.train()
    return watch.found()


def main(job: Path, out: Path) -> None:
    """Do what the job says."""
    asked = json.loads(job.read_text(encoding="utf-8"))
    known: dict[str, Callable[..., Any]] = {"head": head, "images": images}
    out.write_text(json.dumps(known[asked.pop("do")](**asked)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
