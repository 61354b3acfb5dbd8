"""Only evaluation: MiniLM's answers to the 3,080 test rows of banking77, beside Trainer's predictions."""

from __future__ import annotations

from typing import Any

from bench.measure import QUIET, Side, alternate, goals
from bench.minilm import equal_recipe, setting

ROUNDS = 2


def main() -> dict[str, Any]:
    """Trainer as it comes (batches of 8), and with batches of 64."""
    given = setting("evaluate")
    recipe = equal_recipe(given, "full", 1)
    recipe["data"]["validation"] = given.files["every-test"]
    del recipe["evaluate"]["limit"]
    job = {
        "do": "evaluate",
        "folder": given.start,
        "test": given.files["every-test"],
        "labels": given.labels,
        "save": str(given.work / "trainer"),
    }
    found = alternate(
        "run",
        {
            "tunesmith": ("ours", {"do": "evaluate", "recipe": recipe}),
            "trainer": ("theirs", {**job, "arguments": {}}),
            "trainer-64": ("theirs", {**job, "arguments": {"per_device_eval_batch_size": 64}}),
        },
        ROUNDS,
        given.work,
    )
    ours, *peers = found.values()
    same = all(run["answers"] == ours[0]["answers"] for runs in peers for run in runs)
    usual, large = (_best(runs) / _best(ours) for runs in peers)
    print(f"the same {len(ours[0]['answers'])} answers: {same}", flush=True)
    aims = goals(ratio_default=(usual, ">=", 3.0), ratio_batches_of_64=(large, ">=", 1.0))
    return {
        "passed": same and all(aim["reached"] for aim in aims.values()),
        "goals": aims,
        "same_answers": same,
        "quiet": all(run["others_cpu"] <= QUIET for runs in found.values() for run in runs),
        **{name: _brief(runs) for name, runs in found.items()},
    }


def _best(runs: list[Side]) -> float:
    return float(min(run["evaluate_seconds"] for run in runs))


def _brief(runs: list[Side]) -> dict[str, Any]:
    return {
        "evaluate_seconds": [round(run["evaluate_seconds"], 2) for run in runs],
        "wall_seconds": [round(run["wall_seconds"], 2) for run in runs],
        "peak_rss_gb": [round(run["peak_bytes"] / 2**30, 3) for run in runs],
        "accuracy": runs[0]["accuracy"],
    }
