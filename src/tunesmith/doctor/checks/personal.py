"""Personal data in texts: what is learned may be said again to anyone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

from tunesmith.doctor.case import Case, answered, asked
from tunesmith.doctor.finding import EXAMPLES, Finding, about

quick = False

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,4}[a-zA-Z]{2,24}(?![\w@])")
_GROUPED = r"(?<!\d{4}[ -])(?<![A-Z]{2}\d{2} )"
"""Not a part of a longer number in groups."""
_CARD = re.compile(
    rf"(?<![\w.,-]){_GROUPED}"
    r"(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}|\d{4}([ -])\d{6}\2\d{4,5})(?![\w-]|[.,]\d)"
)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_PHONE = re.compile(
    rf"(?<![\w.,/:+=$€£-]){_GROUPED}"
    r"(?:"
    r"\+[1-9]\d{0,2}(?:[ .()/-]{0,2}\d{1,4}){2,6}"  # international
    r"|\(\d{3}\) ?\d{3}[ .-]?\d{4}|[2-9]\d{2}[.-]\d{3}[.-]\d{4}"  # North America
    r"|0\d{9,10}|0\d{2,5}[ /-]\d{3,4}[ -]?\d{3,5}(?:[ -]\d{2,4})?"  # most of Europe, from the trunk's 0
    r")(?![\w-]|[.,/:]\d)"
)
_BOOK = re.compile(r"ISBN|ISSN|(?<!\d)97[89][- ]?\d", re.I)
"""Numbers of books, which are written in groups as telephone numbers are."""
_EXAMPLES = re.compile(r"@(?:[\w-]+\.)*(?:example|test|invalid|localhost)(?:\.|$)|@(?:domain|email|company)\.", re.I)
_LENGTHS = {
    "AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20,
    "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27,
    "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24,
    "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "UA": 29,
}  # fmt: skip
"""Characters of an IBAN by country (the registry of SWIFT)."""
_ISSUERS = re.compile(r"4|5[1-5]|2[2-7]|3[47]|3[068]|6(?:011|5|4[4-9])|35")
_CARD_LENGTHS = {"4": (13, 16, 19), "5": (16,), "2": (16,), "3": (14, 15, 16), "6": (16, 19)}


def find(case: Case) -> list[Finding]:
    """`personal-data`: e-mail addresses, telephone numbers, payment cards and IBANs; examples are masked."""
    found = []
    for split, rows in case.rows.items():
        counts: Counter[str] = Counter()
        chosen, shown = [], []
        for row in rows:
            here = [hit for text in (*asked(row).values(), *answered(row)) for hit in personal(text)]
            if here:
                counts.update(kind for kind, _ in here)
                chosen.append(row)
                shown.append(", ".join(f"{kind} {masked(kind, text)}" for kind, text in here[:3]))
        if chosen:
            said = ", ".join(f"{count:,} of {kind}" for kind, count in counts.most_common())
            found.append(
                about(
                    "personal-data",
                    split,
                    chosen,
                    len(rows),
                    f"the texts hold what looks like personal data ({said}); a model may say it again",
                    "mask it, unless it is public or made up",
                    shown=shown[:EXAMPLES],
                )
            )
    return found


def personal(text: str) -> Iterator[tuple[str, str]]:
    """(kind, words) of each piece of personal data in a text; no character counts twice."""
    taken: list[tuple[int, int]] = []
    for kind, pattern, holds in _KINDS:
        for match in pattern.finditer(text):
            first, after = match.span()
            if kind == "phone" and _BOOK.search(text[max(first - 12, 0) : after]):
                continue
            if holds(match[0]) and not any(first < b and a < after for a, b in taken):
                taken.append((first, after))
                yield kind, match[0]


def masked(kind: str, text: str) -> str:
    """What is left to be recognised by who knows it, and by nobody else."""
    if kind == "e-mail":
        name, _, domain = text.partition("@")
        return f"{name[:1]}***@{domain[:1]}***.{domain.rpartition('.')[2]}"
    plain = [k for k, character in enumerate(text) if character.isalnum()]
    hidden = set(plain[2:-2])
    return "".join("*" if k in hidden else character for k, character in enumerate(text))


def _is_email(text: str) -> bool:
    return _EXAMPLES.search(text) is None and ".." not in text


def _is_card(text: str) -> bool:
    """Known issuer and length, and the check digit of Luhn (ISO/IEC 7812)."""
    digits = [int(character) for character in text if character.isdigit()]
    number = "".join(map(str, digits))
    if not _ISSUERS.match(number) or len(digits) not in _CARD_LENGTHS[number[0]] or len(set(digits)) == 1:
        return False
    doubled = [2 * d - 9 * (d > 4) for d in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """The country's length, and 1 modulo 97 (ISO 13616)."""
    plain = text.replace(" ", "")
    if len(plain) != _LENGTHS.get(plain[:2], 0):
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def _is_phone(text: str) -> bool:
    digits = [character for character in text if character.isdigit()]
    number = "".join(digits)
    made_up = re.fullmatch(r"1?\d{3}555\d{4}|555\d{4}", number)  # the exchange of films and examples
    return 8 <= len(digits) <= 15 and len(set(digits)) > 2 and not made_up


_KINDS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("e-mail", _EMAIL, _is_email),
    ("IBAN", _IBAN, _is_iban),
    ("card", _CARD, _is_card),
    ("phone", _PHONE, _is_phone),
)
