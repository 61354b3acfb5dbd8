"""The table of tasks on real data: `python bench/tasks.py [NAME ...] [--save]`; no names run every row.

Each row of tasks.json is one `tunesmith train`, in a process of its own, with what its recipe says. It prints a line a
row, and with `--save` keeps the results in bench/results/tasks/ and writes the table into docs/concepts/tasks.md from
all that are kept. Exit status 1 where a row missed its goal, or did not beat its floor, the untuned base or the cheap
baseline.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import peers  # noqa: E402
from bench.measure import data_folder, work_folder  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "tasks"
PAGE = ROOT / "docs" / "concepts" / "tasks.md"
MARK = "<!-- table -->"


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    name: str
    task: str
    data: str
    model: str
    method: str
    keys: dict[str, Any] = field(default_factory=dict)
    """Recipe keys with dots -> values."""
    goal: float | None = None
    """What the headline must reach."""
    floor: list[Any] | None = None
    """[metric, value] of a cheap system measured elsewhere."""
    note: str = ""
    distinct: str | None = None
    """A column of texts of which each is to be a row once, and in one split: several questions share a paragraph."""
    elsewhere: list[str] | None = None
    """[data set, its column of texts]: other texts that tuned and base are scored on too, to see what was forgotten."""


LINES = [Line(**line) for line in json.loads((ROOT / "bench" / "tasks.json").read_text(encoding="utf-8"))]


def main() -> int:
    """Run, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[[], *(line.name for line in LINES)], help="rows; all where none is named"
    )
    parser.add_argument("--save", action="store_true", help="keep the results and write the page")
    asked = parser.parse_args()
    missed: list[str] = []
    for line in LINES:
        if asked.names and line.name not in asked.names:
            continue
        found = {**vars(line), **peers.setting(), "result": train(line)}
        found["misses"] = misses(line, found["result"])
        missed += found["misses"]
        print(" | ".join(cells(found)), flush=True)
        if asked.save:
            RESULTS.mkdir(parents=True, exist_ok=True)
            (RESULTS / f"{line.name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if asked.save:
        write_page()
    for miss in missed:
        print(miss)
    return 1 if missed else 0


def train(line: Line) -> dict[str, Any]:
    """`tunesmith train --json` with the line's recipe."""
    work = work_folder(f"tasks-{line.name}")
    recipe: dict[str, Any] = {
        "model": line.model, "task": line.task, "method": line.method,
        "data": {"train": str(folder_of(line, work))}, "run": {"dir": str(work / "runs")},
    }  # fmt: skip
    for key, value in line.keys.items():
        *path, last = key.split(".")
        here = recipe
        for part in path:
            held = here.get(part, {})
            here[part] = held if isinstance(held, dict) else {"name": held}
            here = here[part]
        here[last] = value
    file = work / "recipe.yaml"
    file.write_text(json.dumps(recipe, indent=1), encoding="utf-8")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("tunesmith")), "train", str(file), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{line.name} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1] if done.stdout[0] != "{" else done.stdout)
    run = result.pop("run")
    if line.elsewhere is not None:
        result["elsewhere"] = elsewhere(line, run, work)
    return result


