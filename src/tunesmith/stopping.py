"""Ctrl-C and SIGTERM while a command works: a wish first, an end at the second one, and words on how to go on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tunesmith.console import Screen
from tunesmith.errors import Stopped


@contextmanager
def told(hint: str) -> Iterator[None]:
    """A stop says how to go on; what was said further within is nearer."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Stopped(getattr(stop, "number", signal.SIGINT), getattr(stop, "hint", None) or hint) from None


@contextmanager
def stoppable(screen: Screen) -> Iterator[Callable[[], int | None]]:
    """Ctrl-C and SIGTERM become a wish to stop when the work at hand is saved; a second one stops at once."""
    wishes: list[int] = []

    def wish(number: int, _: Any) -> None:
        if wishes:
            raise Stopped(number)
        wishes.append(number)
        with suppress(RuntimeError):  # it came while a line was printed
            screen.say("stopping when the work at hand is saved; once more stops at once")

    old = {number: signal.signal(number, wish) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: wishes[0] if wishes else None
    except KeyboardInterrupt as stop:
        raise Stopped(wishes[0] if wishes else signal.SIGINT) from stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
