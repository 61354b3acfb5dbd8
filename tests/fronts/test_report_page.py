"""The report page in a real browser, where one is installed: tables sort by click and keys, rows are picked, it fits a
phone and a desktop, its console is silent, and nothing of the rows runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import reports
from browser import CHROMIUM, browse
from tunesmith.report.page import page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
ATTACK = "</script><script>top.ran=1</script><img src=x onerror='top.ran=1'>"
CONTROL = (
    "<title>report: control</title><body style='margin:0'><div style='width:500px'>x</div>"
    "<script>top.ran = 1; console.error('said aloud')</script>"
)
"""A page that overflows on a phone, runs and complains: what the probe must notice."""
USE = """page => {
  const table = page.querySelector('[aria-label="Scores by label"] table');
  if (!table) return null;
  const order = column => [...table.tBodies[0].rows].map(row => row.cells[column].textContent.trim());
  const said = () => [...table.tHead.rows[0].cells].map(head => head.getAttribute('aria-sort'));
  const buttons = [...table.tHead.querySelectorAll('button')], seen = {buttons: buttons.length, first: order(0)};
  buttons[0].focus();
  seen.focused = page.activeElement === buttons[0];
  buttons[0].click(); seen.byName = order(0); seen.said = said();
  buttons[1].click(); seen.byRows = order(1);
  buttons[1].click(); seen.byRowsUp = order(1); seen.saidUp = said();
  const shown = () => [...page.querySelectorAll('[data-change]')].filter(group => group.offsetHeight).map(
    group => group.dataset.change);
  seen.all = shown();
  seen.picked = [...page.querySelectorAll('.picker button')].map(button => {
    button.click();
    return [button.dataset.pick, shown(), page.querySelectorAll('.picker [aria-pressed=true]').length];
  });
  return seen;
}"""


def test_in_a_browser_pages_fit_three_widths_and_sort_and_pick_in_silence(tmp_path: Path) -> None:
    shown = {name: page(make()) for name, make in reports.ALL.items()}
    found, console = browse(tmp_path, shown, USE)
    assert len(found) == 3 * len(shown) and console == []
    for frame in found:
        assert frame["scroll"] == frame["width"] and frame["wide"] == [], frame
        assert frame["small"] == frame["bare"] == frame["ran"] == 0, frame
    labels = reports.classification()["labels"]
    for frame in (frame for frame in found if frame["name"] == "classification"):
        used = frame["use"]
        assert used["buttons"] == 6 and used["focused"]
        assert used["first"] == [one["label"] for one in sorted(labels, key=lambda one: one["f1"])]
        assert used["byName"] == sorted(one["label"] for one in labels) != used["first"]
        assert used["said"] == ["ascending", *["none"] * 5]
        assert used["byRows"] == [f"{one['n']}" for one in sorted(labels, key=lambda one: -one["n"])]
        assert used["byRowsUp"] == used["byRows"][::-1] and used["saidUp"][1] == "ascending"
        kinds = ["broken", "fixed", "both wrong"]
        assert used["all"] == kinds
        assert used["picked"] == [["all", kinds, 1], *([kind, [kind], 1] for kind in kinds)]


def test_in_a_browser_what_has_no_number_is_sorted_last_both_ways(tmp_path: Path) -> None:
    report = reports.classification()
    report["labels"][3]["n"] = -1
    for one in report["labels"][:3]:
        one |= {"precision": float("nan"), "n": 10 * one["n"]}
    made = page(report).replace('data-v="-1"', 'data-v=""')
    found, console = browse(tmp_path, {"classification": made}, USE)
    used = found[0]["use"]
    assert console == [] and used["byRows"][-1] == used["byRowsUp"][-1] == "-1"
    assert used["byRows"][:2] == ["1,800", "1,710"]  # as numbers, not as words


def test_in_a_browser_nothing_of_the_rows_runs_and_the_probe_would_notice(tmp_path: Path) -> None:
    report = reports.classification()
    for one in report["changed"]["rows"]:
        one |= {"text": ATTACK, "tuned": ATTACK, "file": ATTACK}
    report["labels"][0]["label"] = report["settings"]["model"] = ATTACK + "x" * 300
    whole = page(report)
    raw = whole.replace("</main>", f"{ATTACK}</main>")  # as if it had not been escaped
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    found, console = browse(tmp_path, {"hostile": whole}, USE)
    assert console == [] and not any(frame["ran"] for frame in found)
    assert all(frame["scroll"] == frame["width"] and frame["wide"] == [] for frame in found), found
    found, console = browse(tmp_path, {"raw": raw}, USE)
    assert not any(frame["ran"] for frame in found) and any("Content Security Policy" in line for line in console)
    found, console = browse(tmp_path, {"control": CONTROL, "open": policy.sub("", raw)}, USE)
    assert all(frame["ran"] for frame in found) and any("said aloud" in line for line in console)
    assert [frame["scroll"] > frame["width"] for frame in found if frame["name"] == "control"].count(True) == 2
