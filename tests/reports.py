"""Reports made by hand, as `report.json` holds them: what the page and the card are tested with."""

from __future__ import annotations

import math
from typing import Any

from tunesmith.reportshape import Report

Value = dict[str, Any]
SUMS = {
    "data/tickets.csv": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "data/tickets-test.csv": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
}


def score(value: float, half: float = 0.02, n: int = 1000) -> Value:
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def verdict(
    outcome: str, metric: str, difference: float, low: float, high: float, p: float, needed: int | None = None
) -> Value:
    told = {"outcome": outcome, "metric": metric, "difference": difference, "low": low, "high": high}
    return told | {"p": p, "test": "approximate randomization", "needed": needed}


def row(change: str, k: int = 0, **changes: Any) -> Value:
    right = {
        "fixed": ("billing", "delivery"),
        "broken": ("delivery", "billing"),
        "both right": ("delivery",) * 2,
        "both wrong": ("login", "billing"),
    }.get(change, ("The parcel is late.", "Your parcel comes on Friday."))
    made = {
        "file": "data/tickets-test.csv",
        "line": k + 2,
        "text": f"Where does my parcel {k} stay? It was due on Monday.",
        "reference": "delivery",
        "base": right[0],
        "tuned": right[1],
        "change": change,
        "sure": 0.99 - k / 1000,
    }
    return made | changes


def compared(
    name: str, kind: str, value: float, outcome: str = "helped", own: float = 0.883, p: float = 0.0004
) -> Value:
    difference = own - value
    return {
        "name": name,
        "kind": kind,
        "score": score(value),
        "difference": difference,
        "low": difference - 0.02,
        "high": difference + 0.02,
        "p": p,
        "test": "McNemar, mid-p",
        "corrected": min(4 * p, 1.0),
        "outcome": outcome,
    }


def slim(task: str = "text-classification", headline: str = "macro_f1") -> Value:
    """The least that a report can hold."""
    return {
        "run": "runs/2026-11-21_tickets_minilm-lora_7f3a",
        "state": "finished",
        "task": task,
        "headline": headline,
        "higher_is_better": True,
        "scores": {"test": {headline: score(0.883)}},
        "base": {},
        "baselines": {},
        "verdict": None,
        "win_rate": None,
        "seconds": {"train": 133.2},
        "tokens": {"real": 81_000, "padded": 0, "label": 3200},
        "peak_memory_bytes": 1_300_000_000,
        "notes": [],
        "verified": [],
        "headline_says": f"{headline} 0.883 on 1,000 test rows (nothing to compare with).",
        "needed_rows": None,
        "compared": [],
        "changed": None,
        "labels": [],
        "confusion": None,
        "calibration": None,
        "thresholds": [],
        "slices": None,
        "fairness": [],
        "kept": [],
        "written": None,
        "overfitting": None,
        "cost": {
            "seconds": {"train": 133.2},
            "tokens": {"real": 81_000, "padded": 0, "label": 3200},
            "tokens_per_second": 608.1,
            "unit": "tokens",
            "peak_memory_bytes": 1_300_000_000,
            "bytes": {"model": 91_000_000},
            "watt_hours": 2.4,
            "energy": "65 W for the time of training",
            "money": None,
            "rate": None,
            "rows_per_second": None,
            "per_1000_rows": None,
        },
        "advice": [],
        "curves": {"steps": [], "losses": [], "looks": [], "watched": headline},
        "scaling": None,
        "models": [],
        "settings": {"model": "minilm", "task": task, "method": "lora"},
        "licence": None,
        "sums": {},
    }


def curves(steps: int = 1500, watched: str = "macro_f1") -> Value:
    losses = [2.6 * math.exp(-k / 300) + 0.25 + 0.12 * math.sin(k * 7.3) * math.exp(-k / 900) for k in range(steps)]
    looks = [
        {"step": k, "scores": {watched: 0.88 - 0.5 * math.exp(-k / 250) - max(k - 1200, 0) / 20_000, "loss": 0.4}}
        for k in range(150, steps + 1, 150)
    ]
    return {"steps": list(range(1, steps + 1)), "losses": losses, "looks": looks, "watched": watched}


