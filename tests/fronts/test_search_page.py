"""The page of a search in a real browser, where one is installed: it fits a phone and a desktop, its table sorts,
trials take the focus and tell what they are, its console is silent, and nothing of the user's runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import searches
from browser import CHROMIUM, browse
from tunesmith.search.page import page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
ATTACK = "</script><script>top.ran=1</script><img src=x onerror='top.ran=1'>"
USE = """page => {
  const table = page.querySelector('[aria-label="All trials"] table'), seen = {};
  const order = column => [...table.tBodies[0].rows].map(row => row.cells[column].textContent.trim());
  const buttons = [...table.tHead.querySelectorAll('button')];
  buttons[1].click(); seen.byScore = order(1);
  buttons[5].click(); seen.byRate = order(5);
  const shown = element => page.defaultView.getComputedStyle(element).visibility === 'visible';
  const trials = [...page.querySelectorAll('g.trial')];
  seen.trials = trials.length; seen.before = trials.filter(group => shown(group.querySelector('.told'))).length;
  seen.told = trials.map(group => { group.focus(); return page.activeElement === group
    && shown(group.querySelector('.told')) && group.querySelector('.told').textContent; });
  const drawing = page.querySelector('[aria-label="Parallel coordinates"]');
  seen.scrolls = drawing ? drawing.scrollWidth > drawing.clientWidth : null;
  return seen;
}"""


def test_in_a_browser_the_page_fits_three_widths_sorts_and_tells_every_trial_in_silence(tmp_path: Path) -> None:
    shown = {name: page(make()) for name, make in searches.ALL.items()}
    found, console = browse(tmp_path, shown, USE)
    assert len(found) == 3 * len(shown) and console == []
    for frame in found:
        assert frame["scroll"] == frame["width"] and frame["wide"] == [], frame
        assert frame["small"] == frame["bare"] == frame["ran"] == 0, frame
        used = frame["use"]
        assert used["before"] == 0 and len(used["told"]) == used["trials"] > 0
        assert all(isinstance(told, str) and "trial " in told for told in used["told"])
    (wide,) = [frame["use"] for frame in found if frame["name"] == "usual" and frame["width"] == 1280]
    trials = searches.usual()["trials"]
    scores = sorted((one["value"] for one in trials if one["value"] is not None), reverse=True)
    assert wide["byScore"] == [*(f"{score:.3f}" for score in scores), "-", "-"]
    rates = sorted((one["params"]["train.learning_rate"] for one in trials), reverse=True)
    assert wide["byRate"] == [f"{rate:.4g}" for rate in rates]
    assert wide["scrolls"] is False, "six parameters have room on a desktop"


def test_in_a_browser_nothing_of_the_user_runs(tmp_path: Path) -> None:
    report = searches.usual()
    for axis in report["axes"]:
        axis["choices"] = axis["choices"] and [*axis["choices"], ATTACK]
    for trial in report["trials"]:
        trial["said"] = ATTACK
        trial["params"]["method"] = ATTACK
    report |= {"notes": [ATTACK], "metric": ATTACK, "changes": {"method": {"name": ATTACK}}}
    found, console = browse(tmp_path, {"hostile": page(report)}, "page => null")
    assert console == [] and not any(frame["ran"] for frame in found)
    assert all(frame["scroll"] == frame["width"] and frame["wide"] == [] for frame in found), found
