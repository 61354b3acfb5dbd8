"""SetFit's side of bench/few_shot.py: `python few.py JOB.json OUT.json`, in its own environment, as its documentation
has it: every setting is its default but the batch, which is ours."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Read the job, tune, score, write."""
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, models
    from setfit import SetFitModel, Trainer, TrainingArguments

    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    trunk = models.Transformer(job["model"], max_seq_length=256)
    pooling = models.Pooling(trunk.get_word_embedding_dimension(), "mean")
    body = SentenceTransformer(modules=[trunk, pooling, models.Normalize()], device="cpu")
    model = SetFitModel.from_pretrained(job["model"], labels=job["labels"], local_files_only=True)
    model.model_body = body
    before = {name: p.detach().clone() for name, p in body.named_parameters()}
    train = Dataset.from_dict({"text": job["texts"], "label": job["numbers"]})
    arguments = TrainingArguments(
        output_dir=job["folder"], batch_size=job["batch_size"], seed=job["seed"], report_to="none", save_strategy="no",
        num_epochs=1,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=train)
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    with torch.no_grad():
        said = [int(label) for label in model.predict_proba(job["test"], as_numpy=True).argmax(1)]
    moved = sum(float((p.detach() - before[name]).norm()) for name, p in body.named_parameters())
    Path(sys.argv[2]).write_text(json.dumps({"said": said, "seconds": seconds, "moved": moved}), encoding="utf-8")


if __name__ == "__main__":
    main()