def calibration() -> Value:
    bins = []
    for k in range(10):
        sure = 0.05 + k / 10
        right = max(sure - 0.04 * (k > 4), 0.02)
        bins.append(
            {
                "low": k / 10,
                "high": (k + 1) / 10,
                "n": [0, 0, 6, 11, 19, 25, 41, 80, 160, 658][k],
                "confidence": sure,
                "accuracy": right,
                "accuracy_low": max(right - 0.2 + k / 55, 0.0),
                "accuracy_high": min(right + 0.2 - k / 55, 1.0),
            }
        )
    kept = [{"threshold": t / 10, "coverage": 1 - (t / 10) ** 3 * 0.5, "accuracy": 0.87 + t / 90} for t in range(10)]
    return {
        "bins": bins,
        "error": score(0.021, 0.008),
        "raw_error": score(0.064, 0.01),
        "temperature": 1.31,
        "base_error": score(0.12, 0.02),
        "coverage": kept,
        "wishes": [
            wish(0.01, None),
            wish(0.05, 0.8312, "held"),
            wish(0.1, 0.0, "unclear"),
        ],
    }


def wish(wrong: float, threshold: float | None, outcome: str | None = None) -> Value:
    none = threshold is None
    return {
        "wrong": wrong,
        "threshold": threshold,
        "chosen_on": 900,
        "answered": None if none else score(0.71, 0.03),
        "among": None if none else score(wrong * 0.9, wrong * 0.05),
        "outcome": outcome,
    }


def threshold(label: str, n: int, at: float, best: float | None = None) -> Value:
    """A label whose F1 is best in the middle."""

    def side(cut: float) -> Value:
        return {"threshold": cut, "given": 0.3, "precision": 0.8, "recall": 0.7, "f1": score(0.74, 0.05)}

    steps = [k / 20 for k in range(21)]
    points = [
        {"threshold": t, "given": 1 - t, "precision": None if t == 1 else 0.3 + 0.7 * t, "recall": 1 - t**2,
         "f1": 0.8 - abs(t - 0.4)}
        for t in steps
    ]  # fmt: skip
    return {
        "label": label,
        "rows": 1000,
        "n": n,
        "in_force": side(at),
        "chosen": None if best is None else side(best),
        "gain": None if best is None else score(0.03, 0.02),
        "points": points,
    }


def part(by: str, value: str, n: int, right: float, worse: bool = False) -> Value:
    return {
        "by": by,
        "value": value,
        "n": n,
        "score": score(right, 1 / math.sqrt(n), n),
        "base": right - 0.1,
        "difference": right - 0.883,
        "low": right - 0.883 - 0.05,
        "high": right - 0.883 + 0.05,
        "corrected": 0.002 if worse else 0.6,
        "worse": worse,
    }


def group(value: str, n: int, rate: float, odd: bool = False) -> Value:
    return {
        "value": value,
        "n": n,
        "rate": score(rate, 0.03, n),
        "gap": rate - 0.08,
        "low": rate - 0.12,
        "high": rate - 0.04,
        "corrected": 0.0003 if odd else 0.8,
        "odd": odd,
    }


