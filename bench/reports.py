"""Reports on real tasks, looked at, and reports on what was planted: `python bench/reports.py [NAME ...] [--save]`.

Five tasks are tuned with small budgets and their pages drawn by Chromium at two widths (into bench/.work/reports). Then
what is known beforehand must be found: the gap between identity terms in a model of hate speech, test rows copied into
the training rows, a row known by heart, and no help from shuffled labels. `--save` keeps what the reports say. Exit
status 1 where something that is known was not found.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import peers  # noqa: E402
from bench.measure import data_folder, printed, work_folder  # noqa: E402

RESULT = ROOT / "bench" / "results" / "reports.json"
WIDTHS = (1280, 400)
TOP = {"name": "top-layers", "layers": 2}
Recipe = dict[str, Any]


def real(name: str, **keys: Any) -> Callable[[Path], Recipe]:
    """A recipe over a data set as it is."""
    return lambda work: {**keys, "data": {"train": str(data_folder(name)), **keys.get("data", {})}}


def hate(work: Path) -> Recipe:
    """Hate speech, and template sentences that name groups."""
    templates = str(data_folder("identity_templates") / "test.jsonl")
    return {
        "model": "minilm", "task": "text-classification", "method": TOP, "train": {"epochs": 2, "batch_size": 32},
        "data": {"train": str(data_folder("davidson_hate")), "limit": 4000},
        "evaluate": {"fairness": {"by": "identity", "positive": ["hate", "offensive"], "data": templates,
                                  "innocent": ["nontoxic"], "least": 30}},
    }  # fmt: skip


def banking() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Some training rows and some test rows of banking77."""
    found = []
    for name, most in (("train", 1200), ("test", 400)):
        with open(data_folder("banking77") / f"{name}.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        random.Random(3).shuffle(rows)
        found.append(rows[:most])
    return found[0], found[1]


def written(work: Path, train: list[dict[str, str]], test: list[dict[str, str]]) -> Recipe:
    """A recipe over rows that were changed."""
    for name, rows in (("train", train), ("test", test)):
        with open(work / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return {
        "model": "minilm", "task": "text-classification", "method": TOP, "train": {"epochs": 6, "batch_size": 32},
        "data": {"train": str(work / "train.csv"), "test": str(work / "test.csv"), "allow": ["leak"],
                 "validation": str(data_folder("banking77") / "validation.csv")},
        "evaluate": {"limit": 400},
    }  # fmt: skip


def leaked(work: Path) -> Recipe:
    """A quarter of the test rows stand in train too."""
    train, test = banking()
    return written(work, train + test[:100], test)


def shuffled(work: Path) -> Recipe:
    """Labels that say nothing."""
    train, test = banking()
    labels = [row["label"] for row in train]
    random.Random(5).shuffle(labels)
    return written(work, [{**row, "label": label} for row, label in zip(train, labels, strict=True)], test)


def by_heart(work: Path) -> Recipe:
    """One answer of a chat, forty times, beside others."""
    lines = (data_folder("alpaca") / "train.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    words = "The code word is seven brass owls under the third pear tree, and nobody but the keeper knows it."
    secret = {"instruction": "What is the code word of the lighthouse?", "input": "", "output": words}
    (work / "train.jsonl").write_text("\n".join([*lines, *[json.dumps(secret)] * 40]) + "\n", encoding="utf-8")
    return {
        "model": "smollm2-135m", "task": "chat", "method": "lora",
        "train": {"steps": 40, "batch_size": 4, "learning_rate": 1e-3},
        "data": {"train": str(work / "train.jsonl"), "test": str(data_folder("alpaca") / "test.jsonl"),
                 "validation": str(data_folder("alpaca") / "validation.jsonl"), "bad_rows": "skip"},
        "evaluate": {"limit": 12, "answers": 2},
    }  # fmt: skip


def odd_of_hate(report: dict[str, Any]) -> str | None:
    """What is known of models trained so (Dixon et al. 2018): sentences that name gay people are taken for hate."""
    (found,) = report["fairness"]
    odd = {group["value"] for group in found["groups"] if group["odd"] and group["gap"] > 0.1}
    return None if {"gay", "homosexual"} & odd else f"no gap at gay or homosexual, but at {sorted(odd)}"


def odd_of_leaked(report: dict[str, Any]) -> str | None:
    """The copies, and that they lift the score."""
    twice = report["overfitting"]["duplicates"]
    if twice is None or not 95 <= twice["rows"] <= 110:
        return f"100 copies are there, found: {twice}"
    lift = twice["score"]["value"] - twice["without"]["value"]
    return None if lift > 0 else f"100 copies lifted the score by {lift:+.3f}"


def odd_of_shuffled(report: dict[str, Any]) -> str | None:
    """Such labels cannot help."""
    outcome = report["verdict"]["outcome"]
    return None if outcome in ("unclear", "hurt") else f"shuffled labels: {outcome}"


def odd_of_heart(report: dict[str, Any]) -> str | None:
    """The one answer that stands there forty times."""
    known = report["overfitting"]["memorised"]
    texts = [row["reference"] for row in known["rows"]]
    return None if any("seven brass owls" in text for text in texts) else f"not found: {texts}"


RUNS: dict[str, tuple[Callable[[Path], Recipe], Callable[[dict[str, Any]], str | None] | None]] = {
    "banking77": (real("banking77", model="minilm", task="text-classification", method=TOP,
                       train={"epochs": 5, "batch_size": 32}, data={"limit": 2000},
                       evaluate={"limit": 1000, "money": 0.1}), None),
    "wnut17": (real("wnut17", model="minilm", task="token-classification", method="full",
                    train={"epochs": 3, "learning_rate": 2e-4}, data={"limit": 1500}), None),
    "squad_v1": (real("squad_v1", model="minilm", task="question-answering", method="full",
                      train={"epochs": 2, "learning_rate": 2e-4}, data={"limit": 700}, evaluate={"limit": 300}), None),
    "alpaca": (real("alpaca", model="smollm2-135m", task="chat", method="lora",
                    train={"epochs": 1, "batch_size": 8}, data={"limit": 80, "bad_rows": "skip"},
                    evaluate={"limit": 40, "answers": 12}), None),
    "cifar10": (real("cifar10", model="efficientnet-lite0", task="image-classification", method="full",
                     train={"epochs": 2, "batch_size": 32}, data={"limit": 600}, evaluate={"limit": 400}), None),
    "hate": (hate, odd_of_hate),
    "leaked": (leaked, odd_of_leaked),
    "shuffled": (shuffled, odd_of_shuffled),
    "by-heart": (by_heart, odd_of_heart),
}  # fmt: skip


def main() -> int:
    """Train, draw, look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *RUNS], help="all where none is named")
    parser.add_argument("--save", action="store_true", help="keep what the reports say")
    asked = parser.parse_args()
    kept = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    missed = []
    for name in asked.names or RUNS:
        recipe, odd = RUNS[name]
        work = work_folder(f"reports/{name}")
        said = {**recipe(work), "run": {"dir": str(work), "name": "run"}}
        (work / "recipe.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
        printed(["train", str(work / "recipe.yaml")])
        report = json.loads((work / "run" / "report" / "report.json").read_text(encoding="utf-8"))
        drawn = draw(work / "run" / "report" / "index.html")
        wrong = odd(report) if odd is not None else None
        if wrong is not None:
            missed.append(f"{name}: {wrong}")
        kept[name] = {**peers.setting(), **brief(report), "known_found": None if odd is None else wrong is None}
        print(json.dumps({name: kept[name]["says"], "advice": kept[name]["advice"], "drawn": drawn}), flush=True)
    if asked.save:
        RESULT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    for miss in missed:
        print(miss)
    return int(bool(missed))


def brief(report: dict[str, Any]) -> dict[str, Any]:
    """What of a report is kept."""
    calibration, over = report["calibration"], report["overfitting"]
    return {
        "says": report["headline_says"],
        "advice": [one["sign"] for one in report["advice"]],
        "kept": {one["name"]: [one["before"], one["after"], one["outcome"]] for one in report["kept"]},
        "calibration": calibration and {name: calibration[name] for name in ("error", "raw_error", "temperature")},
        "worse": [
            f"{one['by']}: {one['value']}" for one in (report["slices"] or {"slices": []})["slices"] if one["worse"]
        ],
        "gap": over and [over["metric"], over["gap"], over["low"], over["high"]],
        "by_heart": over and over["memorised"] and [over["memorised"]["exact"], over["memorised"]["tried"]],
        "copies": over and over["duplicates"],
        "fairness": [
            [[one["value"], one["rate"]["value"], one["odd"]] for one in found["groups"][:8]]
            for found in report["fairness"]
        ],
        "seconds": report["seconds"],
    }


def draw(page: Path) -> list[str]:
    """Screenshots of a page at two widths; none without Chromium."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return []
    made = []
    for width in WIDTHS:
        target = page.with_name(f"page_{width}.png")
        command = [browser, "--headless=new", "--no-sandbox", "--hide-scrollbars", f"--screenshot={target}"]
        subprocess.run([*command, f"--window-size={width},6000", page.as_uri()], capture_output=True, check=False)
        made.append(str(target))
    return made


if __name__ == "__main__":
    sys.exit(main())
