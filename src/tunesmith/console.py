"""Events and results as a person reads them: bars on a terminal, plain lines elsewhere. The only module that prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from tunesmith.errors import TunesmithError
from tunesmith.events import Event, Phase, Saved, Started, Updated, describe

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table


_AROUND = 4
"""Lines of a terminal that a table leaves free."""


class Screen:
    """Where words go: standard output, or standard error when a program reads standard output."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.out: TextIO = sys.stderr if as_json else sys.stdout

    def say(self, text: str = "") -> None:
        """One line for people."""
        print(text, file=self.out, flush=True)

    def value(self, value: dict[str, Any]) -> None:
        """The one JSON object of `--json`."""
        print(json.dumps(value, ensure_ascii=False), flush=True)

    def error(self, fault: TunesmithError) -> None:
        """What is wrong, where, and what to try."""
        print(f"error: {fault}", file=sys.stderr, flush=True)
        if self.as_json:
            self.value({"error": fault.as_json()})

    def table(self, rows: list[list[str]]) -> None:
        """Columns aligned under their header."""
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        for number, row in enumerate(rows):
            self.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
            if number == 0:
                self.say("  ".join("-" * width for width in widths))

    def follow(self, events: Iterable[Event], stop: Callable[[], bool]) -> Event | None:
        """Show events until they end; returns the last. Between phases, a wish to stop is heeded at once."""
        show = self._bars if self.out.isatty() else self._lines
        return show(events, stop)

    def _lines(self, events: Iterable[Event], stop: Callable[[], bool]) -> Event | None:
        last: Event | None = None
        steps = 0
        for event in events:
            if isinstance(event, Started):
                steps = event.steps
            quiet = isinstance(event, Saved) or (
                isinstance(event, Updated) and not event.scores and event.step % max(steps // 20, 1)
            )
            if not quiet:
                self.say(describe(event))
            _heed(event, stop)
            last = event
        return last

    def _bars(self, events: Iterable[Event], stop: Callable[[], bool]) -> Event | None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        last: Event | None = None
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[shown]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(file=self.out)) as bars:
            bar = bars.add_task("training", total=None, shown="")
            loss, scores = None, ""
            for event in events:
                match event:
                    case Started():
                        bars.update(bar, total=event.steps, completed=event.step)
                        bars.console.print(describe(event), highlight=False, markup=False)
                    case Updated():
                        new = sum(event.losses.values())
                        if not event.left_out:
                            loss = new if loss is None else 0.9 * loss + 0.1 * new
                        if event.scores:
                            scores = ", ".join(f"{k} {v:.4f}" for k, v in list(event.scores.items())[:2])
                        speed = event.tokens / max(event.seconds, 1e-9)
                        shown = f"loss {loss or 0.0:.4f}  {speed:,.0f} {event.unit}/s  {scores}"
                        bars.update(bar, completed=event.step, shown=shown)
                    case Saved():
                        pass
                    case _:
                        bars.console.print(describe(event), highlight=False, markup=False)
                _heed(event, stop)
                last = event
        return last

    @contextmanager
    def board(self, header: list[str]) -> Iterator[Board]:
        """A table whose rows change while the work goes on; where there is no terminal, a line for what is done."""
        if not self.out.isatty():
            yield Board(self, header, None)
            return
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(file=self.out), refresh_per_second=4) as live:
            yield Board(self, header, live)


class Board:
    """Rows by name; what is said stands above them."""

    def __init__(self, screen: Screen, header: list[str], live: Live | None) -> None:
        self._screen, self._header, self._live = screen, header, live
        self._rows: dict[int, list[str]] = {}

    def row(self, name: int, cells: list[str], line: str | None = None) -> None:
        """Put a row, or change it; `line` says it where there is no table, once it is done."""
        self._rows[name] = cells
        if self._live is not None:
            self._live.update(self._table())
        elif line is not None:
            self._screen.say(line)

    def say(self, text: str) -> None:
        """A line for people."""
        if self._live is not None:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            self._screen.say(text)

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for title in self._header:
            table.add_column(title, overflow="fold")
        most = max(self._live.console.height - _AROUND, 1) if self._live is not None else len(self._rows)
        for _, cells in sorted(self._rows.items())[-most:]:
            table.add_row(*map(Text, cells))
        return table


def _heed(event: Event, stop: Callable[[], bool]) -> None:
    if isinstance(event, Phase) and stop():
        raise KeyboardInterrupt
