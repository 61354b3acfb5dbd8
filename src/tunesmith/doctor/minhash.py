"""Pairs of like texts without comparing all with all: MinHash and banding (Broder 1997; Leskovec et al., ch. 3).

A text is the set of its character n-grams, so that short texts and languages without spaces have enough of them. Pairs
that share a band are compared n-gram by n-gram, so that what is reported is alike and only what is missed is up to
chance. Texts that are mostly what many others say too (a prompt, a template) are told apart by the rest of them, their
own: good rows behind a long prompt are no copies of each other.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NGRAM = 4
_HASHES = 128
_ROWS = 4
"""Of a band: a pair with similarity s shares one of 32 bands with probability 1 - (1 - s^4)^32, .97 at s = .56."""
_MOST = 24
"""Texts of a bucket that are compared with one another; of fuller ones, each with the three behind it."""
_BESIDE = 3
_NEAREST = 8
"""Other texts that a text is compared with in full: those whose signatures are most like its own."""
_KEPT = 1024
"""N-grams of a text that are kept: of a longer one the least numbers, which are a fair sample of any two texts."""
_CHUNK = 2**20
"""Characters or n-grams that are worked on at once."""
_SHIFT = 10
"""Bits of an n-gram that its counter leaves out: those that share one count together, which matters little for what
very many texts have."""
_COMMON = 0.05
"""Of the texts: an n-gram that more have is of a template, or of the language."""
_FEWEST = 20
"""Texts that have it, at least."""
_LONG = 60
"""N-grams of a template, at least: shorter, it is how such sentences begin."""
_OWN = 12
"""N-grams of a text's own, of about two words, that its likeness to others can be told by."""
_LETTER = 2 * _NGRAM
"""N-grams that one of two texts has and the other has not, where a letter was exchanged."""
_PLAIN, _TEMPLATED, _FILLED = range(3)
_LOW = np.uint64(0xFFFFFFFF)
_NOISE = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Pairs:
    """Pairs of like texts, each once, the lesser first, and whether some were not looked at."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    capped: bool


@dataclass(frozen=True)
class Sets:
    """The n-grams of some texts as numbers, those of a text ascending, each once."""

    grams: NDArray[np.uint32]
    starts: NDArray[np.int64]
    """[texts + 1] where those of a text begin."""
    totals: NDArray[np.int64]
    """[texts] how many a text has in all: more than are kept of a long one."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """[texts] how many a text has."""
        return np.diff(self.starts)

    def take(self, chosen: NDArray[np.int64]) -> Sets:
        """Those of some of the texts, which may come again."""
        sizes = self.sizes[chosen]
        starts = _starts(sizes)
        places = np.arange(starts[-1]) + np.repeat(self.starts[chosen] - starts[:-1], sizes)
        return Sets(self.grams[places], starts, self.totals[chosen])


def plain(text: str) -> str:
    """A text without case, accents' spelling, punctuation and spacing."""
    return _NOISE.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def sets_of(texts: Sequence[str]) -> Sets:
    """The n-grams of plain texts, one at least."""
    return _joined([_sample(keys, count) for keys, count in _keys(texts)])


def _with_own(texts: Sequence[str], common: NDArray[np.bool_]) -> tuple[Sets, Sets]:
    """The n-grams of plain texts, and of each those that are not counted as common [slots], which may be none."""
    whole, own = [], []
    for keys, count in _keys(texts):
        whole.append(_sample(keys, count))
        own.append(_sample(keys[~common[_slots(keys)]], count))
    return _joined(whole), _joined(own)


def _sample(keys: NDArray[np.uint64], count: int) -> Sets:
    """Of some texts' keys, at most as many n-grams of each as are kept."""
    owner = _upper(keys)
    totals = np.bincount(owner, minlength=count)
    kept = np.arange(len(keys)) - np.searchsorted(owner, owner) < _KEPT
    sizes = np.bincount(owner[kept], minlength=count)
    return Sets((keys[kept] & _LOW).astype(np.uint32), _starts(sizes), totals)


def _joined(parts: Sequence[Sets]) -> Sets:
    return Sets(
        np.concatenate([np.empty(0, np.uint32), *(part.grams for part in parts)]),
        _starts(np.concatenate([np.empty(0, np.int64), *(part.sizes for part in parts)])),
        np.concatenate([np.empty(0, np.int64), *(part.totals for part in parts)]),
    )


