"""Defects put into rows on purpose, so that it can be counted how many a check finds, and what else it reports.

Each function returns rows, numbered anew, and the ids of those that have the defect. Nothing here is random but by its
seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tunesmith.contracts import Row

Planted = tuple[list[Row], set[int]]
_FIRST = 10**6
"""Lines of what was planted: apart from all others."""


def changed(row: Row, line: int, **values: Any) -> Row:
    """A row with other values, as if from a line of its own."""
    return replace(row, values={**row.values, **values}, line=_FIRST + line)


def joined(rows: Sequence[Row], more: Sequence[Row]) -> Planted:
    """Rows with others behind them; returns where those are."""
    made = [replace(row, id=k) for k, row in enumerate((*rows, *more))]
    return made, set(range(len(rows), len(made)))


def near_copy(text: str, rng: random.Random) -> str:
    """A text of at least six words as someone might write it again: a typo, other case, punctuation or spacing, a word
    left out, put in or exchanged."""
    words = text.split()
    at = rng.randrange(len(words))
    word = rng.choice(["really", "please", "now", "then", "also"])
    k = rng.randrange(len(text) - 1)
    ways: list[Callable[[], str]] = [
        lambda: text[:k] + rng.choice("abcdefghij") + text[k + 1 :],
        lambda: text.upper(),
        lambda: text.rstrip("?.!") + " !!",
        lambda: " ".join(words[:at] + words[at + 1 :]),
        lambda: " ".join([*words[:at], word, *words[at:]]),
        lambda: " ".join([*words[:at], word, *words[at + 1 :]]),
        lambda: "  ".join(words),
    ]
    return rng.choice(ways)()


def near_duplicates(rows: Sequence[Row], column: str, count: int, seed: int) -> Planted:
    """With near copies of some rows whose text has six words or more."""
    rng = random.Random(seed)
    long = [row for row in rows if len(str(row[column]).split()) >= 6]
    chosen = rng.sample(long, count)
    copies = [changed(row, k, **{column: near_copy(str(row[column]), rng)}) for k, row in enumerate(chosen)]
    return joined(rows, copies)


def wrong_labels(rows: Sequence[Row], share: float, seed: int) -> Planted:
    """With the labels of a share changed to another, any as likely."""
    rng = random.Random(seed)
    labels = sorted({row["label"] for row in rows})
    made, wrong = [], set()
    for k, row in enumerate(rows):
        if rng.random() < share:
            other = rng.choice([label for label in labels if label != row["label"]])
            row = replace(row, values={**row.values, "label": other})
            wrong.add(k)
        made.append(replace(row, id=k))
    return made, wrong


def near_labels(rows: Sequence[Row], share: float, seed: int) -> Planted:
    """With the labels of a share changed to the nearest other: that whose texts have the likest words on average."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    labels = sorted({row["label"] for row in rows})
    given = np.array([labels.index(row["label"]) for row in rows])
    words = TfidfVectorizer(sublinear_tf=True).fit_transform([str(row["text"]) for row in rows])
    middle = np.stack([np.asarray(words[given == k].mean(0)).ravel() for k in range(len(labels))])
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    nearest = (middle @ middle.T - 2 * np.eye(len(labels))).argmax(1)
    rng = random.Random(seed)
    wrong = {k for k in range(len(rows)) if rng.random() < share}
    return [
        replace(row, id=k, values={**row.values, "label": labels[nearest[given[k]]]} if k in wrong else row.values)
        for k, row in enumerate(rows)
    ], wrong


def shared_contexts(
    train: Sequence[Row], test: Sequence[Row], column: str, count: int, seed: int
) -> tuple[list[Row], set[int]]:
    """Test rows, of which some are about what training rows are about (their value of a column)."""
    rng = random.Random(seed)
    chosen = set(rng.sample(range(len(test)), count))
    values = [row[column] for row in rng.sample(list(train), count)]
    taken = iter(values)
    made = [
        replace(row, id=k, values={**row.values, column: next(taken)}) if k in chosen else replace(row, id=k)
        for k, row in enumerate(test)
    ]
    return made, chosen