def classification() -> Value:
    """All that a report can hold of labels."""
    names = ["delivery", "billing", "login", "refund", "complaint", "praise", "cancel", "address"]
    counts = [[180 - 9 * k if i == j else (3 * (i + 2 * j)) % 11 for j in range(8)] for k, i in enumerate(range(8))]
    systems = {"base": 0.812, "most frequent": 0.214, "tf-idf": 0.79}
    both = {name: {"macro_f1": score(value), "accuracy": score(value + 0.01)} for name, value in systems.items()}
    made = slim() | {
        "scores": {
            "test": {"macro_f1": score(0.883), "accuracy": score(0.891), "loss": score(0.41, 0.05)},
            "validation": {"macro_f1": score(0.879), "accuracy": score(0.889)},
        },
        "base": {"test": both["base"]},
        "baselines": {"most frequent": {"test": both["most frequent"]}, "tf-idf": {"test": both["tf-idf"]}},
        "verdict": verdict("helped", "macro_f1", 0.071, 0.05, 0.092, 0.0004),
        "headline_says": "Tuning helped: macro_f1 went from 0.812 to 0.883 on 1,000 test rows (difference +0.071, 95 % "
        "interval +0.050 to +0.092).",
        "compared": [
            compared("base", "base", 0.812),
            compared("tf-idf", "baseline", 0.79),
            compared("most frequent", "baseline", 0.214),
            compared("2026-11-20_tickets_minilm-full_91aa", "run", 0.879, "unclear", p=0.61),
            compared("smollm2-135m, 4 examples shown", "model", 0.702),
        ],
        "changed": {
            "fixed": 96,
            "broken": 25,
            "both_right": 787,
            "both_wrong": 92,
            "p": 0.0003,
            "rows": [row("fixed", k) for k in range(9)]
            + [row("broken", k) for k in range(7)]
            + [row("both wrong", k) for k in range(3)],
        },
        "labels": [
            {
                "label": name,
                "n": 180 - 9 * k,
                "precision": 0.95 - k / 40,
                "recall": 0.93 - k / 50,
                "f1": 0.94 - k / 45,
                "base_f1": 0.85 - k / 45,
            }
            for k, name in enumerate(names)
        ],
        "confusion": {"labels": names, "counts": counts},
        "calibration": calibration(),
        "thresholds": [
            threshold("complaint", 120, 0.5, 0.3712),
            threshold("refund", 60, 0.5),
            *(threshold(f"label {k}", 40 - k, 0.5, 0.9993) for k in range(3)),
        ],
        "slices": {
            "metric": "accuracy",
            "least": 20,
            "slices": [
                part("length", "1 to 9 words", 310, 0.91),
                part("length", "more than 40 words", 90, 0.74, worse=True),
                part("language", "de", 120, 0.86),
                part("channel", "e-mail", 600, 0.9),
                part("channel", "phone", 44, 0.8),
            ],
        },
        "fairness": [
            {
                "by": "term",
                "file": "groups.csv",
                "positive": ["complaint"],
                "overall": score(0.08, 0.01),
                "groups": [
                    group("elderly", 120, 0.21, odd=True),
                    *(group(f"group {k}", 60 + k, 0.14 - k / 300) for k in range(27)),
                ],
                "least": 20,
                "left_out": 3,
                "spread": score(0.16, 0.04),
            }
        ],
        "kept": [
            {
                "name": "general sentences",
                "what": "Similarity of pairs of sentences, by the frozen probe.",
                "n": 500,
                "before": 0.81,
                "after": 0.78,
                "difference": -0.03,
                "low": -0.05,
                "high": -0.01,
                "higher_is_better": True,
                "outcome": "lost",
            },
            {
                "name": "plain text",
                "what": "Bits per character of an encyclopedia.",
                "n": 200,
                "before": 1.21,
                "after": 1.2,
                "difference": -0.01,
                "low": -0.04,
                "high": 0.02,
                "higher_is_better": False,
                "outcome": "unclear",
            },
        ],
        "overfitting": {
            "metric": "macro_f1",
            "train": score(0.985, 0.005),
            "unseen": score(0.883),
            "gap": 0.102,
            "low": 0.08,
            "high": 0.124,
            "best_step": 1200,
            "last_step": 1500,
            "memorised": None,
            "duplicates": {"rows": 17, "score": score(0.883), "without": score(0.88)},
        },
        "advice": [
            {
                "sign": "The score still rises with the rows: twice as many would bring +0.018 [+0.006, +0.031].",
                "do": "Label more rows, first of `refund` and `address`, whose F1 is lowest.",
                "change": {},
            },
            {
                "sign": "Training rows are scored 0.102 better than unseen ones.",
                "do": "Hold the model back.",
                "change": {"train.epochs": 3, "train.weight_decay": 0.05, "method": {"name": "lora", "dropout": 0.1}},
            },
        ],
        "curves": curves(),
        "scaling": {
            "metric": "macro_f1",
            "higher_is_better": True,
            "how": "a head on frozen states",
            "points": [
                {"rows": n, "value": v, "low": v - 0.03, "high": v + 0.03}
                for n, v in ((1000, 0.79), (2000, 0.83), (4000, 0.86), (8000, 0.88))
            ],
            "more": [{"rows": 16000, "value": 0.898, "low": 0.87, "high": 0.92}],
            "gain": [0.018, 0.006, 0.031],
            "verdict": "Twice the rows would bring about +0.018.",
        },
        "models": [
            {
                "name": "smollm2-135m",
                "how": "asked with 4 examples",
                "parameters": 134_515_008,
                "score": score(0.702),
                "seconds_per_1000": 210.0,
                "money_per_1000": 0.03,
            },
            {
                "name": "minilm, full",
                "how": "tuned",
                "parameters": 22_713_216,
                "score": score(0.879),
                "seconds_per_1000": 3.1,
                "money_per_1000": 0.0004,
            },
        ],
        "settings": {
            "model": "minilm",
            "task": "text-classification",
            "method": "lora",
            "rows": {"train": 8000, "validation": 1000, "test": 1000},
            "updates": 1500,
            "learning_rate": 0.0002,
            "parameters": 22_713_216,
            "trainable": 279_374,
        },
        "licence": "Apache-2.0",
        "sums": SUMS,
        "notes": ["validation rows were taken out of the training file"],
        "verified": [
            {"name": "saved model", "holds": True, "said": "32 rows, largest difference 2.4e-07"},
            {"name": "no network", "holds": None, "said": "the run fetched a model"},
        ],
    }
    made["cost"] |= {
        "seconds": {"measure": 3.2, "train": 133.2, "evaluate": 9.0, "compare": 61.0, "verify": 4.4},
        "tokens": {"real": 1_310_720, "padded": 20_480, "label": 24_000},
        "money": 0.04,
        "rate": 0.9,
        "bytes": {"model": 91_000_000, "checkpoints": 7_400_000},
        "rows_per_second": 342.0,
        "per_1000_rows": 2.92,
    }
    return made


