"""What `tunesmith search` does, in the order it does it. Heavy parts are imported where they are used."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.console import Board, Screen
from tunesmith.errors import RunError
from tunesmith.stopping import stoppable, told

if TYPE_CHECKING:
    from tunesmith.search.opening import Opening


def search(screen: Screen, what: Path, overrides: tuple[str, ...]) -> int:
    """Begin a search or go on with it, and show what came out."""
    from tunesmith import recipefile

    if what.is_dir():
        if overrides:
            raise RunError("a search that has begun keeps its recipe", where=str(what), hint="leave `--set` out")
        with told(f"`tunesmith search {what}` goes on with it"):
            from tunesmith.search import run

            return _follow(screen, run.reopen(what, screen.say))
    file = recipefile.load(what, overrides)
    with told(f"`tunesmith search {what}`, with the same `--set`, goes on with it"):
        from tunesmith.search import run

        run.refuse_without_engine(file.recipe)
        return _follow(screen, run.begin(file.recipe, file.text, screen.say))


def _follow(screen: Screen, opening: Opening) -> int:
    """Show what happens; 130 and 143 after a signal."""
    from tunesmith.search import run, text
    from tunesmith.search.events import Closed

    path = opening.directory.path
    if opening.directory.has("report"):
        screen.say(f"the search has finished; nothing is left to do: {path}")
        return _show(screen, opening)
    state = "stopped"
    header = text.rows_of([], opening.metric.name)[0]
    with (
        told(f"`tunesmith search {path}` goes on with it"),
        stoppable(screen) as wish,
        closing(run.go(opening, lambda: wish() is not None)) as events,
        screen.board(header) as board,
    ):
        seen = _Seen(board)
        for event in events:
            seen.show(event)
            if isinstance(event, Closed):
                state = event.state
    if state == "finished":
        return _show(screen, opening)
    screen.say(f"stopped; `tunesmith search {path}` goes on with it")
    if screen.as_json:
        screen.value(run.so_far(opening))
    return 128 + number if (number := wish()) else 0


class _Seen:
    """Events of a search on a board."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._what: dict[int, str] = {}

    def show(self, event: Any) -> None:
        """What one event changes."""
        from tunesmith.events import Phase, Warned, describe
        from tunesmith.report.tables import number
        from tunesmith.search.events import Began, Ended, Looked, Opened
        from tunesmith.search.text import cells, in_words, words

        match event:
            case Opened():
                left = f", {event.ended} of them done" if event.ended else ""
                self.board.say(f"searching {', '.join(event.axes)} for {event.metric}: {event.target} trials{left}")
                self.board.say(f"in {event.folder}")
            case Began():
                self._what[event.number] = words(event.params, start=True)
                self.board.row(event.number, _running(event.number, "", self._what[event.number], ""))
            case Looked():
                said = f"update {event.step}"
                row = _running(event.number, number(event.value), self._what.get(event.number, ""), said)
                self.board.row(event.number, row)
            case Ended():
                self.board.row(event.line.number, cells(event.line), in_words(event.line))
            case Phase() | Warned():
                self.board.say(describe(event))


def _running(name: int, value: str, what: str, said: str) -> list[str]:
    return [str(name), "running", value, "", "", what, said]


def _show(screen: Screen, opening: Opening) -> int:
    """The result of a finished search."""
    from tunesmith.report.tables import number
    from tunesmith.search import text
    from tunesmith.search.directory import SearchDir

    directory: SearchDir = opening.directory
    summed = directory.json("report")
    if screen.as_json:
        screen.value(summed)
        return 0
    screen.say()
    for line in text.sentences(summed):
        screen.say(line)
    for name, share in sorted(summed["importances"].items(), key=lambda pair: -pair[1]):
        screen.say(f"importance of {name}: {number(share)}")
    for line in text.advised(summed):
        screen.say(f"to try next: {line}")
    for note in summed["notes"]:
        screen.say(f"note: {note}")
    screen.say(f"\nreport  {directory.path / 'report.html'}\nrecipe  {summed['recipe']}\nrun     {summed['run']}")
    return 0
