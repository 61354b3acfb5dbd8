"""Pairs of like texts without comparing all with all: MinHash and banding (Broder 1997; Leskovec et al., ch. 3).

A text is the set of its character n-grams, so that short texts and languages without spaces have enough of them. Pairs
that share a band are compared in full, so that what is reported is alike and only what is missed is up to chance.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

_NGRAM = 4
_HASHES = 128
_ROWS = 4
"""Of a band: a pair with similarity s shares one of 32 bands with probability 1 - (1 - s^4)^32, .97 at s = .56."""
_MOST = 24
"""Texts of a bucket that are compared with one another; of fuller ones, each with the three behind it."""
_NEAREST = 8
"""Other texts that a text is compared with in full: those whose signatures are most like its own."""
_CHUNK = 8192
_NOISE = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Pairs:
    """Pairs of like texts, each once, and whether some were not looked at."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    capped: bool


def plain(text: str) -> str:
    """A text without case, accents' spelling, punctuation and spacing."""
    return _NOISE.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def grams(text: str) -> NDArray[np.uint64]:
    """The different character n-grams of a text, as numbers: sorted."""
    codes = np.frombuffer(f" {text} ".encode("utf-32-le"), np.uint32).astype(np.uint64)
    if len(codes) < _NGRAM:
        codes = np.pad(codes, (0, _NGRAM - len(codes)))
    found = np.zeros(len(codes) - _NGRAM + 1, np.uint64)
    for k in range(_NGRAM):
        found = found * np.uint64(0x100000001B3) + codes[k : k + len(found)]
    return np.unique(_mixed(found))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Well-spread 64 bits (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def signatures(texts: Iterable[str]) -> NDArray[np.uint32]:
    """[texts, hashes] least values of each text's n-grams under as many hash functions."""
    salts = _mixed(np.arange(1, _HASHES + 1, dtype=np.uint64))
    made = [
        ((_mixed(grams(text)[:, None] ^ salts)).min(0) >> np.uint64(32)).astype(np.uint32)
        for text in texts
    ]  # fmt: skip
    return np.stack(made) if made else np.empty((0, _HASHES), np.uint32)


def pairs(texts: Sequence[str], least: float) -> Pairs:
    """Pairs of texts whose sets of n-grams have a Jaccard similarity of `least` or more."""
    signed = signatures(texts)
    candidates: list[NDArray[np.int64]] = []
    for band in range(_HASHES // _ROWS if len(texts) > 1 else 0):
        part = np.ascontiguousarray(signed[:, band * _ROWS : (band + 1) * _ROWS])
        keys = part.view([("", part.dtype)] * _ROWS).ravel()
        order = np.argsort(keys, kind="stable")
        edges = np.flatnonzero(keys[order][1:] != keys[order][:-1]) + 1
        for bucket in np.split(order, edges):
            if len(bucket) > 1:
                candidates.append(_of_bucket(bucket))
    if not candidates:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), False)
    both = np.unique(np.sort(np.concatenate(candidates), 1), axis=0)
    likeness = _likeness(signed, both)
    near = likeness >= least - 3 * (least * (1 - least) / _HASHES) ** 0.5  # three deviations of the estimate
    both, likeness = both[near], likeness[near]
    first = _nearest(both[:, 0], likeness) | _nearest(both[:, 1], likeness)
    capped = not first.all()
    both = both[first]
    kept = np.array([similarity(texts[a], texts[b]) >= least for a, b in both.tolist()], bool)
    return Pairs(both[kept, 0], both[kept, 1], capped)


def _of_bucket(bucket: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(bucket) <= _MOST:
        return np.array(list(combinations(bucket.tolist(), 2)), np.int64)
    ordered = np.sort(bucket)
    return np.concatenate([np.stack([ordered[:-k], ordered[k:]], 1) for k in (1, 2, 3)])


def _likeness(signed: NDArray[np.uint32], both: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of hash functions that agree, an estimate of the similarity: [pairs]."""
    found = np.empty(len(both))
    for at in range(0, len(both), _CHUNK):
        part = both[at : at + _CHUNK]
        found[at : at + _CHUNK] = (signed[part[:, 0]] == signed[part[:, 1]]).mean(1)
    return found


def _nearest(side: NDArray[np.int64], likeness: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which pairs are among the likest of their text on one side."""
    order = np.lexsort((-likeness, side))
    rank = np.empty(len(side), np.int64)
    sorted_side = side[order]
    rank[order] = np.arange(len(side)) - np.searchsorted(sorted_side, sorted_side)
    return rank < _NEAREST


def similarity(first: str, second: str) -> float:
    """The Jaccard similarity of two plain texts' n-grams, from 0 to 1."""
    a, b = grams(first), grams(second)
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


def first_of(left: Sequence[int], right: Sequence[int]) -> dict[int, int]:
    """Of clusters that pairs join: each member but the least -> the least, in the order of the members."""
    parent = {k: k for k in sorted({*left, *right})}

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    for a, b in zip(left, right, strict=True):
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    return {k: root(k) for k in parent if root(k) != k}
