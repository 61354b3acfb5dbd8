"""The peers' side for tasks over tokens: Trainer on stock token classifiers and question answerers.

    tokens.py JOB.json OUT.json

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
    AutoModelForQuestionAnswering,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.sides.theirs import Watch

_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
_IGNORED = -100


def head(folder: str, out: str, seed: int, labels: list[str] | None = None) -> dict[str, Any]:
    """A stock net with its head drawn once, without dropout: of labels a token, else of answers."""
    torch.manual_seed(seed)
    if labels is None:
        net = AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float32, **_NO_DROPOUT)
    else:
        names = {"id2label": dict(enumerate(labels)), "label2id": {name: k for k, name in enumerate(labels)}}
        net = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32, **names, **_NO_DROPOUT)
    net.save_pretrained(out)
    AutoTokenizer.from_pretrained(folder).save_pretrained(out)
    return {}


def entities(folder: str, train: str, labels: list[str], save: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A label at the first token of each word, as the library's own example does it."""
    from datasets import Dataset

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [json.loads(line) for line in Path(train).read_text(encoding="utf-8").splitlines()]

    def encode(batch: dict[str, Any]) -> Any:
        made = tokenizer(batch["tokens"], is_split_into_words=True, truncation=True)
        made["labels"] = []
        for k, tags in enumerate(batch["tags"]):
            words = made.word_ids(k)
            first = [at for at, word in enumerate(words) if word is not None and word != words[at - 1]]
            line = [_IGNORED] * len(words)
            for at in first:
                line[at] = labels.index(tags[words[at]])
            made["labels"].append(line)
        return made

    data = Dataset.from_list(rows).map(encode, batched=True, remove_columns=["tokens", "tags"])
    args = TrainingArguments(output_dir=save, disable_tqdm=True, use_cpu=True, **arguments)
    set_seed(args.seed)
    net = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32)
    collator = DataCollatorForTokenClassification(tokenizer)
    made = Trainer(model=net, args=args, train_dataset=data, processing_class=tokenizer, data_collator=collator)
    watch = Watch(made)
    made.train()
    made.save_model()
    trained = [[label != _IGNORED for label in line] for line in data["labels"]]
    return {**watch.found(), "ids": data["input_ids"][:], "trained": trained}


class _Answers(Trainer):  # type: ignore[misc]
    """The stock loss lets an answer begin and end in the padding, so that it depends on how rows are put together; here
    padding has no share in it. Nothing else is changed."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        """The mean of the cross entropies of first and last token."""
        first, last = inputs.pop("start_positions"), inputs.pop("end_positions")
        found = model(**inputs)
        hidden = ~inputs["attention_mask"].bool()
        losses = [
            torch.nn.functional.cross_entropy(logits.masked_fill(hidden, float("-inf")), wanted)
            for logits, wanted in ((found.start_logits, first), (found.end_logits, last))
        ]
        loss = sum(losses) / 2
        return (loss, found) if return_outputs else loss


def answers(folder: str, examples: str, save: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Windows as they are given: ids, token types, and the first and last token of the answer."""
    from datasets import Dataset

    tokenizer = AutoTokenizer.from_pretrained(folder)
    data = Dataset.from_list(json.loads(Path(examples).read_text(encoding="utf-8")))
    args = TrainingArguments(output_dir=save, disable_tqdm=True, use_cpu=True, **arguments)
    set_seed(args.seed)
    net = AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float32)
    made = _Answers(
        model=net,
        args=args,
        train_dataset=data,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    watch = Watch(made)
    made.train()
    made.save_model()
    return {**watch.found(), "ids": data["input_ids"][:]}


def main(job: Path, out: Path) -> None:
    """Do what the job says."""
    asked = json.loads(job.read_text(encoding="utf-8"))
    known: dict[str, Callable[..., Any]] = {"head": head, "entities": entities, "answers": answers}
    out.write_text(json.dumps(known[asked.pop("do")](**asked)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
