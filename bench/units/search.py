"""Eight trials of one search beside eight runs of Transformers' Trainer: the same trainings, to the same losses."""

from __future__ import annotations

from typing import Any

from bench.measure import goals, largest_difference, side
from bench.minilm import ROWS, Setting, equal_recipe, equal_trainer, setting

TOLERANCE = 1e-3
EPOCHS, BLOCKS, TOP, RANK, ALPHA = 3, 6, 2, 16, 32
RATES = (3e-5, 1e-4, 2e-4, 4e-4)
TIMES = 4.0


def main() -> dict[str, Any]:
    """The search once; then Trainer once a point, in the order of the file, which makes the losses comparable. Of each
    method one point once more with rows of like length together, which is its fastest setting."""
    given = setting("search")
    print(f"eight trials of MiniLM, {ROWS} rows of banking77 x {EPOCHS} epochs", flush=True)
    start, layers = str(given.work / "adapter"), list(range(BLOCKS - TOP, BLOCKS))
    adapter = {"do": "adapter", "folder": given.start, "out": start, "rank": RANK, "alpha": ALPHA, "seed": 0}
    side("theirs", "adapter", {**adapter, "kind": "encoder", "layers": layers}, given.work)
    ours = side("ours", "search", {"do": "search", "recipe": _recipe(given, start)}, given.work)
    print(f"search: 8 trials in {ours['trials_seconds']:.1f} s, all in {ours['wall_seconds']:.1f} s", flush=True)
    rows, theirs, quick = [], 0.0, dict[str, float]()
    for trial in ours["trials"]:
        more = {"frozen": BLOCKS - TOP} if trial["method"] == "top-layers" else {"start": start}
        job = {**equal_trainer(given, EPOCHS, **more), "test": given.files["validation"]}
        job["arguments"]["learning_rate"] = trial["learning_rate"]
        name = f"trainer-{trial['number']}"
        run = side("theirs", name, job, given.work)
        theirs += run["wall_seconds"]
        if trial["method"] not in quick:
            faster = {**job, "arguments": {**job["arguments"], "train_sampling_strategy": "group_by_length"}}
            quick[trial["method"]] = side("theirs", f"{name}-by-length", faster, given.work)["wall_seconds"]
        rows.append(
            {
                "number": trial["number"],
                "method": trial["method"],
                "learning_rate": trial["learning_rate"],
                "first_loss": trial["losses"][0],
                "last_loss": trial["losses"][-1],
                "accuracy": [round(trial["accuracy"], 4), round(run["accuracy"], 4)],
                "moved": run["moved"],
                "seconds": [trial["seconds"], round(run["wall_seconds"], 2)],
                "others_cpu_cores": round(run["others_cpu"], 3),
                "largest_difference": largest_difference(trial["losses"], run["losses"]),
            }
        )
        print(rows[-1], flush=True)
    seconds = {
        "search_until_its_last_trial": round(ours["trials_seconds"], 1),
        "search_with_the_winner_run_and_the_report": round(ours["wall_seconds"], 1),
        "trainer": round(theirs, 1),
        "trainer_by_length_once_a_method": {method: round(value, 1) for method, value in quick.items()},
    }
    aims = goals(
        largest_difference=(max(row["largest_difference"] for row in rows), "<=", TOLERANCE),
        times=(theirs / ours["trials_seconds"], ">=", TIMES),
    )
    return {
        "passed": all(aim["reached"] for aim in aims.values()),
        "goals": aims,
        "seconds": seconds,
        "times_with_all_that_search_does": round(theirs / ours["wall_seconds"], 3),
        "times_by_length": round(len(rows) * sum(quick.values()) / len(quick) / ours["trials_seconds"], 3),
        "others_cpu_cores": round(ours["others_cpu"], 3),
        "peak_rss_gb": round(ours["peak_bytes"] / 2**30, 3),
        "trials": rows,
    }


def _recipe(given: Setting, start: str) -> dict[str, Any]:
    lora = {"name": "lora", "rank": RANK, "alpha": ALPHA, "layers": TOP, "start": start}
    recipe = equal_recipe(given, {"name": "top-layers", "layers": TOP}, EPOCHS)
    recipe["evaluate"] = {"compare": False, "every": EPOCHS * ROWS}
    recipe["train"]["head_learning_rate"] = None
    recipe["data"]["test"] = given.files["test"]  # else half of the validation rows would choose nothing
    recipe["search"] = {
        "sampler": "grid",
        "pruner": "none",
        "seeds": 0,
        "space": {"method": [recipe["method"], lora], "train.learning_rate": list(RATES)},
        "dir": str(given.work / "searches"),
    }
    return recipe
