"""The peers' side: Trainer and SFTTrainer as their users run them, and the starting points that both sides load.

    theirs.py JOB.json OUT.json

Runs in the peers' environment. The job's `do` names what to do; the rest is its arguments.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}


class Watch(TrainerCallback):  # type: ignore[misc]
    """The loss and the tokens of every update, and the time from the first to the last."""

    def __init__(self, trainer: Any) -> None:
        self.losses: list[float] = []
        self.tokens: list[int] = []
        self.labels: list[int] = []
        self.padded = 0
        self.began = self.ended = self.first = 0.0
        self.net = trainer.model
        self.before = {name: tensor.detach().clone() for name, tensor in self.learning()}
        self.step: Callable[..., torch.Tensor] = trainer.training_step
        trainer.training_step = self.training_step
        trainer.add_callback(self)

    def learning(self) -> list[tuple[str, torch.Tensor]]:
        """What trains, by name."""
        return [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]

    def training_step(self, model: Any, inputs: dict[str, torch.Tensor], *more: Any, **named: Any) -> torch.Tensor:
        """The trainer's own, watched."""
        real = int(inputs["attention_mask"].sum())
        self.tokens.append(real)
        self.padded += inputs["attention_mask"].numel() - real
        labels = inputs.get("labels")
        self.labels.append(real if labels is None else int((labels != -100).sum()))
        loss = self.step(model, inputs, *more, **named)
        self.losses.append(float(loss))
        return loss

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The first batch is about to be fetched."""
        self.began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """An update is done."""
        self.ended = time.perf_counter()
        self.first = self.first or time.time() - float(os.environ["TUNESMITH_BENCH_BEGAN"])

    def found(self) -> dict[str, Any]:
        """What was seen, under the names that Tunesmith's side uses."""
        moved = [(tensor.detach() - self.before[name]).norm() for name, tensor in self.learning()]
        return {
            "losses": self.losses,
            "tokens": self.tokens,
            "padded": self.padded,
            "labels": self.labels,
            "train_seconds": self.ended - self.began,
            "first_update_seconds": self.first,
            "device_peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
            "moved": float(torch.stack(moved).norm()),
            "trained_parameters": sum(tensor.numel() for _, tensor in self.learning()),
            "threads": torch.get_num_threads(),
        }


def head(folder: str, out: str, labels: list[str], seed: int) -> dict[str, Any]:
    """A classifier with the stock head, its new parameters drawn once, without dropout."""
    torch.manual_seed(seed)
    net = _classifier(folder, labels, **_NO_DROPOUT)
    net.save_pretrained(out)
    AutoTokenizer.from_pretrained(folder).save_pretrained(out)
    return {}


def adapter(
    folder: str, out: str, rank: int, alpha: int, seed: int, kind: str = "decoder", layers: list[int] | None = None
) -> dict[str, Any]:
    """A LoRA adapter on the linear layers of blocks (all, or some) as PEFT draws it: A random, B zero."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    targets: Any = "all-linear"
    if kind == "encoder":  # all-linear would take the pooler too
        targets = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets, layers_to_transform=layers,
        task_type="CAUSAL_LM" if kind == "decoder" else None,
    )  # fmt: skip
    make = AutoModelForCausalLM if kind == "decoder" else AutoModelForSequenceClassification
    get_peft_model(make.from_pretrained(folder, dtype=torch.float32), config).save_pretrained(out)
    return {}


def trainer(
    folder: str,
    train: str,
    test: str | None,
    labels: list[str],
    save: str,
    arguments: dict[str, Any],
    frozen: int = 0,
    start: str | None = None,
) -> dict[str, Any]:
    """Trainer on a sequence classifier, of which the embeddings and the first blocks may be frozen, or which may
    carry an adapter of PEFT's."""
    from transformers import Trainer, TrainingArguments, set_seed

    args = TrainingArguments(output_dir=save, disable_tqdm=True, use_cpu=True, **arguments)
    set_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    net = _classifier(folder, labels)
    if start is not None:
        from peft import PeftModel

        net = PeftModel.from_pretrained(net, start, is_trainable=True)
    elif frozen:
        for part in (net.base_model.embeddings, *net.base_model.encoder.layer[:frozen]):
            part.requires_grad_(False)
    made = Trainer(
        model=net,
        args=args,
        train_dataset=_rows(train, labels, tokenizer),
        processing_class=tokenizer,  # with it the default collator pads each batch to its longest row
    )
    watch = Watch(made)
    made.train()
    made.save_model()
    found = {**watch.found(), "ids": made.train_dataset["input_ids"][:]}
    if test is not None:
        began = time.perf_counter()
        answer = made.predict(_rows(test, labels, tokenizer))
        found["accuracy"] = float((answer.predictions.argmax(-1) == answer.label_ids).mean())
        found["phases"] = {"evaluate": time.perf_counter() - began}
    return found


def evaluate(folder: str, test: str, labels: list[str], save: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Only Trainer's predictions."""
    from transformers import Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = _rows(test, labels, tokenizer)
    made = Trainer(
        model=_classifier(folder, labels),
        args=TrainingArguments(output_dir=save, disable_tqdm=True, use_cpu=True, **arguments),
        processing_class=tokenizer,
    )
    began = time.perf_counter()
    answer = made.predict(rows)
    seconds = time.perf_counter() - began
    best = answer.predictions.argmax(-1)
    return {
        "evaluate_seconds": seconds,
        "answers": [labels[k] for k in best],
        "accuracy": float((best == answer.label_ids).mean()),
        "threads": torch.get_num_threads(),
    }


def sft(folder: str, start: str, train: str, save: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """SFTTrainer on a decoder with an adapter of PEFT's."""
    from datasets import Dataset
    from peft import PeftModel
    from trl import SFTConfig, SFTTrainer

    net = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    net = PeftModel.from_pretrained(net, start, is_trainable=True)
    rows = [json.loads(line)["messages"] for line in Path(train).read_text(encoding="utf-8").splitlines()]
    made = SFTTrainer(
        model=net,
        args=SFTConfig(output_dir=save, disable_tqdm=True, **arguments),
        train_dataset=Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows]),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    watch = Watch(made)
    made.train()
    made.save_model()
    labels = [row["labels"] for row in made.train_dataset]
    trained = [[label != -100 for label in row] for row in labels]
    return {**watch.found(), "ids": [row["input_ids"] for row in made.train_dataset], "trained": trained}


def _classifier(folder: str, labels: list[str], **config: Any) -> Any:
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: k for k, name in enumerate(labels)}}
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, **names, **config)


def _rows(file: str, labels: list[str], tokenizer: Any) -> Any:
    from datasets import Dataset

    rows = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    made = Dataset.from_dict({"text": [r["text"] for r in rows], "label": [labels.index(r["label"]) for r in rows]})
    return made.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)


def main(job: Path, out: Path) -> None:
    """Do what the job says."""
    asked = json.loads(job.read_text(encoding="utf-8"))
    known: dict[str, Callable[..., Any]] = {
        "head": head,
        "adapter": adapter,
        "trainer": trainer,
        "sft": sft,
        "evaluate": evaluate,
    }
    out.write_text(json.dumps(known[asked.pop("do")](**asked)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
