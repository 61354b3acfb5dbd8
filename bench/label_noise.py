"""Wrong labels, ours beside cleanlab: `python bench/label_noise.py [--save]`.

A tenth of the training labels of three data sets is changed, to any other or to the nearest one; it is counted how many
of the most suspect rows were changed. Both get the same out-of-fold probabilities, and cleanlab its own pipeline too.
`--save` keeps the result and writes the page. Exit status 1 where fewer than half of the 5 % most suspect rows of
banking77 were changed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import peers, planted  # noqa: E402
from bench.measure import data_folder, put_between, work_folder  # noqa: E402

PAGE = ROOT / "docs" / "concepts" / "doctor.md"
MARK = "<!-- noise -->"
RESULT = ROOT / "bench" / "results" / "label-noise.json"
SETS = ("banking77", "sst2", "ag_news")
KINDS = {"any": planted.wrong_labels, "nearest": planted.near_labels}
SHARE = 0.1


def main() -> int:
    """Plant, look, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help="keep the result")
    asked = parser.parse_args()
    peers.CLEANLAB.install()
    result: dict[str, Any] = {**peers.setting(), "share": SHARE, "sets": {}}
    for name in SETS:
        for kind in KINDS:
            result["sets"][f"{name}, {kind}"] = compare(name, kind)
            print(json.dumps({f"{name}, {kind}": result["sets"][f"{name}, {kind}"]}), flush=True)
    if asked.save:
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        write_page(result["sets"])
    return 0 if all(result["sets"][f"banking77, {kind}"]["ours"]["precision_at_5"] >= 0.5 for kind in KINDS) else 1


def write_page(sets: dict[str, Any]) -> None:
    """The table into the page."""
    sides = ("ours", "cleanlab, same probabilities", "cleanlab, its own pipeline")
    heads = [
        "data",
        "changed to",
        "ours: precision of the 5 % / 10 % most suspect",
        "reported, precision, recall (of the set as it is)",
        *(f"{side}: 5 % / 10 %, reported, precision, recall" for side in sides[1:]),
        "seconds",
    ]
    table = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for name, found in sets.items():
        ours, *theirs = (found[side] for side in sides)
        cells = [f"**{ours['precision_at_5']:.3f} / {ours['precision_at_10']:.3f}**",
                 f"{_reported(ours)} ({ours['reported_of_clean']})"]  # fmt: skip
        cells += [f"{one['precision_at_5']:.3f} / {one['precision_at_10']:.3f}, {_reported(one)}" for one in theirs]
        cells.append(f"{ours['seconds']:.0f} / {theirs[1]['seconds']:.0f}")
        table.append("| " + " | ".join([*name.split(", "), *cells]) + " |")
    put_between(PAGE, MARK, table)


def _reported(found: dict[str, Any]) -> str:
    return f"{found['reported']:,}, {found['precision']:.2f}, {found['recall']:.2f}"


def compare(name: str, kind: str) -> dict[str, Any]:
    """Of one data set with wrong labels of a kind, what each side finds."""
    import numpy as np

    from tunesmith.data import splits
    from tunesmith.data.infer import infer
    from tunesmith.doctor import confident
    from tunesmith.doctor.case import Case, asked
    from tunesmith.doctor.checks import label_noise
    from tunesmith.recipefile import build
    from tunesmith.tasks.text_classification import TextClassification

    folder = data_folder(name)
    columns = infer(folder, {}).columns
    rows = splits.load(
        build({"model": "minilm", "data": {"train": str(folder), "columns": columns}}), TextClassification()
    )
    clean = list(rows.rows["train"])
    noisy, wrong = KINDS[kind](clean, SHARE, seed=0)
    classes = sorted({row["label"] for row in noisy})
    labels = np.array([classes.index(row["label"]) for row in noisy])
    texts = ["\n".join(asked(row).values()) for row in noisy]
    began = time.perf_counter()
    probabilities = label_noise.out_of_fold(texts, labels, len(classes), 0)
    assert probabilities is not None
    probabilities = confident.calibrated(probabilities, labels)
    suspicion = confident.suspicion(probabilities, labels)
    seconds = time.perf_counter() - began
    reported = [k for found in label_noise.find(Case({"train": noisy})) for _, k in found.rows]
    alarms = sum(found.count for found in label_noise.find(Case({"train": clean})))
    theirs = _cleanlab(name, {"labels": labels.tolist(), "probabilities": probabilities.tolist(), "texts": texts})
    order = np.argsort(suspicion, kind="stable").tolist()
    return {
        "rows": len(noisy),
        "changed": len(wrong),
        "ours": {**_worth(order, reported, wrong), "seconds": round(seconds, 1), "reported_of_clean": alarms},
        "cleanlab, same probabilities": _worth(theirs["order"], theirs["reported"], wrong),
        "cleanlab, its own pipeline": {
            **_worth(theirs["learning_order"], theirs["learning_reported"], wrong),
            "seconds": round(theirs["learning_seconds"], 1),
        },
    }


def _cleanlab(name: str, job: dict[str, Any]) -> dict[str, Any]:
    work = work_folder(f"noise-{name}")
    given, out = work / "job.json", work / "out.json"
    given.write_text(json.dumps(job), encoding="utf-8")
    side = ROOT / "bench" / "sides" / "noise.py"
    subprocess.run([str(peers.CLEANLAB.python), str(side), str(given), str(out)], check=True)
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def _worth(order: Sequence[int], reported: Sequence[int], wrong: set[int]) -> dict[str, Any]:
    """Precision of the most suspect 5 and 10 %, and of what is reported; recall of that."""
    hit = len(wrong & set(reported))
    at = {f"precision_at_{share}": len(order) * share // 100 for share in (5, 10)}
    return {
        **{key: round(sum(k in wrong for k in order[:count]) / count, 3) for key, count in at.items()},
        "reported": len(reported),
        "precision": round(hit / max(len(reported), 1), 3),
        "recall": round(hit / len(wrong), 3),
    }


if __name__ == "__main__":
    sys.exit(main())