def _keys(texts: Sequence[str]) -> Iterator[tuple[NDArray[np.uint64], int]]:
    """Of some texts after the other: (number of the text and n-gram, each once and ascending, how many texts)."""
    for first, after in _pieces(np.array([len(text) + 2 for text in texts], np.int64)):
        padded = [f" {text} ".ljust(_NGRAM, "\0") for text in texts[first:after]]
        codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
        owner = np.repeat(np.arange(len(padded), dtype=np.uint64), [len(text) for text in padded])
        count = len(codes) - _NGRAM + 1
        found = np.zeros(count, np.uint64)
        for k in range(_NGRAM):
            found = found * np.uint64(0x100000001B3) + codes[k : k + count]
        within = owner[:count] == owner[_NGRAM - 1 :]
        yield _different(_key(owner[:count][within], _spread(found[within]) >> np.uint64(32))), len(padded)


def _common(texts: Sequence[str]) -> NDArray[np.bool_]:
    """[slots] whether the n-grams that are counted there are in so many texts that they tell none from others."""
    counts = np.zeros(2 ** (32 - _SHIFT), np.int64)
    for keys, _ in _keys(texts):
        counts += np.bincount(_slots(keys), minlength=len(counts))
    return counts > max(_COMMON * len(texts), _FEWEST)


def pairs(texts: Sequence[str], least: float) -> Pairs:
    """Pairs of plain texts whose sets of n-grams have a Jaccard similarity of `least` or more; of texts that are mostly
    a template, those whose own n-grams have it too, and those that are a letter apart."""
    sets, own = _with_own(texts, _common(texts))
    usual = sets.totals - own.totals < np.maximum(own.totals, _LONG)
    kinds = np.where(usual, _PLAIN, np.where(own.totals >= _OWN, _TEMPLATED, _FILLED))
    found = [_of_kind(sets, own, np.flatnonzero(kinds == kind), kind, least) for kind in (_PLAIN, _TEMPLATED, _FILLED)]
    return Pairs(
        np.concatenate([some.left for some in found]),
        np.concatenate([some.right for some in found]),
        any(some.capped for some in found),
    )


def _of_kind(sets: Sets, own: Sets, chosen: NDArray[np.int64], kind: int, least: float) -> Pairs:
    """Pairs of the chosen texts, all of a kind: of their own words, mostly a template, or hardly more than one."""
    found = candidates(signatures((own if kind == _TEMPLATED else sets).take(chosen)), least)
    left, right = chosen[found.left], chosen[found.right]
    alike, apart = compare(sets, left, right)
    kept = alike >= least
    if kind != _PLAIN:
        whole = (sets.sizes[left] == sets.totals[left]) & (sets.sizes[right] == sets.totals[right])
        letter = whole & (apart <= _LETTER)  # of samples it would be a word or more
        if kind == _FILLED:
            kept = letter
        else:
            same, other = compare(own, left, right)
            kept = letter | (kept & ((same >= least) | (other <= _LETTER)))
    return Pairs(left[kept], right[kept], found.capped)