def folder_of(line: Line, work: Path) -> Path:
    """The data set, or a copy in which texts that are to be distinct are."""
    folder = data_folder(line.data)
    if line.distinct is None:
        return folder
    seen: set[str] = set()
    for name in ("test", "validation", "train"):
        rows = [json.loads(row) for row in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        kept = []
        for row in rows:
            if row[line.distinct] not in seen:
                seen.add(row[line.distinct])
                kept.append(row)
        (work / "data").mkdir(exist_ok=True)
        made = "".join(json.dumps(row) + "\n" for row in kept)
        (work / "data" / f"{name}.jsonl").write_text(made, encoding="utf-8")
    return work / "data"


def elsewhere(line: Line, run: str, work: Path) -> dict[str, Any]:
    """Scores of base and tuned on the texts of another data set."""
    assert line.elsewhere is not None
    name, column = line.elsewhere
    texts = [json.loads(row)[column] for row in (data_folder(name) / "test.jsonl").read_text().splitlines()]
    file = work / "elsewhere.jsonl"
    own = line.keys["data.columns"]["text"]
    file.write_text("".join(json.dumps({own: text}) + "\n" for text in texts), encoding="utf-8")
    command = [str(Path(sys.executable).with_name("tunesmith")), "evaluate", run, "--data", str(file), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{line.name} failed:\n{done.stderr[-3000:]}")
    found = json.loads(done.stdout)
    kept = {system: found[system]["data"][found["headline"]] for system in ("scores", "base")}
    return {"data": name, "tuned": kept["scores"], "base": kept["base"], "verdict": found["verdict"]}


def misses(line: Line, result: dict[str, Any]) -> list[str]:
    """What was to be beaten and was not."""
    name, sign = result["headline"], 1 if result["higher_is_better"] else -1
    tuned = result["scores"][final(result)]
    found = []
    if line.goal is not None and sign * (tuned[name]["value"] - line.goal) < 0:
        found.append(f"{line.name}: {name} {tuned[name]['value']:.3f}, goal {line.goal}")
    if line.floor is not None and tuned[line.floor[0]]["value"] <= line.floor[1]:
        found.append(f"{line.name}: {line.floor[0]} {tuned[line.floor[0]]['value']:.3f}, floor {line.floor[1]}")
    if result["verdict"] and result["verdict"]["outcome"] != "helped":
        found.append(f"{line.name}: against the base: {result['verdict']['outcome']}")
    for system, scores in result["baselines"].items():
        metric = beside(scores[final(result)], name)
        if metric is None:
            continue
        ours, cheap = tuned[metric], scores[final(result)][metric]["value"]
        worst = ours["low"] if metric != name or sign > 0 else ours["high"]
        if (1 if metric != name else sign) * (worst - cheap) <= 0:
            found.append(f"{line.name}: {metric} not clearly above the baseline {system}")
    return found


def beside(scores: dict[str, Any], headline: str) -> str | None:
    """What a baseline is compared on: the headline, or where that is a loss and it has none, the words of answers."""
    return next((name for name in (headline, "answer_rougeL_f1") if name in scores), None)


def final(result: dict[str, Any]) -> str:
    """The split of the verdict."""
    return "test" if "test" in result["scores"] else next(iter(result["scores"]))


def cells(found: dict[str, Any]) -> list[str]:
    """One line of the table."""
    result = found["result"]
    split, name = final(result), result["headline"]
    tuned = result["scores"][split][name]
    base = result["base"].get(split, {}).get(name) if result["base"] else None
    cheap = []
    for system, scores in result["baselines"].items():
        metric = beside(scores[split], name)
        if metric is None:
            continue
        value = number(scores[split][metric]["value"])
        ours = number(result["scores"][split][metric]["value"])
        cheap.append(f"{system} {value}" if metric == name else f"{system} {metric} {value} (here {ours})")
    floor = f"{found['floor'][0]} {found['floor'][1]}" if found["floor"] else ""
    seconds = sum(result["seconds"].values())
    return [
        found["task"], found["data"], f"{found['model']}, {found['method']}", name,
        f"**{number(tuned['value'])}** [{number(tuned['low'])}, {number(tuned['high'])}]", f"{tuned['n']:,}",
        number(base["value"]) if base else "-", ", ".join(cheap) or "-",
        (f"{floor} (here {number(result['scores'][split][found['floor'][0]]['value'])})" if floor else "-"),
        f"{result['seconds'].get('train', 0):.0f} of {seconds:.0f} s", f"{result['peak_memory_bytes'] / 2**30:.1f} GB",
        "; ".join(filter(None, [found["note"], forgotten(result), *(m.partition(": ")[2] for m in found["misses"])])),
    ]  # fmt: skip


def forgotten(result: dict[str, Any]) -> str:
    """What became of other texts, in words."""
    if "elsewhere" not in result:
        return ""
    there = result["elsewhere"]
    base, tuned, verdict = there["base"], there["tuned"], there["verdict"]
    spread = f"[{verdict['low']:+.3f}, {verdict['high']:+.3f}]"
    return f"on {there['data']}, {base['value']:.3f} became {tuned['value']:.3f} (difference {spread})"


def number(value: float) -> str:
    """Three digits; percents one."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def write_page() -> None:
    """The table of all results that are kept, between the page's two marks."""
    order = {line.name: k for k, line in enumerate(LINES)}
    kept = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")]
    kept = sorted((found for found in kept if found["name"] in order), key=lambda found: order[found["name"]])
    for found in kept:  # a row's goal may have been set since
        found["misses"] = misses(LINES[order[found["name"]]], found["result"])
    head = ["task", "data", "model, method", "headline", "tuned, 95 % interval", "n", "base", "cheap baselines"]
    head += ["floor", "training, of all", "memory", "remarks"]
    lines = ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *map(cells, kept))]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARK)
    PAGE.write_text(f"{before}{MARK}\n" + "\n".join(lines) + f"\n{MARK}{rest.partition(MARK)[2]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
