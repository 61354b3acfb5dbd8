"""A table that changes while the work goes on, on a terminal and elsewhere."""

import io
import sys

import pytest

from tunesmith.console import Screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_table_shows_its_last_rows_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "10")
    monkeypatch.setenv("COLUMNS", "80")
    screen = Screen(as_json=False)
    screen.out = Terminal()
    with screen.board(["trial", "what"]) as board:
        for number in range(30):
            board.row(number, [str(number), f"[red]value {number}"])
        board.row(29, ["29", "done [/red]"], "29 is done")
    last = screen.out.getvalue().rpartition("trial")[2]  # type: ignore[attr-defined]
    assert "done [/red]" in last and "[red]value 28" in last, "no mark-up in it counts"
    assert "value 3 " not in last, "what does not fit a terminal is not shown"
    assert "29 is done" not in last


def test_elsewhere_only_what_is_done_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=False)
    screen.out = sys.stdout
    with screen.board(["trial", "what"]) as board:
        board.row(0, ["0", "running"])
        board.say("a line")
        board.row(0, ["0", "complete"], "trial 0 is complete")
    assert capsys.readouterr().out.splitlines() == ["a line", "trial 0 is complete"]
