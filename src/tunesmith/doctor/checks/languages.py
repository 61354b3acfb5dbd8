"""Texts in other languages than nearly all, and translations that were left in the source's language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.contracts import Row
from tunesmith.doctor.case import Case, asked
from tunesmith.doctor.finding import EXAMPLES, Finding, about, brief
from tunesmith.doctor.language import language

quick = False
_RARE = 0.05
"""Of the rows whose language can be told: a language of which there are fewer is a stranger among them."""
_MUCH = 0.2
"""Of a split's rows; a language that as many have and hardly a training row is one that was not to be learned."""
_FEWEST = 30
_WORDS = 4


def find(case: Case) -> list[Finding]:
    """`language-mix` (few rows in another language), `language-shift` and `untranslated`."""
    told = {split: [language(" ".join(asked(row).values())) for row in rows] for split, rows in case.rows.items()}
    counts = Counter(name for names in told.values() for name in names if name)
    total = sum(counts.values())
    rare = {name for name, count in counts.items() if count < _RARE * total} if total >= _FEWEST else set()
    usual = [name for name, count in counts.most_common() if count >= _RARE * total]
    found: list[Finding] = []
    for split, rows in case.rows.items():
        odd = [k for k, name in enumerate(told[split]) if name in rare]
        if odd:
            here = Counter(told[split][k] for k in odd)
            said = ", ".join(f"{name} ({count:,})" for name, count in here.most_common(5))
            why = f"nearly all texts are in {', '.join(usual)}; these look like {said}"
            hint = "are they meant to be here? too few to be learned, they are noise, or a slice to be scored apart"
            found.append(_told("language-mix", split, rows, told[split], odd, (why, hint)))
    return found + _shifts(case, told) + _untranslated(case)


def _told(
    kind: str, split: str, rows: Sequence[Row], told: Sequence[str], odd: Sequence[int], said: tuple[str, str]
) -> Finding:
    """A finding about some rows, each shown with its language."""
    shown = [f"{told[k]}: {brief(' '.join(asked(rows[k]).values()), 100)}" for k in odd[:EXAMPLES]]
    return about(kind, split, [rows[k] for k in odd], len(rows), *said, shown=shown)


def _shifts(case: Case, told: Mapping[str, Sequence[str]]) -> list[Finding]:
    """`language-shift`: languages of a later split that hardly a training row has."""
    known = Counter(name for name in told.get("train", ()) if name)
    found = []
    for split, rows in case.rows.items():
        here = Counter(name for name in told[split] if name)
        if split == "train" or min(known.total(), here.total()) < _FEWEST:
            continue
        new = {
            name
            for name, count in here.items()
            if count >= _MUCH * here.total() and known[name] < _RARE * known.total()
        }
        odd = [k for k, name in enumerate(told[split]) if name in new]
        if odd:
            said = ", ".join(f"{name} ({here[name] / here.total():.0%}, in train {known[name] / known.total():.0%})"
                             for name in sorted(new))  # fmt: skip
            why = (
                f"{split} is in languages that train is hardly in: {said}; a score on it says little of what is learned"
            )
            hint = "train on rows of these languages too, or score them apart"
            found.append(_told("language-shift", split, rows, told[split], odd, (why, hint)))
    return found


def _untranslated(case: Case) -> list[Finding]:
    found = []
    for split, rows in case.rows.items() if case.task == "translation" else ():
        texts = [(str(row.values.get("source", "")), _reference(row.values)) for row in rows]
        pairs = [(language(source), language(target)) for source, target in texts]
        targets = Counter(target for _, target in pairs if target)
        usual = targets.most_common(1)[0][0] if targets else ""
        odd = [
            k for k, (source, target) in enumerate(pairs) if (target and target == source != usual) or _same(*texts[k])
        ]
        if odd:
            why = "the translation is in the language of the source, or is the source itself"
            shown = [brief(_reference(rows[k].values)) for k in odd[:EXAMPLES]]
            chosen = [rows[k] for k in odd]
            found.append(about("untranslated", split, chosen, len(rows), why, "translate or remove them", shown=shown))
    return found


def _same(source: str, target: str) -> bool:
    """Whether one of some length is the other: a name alone may be."""
    return len(source.split()) >= _WORDS and source.strip().casefold() == target.strip().casefold()


def _reference(values: Mapping[str, Any]) -> str:
    references = values.get("label_references")
    return str(references[0]) if isinstance(references, list | tuple) and references else ""
