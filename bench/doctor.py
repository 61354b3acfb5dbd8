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

from bench import peers, planted  # noqa: E402
from bench.measure import data_folder, work_folder  # noqa: E402

from tunesmith import plugins  # noqa: E402
from tunesmith.contracts import Row  # noqa: E402
from tunesmith.data import splits  # noqa: E402
from tunesmith.data.infer import infer  # noqa: E402
from tunesmith.doctor.case import Case  # noqa: E402
from tunesmith.doctor.finding import Finding  # noqa: E402
from tunesmith.recipefile import build, make_plugin  # noqa: E402

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


def rows_of(name: str) -> tuple[dict[str, list[Row]], str]:
    """A data set's rows by split, and its task."""
    folder = data_folder(name)
    values: dict[str, Any] = {"model": "minilm", "data": {"train": str(folder), "bad_rows": "skip"}}
    if name == "multi30k":
        values["task"] = {"name": "translation", "source_language": "en", "target_language": "de"}
        values["data"]["columns"] = {"source": "en", "target": "de"}
    else:
        guess = infer(folder, {})
        values["task"], values["data"]["columns"] = guess.task, guess.columns
    recipe = build(values)
    assert recipe.task is not None
    found = splits.load(recipe, make_plugin("tasks", recipe.task.name, recipe.task.options()))
    return {split: list(rows) for split, rows in found.rows.items()}, recipe.task.name


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
    hit = len(found & wanted)
    new = found - (before - wanted)
    precision = len(new & wanted) / max(len(new), 1)
    recall = hit / max(len(wanted), 1)
    return Line(kind, data, len(wanted), round(precision, 3), round(recall, 3), len(before), len(rows[split]),
                round(seconds, 1), goal)  # fmt: skip


def in_train(plant: Callable[[Sequence[Row]], planted.Planted]) -> Callable[[dict[str, list[Row]]], Any]:
    """A defect of training rows."""

    def both(rows: dict[str, list[Row]]) -> tuple[dict[str, list[Row]], set[int]]:
        made, wanted = plant(rows["train"])
        return {**rows, "train": made}, wanted

    return both


def exact_leaks(rows: dict[str, list[Row]]) -> tuple[dict[str, list[Row]], set[int]]:
    """Fifty training rows in test too."""
    more = [planted.changed(row, k) for k, row in enumerate(random.Random(1).sample(rows["train"], 50))]
    made, wanted = planted.joined(rows["test"], more)
    return {**rows, "test": made}, wanted


def near_leaks(rows: dict[str, list[Row]]) -> tuple[dict[str, list[Row]], set[int]]:
    """A hundred near copies of training rows in test."""
    made, wanted = planted.near_duplicates(rows["train"], "text", 100, seed=2)
    test, ids = planted.joined(rows["test"], [made[k] for k in sorted(wanted)])
    return {**rows, "test": test}, ids


def group_leaks(rows: dict[str, list[Row]]) -> tuple[dict[str, list[Row]], set[int]]:
    """A hundred test rows about paragraphs of training rows."""
    made, wanted = planted.shared_contexts(rows["train"], rows["test"], "context", 100, seed=3)
    return {**rows, "test": made}, wanted


def strangers(rows: Sequence[Row]) -> planted.Planted:
    """Fifty German sentences among others."""
    german = [row["label_references"][0] for row in rows_of("multi30k")[0]["train"][:50]]
    return planted.joined(rows, [planted.changed(rows[k], k, text=text) for k, text in enumerate(german)])


def broken(rows: Sequence[Row]) -> planted.Planted:
    """Forty texts with umlauts, read in the wrong encoding."""
    chosen = [row for row in rows if any(mark in row["text"] for mark in "äöüß")][:40]
    return planted.joined(
        rows,
        [planted.changed(row, k, text=row["text"].encode().decode("latin-1")) for k, row in enumerate(chosen)],
    )


def long_and_short(rows: Sequence[Row]) -> planted.Planted:
    """Ten rows of which each is sixty others, and ten of a letter."""
    long = ["\n".join(row["text"] for row in rows[60 * k : 60 * k + 60]) for k in range(10)]
    return planted.joined(
        rows, [planted.changed(rows[k], k, text=text) for k, text in enumerate([*long, *"abcdefghij"])]
    )


def turned(rows: Sequence[Row]) -> planted.Planted:
    """Sixty chats with a turn too many, or the system's in the midst."""
    made: list[Row] = []
    wanted: set[int] = set()
    for k, row in enumerate(rows):
        if k % 3 == 0 and len(wanted) < 60:
            messages = list(row["messages"])
            extra = [{"role": "user", "content": "and one more thing"}, {"role": "system", "content": "be brief"}][
                k % 2
            ]
            row = replace(row, values={**row.values, "messages": [*messages[:1], extra, *messages[1:]]})
            wanted.add(k)
        made.append(replace(row, id=k))
    return made, wanted


