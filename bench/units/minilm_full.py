"""Full tuning of MiniLM beside Transformers' Trainer: with work made equal, and with the defaults of each."""

from __future__ import annotations

from typing import Any

from bench.measure import Side, alternate, brief, equal, goals, largest_difference, ratios
from bench.minilm import BATCH, ROWS, Setting, equal_recipe, equal_trainer, setting, trainer

FIRST, FIRST_TOLERANCE = 10, 1e-4
TOLERANCE = 1e-3
"""Of any loss. Two sides that round differently drift apart, as Adam amplifies it: see README.md for how much."""
ROUNDS, EPOCHS = 2, 2


def main() -> dict[str, Any]:
    """Each side in turn, twice: equal work (and Trainer with rows of like length together), then defaults."""
    given = setting("minilm-full")
    print(f"MiniLM, full tuning, {ROWS} rows of banking77 x {EPOCHS} epochs, batches of {BATCH}", flush=True)
    same = alternate(
        "equal",
        {
            "tunesmith": ("ours", {"do": "train", "recipe": equal_recipe(given, "full", EPOCHS)}),
            "trainer": ("theirs", equal_trainer(given, EPOCHS)),
            "trainer-grouped": ("theirs", equal_trainer(given, EPOCHS, "group_by_length")),
        },
        ROUNDS,
        given.work,
    )
    arguments = {"num_train_epochs": EPOCHS, "per_device_train_batch_size": BATCH}
    usual = {**trainer(given, given.minilm), "test": given.files["test"], "arguments": arguments}
    other = alternate(
        "usual",
        {
            "tunesmith": ("ours", {"do": "train", "recipe": _usual_recipe(given)}),
            "trainer": ("theirs", usual),
        },
        1,
        given.work,
    )
    work = _equal_work(*same.values())
    ours, theirs = other.values()
    return {"passed": work["passed"], "equal_work": work, "defaults": _row(ours, theirs)}


def _usual_recipe(given: Setting) -> dict[str, Any]:
    return {
        "model": "minilm",
        "task": "text-classification",
        "data": {name: given.files[name] for name in ("train", "validation", "test")},
        "method": "full",
        "train": {"epochs": EPOCHS},
        "run": {"dir": str(given.work / "runs")},
    }


def _equal_work(ours: list[Side], theirs: list[Side], grouped: list[Side]) -> dict[str, Any]:
    a, b = ours[0], theirs[0]
    same = equal(a, b, TOLERANCE)
    first = largest_difference(a["losses"][:FIRST], b["losses"][:FIRST])
    aims = goals(
        largest_difference=(same["largest_difference"], "<=", TOLERANCE),
        largest_difference_of_first=(first, "<=", FIRST_TOLERANCE),
        ratio_train=(ratios(ours, theirs)["ratio_train"], ">=", 2.5),
    )
    return {
        "passed": same["equal"] and all(aim["reached"] for aim in aims.values()),
        "goals": aims,
        **same,
        "ours_repeats_bit_for_bit": all(run["losses"] == a["losses"] for run in ours),
        **_row(ours, theirs),
        "beside_grouped_by_length": ratios(ours, grouped),
        "trainer_grouped_by_length": brief(grouped),
        "losses": {name: [round(x, 6) for x in run["losses"]] for name, run in (("tunesmith", a), ("trainer", b))},
    }


def _row(ours: list[Side], theirs: list[Side]) -> dict[str, Any]:
    return {**ratios(ours, theirs), "tunesmith": brief(ours), "trainer": brief(theirs)}
