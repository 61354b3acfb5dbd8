"""Labels that cannot be learned, or can hardly be."""

from __future__ import annotations

from collections import Counter

from tunesmith.doctor.case import Case
from tunesmith.doctor.finding import EXAMPLES, Finding, about

quick = True
_RARE = 5
_UNEVEN = 10


def find(case: Case) -> list[Finding]:
    """`unseen-label`, `rare-label` and `imbalance`, where rows have one label each."""
    train = case.rows["train"]
    known = Counter(row.values["label"] for row in train if row.values.get("label") is not None)
    if not known or case.task == "text-regression":
        return []
    found = []
    for split, rows in case.rows.items():
        unseen = [row for row in rows if row.values.get("label") not in known]
        if unseen:
            why = "no training row has this label, so these rows are always counted wrong"
            hint = "add training rows of the label, or correct it"
            shown = [str(row.values.get("label")) for row in unseen[:EXAMPLES]]
            found.append(about("unseen-label", split, unseen, len(rows), why, hint, shown=shown))
    rare = {label for label, count in known.items() if count < _RARE}
    if rare:
        chosen = [row for row in train if row.values.get("label") in rare]
        why = f"{len(rare)} labels have fewer than {_RARE} training rows, too few to learn from"
        shown = [str(row.values["label"]) for row in chosen[:EXAMPLES]]
        found.append(about("rare-label", "train", chosen, len(train), why, "add rows or join labels", shown=shown))
    if max(known.values()) > _UNEVEN * min(known.values()):
        most, least = known.most_common()[0], known.most_common()[-1]
        chosen = [row for row in train if row.values.get("label") == least[0]]
        why = f"`{most[0]}` has {most[1]} rows, `{least[0]}` has {least[1]}: accuracy hides how the small ones do"
        hint = "read macro_f1 rather than accuracy; `task: {name: text-classification, balance: weights}` evens them"
        found.append(about("imbalance", "train", chosen, len(train), why, hint))
    return found
