"""The methods beside each other: `python bench/methods.py [NAME ...] [--seeds 3] [--save]`; no names run every row.

Each run is one `tunesmith train` of MiniLM on 2,000 rows of banking77 in a process of its own, with the same rows, the
same passes over them and the method's usual rate; the seeds change the fresh head, the order and dropout. Beside score,
time, memory and size it prints what was forgotten: the accuracy on sst2 that a linear probe reads off the tuned trunk,
less that off the untouched one. `--save` keeps the results, one file a row, and writes the table into
docs/concepts/methods.md from all that are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import peers  # noqa: E402
from bench.measure import data_folder, work_folder  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "methods"
PAGE = ROOT / "docs" / "concepts" / "methods.md"
MARK = "<!-- table -->"
ROWS, EPOCHS = 2000, 4
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
    "full, lion": {"method": "full", "train": {"optimizer": "lion"}},
    "full, sgd": {"method": "full", "train": {"optimizer": "sgd"}},
    "full, adafactor": {"method": "full", "train": {"optimizer": "adafactor"}},
    "full, layer_decay .8": {"method": "full", "train": {"layer_decay": 0.8}},
    "full, unfreeze_every .5": {"method": "full", "train": {"unfreeze_every": 0.5}},
    "full, l2_sp .01": {"method": "full", "train": {"l2_sp": 0.01}},
    "full, noise 5": {"method": "full", "train": {"noise": 5.0}},
    "full, ema .99": {"method": "full", "train": {"ema": 0.99}},
    "full, average .3": {"method": "full", "train": {"average": 0.3}},
}


def main() -> int:
    """Run, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *METHODS], help="rows; all where none is named")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--save", action="store_true", help="keep the results and write the page")
    asked = parser.parse_args()
    work = work_folder("methods")
    texts = probe_rows()
    before = probe_accuracy(None, texts)
    for name in asked.names or METHODS:
        runs = [one(name, seed, work, texts, before) for seed in range(asked.seeds)]
        print(json.dumps({name: runs}), flush=True)
        if asked.save:
            RESULTS.mkdir(parents=True, exist_ok=True)
            kept = {**peers.setting(), "name": name, "keys": METHODS[name], "probe_before": before, "runs": runs}
            place = RESULTS / f"{''.join(c if c.isalnum() else '-' for c in name)}.json"
            place.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            write_page()
    return 0


def one(name: str, seed: int, work: Path, texts: dict[str, Any], before: float) -> dict[str, Any]:
    """One run: what it reached and what it took."""
    keys = METHODS[name]
    recipe = {
        "model": "minilm", "task": "text-classification", "method": keys["method"],
        "data": {"train": str(data_folder("banking77")), "limit": ROWS},
        "train": {"epochs": EPOCHS, "seed": seed, **keys.get("train", {})},
        "evaluate": {"compare": False}, "run": {"dir": str(work / "runs")},
    }  # fmt: skip
    place = work / "recipe.yaml"
    place.write_text(json.dumps(recipe), encoding="utf-8")
    command = [str(Path(sys.executable).with_name("tunesmith")), "train", str(place), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    if done.returncode:
        sys.exit(f"{name}: training failed:\n{done.stderr[-3000:]}")
    result = json.loads(done.stdout)
    run = Path(result["run"])
    events = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    started = next(event for event in events if event["event"] == "Started")
    losses = [event["losses"]["loss"] for event in events if "losses" in event]
    score = result["scores"]["test"]["macro_f1"]
    own = {".safetensors", ".json"}
    size = sum(p.stat().st_size for p in (run / "model").rglob("*") if p.suffix in own and "tokenizer" not in p.name)
    return {
        "seed": seed,
        "macro_f1": score,
        "accuracy": result["scores"]["test"]["accuracy"]["value"],
        "trainable": started["trainable"],
        "parameters": started["parameters"],
        "train_seconds": result["seconds"]["train"],
        "peak_bytes": result["peak_memory_bytes"],
        "saved_bytes": size,
        "first_loss": losses[0],
        "last_loss": float(np.mean(losses[-10:])),
        "forgotten": round(before - probe_accuracy(run, texts), 4),
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
    """The table of all that is kept into the page."""
    heads = ["method", "macro-F1 ± deviation of seeds", "95 % interval of seed 0", "learns", "seconds", "memory",
             "saved", "forgotten on sst2"]  # fmt: skip
    table = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    kept = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")]
    for found in sorted(kept, key=lambda found: list(METHODS).index(found["name"])):
        runs = found["runs"]
        scores = [run["macro_f1"]["value"] for run in runs]
        first = runs[0]
        cells = [
            found["name"],
            f"**{np.mean(scores):.3f}**" + (f" ± {np.std(scores, ddof=1):.3f}" if len(scores) > 1 else ""),
            f"[{first['macro_f1']['low']:.3f}, {first['macro_f1']['high']:.3f}]",
            f"{100 * first['trainable'] / first['parameters']:.2f} %",
            f"{np.mean([run['train_seconds'] for run in runs]):.0f}",
            f"{np.mean([run['peak_bytes'] for run in runs]) / 1e9:.2f} GB",
            f"{first['saved_bytes'] / 1e6:.1f} MB",
            f"{100 * np.mean([run['forgotten'] for run in runs]):+.1f}",
        ]
        table.append("| " + " | ".join(cells) + " |")
    before, _, after = PAGE.read_text(encoding="utf-8").split(MARK)
    PAGE.write_text(MARK.join([before, "\n" + "\n".join(table) + "\n", after]), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