def emptied(rows: Sequence[Row]) -> planted.Planted:
    """Forty summaries of dots."""
    made = [
        replace(row, id=k, values={**row.values, "label_references": ["..."]}) if k % 30 == 0 and k < 1200 else row
        for k, row in enumerate(rows)
    ]
    return made, set(range(0, min(1200, len(rows)), 30))


def left_alone(rows: Sequence[Row]) -> planted.Planted:
    """Sixty translations that are their sources."""
    made = [
        replace(row, id=k, values={**row.values, "label_references": [row["source"]]})
        if k % 100 == 0 and k < 6000
        else row
        for k, row in enumerate(rows)
    ]
    return made, set(range(0, min(6000, len(rows)), 100))


def pictures(rows: Sequence[Row]) -> planted.Planted:
    """Sixty pictures saved again, at another size, or brighter."""
    from PIL import Image, ImageEnhance

    work = work_folder("doctor-pictures")
    rng = random.Random(0)
    copies = []
    for k, row in enumerate(rng.sample(list(rows), 60)):
        with Image.open(row["image"]) as file:
            picture: Any = file.convert("RGB")
        target = work / f"{k}.jpg"
        if k % 3 == 1:
            picture = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4))
        elif k % 3 == 2:
            picture = ImageEnhance.Brightness(picture).enhance(1.12)
        picture.save(target, quality=rng.randrange(40, 71) if k % 3 == 0 else 90)
        copies.append(planted.changed(row, k, image=str(target), image_sha256=f"planted {k}"))
    return planted.joined(rows, copies)


def pieces(make: Callable[[], list[str]]) -> Callable[[Sequence[Row]], planted.Planted]:
    """Pieces in texts."""
    return lambda rows: planted.with_pieces(rows, "text", make(), seed=4)


LINES: dict[str, Callable[[], Line]] = {
    "leak": lambda: measure("copies", "leak", "banking77", exact_leaks, split="test", goal=(1, 1)),
    "near-duplicate banking77": lambda: measure("near-duplicates", "near-duplicate", "banking77",
        in_train(lambda rows: planted.near_duplicates(rows, "text", 400, seed=1)), goal=(0.95, 0.95)),
    "near-duplicate sms_spam": lambda: measure("near-duplicates", "near-duplicate", "sms_spam",
        in_train(lambda rows: planted.near_duplicates(rows, "text", 200, seed=1)), goal=(0.95, 0.95)),
    "near-duplicate across": lambda: measure("near-duplicates", "near-duplicate", "sst2", near_leaks, split="test",
        goal=(0.95, 0.95)),
    "group-leak": lambda: measure("groups", "group-leak", "squad_v1", group_leaks, split="test", goal=(1, 1)),
    "label-noise banking77": lambda: measure("label-noise", "label-noise", "banking77",
        in_train(lambda rows: planted.wrong_labels(rows, 0.1, seed=0))),
    "personal-data": lambda: measure("personal", "personal-data", "sst2", in_train(pieces(lambda: [
        *planted.emails(50, 1), *planted.cards(50, 1), *planted.ibans(50, 1), *planted.phones(50, 1)])),
        goal=(0.95, 0.95)),
    "harmless numbers": lambda: measure("personal", "personal-data", "sst2", lambda rows: (
        {**rows, "train": pieces(lambda: planted.harmless(300, 1))(rows["train"])[0]}, set())),
    "template-tokens": lambda: measure("templates", "template-tokens", "sst2",
        in_train(pieces(lambda: list(planted.MARKS) * 10)), goal=(0.95, 0.95)),
    "role-order": lambda: measure("chats", "role-order", "alpaca", in_train(turned), goal=(1, 1)),
    "empty-target": lambda: measure("targets", "empty-target", "dialogsum", in_train(emptied), goal=(1, 1)),
    "untranslated": lambda: measure("languages", "untranslated", "multi30k", in_train(left_alone)),
    "language-mix": lambda: measure("languages", "language-mix", "banking77", in_train(strangers)),
    "mojibake": lambda: measure("outliers", "mojibake", "germeval14", in_train(broken), goal=(0.95, 0.95)),
    "length-outlier": lambda: measure("outliers", "length-outlier", "banking77", in_train(long_and_short),
        goal=(0.95, 0.95)),
    "near-duplicate-image": lambda: measure("image-copies", "near-duplicate-image", "sign_digits", in_train(pictures),
        goal=(0.95, 0.95)),
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
    before, _, after = PAGE.read_text(encoding="utf-8").split(MARK)
    PAGE.write_text(MARK.join([before, "\n" + "\n".join(table) + "\n", after]), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
