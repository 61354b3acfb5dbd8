"""Answers of squad_v1 with MiniLM, full tuning, beside Transformers' Trainer."""

from __future__ import annotations

import json
from typing import Any

from bench import tokens
from bench.measure import data_folder, side, work_folder

ROWS = 640


def main() -> dict[str, Any]:
    """40 updates of 16 questions whose texts need one window each, so that a batch holds the same on both sides."""
    from tunesmith import recipefile
    from tunesmith.models.catalog import find
    from tunesmith.prepare import prepare

    work = work_folder("answers")
    files = {}
    for name, most in (("train", ROWS), ("validation", 50)):
        lines = (data_folder("squad_v1") / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        short = [line for line in lines if len(json.loads(line)["context"].split()) < 250]
        files[name] = work / f"{name}.jsonl"
        files[name].write_text("".join(line + "\n" for line in short[:most]), encoding="utf-8")
    folder, start = str(find("minilm", print).folder), str(work / "start")
    side("tokens", "start", {"do": "head", "folder": folder, "out": start, "seed": 0}, work)
    print(f"MiniLM, full tuning, {ROWS} questions of squad_v1, batches of {tokens.BATCH}", flush=True)
    recipe = tokens.recipe(start, "question-answering", files["train"], files["validation"], work, ROWS)
    given = [example for row in prepare(recipefile.build(recipe)).examples for example in row]
    assert len(given) == ROWS, f"{len(given)} windows of {ROWS} questions"
    windows = [
        {
            "input_ids": example.parts["text"].ids,
            "token_type_ids": example.parts["text"].types,
            "attention_mask": [1] * len(example.parts["text"].ids),
            "start_positions": example.target["span"][0],
            "end_positions": example.target["span"][1],
        }
        for example in given
    ]
    (work / "windows.json").write_text(json.dumps(windows), encoding="utf-8")

    def theirs(order: str) -> tokens.Job:
        job = {"do": "answers", "folder": start, "examples": str(work / "windows.json"), "save": str(work / "trainer")}
        return "tokens", {**job, "arguments": tokens.arguments(order)}

    ours: tokens.Job = ("ours", {"do": "train", "recipe": recipe})
    return tokens.compare("answers", ours, theirs("sequential"), theirs("group_by_length"), work)
