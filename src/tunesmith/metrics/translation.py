"""BLEU and chrF as sums over rows, so that intervals cost no more than the scores. Both equal sacrebleu's corpus scores
(Post 2018), and a test holds them to it; BLEU's counts are sacrebleu's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import islice
from typing import Any, Literal

import numpy as np
import regex
from numpy.typing import NDArray

from tunesmith.metrics.overlap import UNSPACED

_ORDERS = 4
_CHARACTERS = 6
_BETA = 2


Words = Literal["13a", "zh", "char"]
"""How sacrebleu finds words: the tokenizer of WMT; single Chinese letters; every letter, for scripts without spaces."""
_HAN = regex.compile(r"\p{Han}")
_OTHERS = regex.compile(rf"[{UNSPACED}]")
_LETTER = regex.compile(r"\p{L}")
_TOLD_BY = 1000
"""Texts that tell the script."""


def words_for(texts: Iterable[str]) -> Words:
    """The tokenizer for the script that most letters of the first texts are of."""
    letters = han = others = 0
    for text in islice(texts, _TOLD_BY):
        letters += len(_LETTER.findall(text))
        han += len(_HAN.findall(text))
        others += len(_OTHERS.findall(text))
    if 2 * (han + others) <= letters:
        return "13a"
    return "zh" if 10 * others < han else "char"  # Japanese has Chinese letters too


@cache
def _bleu(words: Words) -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(effective_order=True, tokenize=words)


def signature(words: Words = "13a", *, several: bool = False) -> str:
    """What BLEU and chrF are of, as sacrebleu writes it; `several`: rows have different numbers of references."""
    from sacrebleu.metrics import BLEU, CHRF

    made = []
    for name, metric in (("BLEU", BLEU(tokenize=words)), ("chrF2", CHRF())):
        metric.corpus_score(["a"], [["a"]])
        said = str(metric.get_signature())
        made.append(f"{name} {said.replace('nrefs:1|', 'nrefs:var|') if several else said}")
    return "; ".join(made)


def bleu_counts(answer: str, references: Sequence[str], words: Words = "13a") -> NDArray[np.float64]:
    """[10]: n-grams of 1 to 4 words that match, n-grams there are, words of the answer, words of the reference."""
    found = _bleu(words).sentence_score(answer, list(references))
    return np.array([*found.counts, *found.totals, found.sys_len, found.ref_len], dtype=np.float64)


def bleu(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corpus BLEU in percent from sums of `bleu_counts` [..., 10] (Papineni et al. 2002; smoothing `exp`)."""
    match, total = sums[..., :_ORDERS], sums[..., _ORDERS : 2 * _ORDERS]
    answer, reference = sums[..., -2], sums[..., -1]
    zeros = np.cumsum((match == 0) & (total > 0), -1)
    share = np.where(match > 0, match, 0.5**zeros) / np.maximum(total, 1)
    logs = np.log(np.maximum(share, 1e-300)).mean(-1)
    brevity = np.where(answer < reference, np.exp(1 - reference / np.maximum(answer, 1)), 1.0)
    usable = (total > 0).all(-1) & (match.sum(-1) > 0)
    return np.where(usable, 100 * brevity * np.exp(logs), 0.0)


def chrf_counts(answer: str, references: Sequence[str]) -> NDArray[np.float64]:
    """[18]: n-grams of 1 to 6 characters of the answer, of the reference, and of both, for the reference that the
    answer is closest to. Spaces do not count."""
    best = None
    for reference in references:
        made = _grams(answer, reference)
        if best is None or chrf(made) > chrf(best):
            best = made
    assert best is not None
    return best


def _grams(answer: str, reference: str) -> NDArray[np.float64]:
    a, b = ("".join(text.split()) for text in (answer, reference))
    counts = np.zeros((3, _CHARACTERS))
    for n in range(1, _CHARACTERS + 1):
        mine = Counter(a[k : k + n] for k in range(len(a) - n + 1))
        theirs = Counter(b[k : k + n] for k in range(len(b) - n + 1))
        # As in sacrebleu: an order that the reference has no n-gram of counts neither way.
        counts[:, n - 1] = (mine.total() if theirs else 0, theirs.total(), (mine & theirs).total())
    return counts.reshape(-1)


def chrf(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corpus chrF2 in percent from sums of `chrf_counts` [..., 18] (Popovic 2015)."""
    answer, reference, both = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, _CHARACTERS), -2, 0)
    counted = (answer > 0) & (reference > 0)
    precision = np.divide(both, answer, out=np.zeros_like(both), where=counted).sum(-1)
    recall = np.divide(both, reference, out=np.zeros_like(both), where=counted).sum(-1)
    orders = np.maximum(counted.sum(-1), 1)
    precision, recall = precision / orders, recall / orders
    down = _BETA**2 * precision + recall
    score: NDArray[np.float64] = np.divide(
        (1 + _BETA**2) * precision * recall, down, out=np.zeros_like(down), where=down > 0
    )
    return 100 * score