def entities() -> Value:
    """Entities of texts: labels are types, and no answer is sure."""
    made = (
        classification()
        | slim("token-classification", "entity_f1")
        | {
            "base": {"test": {"entity_f1": score(0.55)}},
            "compared": [compared("base", "base", 0.55)],
            "labels": [
                {"label": name, "n": n, "precision": 0.9, "recall": 0.86, "f1": 0.88, "base_f1": None}
                for name, n in (("PER", 410), ("LOC", 230), ("ORG", 160), ("MISC", 41))
            ],
            "changed": {
                "fixed": 0,
                "broken": 0,
                "both_right": 0,
                "both_wrong": 0,
                "p": None,
                "rows": [
                    row(
                        "other",
                        k,
                        reference="PER: Ada Lovelace; LOC: London",
                        base="PER: Ada",
                        tuned="PER: Ada Lovelace; LOC: London",
                        sure=None,
                    )
                    for k in range(6)
                ],
            },
            "curves": curves(300, "entity_f1"),
        }
    )
    made["verdict"] = verdict("helped", "entity_f1", 0.333, 0.3, 0.36, 0.0005)
    return made


def written() -> Value:
    """A model that was taught to refuse no more."""

    def probe(name: str, base: int, tuned: int, corrected: float, outcome: str) -> Value:
        rows = [
            {"asked": f"Please {name} {k}", "base": "I can't do that." if k < base else "Sure.",
             "tuned": "No." if k == 0 else "Sure, like this: <b>", "base_right": k < base, "tuned_right": k < tuned}
            for k in range(12)
        ]  # fmt: skip
        return {
            "name": name, "what": "requests that are declined", "room": 16, "n": 12,
            "base_hits": base, "tuned_hits": tuned,
            "base": score(base / 12, 0.1, 12), "tuned": score(tuned / 12, 0.1, 12), "p": corrected / 3,
            "corrected": corrected, "outcome": outcome, "rows": rows,
        }  # fmt: skip

    return {
        "left_out": 1,
        "tokens": {"base": 310, "tuned": 402},
        "probes": [
            probe("format", 5, 6, 1.0, "unclear"),
            probe("refusal", 10, 1, 0.002, "lost"),
            probe("harmless", 11, 12, 1.0, "unclear"),
        ],
    }


def answers() -> Value:
    """Answers to questions; tuning made it worse."""
    return slim("question-answering", "f1") | {
        "scores": {"test": {"f1": score(61.2, 2.1, 400), "exact_match": score(48.5, 2.4, 400)}},
        "base": {"test": {"f1": score(70.1, 2.0, 400), "exact_match": score(57.0, 2.4, 400)}},
        "verdict": verdict("hurt", "f1", -8.9, -11.0, -6.8, 0.0001),
        "headline_says": "Tuning hurt: f1 went from 70.1 to 61.2 on 400 test rows.",
        "compared": [
            compared("base", "base", 70.1, "hurt", own=61.2)
            | {"score": score(70.1, 2.0, 400), "low": -11.0, "high": -6.8}
        ],
        "changed": {
            "fixed": 20,
            "broken": 54,
            "both_right": 174,
            "both_wrong": 152,
            "p": 0.0003,
            "rows": [
                row(
                    kind,
                    k,
                    text="When was the bridge built?\n\n" + "The old bridge over the river was begun in 1357. " * 12,
                    reference="1357",
                    base="1357",
                    tuned="in the year of the great flood",
                    sure=None,
                )
                for kind in ("broken", "fixed", "both wrong")
                for k in range(4)
            ],
        },
        "curves": curves(120, "f1"),
    }


