"""The two last blocks of MiniLM, five epochs, beside Transformers' Trainer (and PEFT) on the same trainable set."""

from __future__ import annotations

from typing import Any

from bench.measure import alternate, brief, equal, goals, ratios, side
from bench.minilm import ROWS, equal_recipe, equal_trainer, setting

TOLERANCE = 1e-3
ROUNDS, EPOCHS, BLOCKS, TOP = 2, 5, 6, 2
RANK, ALPHA = 16, 32


def main() -> dict[str, Any]:
    """The blocks themselves with the head; then adapters in them alone."""
    given = setting("minilm-top")
    print(f"MiniLM, the {TOP} last of {BLOCKS} blocks, {ROWS} rows of banking77 x {EPOCHS} epochs", flush=True)
    start = str(given.work / "adapter")
    layers = list(range(BLOCKS - TOP, BLOCKS))
    adapter = {"do": "adapter", "folder": given.start, "out": start, "rank": RANK, "alpha": ALPHA, "seed": 0}
    side("theirs", "adapter", {**adapter, "kind": "encoder", "layers": layers}, given.work)
    lora = {"name": "lora", "rank": RANK, "alpha": ALPHA, "layers": TOP, "start": start}
    pairs: dict[str, tuple[Any, dict[str, Any]]] = {
        "top": ({"name": "top-layers", "layers": TOP}, {"frozen": BLOCKS - TOP}),
        "lora-top": (lora, {"start": start}),
    }
    made: dict[str, Any] = {}
    for name, (method, more) in pairs.items():
        ours, theirs = alternate(
            name,
            {
                "tunesmith": ("ours", {"do": "train", "recipe": equal_recipe(given, method, EPOCHS)}),
                "trainer": ("theirs", equal_trainer(given, EPOCHS, **more)),
            },
            ROUNDS,
            given.work,
        ).values()
        same, beside = equal(ours[0], theirs[0], TOLERANCE), ratios(ours, theirs)
        aims = goals(
            largest_difference=(same["largest_difference"], "<=", TOLERANCE),
            ratio_train=(beside["ratio_train"], ">=", 4.0),
        )
        passed = same["equal"] and all(aim["reached"] for aim in aims.values())
        rows = {"tunesmith": brief(ours), "trainer": brief(theirs)}
        made[name] = {"passed": passed, "goals": aims, **same, **beside, **rows}
    return {"passed": all(row["passed"] for row in made.values()), **made}
