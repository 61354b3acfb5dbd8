"""Reports of searches that no search was needed for, whole and of the shape that `report.json` has."""

from __future__ import annotations

import math
from typing import Any

import reports
from tunesmith.searchshape import Searched

Value = dict[str, Any]
METHODS = ("head", "lora", "top-layers")


def axis(name: str, low: float | None = None, high: float | None = None, **changes: Any) -> Value:
    """A parameter: a range, or choices."""
    return {"name": name, "low": low, "high": high, "log": False, "integer": False, "choices": None} | changes


AXES = (
    axis("train.learning_rate", 1e-5, 1e-2, log=True),
    axis("train.batch_size", choices=[8, 16, 32]),
    axis("method", choices=list(METHODS)),
    axis("method.lora.rank", 4, 64, log=True, integer=True),
    axis("method.top-layers.layers", choices=[1, 2, 4]),
    axis("model.dropout", 0.0, 0.3),
)


def trial(number: int, value: float | None, state: str = "complete", **changes: Any) -> Value:
    """A trial with three looks; one that was pruned with two, one that failed with none."""
    method = METHODS[number % 3]
    params: Value = {
        "train.learning_rate": 10 ** (-5 + 3 * ((number * 7) % 19) / 18),
        "train.batch_size": (8, 16, 32)[(number * 5) % 3],
        "method": method,
        **({"method.lora.rank": (4, 8, 11, 32, 64)[number % 5]} if method == "lora" else {}),
        **({"method.top-layers.layers": (1, 2, 4)[(number // 3) % 3]} if method == "top-layers" else {}),
        "model.dropout": 0.3 * ((number * 11) % 17) / 16,
    }
    share = {"complete": 1.0, "pruned": 0.3}.get(state)
    at = {"complete": (0.1, 0.3, 1.0), "pruned": (0.1, 0.3)}.get(state, ())
    said = {"pruned": f"fell behind: {value} after 30 of 100 updates", "failed": "memory ran out"}.get(state, "")
    return {
        "number": number, "state": state, "start": number == 0, "params": params, "value": value, "share": share,
        "seconds": None if state == "failed" else round(3.7 + number / 7, 3), "said": said,
        "looks": [] if value is None else [{"share": s, "value": value - 0.3 * (1 - s / at[-1])} for s in at],
        "recipe": f"trials/{number:04d}/recipe.yaml",
    } | changes  # fmt: skip


def against(mean: float, half: float, outcome: str) -> Value:
    """The winner held against its rival with three seeds."""
    return {"gains": [mean - 0.004, mean, mean + 0.004], "mean": mean, "low": mean - half, "high": mean + half,
            "outcome": outcome}  # fmt: skip


def changes(params: Value) -> Value:
    """The keys of the recipe that parameters stand for."""
    name = params["method"]
    inner = {key.rpartition(".")[2]: value for key, value in params.items() if key.startswith(f"method.{name}.")}
    plain = {key: value for key, value in params.items() if not key.startswith("method")}
    return {**plain, "method": {"name": name, **inner}}


def usual() -> Value:
    """A search that found something better: trials of all states, choices with options of their own."""
    trials = [trial(0, 0.71)]
    for number in range(1, 24):
        state = "failed" if number in (7, 19) else "pruned" if number % 4 == 2 else "complete"
        value = (
            None if state == "failed" else round(0.55 + 0.3 * math.sin(number * 1.7) ** 2 - 0.1 * (number % 3 == 0), 3)
        )
        trials.append(trial(number, value, state))
    best = max((one for one in trials if one["state"] == "complete"), key=lambda one: one["value"])
    return {
        "search": "/home/someone/searches/tickets_minilm_3f2a91",
        "state": "finished",
        "metric": "macro_f1",
        "higher_is_better": True,
        "chosen_on": "validation",
        "axes": [dict(one) for one in AXES],
        "trials": trials,
        "best": best["number"],
        "recipe": "/home/someone/searches/tickets_minilm_3f2a91/best.yaml",
        "changes": changes(best["params"]),
        "run": "/home/someone/searches/tickets_minilm_3f2a91/runs/seed_0",
        "optimism": {"rows": "test", "chose": reports.score(0.848), "fresh": reports.score(0.831), "by": 0.017,
                     "low": -0.011, "high": 0.045},
        "seeds": {"values": [0.84, 0.845, 0.851], "mean": 0.8453, "low": 0.84, "high": 0.851, "rival": 0,
                  "rival_values": [0.709, 0.71, 0.712], "against": against(0.1353, 0.012, "better")},
        "importances": {"train.learning_rate": 0.71, "method": 0.2, "train.batch_size": 0.08, "model.dropout": 0.01},
        "advice": [{
            "sign": "the best trial lies at the edge of what was searched: train.learning_rate 0.0098 at the upper end",
            "do": "search further out",
            "change": {"search.space.train.learning_rate": {"from": 1e-5, "to": 0.32, "log": True}},
        }],
        "notes": ["2 trials were proposed a second time, and took the result of the first"],
    }  # fmt: skip


def unmoved() -> Value:
    """The recipe as it is won, and no parameter of it is a point of a range; looks only at the end."""
    found = usual()
    trials = [one | {"looks": one["looks"][-1:]} for one in found["trials"][:6] if one["state"] == "complete"]
    trials[0] |= {"value": 0.9, "params": {}}
    return found | {
        "trials": trials, "best": 0, "changes": {}, "advice": [], "notes": [], "importances": {},
        "seeds": found["seeds"] | {"rival": 3, "against": against(-0.002, 0.02, "unclear")}, "optimism": None,
    }  # fmt: skip


def losses() -> Value:
    """Lower is better, one trial went far astray, and the winner was luck; chosen on half of validation."""
    found = usual()
    trials = [
        one
        | {
            "value": None if one["value"] is None else 3 - one["value"],
            "looks": [look | {"value": 3 - look["value"]} for look in one["looks"]],
        }
        for one in found["trials"]
    ]
    trials[3] |= {"value": 4.7e8}
    trials[3]["looks"][-1] = {"share": 1.0, "value": 4.7e8}
    return found | {
        "metric": "loss", "higher_is_better": False, "trials": trials, "chosen_on": "half of validation",
        "optimism": found["optimism"] | {"by": -0.002, "rows": "validation, kept out of the choice"},
        "seeds": found["seeds"] | {"against": against(-0.05, 0.01, "worse")},
    }  # fmt: skip


def least() -> Value:
    """One trial, no seeds, nothing to compare with."""
    found = usual()
    return found | {
        "trials": [trial(0, 0.5, looks=[], recipe=None, seconds=None)], "best": 0, "changes": {}, "optimism": None,
        "seeds": None, "importances": {}, "advice": [], "notes": [],
    }  # fmt: skip


ALL = {"usual": usual, "unmoved": unmoved, "losses": losses, "least": least}


def valid(found: Value) -> Value:
    """The report, once its shape is found to be that of `report.json`."""
    Searched.model_validate(found)
    return found