def with_pieces(rows: Sequence[Row], column: str, pieces: Sequence[str], seed: int) -> Planted:
    """With each piece (an address, a mark of a template) in the text of a row of its own, between two of its words."""
    rng = random.Random(seed)
    chosen = rng.sample(range(len(rows)), len(pieces))
    put = dict(zip(chosen, pieces, strict=True))
    made = []
    for k, row in enumerate(rows):
        if k in put:
            words = str(row[column]).split()
            at = rng.randrange(len(words) + 1)
            row = replace(row, values={**row.values, column: " ".join([*words[:at], put[k], *words[at:]])})
        made.append(replace(row, id=k))
    return made, set(chosen)


def emails(count: int, seed: int) -> list[str]:
    """Addresses."""
    rng = random.Random(seed)
    return [f"{_word(rng)}.{_word(rng)}{rng.randrange(90)}@{_word(rng)}.{rng.choice(['com', 'de', 'co.uk'])}"
            for _ in range(count)]  # fmt: skip


def cards(count: int, seed: int, *, valid: bool = True) -> list[str]:
    """Numbers of payment cards in groups of four, or such numbers with a wrong check digit."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        digits = [4, *(rng.randrange(10) for _ in range(14))]
        total = sum(sum(divmod(2 * d, 10)) if k % 2 == 0 else d for k, d in enumerate(digits))
        check = (-total + (not valid) * rng.randrange(1, 10)) % 10
        number = "".join(map(str, [*digits, check]))
        made.append(" ".join(number[k : k + 4] for k in range(0, 16, 4)))
    return made


def ibans(count: int, seed: int, *, valid: bool = True) -> list[str]:
    """German IBANs, or such with wrong check digits."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        account = "".join(str(rng.randrange(10)) for _ in range(18))
        check = 98 - int(account + "131400") % 97
        said = check if valid else (check + rng.randrange(1, 90)) % 97
        plain = f"DE{said:02d}{account}"
        made.append(" ".join(plain[k : k + 4] for k in range(0, 22, 4)))
    return made


def phones(count: int, seed: int) -> list[str]:
    """Telephone numbers as they are written in several countries."""
    rng = random.Random(seed)

    def digits(many: int) -> str:
        return "".join(str(rng.randrange(10)) for _ in range(many))

    forms: list[Callable[[], str]] = [
        lambda: f"+49 30 {digits(4)}{rng.randrange(1, 9)}{digits(3)}",
        lambda: f"+1 212 {rng.randrange(200, 555)} {digits(4)}",
        lambda: f"({rng.randrange(201, 989)}) {rng.randrange(200, 554)}-{digits(4)}",
        lambda: f"07{digits(9)}",
        lambda: f"030/{digits(4)}{digits(4)}",
        lambda: f"+33 6 {' '.join(digits(2) for _ in range(4))}",
    ]
    return [rng.choice(forms)() for _ in range(count)]


def harmless(count: int, seed: int) -> list[str]:
    """What looks a little like personal data and is none: dates, prices, versions, times, wrong check digits."""
    rng = random.Random(seed)
    forms: list[Callable[[], str]] = [
        lambda: f"{rng.randrange(1990, 2030)}-{rng.randrange(1, 12):02d}-{rng.randrange(1, 28):02d}",
        lambda: f"{rng.randrange(1, 28)}.{rng.randrange(1, 12)}.{rng.randrange(1990, 2030)}",
        lambda: f"${rng.randrange(10, 999)},{rng.randrange(100, 999)},{rng.randrange(100, 999)}.00",
        lambda: f"v{rng.randrange(9)}.{rng.randrange(99)}.{rng.randrange(999)}",
        lambda: f"order {rng.randrange(10**6, 10**7)}",
        lambda: f"{rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}",
        lambda: f"{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}",
        lambda: cards(1, rng.randrange(10**6), valid=False)[0],
        lambda: ibans(1, rng.randrange(10**6), valid=False)[0],
        lambda: f"{rng.randrange(1000, 9999)} x {rng.randrange(1000, 9999)} = {rng.randrange(10**6, 10**7)}",
        lambda: "user@example.com",
        lambda: f"ISBN 978-3-{rng.randrange(10, 99)}-{rng.randrange(100000, 999999)}-{rng.randrange(9)}",
    ]
    return [rng.choice(forms)() for _ in range(count)]


def _word(rng: random.Random) -> str:
    return "".join(rng.choice("bcdfglmnprst") + rng.choice("aeiou") for _ in range(rng.randrange(2, 4)))


MARKS = ("<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<<SYS>>", "<|endoftext|>", "<|eot_id|>", "<start_of_turn>",
         "[SEP]", "<pad>", "<|user|>")  # fmt: skip
