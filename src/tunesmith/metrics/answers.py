"""Exact match and F1 of an answer's words, as SQuAD scores them (Rajpurkar et al. 2016)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_SIGNS = str.maketrans("", "", string.punctuation)


def normal(text: str) -> str:
    """Lower case, without punctuation, articles and extra spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_SIGNS)).split())


def exact(answer: str, references: Sequence[str]) -> float:
    """1 where the answer is one of the references; no reference means that there is none."""
    return float(normal(answer) in {normal(reference) for reference in references or [""]})


def f1(answer: str, references: Sequence[str]) -> float:
    """Overlap of words with the reference that it is best with."""
    return max(_f1(normal(answer).split(), normal(reference).split()) for reference in references or [""])


def _f1(answer: list[str], reference: list[str]) -> float:
    if not answer or not reference:
        return float(answer == reference)
    both = (Counter(answer) & Counter(reference)).total()
    return 2 * both / (len(answer) + len(reference))
