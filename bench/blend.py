"""Between the untuned and the tuned weights of one run: `python bench/blend.py [--save]`.

MiniLM, full tuning on 2,000 rows of banking77 from a head that begins as the probe; then `tunesmith blend` with sst2 as
the other task. `--save` keeps the result and writes docs/concepts/methods.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import peers  # noqa: E402
from bench.measure import data_folder, printed, put_between, trained, work_folder  # noqa: E402

RESULT = ROOT / "bench" / "results" / "blend.json"
PAGE = ROOT / "docs" / "concepts" / "methods.md"
MARK = "<!-- blend -->"
STEPS = 5


def main() -> int:
    """Train, blend, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help="keep the result and write the page")
    asked = parser.parse_args()
    work = work_folder("blend")
    recipe = {
        "model": {"name": "minilm", "head": "probe"}, "task": "text-classification", "method": "full",
        "data": {"train": str(data_folder("banking77")), "limit": 2000},
        "train": {"epochs": 4, "learning_rate": 1.6e-4, "head_learning_rate": 1e-3},
        "evaluate": {"compare": False}, "run": {"dir": str(work / "runs")},
    }  # fmt: skip
    run = trained(recipe, work)["run"]
    other = data_folder("sst2") / "test.jsonl"
    found = printed(["blend", run, "--steps", str(STEPS), "--keep", str(other)])
    print(json.dumps(found), flush=True)
    if asked.save:
        kept = {**peers.setting(), **{key: found[key] for key in ("headline", "points", "kept")}}
        RESULT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        write_page(found)
    return 0


def write_page(found: dict[str, Any]) -> None:
    """The table into the page."""
    lines = [
        f"| share of the tuned weights | {found['headline']} on validation | sst2, a probe |",
        "| --- | --- | --- |",
    ]
    for point in found["points"]:
        score = point["score"]
        cells = f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}] | {point['kept']:.3f}"
        lines.append(f"| {point['share']:g} | {cells} |")
    put_between(PAGE, MARK, lines)


if __name__ == "__main__":
    sys.exit(main())
