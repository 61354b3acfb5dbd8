"""The methods beside each other: `python bench/methods.py [NAME ...] [--seeds 0 1 2] [--save]`; no names run every row.

Each run is one `tunesmith train` of MiniLM on banking77 in a process of its own. The methods have 2,000 rows; the
regularizers have 8 of each label, drawn by the seed, where a net can learn them by heart. The chats are SmolLM2-135M
on 200 rows of alpaca, scored by the loss of 100 test rows. Within a table all have the
same rows, the same passes over them and the method's usual rate; the seeds change the fresh head, the order and
dropout. Beside score, time, memory and size it prints what was forgotten: the accuracy on sst2 that a linear probe
reads off the tuned trunk, less that off the untouched one. `--save` keeps the results, one file a row and a run for
each seed in it, and writes the tables into docs/concepts/methods.md from all that are kept. Seconds there are the
least of the seeds, as other work beside a run only adds to them; memory is that of the first.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import peers  # noqa: E402
from bench.measure import data_folder, put_between, trained, work_folder, write_table  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "methods"
PAGE = ROOT / "docs" / "concepts" / "methods.md"
ROWS, EPOCHS = 2000, 4
SHOTS, FEW_EPOCHS = 8, 12
METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "top-layers 2": {"method": "top-layers"},
    "head": {"method": "head"},
    "bitfit": {"method": "bitfit"},
    "ia3": {"method": "ia3"},
    "lora": {"method": "lora"},
    "lora, last 2 blocks": {"method": {"name": "lora", "layers": 2}},
    "lora, rank 64, rsLoRA": {"method": {"name": "lora", "rank": 64, "scaling": "root"}},
    "lora, DoRA": {"method": {"name": "lora", "kind": "dora"}},
    "lora, PiSSA": {"method": {"name": "lora", "init": "pissa"}},
    "lora, LoRA+ 16": {"method": {"name": "lora", "b_rate": 16.0}},
    "bottleneck": {"method": "bottleneck"},
    "prompt-tuning": {"method": "prompt-tuning"},
    "peft, LoHa": {"method": {"name": "peft", "type": "LOHA", "config": {"r": 16, "alpha": 32}}},
    "peft, VeRA": {"method": {"name": "peft", "type": "VERA"}},
    "full, lion": {"method": "full", "train": {"optimizer": "lion"}},
    "full, sgd": {"method": "full", "train": {"optimizer": "sgd"}},
    "full, adafactor": {"method": "full", "train": {"optimizer": "adafactor"}},
}
REGULARIZERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "layer_decay .8": {"train": {"layer_decay": 0.8}},
    "unfreeze_every 1": {"train": {"unfreeze_every": 1.0}},
    "l2_sp .01": {"train": {"l2_sp": 0.01}},
    "noise 5": {"train": {"noise": 5.0}},
    "ema .99": {"train": {"ema": 0.99}},
    "average .3": {"train": {"average": 0.3}},
    "smoothing .1": {"task": {"smoothing": 0.1}},
    "r_drop 1": {"task": {"r_drop": 1.0}},
    "weight_decay 0": {"train": {"weight_decay": 0.0}},
    "dropout 0": {"model": {"dropout": 0.0}},
    "dropout .3": {"model": {"dropout": 0.3}},
}
CHAT: dict[str, dict[str, Any]] = {
    "chat, full": {"method": "full"},
    "chat, lora": {"method": "lora"},
    "chat, top-layers 4": {"method": {"name": "top-layers", "layers": 4}},
    "chat, ia3": {"method": "ia3"},
    "chat, bottleneck": {"method": "bottleneck"},
    "chat, prompt-tuning": {"method": "prompt-tuning"},
}
TABLES = {"methods": METHODS, "regularizers": REGULARIZERS, "chat": CHAT}


def main() -> int:
    """Run, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    rows = {name: table for table, named in TABLES.items() for name in named}
    parser.add_argument(
        "names", nargs="*", choices=[[], *TABLES, *rows], help="rows or tables; all where none is named"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--save", action="store_true", help="keep the results and write the page")
    asked = parser.parse_args()
    work = work_folder("methods")
    texts = probe_rows()
    before = probe_accuracy(None, texts)
    for seed in asked.seeds:  # all rows of a seed first: a run that is cut off leaves a whole table
        for name, table in rows.items():
            if asked.names and name not in asked.names and table not in asked.names:
                continue
            run = one(recipe_of(table, name, seed, work), seed, work, texts, before)
            print(json.dumps({name: run}), flush=True)
            if asked.save:
                keep(table, name, before, run)
                write_page()
    return 0


def keep(table: str, name: str, before: float, run: dict[str, Any]) -> None:
    """Put a run beside those of other seeds."""
    place = RESULTS / table / f"{''.join(c if c.isalnum() else '-' for c in name)}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    old = json.loads(place.read_text(encoding="utf-8"))["runs"] if place.exists() else []
    runs = sorted([*(r for r in old if r["seed"] != run["seed"]), run], key=lambda r: int(r["seed"]))
    kept = {**peers.setting(), "name": name, "keys": TABLES[table][name], "probe_before": before, "runs": runs}
    place.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def recipe_of(table: str, name: str, seed: int, work: Path) -> dict[str, Any]:
    """What is run for a row of a table."""
    keys = TABLES[table][name]
    data = {"train": str(data_folder("banking77")), "limit": ROWS}
    epochs: float = EPOCHS
    if table == "chat":
        return chat(keys, seed, work)
    if table == "regularizers":
        data, epochs = few(seed, work), FEW_EPOCHS
    return {
        "model": {"name": "minilm", **keys.get("model", {})},
        "task": {"name": "text-classification", **keys.get("task", {})},
        "method": keys.get("method", "full"),
        "data": data,
        "train": {"epochs": epochs, "seed": seed, **keys.get("train", {})},
        "evaluate": {"compare": False}, "run": {"dir": str(work / "runs")},
    }  # fmt: skip


def chat(keys: dict[str, Any], seed: int, work: Path) -> dict[str, Any]:
    """200 rows of alpaca, once, in batches of 8."""
    return {
        "model": "smollm2-135m", "task": "chat", "method": keys["method"],
        "data": {"train": str(data_folder("alpaca")), "limit": 200, "bad_rows": "skip"},
        "train": {"epochs": 1, "batch_size": 8, "seed": seed},
        "evaluate": {"limit": 100, "answers": 0}, "run": {"dir": str(work / "runs")},
    }  # fmt: skip


def few(seed: int, work: Path) -> dict[str, Any]:
    """8 rows of each label to learn, 4 others to choose the checkpoint, and the whole test."""
    with open(data_folder("banking77") / "train.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    label = next(key for key in rows[0] if key != "text")
    random.Random(seed).shuffle(rows)
    seen: Counter[str] = Counter()
    parts: dict[str, list[dict[str, str]]] = {"train": [], "validation": []}
    for row in rows:
        seen[row[label]] += 1
        if seen[row[label]] <= SHOTS + SHOTS // 2:
            parts["train" if seen[row[label]] <= SHOTS else "validation"].append(row)
    for part, chosen in parts.items():
        write_table(work / f"{part}.csv", chosen)
    paths = {part: str(work / f"{part}.csv") for part in parts}
    return {**paths, "test": str(data_folder("banking77") / "test.csv"), "text": "text", "label": label}


def one(recipe: dict[str, Any], seed: int, work: Path, texts: dict[str, Any], before: float) -> dict[str, Any]:
    """One run: what it reached and what it took."""
    result = trained(recipe, work)
    run = Path(result["run"])
    events = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    started = next(event for event in events if event["event"] == "Started")
    losses = [event["losses"]["loss"] for event in events if "losses" in event]
    score = result["scores"]["test"][result["headline"]]
    base = result["base"]["test"][result["headline"]] if result["base"] else None
    own = {".safetensors", ".json"}
    size = sum(p.stat().st_size for p in (run / "model").rglob("*") if p.suffix in own and "tokenizer" not in p.name)
    return {
        "seed": seed,
        "score": score,
        "base": base,
        "trainable": started["trainable"],
        "parameters": started["parameters"],
        "train_seconds": result["seconds"]["train"],
        "peak_bytes": result["peak_memory_bytes"],
        "saved_bytes": size,
        "first_loss": losses[0],
        "last_loss": float(np.mean(losses[-10:])),
        "forgotten": None if recipe["task"] == "chat" else round(before - probe_accuracy(run, texts), 4),
    }


def probe_rows() -> dict[str, Any]:
    """Texts and labels of sst2: of another kind than banking77's."""
    found: dict[str, Any] = {}
    for split, count in (("train", 1500), ("test", 1000)):
        lines = (data_folder("sst2") / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()[:count]
        rows = [json.loads(line) for line in lines]
        found[split] = ([row["text"] for row in rows], [row["label"] for row in rows])
    return found


def probe_accuracy(run: Path | None, texts: dict[str, Any]) -> float:
    """Of a logistic regression on a trunk's pooled states; of the untouched trunk where no run is named."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from tunesmith import load
    from tunesmith.models import catalog
    from tunesmith.models.load import load_classifier
    from tunesmith.models.probe import pooled
    from tunesmith.recipe import ModelChoice

    if run is None:
        model = load_classifier(catalog.find("minilm", print), ModelChoice(name="minilm"), ("a", "b"), None, 0)
    else:
        model = load(run).model
    model.net.eval()
    states = {split: pooled(model, [model.text.text(text) for text in found[0]]) for split, found in texts.items()}
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    probe.fit(states["train"], texts["train"][1])
    return float(probe.score(states["test"], texts["test"][1]))


def write_page() -> None:
    """The tables of all that is kept into the page."""
    for table, rows in TABLES.items():
        kept = [json.loads(path.read_text(encoding="utf-8")) for path in (RESULTS / table).glob("*.json")]
        put_between(PAGE, f"<!-- {table} -->", lines_of(kept, list(rows)))


def lines_of(kept: list[dict[str, Any]], order: list[str]) -> list[str]:
    """A table in Markdown."""
    writes = any(run["forgotten"] is None for found in kept for run in found["runs"])
    score = "loss of a token" if writes else "macro-F1 ± deviation of seeds"
    heads = ["", score, "seeds", "95 % interval of the first", "learns", "seconds", "memory", "saved",
             "" if writes else "forgotten on sst2"]  # fmt: skip
    table = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for found in sorted(kept, key=lambda found: order.index(found["name"])):
        runs = found["runs"]
        scores = [run["score"]["value"] for run in runs]
        first = runs[0]
        cells = [
            found["name"],
            f"**{np.mean(scores):.3f}**" + (f" ± {np.std(scores, ddof=1):.3f}" if len(scores) > 1 else ""),
            str(len(runs)),
            f"[{first['score']['low']:.3f}, {first['score']['high']:.3f}]",
            f"{100 * first['trainable'] / first['parameters']:.2f} %",
            f"{min(run['train_seconds'] for run in runs):.0f}",
            f"{first['peak_bytes'] / 1e9:.2f} GB",
            f"{first['saved_bytes'] / 1e6:.1f} MB",
            "" if writes else f"{100 * np.mean([run['forgotten'] for run in runs]):+.1f}",
        ]
        table.append("| " + " | ".join(cells) + " |")
    base = next((run["base"] for found in kept for run in found["runs"] if run.get("base")), None)
    if base is not None:
        table.append(
            f"| the untuned model | {base['value']:.3f} | | [{base['low']:.3f}, {base['high']:.3f}] | | | | | |"
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
