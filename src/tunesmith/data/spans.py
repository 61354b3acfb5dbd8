"""Entities as spans over words: from BIO, BILOU, BIOES or bare tags and from spans of characters, and back to BIO.

Strict, as seqeval's strict mode is: an entity is right when its first word, its last and its type are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Entity = tuple[int, int, str]
"""First word, one past the last, type."""

OUTSIDE = "O"
_WORD = re.compile(r"\w+|[^\w\s]")
_BEGINS = ("B", "U", "S")
_ENDS = ("L", "E", "U", "S")
_KNOWN = ("B", "I", "L", "U", "E", "S")


def words_of(text: str) -> list[tuple[int, int]]:
    """Spans of characters of the words of a text: runs of letters and digits, and every other sign by itself."""
    return [match.span() for match in _WORD.finditer(text)]


def from_tags(tags: Sequence[str]) -> tuple[list[Entity], int]:
    """The entities that tags say, and how many tags had to be mended: an inside tag that continues nothing begins an
    entity. Tags without a prefix are types of words, of which neighbours of one type are one entity."""
    found: list[Entity] = []
    mended = 0
    start, kind = 0, ""
    bare = not any(prefixed(tag) for tag in tags if tag != OUTSIDE)
    for k, tag in enumerate([*tags, OUTSIDE]):
        prefix, of = ("I", tag) if bare else (tag[:1], tag[2:])
        outside = tag == OUTSIDE
        if kind and (outside or prefix in _BEGINS or of != kind):
            found.append((start, k, kind))
            kind = ""
        if not outside and not kind:
            mended += not bare and prefix not in _BEGINS
            start, kind = k, of
        if kind and not bare and prefix in _ENDS:
            found.append((start, k + 1, kind))
            kind = ""
    return found, mended


def odd(tags: Sequence[str]) -> str | None:
    """Why tags cannot be read in one way only, or None: written small, or some with a prefix and some without."""
    if OUTSIDE.lower() in tags:
        return "the tag `o` is written small; write `O`, and prefixes large"
    plain = [tag for tag in tags if tag != OUTSIDE and not prefixed(tag)]
    if plain and any(prefixed(tag) for tag in tags):
        return f"the tag `{plain[0]}` has no prefix and others have; write `B-{plain[0]}` or `I-{plain[0]}`"
    return None


def prefixed(tag: str) -> bool:
    """Whether a tag begins as those of the schemes do: `B-PER`."""
    return tag[:1] in _KNOWN and tag[1:2] in ("-", "_")


def to_tags(entities: Sequence[Entity], words: int) -> list[str]:
    """BIO tags, one a word."""
    tags = [OUTSIDE] * words
    for first, after, kind in entities:
        tags[first] = f"B-{kind}"
        tags[first + 1 : after] = [f"I-{kind}"] * (after - first - 1)
    return tags


def from_characters(
    spans: Sequence[tuple[int, int, str]], words: Sequence[tuple[int, int]]
) -> tuple[list[Entity], int]:
    """The entities that spans of characters say, and how many had to be widened to whole words."""
    found, mended = [], 0
    for start, end, kind in spans:
        inside = [k for k, (a, b) in enumerate(words) if a < end and b > start]
        if not inside:
            mended += 1
            continue
        first, last = inside[0], inside[-1]
        mended += words[first][0] != start or words[last][1] != end
        found.append((first, last + 1, kind))
    return sorted(found), mended


def outer(entities: Sequence[Entity]) -> list[Entity]:
    """Of entities that overlap, the longest; of two as long, the first."""
    kept: list[Entity] = []
    for one in sorted(entities, key=lambda e: (e[0] - e[1], e)):
        if all(one[1] <= other[0] or one[0] >= other[1] for other in kept):
            kept.append(one)
    return sorted(kept)


def overlap(entities: Sequence[Entity]) -> bool:
    """Whether a word is in two of them."""
    ordered = sorted(entities)
    return any(after > following[0] for (_, after, _), following in pairwise(ordered))


def likeliest(logs: NDArray[np.float64]) -> NDArray[np.int64]:
    """The likeliest sequence of tags [words] from log probabilities [words, labels] in which I-X stands only behind
    B-X or I-X (Viterbi 1967). Labels are O, then B- and I- of each type in turn."""
    labels = logs.shape[1]
    allowed = np.zeros((labels, labels))
    for inside in range(2, labels, 2):
        allowed[:, inside] = -np.inf
        allowed[[inside - 1, inside], inside] = 0.0
    best = logs[0] + allowed[0] if len(logs) else np.zeros(labels)
    back = np.zeros((len(logs), labels), np.int64)
    for k in range(1, len(logs)):
        ways = best[:, None] + allowed
        back[k] = ways.argmax(0)
        best = ways.max(0) + logs[k]
    path = np.zeros(len(logs), np.int64)
    if len(logs):
        path[-1] = best.argmax()
    for k in range(len(logs) - 1, 0, -1):
        path[k - 1] = back[k, path[k]]
    return path
