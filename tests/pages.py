"""Pages of reports as their tests read them: elements, words, tables, drawings; and an attack that no page may run."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

MARKUP = {
    *("html", "head", "meta", "title", "style", "script", "body", "header", "nav", "main", "section", "article", "div"),
    *(
        "h1",
        "h2",
        "h3",
        "p",
        "ul",
        "ol",
        "li",
        "dl",
        "dt",
        "dd",
        "a",
        "b",
        "small",
        "code",
        "pre",
        "span",
        "bdi",
        "button",
    ),
    *("figure", "figcaption", "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "details", "summary"),
    *("svg", "desc", "g", "line", "polyline", "circle", "rect", "text"),
}
ATTACK = (
    '</script></style></title><script>top.ran=1</script><img src=x onerror="top.ran=1">{{ 7*7 }}{% raw %} \'" '
    "onload='top.ran=1' \u202e \u200b \x00 \ufffe ]]> &amp; مرحبا 😀"
)
"""It would run, close, turn or hide what stands around it."""


class Page(HTMLParser):
    """A page's elements and the text of each of its sections; every element is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self.words: list[str] = []
        self.cells: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "h2":
            self.sections[dict(attrs)["id"] or ""] = ""
        if tag == "tr":
            self.cells.append([])
        if tag in ("th", "td"):
            self.cells[-1].append("")
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} closes what is not open"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.words.append(data)
        if self.sections and "section" in self.open and "h2" not in self.open:
            self.sections[list(self.sections)[-1]] += data
        if {"th", "td"} & set(self.open) and "svg" not in self.open:
            self.cells[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def lines(self) -> list[list[str]]:
        """The rows of all tables, white space as one."""
        return [[" ".join(cell.split()) for cell in row] for row in self.cells]


def drawings(text: str) -> list[ET.Element]:
    """Every drawing of a page, read as XML."""
    return [ET.fromstring(found) for found in re.findall(r"<svg .*?</svg>", text, re.DOTALL)]