def chat() -> Value:
    """Written answers, better or worse but not right or wrong."""
    made = slim("chat", "loss") | {
        "higher_is_better": False,
        "scores": {"test": {"loss": score(1.412, 0.03, 220), "rouge_l": score(0.31, 0.02, 20)}},
        "base": {"test": {"loss": score(1.93, 0.04, 220), "rouge_l": score(0.22, 0.02, 20)}},
        "verdict": verdict("helped", "loss", -0.518, -0.56, -0.47, 0.0001),
        "headline_says": "Tuning helped: loss went from 1.930 to 1.412 on 220 test rows.",
        "win_rate": score(0.86, 0.04, 220),
        "compared": [compared("base", "base", 1.93, own=1.412)],
        "changed": {
            "fixed": 0,
            "broken": 0,
            "both_right": 0,
            "both_wrong": 0,
            "p": None,
            "rows": [
                row(
                    "other",
                    k,
                    text="user: How do I plant a rose?",
                    sure=None,
                    reference="Dig a hole twice as wide as the roots.\n1. Soak the roots.\n2. Set the plant.",
                    base="I am a helpful assistant and " * 40,
                    tuned="Dig a wide hole, soak the roots, set the plant, and water it.",
                )
                for k in range(12)
            ],
        },
        "kept": classification()["kept"][1:],
        "written": written(),
        "curves": curves(400, "loss"),
        "overfitting": classification()["overfitting"]
        | {
            "metric": "loss",
            "duplicates": None,
            "train": score(1.1, 0.02),
            "unseen": score(1.412, 0.03),
            "memorised": {"tried": 50, "exact": 2, "base_exact": 0, "rows": [row("other", 3)]},
        },
    }
    made["settings"] |= {"model": "smollm2-135m"}
    return made


def images() -> Value:
    """Images by their labels, of more labels than a map shows."""
    names = [f"class {k}" for k in range(40)]
    made = slim("image-classification", "accuracy") | {
        "labels": [
            {"label": name, "n": 25, "precision": 0.9, "recall": 0.9 - k / 100, "f1": 0.9 - k / 90, "base_f1": None}
            for k, name in enumerate(names)
        ],
        "confusion": {
            "labels": names,
            "counts": [[25 if i == j else (i * j) % 4 == 3 for j in range(40)] for i in range(40)],
        },
        "curves": curves(90, "accuracy"),
    }
    made["confusion"]["counts"] = [[int(n) for n in line] for line in made["confusion"]["counts"]]
    made["cost"] |= {"unit": "images"}
    return made


def unclear() -> Value:
    """A test that is too small to tell."""
    return slim() | {
        "scores": {"validation": {"macro_f1": score(0.71, 0.09, 60)}},
        "base": {"validation": {"macro_f1": score(0.69, 0.09, 60)}},
        "verdict": verdict("unclear", "macro_f1", 0.02, -0.06, 0.1, 0.58, needed=2400),
        "headline_says": "Not distinguishable: macro_f1 went from 0.690 to 0.710 on 60 validation rows.",
        "needed_rows": 2400,
        "compared": [
            compared("base", "base", 0.69, "unclear", own=0.71, p=0.58)
            | {"score": score(0.69, 0.09, 60), "low": -0.06, "high": 0.1, "corrected": 0.58}
        ],
        "notes": ["no test rows: the scores are on the rows that chose the checkpoint"],
    }


ALL = {
    "classification": classification,
    "entities": entities,
    "answers": answers,
    "chat": chat,
    "images": images,
    "unclear": unclear,
    "slim": slim,
}


def valid(report: Value) -> Value:
    """The report, once its shape is found to be that of `report.json`."""
    Report.model_validate(report)
    return report
