"""The token view in lines: in colours where there are any, else in brackets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tunesmith.contracts import Mark
from tunesmith.report.pagetext import visible
from tunesmith.report.tokenview import PartView, RowView, Token

if TYPE_CHECKING:
    from rich.text import Text

_STYLES = {"trained": "bold green", "masked": "dim", "cut": "strike red", "between": "", "special": "cyan"}
_BRACKETS = {"trained": ("[[", "]]"), "cut": ("{{", "}}")}
_MARK = "bold magenta"


def legend(*, colours: bool) -> Text:
    """What the styles mean, in a line."""
    from rich.text import Text

    names = {"trained": "learned", "masked": "read only", "cut": "did not fit", "special": "special"}
    if colours:
        return Text.assemble("tokens: ", *[(f" {name} ", _STYLES[kind]) for kind, name in names.items()])
    return Text("tokens: [[learned]], read only, {{did not fit}}; what the task says of them stands behind a /")


def lines(view: RowView, *, colours: bool) -> Iterator[Text]:
    """A row: its place, what is said of it, and its tokens."""
    from rich.text import Text

    yield Text(visible(view.place))
    for number, example in enumerate(view.examples, 1):
        several = [f"example {number} of {len(view.examples) + view.hidden}"] if len(view.examples) > 1 else []
        if several or example.said:
            yield Text(" · ").join([*map(Text, several), *map(_said, example.said)])
        for part in example.parts:
            head = _heads(part, alone=len(example.parts) == 1)
            if part.image:
                yield Text.assemble(*head, f"image: {visible(part.image)}")
            else:
                yield Text.assemble(*head, *_pieces(part, colours=colours))
            if note := note_of(part):
                yield Text(f"({note})")
    if view.hidden:
        yield Text(f"({view.hidden} further examples of the row are not shown)")


def note_of(part: PartView) -> str:
    """What of a sequence is not to be seen, in words."""
    lost = f", {part.lost:,} of which were to be learned" if part.lost else ""
    said = [f"{part.cut:,} tokens did not fit{lost}"] if part.cut else []
    return "; ".join([*said, *([f"{part.hidden:,} further tokens are not shown"] if part.hidden else [])])


def _heads(part: PartView, *, alone: bool) -> list[Text]:
    from rich.text import Text

    said = [_said(mark) for mark in part.said] or ([] if alone else [Text(part.name)])
    return [piece for one in said for piece in (one, Text(": "))]


def _said(mark: Mark) -> Text:
    from rich.text import Text

    return Text(visible(mark.label), "dim" if mark.usual else _MARK)


def _pieces(part: PartView, *, colours: bool) -> list[tuple[str, str]]:
    """Runs of tokens of a kind, with what is said of them behind the last token that it is said of."""
    behind: dict[int, list[Mark]] = {}
    for _, after, mark in part.marks:
        if not mark.usual:
            behind.setdefault(after - 1, []).append(mark)
    made: list[tuple[str, str]] = []
    run: list[tuple[str, str]] = []
    kind = "between"
    for place, token in enumerate(part.tokens):
        own = _kind_at(part.tokens, place, kind)
        if own != kind:
            made += _bracketed(run, kind, colours)
            run, kind = [], own
        style = _STYLES["special" if token.role == "special" and kind == "masked" else kind]
        run.append((visible(token.text), style))
        run += [(f"/{visible(mark.label)}", _MARK) for mark in behind.get(place, ())]
    return made + _bracketed(run, kind, colours)


def _kind_at(tokens: Sequence[Token], place: int, before: str) -> str:
    """The kind of the run that a piece is of: text between two tokens of a kind is of their run."""
    kind = tokens[place].kind
    if kind != "between":
        return kind
    following = tokens[place + 1].kind if place + 1 < len(tokens) else "between"
    return before if before == following else "between"


def _bracketed(run: list[tuple[str, str]], kind: str, colours: bool) -> list[tuple[str, str]]:
    if colours or kind not in _BRACKETS or not run:
        return run
    opening, closing = _BRACKETS[kind]
    return [(opening, ""), *run, (closing, "")]
