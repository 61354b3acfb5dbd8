"""Of members that make pairs: which says again what an earlier one says, and which may go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def partners(left: Sequence[int], right: Sequence[int]) -> dict[int, list[int]]:
    """Each member that makes a pair with an earlier one -> all such, both ascending."""
    before: dict[int, list[int]] = {}
    for a, b in zip(left, right, strict=True):
        before.setdefault(max(a, b), []).append(min(a, b))
    return {k: sorted(before[k]) for k in sorted(before)}


def superfluous(before: Mapping[int, Sequence[int]]) -> set[int]:
    """Which members may go, each for an earlier one that it makes a pair with and that stays: of a chain of pairs,
    whose ends may be unlike, those between."""
    gone: set[int] = set()
    for k, earlier in before.items():
        if any(other not in gone for other in earlier):
            gone.add(k)
    return gone
