"""Tokens told from the two beside them, by counting: the cheap system next to a net that fills in hidden tokens.

p(t | left, right) is in proportion to p(t | left) p(t | right) / p(t): the two are taken to be independent given t.
Each is interpolated with p(t) as by Witten and Bell (1991), with as much weight as a token has different neighbours,
and p(t) has one count added to every token.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Neighbours:
    """What was counted."""

    share: NDArray[np.float64]
    """p(t) [vocabulary]"""
    behind: Any
    """How often each token (row) was followed by each (column), sparse."""
    before: Any
    """How often each token (row) was preceded by each (column), sparse."""

    def guess(self, left: int | None, right: int | None, wanted: int) -> tuple[float, int]:
        """The log probability of a token between two others (or an end), and the likeliest token there."""
        known = [_gains(table, beside, self.share) for table, beside in ((self.behind, left), (self.before, right))]
        tokens = np.union1d(known[0][0], known[1][0])
        gain = np.ones(len(tokens))
        for places, factors in known:
            gain[np.searchsorted(tokens, places)] *= factors
        weights = self.share[tokens] * gain
        mass = 1 + float((weights - self.share[tokens]).sum())
        at = int(np.searchsorted(tokens, wanted))
        inside = at < len(tokens) and tokens[at] == wanted
        usual = int(self.share.argmax())
        best = int(tokens[weights.argmax()]) if len(tokens) and weights.max() >= self.share[usual] else usual
        return float(np.log((weights[at] if inside else self.share[wanted]) / mass)), best


def count(texts: Iterable[Sequence[int]], size: int, special: Collection[int] = ()) -> Neighbours:
    """Count the tokens of texts, of a vocabulary of `size`. Special ones say what stands beside them, and are not told
    themselves."""
    from scipy.sparse import coo_array

    firsts: list[int] = []
    seconds: list[int] = []
    counts = np.ones(size)
    for ids in texts:
        firsts += ids[:-1]
        seconds += ids[1:]
        np.add.at(counts, list(ids), 1)
    counts[list(special)] = 1
    told = np.array([token not in special for token in range(size)])

    def table(beside: list[int], tokens: list[int]) -> Any:
        kept = told[tokens] if tokens else np.zeros(0, dtype=bool)
        at = (np.array(beside, dtype=np.int64)[kept], np.array(tokens, dtype=np.int64)[kept])
        return coo_array((np.ones(int(kept.sum())), at), shape=(size, size)).tocsr()

    return Neighbours(counts / counts.sum(), table(firsts, seconds), table(seconds, firsts))


def _gains(table: Any, beside: int | None, share: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Tokens seen beside one, and how much likelier each is there, up to what is common to all tokens."""
    if beside is None:
        return np.empty(0, dtype=np.int64), np.empty(0)
    span = slice(table.indptr[beside], table.indptr[beside + 1])
    tokens = table.indices[span].astype(np.int64)
    order = tokens.argsort()
    tokens = tokens[order]
    return tokens, 1 + table.data[span][order] / (max(len(tokens), 1) * share[tokens])