def signatures(sets: Sets) -> NDArray[np.uint32]:
    """[texts, hashes] least values of each text's n-grams under as many hash functions."""
    salts = (_spread(np.arange(1, _HASHES + 1, dtype=np.uint64)) >> np.uint64(32)).astype(np.uint32)
    made = np.empty((len(sets), _HASHES), np.uint32)
    for first, after in _pieces(sets.sizes, _CHUNK // 16):
        begin = sets.starts[first:after]
        grams = sets.grams[begin[0] : sets.starts[after]]
        for number, salt in enumerate(salts):
            made[first:after, number] = np.minimum.reduceat(_mixed(grams ^ salt), begin - begin[0])
    return made


def candidates(signed: NDArray[np.uint32], least: float) -> Pairs:
    """Pairs that share a band, and whose signatures say that they may be as alike as `least`."""
    found = [np.empty(0, np.uint64)]
    for band in range(_HASHES // _ROWS if len(signed) > 1 else 0):
        part = np.ascontiguousarray(signed[:, band * _ROWS : (band + 1) * _ROWS]).view(np.uint64)
        order = np.lexsort((part[:, 1], part[:, 0]))  # stable: within a bucket in the order of the texts
        new = np.concatenate([[True], (part[order][1:] != part[order][:-1]).any(1)])
        bucket = np.cumsum(new) - 1
        full = np.bincount(bucket)[bucket] > _MOST
        for step in range(1, _MOST):
            same = bucket[:-step] == bucket[step:]
            if not same.any():
                break
            same &= ~full[:-step] if step > _BESIDE else True
            found.append(_key(order[:-step][same], order[step:][same]))
    keys = _different(np.concatenate(found))
    left, right = _upper(keys), (keys & _LOW).astype(np.int64)
    likeness = np.empty(len(keys))
    for at in range(0, len(keys), _CHUNK // _HASHES):
        part_of = slice(at, at + _CHUNK // _HASHES)
        likeness[part_of] = (signed[left[part_of]] == signed[right[part_of]]).mean(1)
    near = likeness >= least - 3 * (least * (1 - least) / _HASHES) ** 0.5  # three deviations of the estimate
    left, right, likeness = left[near], right[near], likeness[near]
    first = _nearest(left, likeness) | _nearest(right, likeness)
    return Pairs(left[first], right[first], not first.all())


def _nearest(side: NDArray[np.int64], likeness: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which pairs are among the likest of their text on one side."""
    order = np.lexsort((-likeness, side))
    rank = np.empty(len(side), np.int64)
    sorted_side = side[order]
    rank[order] = np.arange(len(side)) - np.searchsorted(sorted_side, sorted_side)
    return rank < _NEAREST


def compare(
    sets: Sets, left: NDArray[np.int64], right: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[pairs] the Jaccard similarity of two texts' n-grams, from 0 to 1, and how many only one of them has."""
    alike, apart = np.zeros(len(left)), np.zeros(len(left), np.int64)
    sizes = sets.sizes
    for first, after in _pieces(sizes[left] + sizes[right]):
        both = [sets.take(side[first:after]) for side in (left, right)]
        last = np.full(after - first, 2**32 - 1, np.uint32)
        for side in both:  # of two samples, as far as both go
            ends = side.grams[side.starts[1:] - 1]
            last = np.where(side.totals > side.sizes, np.minimum(last, ends), last)
        keys = []
        for side in both:
            pair = np.repeat(np.arange(after - first), side.sizes)
            kept = side.grams <= last[pair]
            keys.append(_key(pair[kept], side.grams[kept]))
        merged = np.sort(np.concatenate(keys))
        pair_of = _upper(merged)
        count = np.bincount(pair_of, minlength=after - first)
        shared = np.bincount(pair_of[1:][merged[1:] == merged[:-1]], minlength=after - first)
        alike[first:after] = shared / np.maximum(count - shared, 1)
        apart[first:after] = count - 2 * shared
    return alike, apart


def _key(upper: NDArray[Any], lower: NDArray[Any]) -> NDArray[np.uint64]:
    """Two numbers of 32 bits as one, which is ordered by the upper first."""
    made: NDArray[np.uint64] = upper.astype(np.uint64) << np.uint64(32) | lower.astype(np.uint64)
    return made


def _upper(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (keys >> np.uint64(32)).astype(np.int64)


def _slots(keys: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Where the n-grams of keys are counted."""
    return (keys & _LOW).astype(np.uint32) >> np.uint32(_SHIFT)


def _different(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers, each once and ascending: sorted in place, thirty times as fast as numpy's own by hashing."""
    keys.sort()
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys


def _starts(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


def _pieces(sizes: NDArray[np.int64], most: int = _CHUNK) -> Iterator[tuple[int, int]]:
    """(first, after) of runs of things whose sizes are `most` together, or of one that is larger."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        begun = ends[first] - sizes[first]
        after = max(int(np.searchsorted(ends, begun + most, "right")), first + 1)
        yield first, after
        first = after


def _spread(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Well-spread 64 bits (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _mixed(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Well-spread 32 bits, in place (the finalizer of MurmurHash3)."""
    values ^= values >> 16
    values *= np.uint32(0x85EBCA6B)
    values ^= values >> 13
    values *= np.uint32(0xC2B2AE35)
    values ^= values >> 16
    return values
