"""ROUGE of an answer and its references, by the library rouge-score, with words of any script.

Lin 2004. The library's own tokenizer drops every letter outside a-z, so that an answer in German loses its umlauts and
one in Russian all its words; here a word is a run of letters, their marks and digits of any script, and, of scripts
that put no spaces between words, a single letter. On ASCII text both are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

KINDS = ("rouge1", "rouge2", "rougeL")
UNSPACED = r"\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts that put no spaces between words, beside Chinese."""
_ALONE = rf"\p{{Han}}{UNSPACED}"
_WORD = regex.compile(rf"[{_ALONE}]\p{{M}}*|[\p{{L}}\p{{M}}\p{{N}}--[{_ALONE}]]+", regex.V1)


class _Words:
    """What rouge-score asks of a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        """Lower-case words."""
        return words(text)


def words(text: str) -> list[str]:
    """Runs of letters and digits, in lower case; letters of scripts without spaces one by one."""
    found: list[str] = _WORD.findall(text.lower())
    return found


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(KINDS), tokenizer=_Words())


def rouge(answer: str, references: Sequence[str]) -> NDArray[np.float64]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L [3], each against the reference that it is best with."""
    found = _scorer().score_multi(list(references), answer)
    return np.array([found[kind].fmeasure for kind in KINDS])


def novelty(answer: str, source: str) -> float:
    """Share of the answer's word pairs that the source does not have; 0 for an answer of one word or none."""
    own, theirs = words(answer), words(source)
    pairs = list(pairwise(own))
    known = set(pairwise(theirs))
    return sum(pair not in known for pair in pairs) / len(pairs) if pairs else 0.0
