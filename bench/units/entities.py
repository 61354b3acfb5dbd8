"""Entities of wnut17 with MiniLM, full tuning, beside Transformers' Trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench import tokens
from bench.measure import data_folder, side, work_folder

ROWS = 1600


def main() -> dict[str, Any]:
    """100 updates of 16 rows."""
    from tunesmith.data import spans
    from tunesmith.models.catalog import find
    from tunesmith.tasks.token_classification import TokenClassification

    work = work_folder("entities")
    files, kinds = {}, set()
    for name, most in (("train", ROWS), ("validation", 50)):
        rows = _rows(data_folder("wnut17") / f"{name}.jsonl")[:most]
        kinds |= {kind for row in rows for _, _, kind in spans.from_tags(row["tags"])[0]}
        files[name] = work / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    labels = list(TokenClassification(types=tuple(sorted(kinds))).labels)
    folder, start = str(find("minilm", print).folder), str(work / "start")
    side("tokens", "start", {"do": "head", "folder": folder, "out": start, "labels": labels, "seed": 0}, work)
    print(f"MiniLM, full tuning, {ROWS} rows of wnut17, batches of {tokens.BATCH}", flush=True)
    recipe = tokens.recipe(start, "token-classification", files["train"], files["validation"], work, ROWS)

    def theirs(order: str) -> tokens.Job:
        job = {"do": "entities", "folder": start, "train": str(files["train"]), "labels": labels}
        return "tokens", {**job, "save": str(work / "trainer"), "arguments": tokens.arguments(order)}

    ours: tokens.Job = ("ours", {"do": "train", "recipe": recipe})
    return tokens.compare("entities", ours, theirs("sequential"), theirs("group_by_length"), work)


def _rows(path: Path) -> list[dict[str, Any]]:
    """With tags that both sides read alike: none was mended."""
    from tunesmith.data import spans

    made = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found, mended = spans.from_tags(row["ner_tags"])
        if not mended:
            made.append({"tokens": row["tokens"], "tags": spans.to_tags(found, len(row["tokens"]))})
    return made
