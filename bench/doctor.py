"""What the doctor finds of what is planted: `python bench/doctor.py [KIND ...] [--save]`; no kinds run all.

Each line of the table plants one defect into a real data set, and counts how many of the planted rows are reported
(recall), how many of those reported beyond what was before are planted (precision), and what is reported of the set as
it is: those rows are for a reader to judge, not all are false alarms. `--save` keeps the result and writes the page.
Exit status 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import defects, peers, planted  # noqa: E402
from bench.defects import rows_of  # noqa: E402
from bench.measure import put_between, work_folder  # noqa: E402

from tunesmith import plugins  # noqa: E402
from tunesmith.contracts import Row  # noqa: E402
from tunesmith.diagnosis import diagnose  # noqa: E402
from tunesmith.doctor.case import Case  # noqa: E402
from tunesmith.doctor.finding import Finding  # noqa: E402
from tunesmith.prepare import prepare  # noqa: E402
from tunesmith.recipefile import build  # noqa: E402

RESULT = ROOT / "bench" / "results" / "doctor.json"
PAGE = ROOT / "docs" / "concepts" / "doctor.md"
MARK = "<!-- table -->"


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    kind: str
    data: str
    planted: int
    precision: float
    recall: float
    before: int
    """Rows reported of the set as it is."""
    of: int
    seconds: float
    goal: tuple[float, float] | None = None
    """Least precision and recall."""


def look(check: str, kind: str, rows: dict[str, Sequence[Row]], task: str, split: str) -> set[int]:
    """Ids of the rows of a split that a check reports as a kind."""
    found: list[Finding] = plugins.load("checks", check).find(Case(rows, task=task))
    return {k for finding in found if finding.kind == kind for name, k in finding.rows if name == split}


def measure(
    check: str, kind: str, data: str, plant: Callable[[dict[str, list[Row]]], tuple[dict[str, list[Row]], set[int]]],
    *, split: str = "train", goal: tuple[float, float] | None = None,
) -> Line:  # fmt: skip
    """Plant, look at both, compare. Planted rows keep their places, or stand behind all others."""
    rows, task = rows_of(data)
    before = look(check, kind, {**rows}, task, split)
    made, wanted = plant(rows)
    began = time.perf_counter()
    found = look(check, kind, {**made}, task, split)
    seconds = time.perf_counter() - began
    return counted(kind, data, wanted, found, before, len(rows[split]), seconds, goal)


def counted(
    kind: str, data: str, wanted: set[int], found: set[int], before: set[int], of: int, seconds: float,
    goal: tuple[float, float] | None,
) -> Line:  # fmt: skip
    """How much of what was planted was found, and how much of what was found beyond what was before is planted."""
    new = found - (before - wanted)
    precision = len(new & wanted) / max(len(new), 1)
    recall = len(found & wanted) / max(len(wanted), 1)
    return Line(kind, data, len(wanted), round(precision, 3), round(recall, 3), len(before), of, round(seconds, 1),
                goal)  # fmt: skip


def measure_file(
    kind: str, data: str, plant: Callable[[Path], tuple[Path, set[int], str]], model: str, max_tokens: int
) -> Line:
    """The same for what only reading and encoding tell; all rows are looked at, in whichever split they are."""
    file, wanted, task = plant(work_folder("doctor-file"))
    values: dict[str, Any] = {"model": model, "task": task,
                              "data": {"train": str(file), "max_tokens": max_tokens, "bad_rows": "skip"}}  # fmt: skip
    began = time.perf_counter()
    prepared = prepare(build(values))
    rows = prepared.splits.rows
    bad = [row for part in prepared.splits.bad.values() for row in part]
    found = {rows[split][k].line for f in diagnose(prepared) if f.kind == kind for split, k in f.rows}
    if kind == "bad-row":
        found = {row.line for row in bad}
    seconds = time.perf_counter() - began
    return counted(kind, data, wanted, found, set(), sum(map(len, rows.values())) + len(bad), seconds, (1, 1))


LINES: dict[str, Callable[[], Line]] = {
    "leak": lambda: measure("copies", "leak", "banking77", defects.exact_leaks, split="test", goal=(1, 1)),
    "near-duplicate banking77": lambda: measure("near-duplicates", "near-duplicate", "banking77",
        defects.in_train(lambda rows: planted.near_duplicates(rows, "text", 400, seed=1)), goal=(0.95, 0.95)),
    "near-duplicate sms_spam": lambda: measure("near-duplicates", "near-duplicate", "sms_spam",
        defects.in_train(lambda rows: planted.near_duplicates(rows, "text", 200, seed=1)), goal=(0.95, 0.95)),
    "near-duplicate across": lambda: measure("near-duplicates", "near-duplicate", "sst2", defects.near_leaks,
        split="test", goal=(0.95, 0.95)),
    "near-duplicate behind a prompt": lambda: measure("near-duplicates", "near-duplicate", "sst2",
        defects.in_train(defects.behind_a_prompt), goal=(0.95, 0.95)),
    "duplicate": lambda: measure("copies", "duplicate", "banking77", defects.in_train(defects.copied), goal=(1, 1)),
    "contradiction": lambda: measure("copies", "contradiction", "banking77", defects.in_train(defects.contradicted),
        goal=(1, 1)),
    "group-leak": lambda: measure("groups", "group-leak", "squad_v1", defects.group_leaks, split="test", goal=(1, 1)),
    "label-noise banking77": lambda: measure("label-noise", "label-noise", "banking77",
        defects.in_train(lambda rows: planted.wrong_labels(rows, 0.1, seed=0))),
    "unrelated-labels": lambda: measure("label-noise", "unrelated-labels", "sst2", defects.in_train(defects.mixed_up),
        goal=(1, 1)),
    "unseen-label": lambda: measure("labels", "unseen-label", "banking77", defects.unseen, split="test", goal=(1, 1)),
    "rare-label": lambda: measure("labels", "rare-label", "banking77", defects.in_train(defects.rare), goal=(1, 1)),
    "imbalance": lambda: measure("labels", "imbalance", "ag_news", defects.in_train(defects.uneven), goal=(1, 1)),
    "answer-cut": lambda: measure_file("answer-cut", "alpaca", defects.cut_answers, "smollm2-135m", 512),
    "truncated": lambda: measure_file("truncated", "sst2", defects.cut_texts, "minilm", 128),
    "bad-row": lambda: measure_file("bad-row", "sst2", defects.unusable, "minilm", 128),
    "personal-data": lambda: measure("personal", "personal-data", "sst2", defects.in_train(defects.pieces(lambda: [
        *planted.emails(50, 1), *planted.cards(50, 1), *planted.ibans(50, 1), *planted.phones(50, 1)])),
        goal=(0.95, 0.95)),
    "harmless numbers": lambda: measure("personal", "personal-data", "sst2", lambda rows: (
        {**rows, "train": defects.pieces(lambda: planted.harmless(300, 1))(rows["train"])[0]}, set())),
    "template-tokens": lambda: measure("templates", "template-tokens", "sst2",
        defects.in_train(defects.pieces(lambda: list(planted.MARKS) * 10)), goal=(0.95, 0.95)),
    "role-order": lambda: measure("chats", "role-order", "alpaca", defects.in_train(defects.turned),
        goal=(1, 1)),
    "empty-target": lambda: measure("targets", "empty-target", "dialogsum", defects.in_train(defects.emptied),
        goal=(1, 1)),
    "one-word-target": lambda: measure("targets", "one-word-target", "dialogsum",
        defects.in_train(defects.one_worded), goal=(1, 1)),
    "copied-target": lambda: measure("targets", "copied-target", "alpaca", defects.in_train(defects.said("copy")),
        goal=(1, 1)),
    "constant-target": lambda: measure("targets", "constant-target", "alpaca",
        defects.in_train(defects.said("constant")), goal=(1, 1)),
    "untranslated": lambda: measure("languages", "untranslated", "multi30k", defects.in_train(defects.left_alone)),
    "language-mix": lambda: measure("languages", "language-mix", "banking77", defects.in_train(defects.strangers)),
    "language-shift": lambda: measure("languages", "language-shift", "banking77", defects.foreign, split="test",
        goal=(1, 0.7)),
    "script-outlier": lambda: measure("outliers", "script-outlier", "banking77", defects.in_train(defects.in_arabic),
        goal=(1, 1)),
    "mojibake": lambda: measure("outliers", "mojibake", "germeval14", defects.in_train(defects.broken),
        goal=(0.95, 0.95)),
    "length-outlier": lambda: measure("outliers", "length-outlier", "banking77",
        defects.in_train(defects.long_and_short), goal=(0.95, 0.95)),
    "near-duplicate-image": lambda: measure("image-copies", "near-duplicate-image", "sign_digits",
        defects.in_train(defects.pictures), goal=(0.95, 0.95)),
}  # fmt: skip


def large(count: int = 100_000) -> dict[str, Any]:
    """All checks on very many rows: seconds of each, and the most memory."""
    texts = [row["text"] for name in ("ag_news", "sst2", "banking77") for row in rows_of(name)[0]["train"]]
    words = [word for text in texts for word in text.split()]
    rng = random.Random(0)
    labels = [f"label {k}" for k in range(20)]
    rows = []
    for k in range(count):
        at = rng.randrange(len(words) - 40)
        text = " ".join(words[at : at + rng.randrange(20, 36)])
        label = labels[at * 20 // len(words)]  # near texts are of near articles
        rows.append(Row(k, {"text": f"{text} {rng.choice(words)}", "label": label}, "rows.jsonl", k + 1))
    case = Case({"train": rows[: count * 8 // 10], "validation": rows[count * 8 // 10 : count * 9 // 10],
                 "test": [replace(row, id=k) for k, row in enumerate(rows[count * 9 // 10 :])]})  # fmt: skip
    case = replace(
        case, rows={name: [replace(row, id=k) for k, row in enumerate(part)] for name, part in case.rows.items()}
    )
    seconds = {}
    for name in plugins.names("checks"):
        began = time.perf_counter()
        plugins.load("checks", name).find(case)
        seconds[name] = round(time.perf_counter() - began, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"rows": count, "seconds": seconds, "all_seconds": round(sum(seconds.values()), 1), "peak_bytes": peak}


def main() -> int:
    """Run, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[[], *LINES, "large"], help="lines; all where none is named")
    parser.add_argument("--save", action="store_true", help="keep the result and write the page")
    asked = parser.parse_args()
    result: dict[str, Any] = {**peers.setting(), "lines": []}
    missed = []
    for name, run in LINES.items():
        if asked.kinds and name not in asked.kinds:
            continue
        line = run()
        print(json.dumps(asdict(line)), flush=True)
        result["lines"].append({"name": name, **asdict(line)})
        if line.goal is not None and (line.precision < line.goal[0] or line.recall < line.goal[1]):
            missed.append(name)
    if not asked.kinds or "large" in asked.kinds:
        result["large"] = large()
        print(json.dumps(result["large"]), flush=True)
    if asked.save:
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        write_page(result)
    for name in missed:
        print(f"{name}: the goal was missed")
    return 1 if missed else 0


def write_page(result: dict[str, Any]) -> None:
    """The table into the page."""
    table = ["| finding | planted in | rows planted | precision | recall | reported as it is | seconds |",
             "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for line in result["lines"]:
        worth = ("-", "-") if not line["planted"] else (f"{line['precision']:.3f}", f"{line['recall']:.3f}")
        shown = f"{line['before']:,} of {line['of']:,}"
        cells = (line["name"], line["data"], line["planted"], *worth, shown, line["seconds"])
        table.append("| " + " | ".join(map(str, cells)) + " |")
    put_between(PAGE, MARK, table)


if __name__ == "__main__":
    sys.exit(main())
