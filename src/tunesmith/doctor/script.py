"""Which script a text is written in."""

from __future__ import annotations

import re
from collections import Counter

_LOOK = 400
"""Characters that are looked at."""
_THREE = re.compile(r"(?:[A-Za-z][^A-Za-z]*){3}")
_RANGES = (
    ("Latin", 0x41, 0x24F), ("Greek", 0x370, 0x3FF), ("Cyrillic", 0x400, 0x52F), ("Armenian", 0x530, 0x58F),
    ("Hebrew", 0x590, 0x5FF), ("Arabic", 0x600, 0x77F), ("Devanagari", 0x900, 0x97F), ("Bengali", 0x980, 0x9FF),
    ("Tamil", 0xB80, 0xBFF), ("Telugu", 0xC00, 0xC7F), ("Thai", 0xE00, 0xE7F), ("Georgian", 0x10A0, 0x10FF),
    ("Hangul", 0x1100, 0x11FF), ("Latin", 0x1E00, 0x1EFF), ("Japanese", 0x3040, 0x30FF), ("Chinese", 0x3400, 0x9FFF),
    ("Hangul", 0xAC00, 0xD7AF), ("Arabic", 0xFB50, 0xFEFC),
)  # fmt: skip


def script(text: str) -> str:
    """The script that most letters of a text are of; nothing where it has fewer than three letters."""
    head = text[:_LOOK]
    if head.isascii():
        return "Latin" if _THREE.search(head) else ""
    counts: Counter[str] = Counter()
    for character in head:
        if character.isalpha():
            code = ord(character)
            counts[next((name for name, low, high in _RANGES if low <= code <= high), "another script")] += 1
    if counts["Japanese"] and counts["Chinese"]:
        counts["Japanese"] += counts.pop("Chinese")
    return counts.most_common(1)[0][0] if sum(counts.values()) >= 3 else ""
