"""A small tuned model beside a larger untuned one on the same rows: `python bench/prompted.py [--save]`.

MiniLM is tuned on banking77; `tunesmith report RUN --model smollm2-135m` asks the other for a label in words. `--save`
keeps both scores, their difference and what 1,000 rows cost. Exit status 1 where the report does not
tell the two apart.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import peers  # noqa: E402
from bench.measure import busy_seconds, data_folder, trained, work_folder  # noqa: E402

RESULT = ROOT / "bench" / "results" / "prompted.json"
OTHER = "smollm2-135m"
MONEY = 0.10
"""What an hour of such a machine may cost."""


def main() -> int:
    """Tune, ask, hold side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help="keep the result")
    asked = parser.parse_args()
    work = work_folder("prompted")
    run = trained(
        {
            "model": "minilm",
            "task": "text-classification",
            "data": {"train": str(data_folder("banking77"))},
            "method": {"name": "top-layers", "layers": 2},
            "train": {"epochs": 3, "batch_size": 32},
            "evaluate": {"evidence": False, "money": MONEY},
            "run": {"dir": str(work / "runs")},
        },
        work,
    )["run"]
    busy = busy_seconds()
    command = [str(Path(sys.executable).with_name("tunesmith")), "report", run, "--model", OTHER]
    subprocess.run(command, check=True)
    report: dict[str, Any] = json.loads((Path(run) / "report" / "report.json").read_text(encoding="utf-8"))
    (beside,) = [one for one in report["compared"] if one["kind"] == "model"]
    seconds = report["cost"]["per_1000_rows"]
    result = {
        "headline": report["headline"],
        "tuned": report["scores"]["test"][report["headline"]],
        "tuned_per_1000": {"seconds": seconds, "money": MONEY * seconds / 3600},
        "models": report["models"],
        "compared": beside,
        "cores_busy_seconds": round(busy_seconds() - busy, 1),
    }
    print(json.dumps(result, indent=1))
    if asked.save:
        RESULT.write_text(json.dumps({**peers.setting(), **result}, indent=1) + "\n", encoding="utf-8")
    return 0 if beside["outcome"] != "unclear" else 1


if __name__ == "__main__":
    sys.exit(main())
