"""The page of a search: whole HTML with nothing to fetch, every number as the report has it, every line where its
numbers say; nothing of the user's is markup; what is not known is left out."""

from __future__ import annotations

import functools
import math
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
import yaml

import searches
from pages import ATTACK, MARKUP, Page, drawings
from tunesmith import recipefile
from tunesmith.search import drawings as drawn
from tunesmith.search import page as pages
from tunesmith.search import pageparts


@functools.cache
def rendered(name: str) -> str:
    """The page of a report that no test has changed."""
    return pages.page(searches.valid(searches.ALL[name]()))


def line_of(drawing: ET.Element, number: int) -> ET.Element:
    """The group of a trial."""
    (found,) = [g for g in drawing.iter("g") if (g.findtext("title") or "").startswith(f"trial {number}:")]
    return found


def points(group: ET.Element) -> list[tuple[float, float]]:
    (path,) = [line for line in group.findall("polyline") if line.get("class") == "way"]
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in str(path.get("points")).split())]


@pytest.mark.parametrize("name", searches.ALL)
def test_the_page_of_every_kind_of_search_is_whole_and_fetches_nothing(name: str) -> None:
    text = rendered(name)
    made = Page(text)
    assert text.startswith("<!doctype html>")
    assert {tag for tag, _ in made.elements} <= MARKUP
    assert not re.search(r"https?:|@import|url\(|\b(src|srcset|action|poster|data)=", text)
    links = [said["href"] or "" for tag, said in made.elements if tag == "a"]
    inside = [f"#{identity}" for identity in made.sections]
    assert [link for link in links if link.startswith("#")] == inside
    assert all(re.fullmatch(r"[\w./-]+", link) and not link.startswith(("/", "..")) for link in links
               if not link.startswith("#"))  # fmt: skip
    assert "runs/seed_0/report/index.html" in links and "best.yaml" in links
    assert all(said.strip() for said in made.sections.values()), made.sections
    assert not re.search(r"\b(nan|inf|None|NaN|Infinity|null)\b", made.text)


@pytest.mark.parametrize("name", searches.ALL)
def test_every_drawing_is_well_formed_and_stays_inside_its_box(name: str) -> None:
    found = drawings(rendered(name))
    assert found
    for drawing in found:
        assert drawing.get("aria-hidden") == "true" or (drawing.findtext("title") or "").strip()
        if not drawing.get("viewBox"):
            continue
        _, _, width, height = map(float, str(drawing.get("viewBox")).split())
        for element in drawing.iter():
            for key, most in (
                ("x", width),
                ("x1", width),
                ("cx", width),
                ("y", height),
                ("y1", height),
                ("cy", height),
            ):
                assert -0.01 <= float(element.get(key, 0)) <= most + 0.01
            for pair in (element.get("points") or "").split():
                x, y = map(float, pair.split(","))
                assert 0 <= x <= width and 0 <= y <= height


@pytest.mark.parametrize(
    ("name", "said", "badge"),
    [
        ("usual", "Trial 1 is the best of 24 trials: macro_f1 0.845 on validation, and better than the recipe as it is "
         "with 3 other seeds, by +0.1353 [+0.1233, +0.1473]; on rows that chose nothing (test) it has 0.831 [0.811, "
         "0.851], an optimism of +0.017.", "▲ better than the recipe as it is"),
        ("unmoved", "The recipe as it is is the best of 5 trials: macro_f1 0.900 on validation; whether it is better "
         "than the second best, trial 3 cannot be told with 3 other seeds: -0.0020 [-0.0220, +0.0180].",
         "◆ not shown to be better than the second best, trial 3"),
        ("losses", "its trial was luck", "▼ worse than the recipe as it is"),
        ("least", "The recipe as it is is the only trial: macro_f1 0.500 on validation.",
         "● not tried with other seeds"),
    ],
)  # fmt: skip
def test_the_verdict_comes_first_and_says_what_won_whether_it_is_better_and_how_far_it_flatters(
    name: str, said: str, badge: str
) -> None:
    made = Page(rendered(name))
    assert said in made.text
    assert f"Verdict: {badge}" in made.text
    assert made.text.index("Verdict:") < made.text.index("The winning recipe")


def test_every_trial_is_a_line_of_the_table_as_the_report_has_it() -> None:
    found = searches.usual()
    lines = {
        row[0].split("winner")[0].split("as it was")[0]: row
        for row in Page(rendered("usual")).lines()
        if len(row) == 12
    }
    for trial in found["trials"]:
        row = lines[str(trial["number"])]
        assert row[1] == ("-" if trial["value"] is None else f"{trial['value']:.3f}")
        assert row[2].endswith(trial["state"])
        assert row[3] == ("-" if trial["share"] is None else f"{100 * trial['share']:.0f} %")
        for cell, axis in zip(row[5:-1], found["axes"], strict=True):
            value = trial["params"].get(axis["name"])
            assert cell == ("-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value))
        assert row[-1] == trial["said"]
    assert lines[str(found["best"])][0].endswith("winner") and lines["0"][0].endswith("as it was")


def test_the_changes_as_they_are_shown_make_the_winners_recipe_of_the_recipe_as_it_was() -> None:
    found = searches.usual()
    shown = yaml.safe_load(pageparts.change(found)["yaml"])
    base = {"model": {"name": "minilm"}, "task": "text-classification", "data": "x.csv", "train": {"epochs": 2}}
    made = {key: {**value, **shown[key]} if key in shown and isinstance(value, dict) else value
            for key, value in base.items()}  # fmt: skip
    recipe = recipefile.build({**shown, **made})
    assert recipe == recipefile.changed(recipefile.build(base), found["changes"])


def test_a_line_of_the_parallel_coordinates_passes_each_axis_where_its_value_is() -> None:
    found = searches.usual()
    drawing = ET.fromstring(drawn.coordinates(found) or "")
    ends = {1e-5: None, 1e-2: None}
    for trial in found["trials"]:
        if trial["value"] is None:
            continue
        heights = [y for _, y in points(line_of(drawing, trial["number"]))]
        assert len(heights) == len(found["axes"]) + 1
        low, high, none = drawn._FLOOR, drawn._HEAD, drawn._NONE
        for height, axis in zip(heights, found["axes"], strict=False):
            value = trial["params"].get(axis["name"])
            if value is None:
                share = None
            elif axis["choices"]:
                share = axis["choices"].index(value) / (len(axis["choices"]) - 1)
            elif axis["log"]:
                share = math.log(value / axis["low"]) / math.log(axis["high"] / axis["low"])
            else:
                share = (value - axis["low"]) / (axis["high"] - axis["low"])
            assert height == pytest.approx(none if share is None else low + share * (high - low), abs=0.02)
        if trial["params"]["train.learning_rate"] in ends:
            ends[trial["params"]["train.learning_rate"]] = heights[0]
    assert ends == {1e-5: drawn._FLOOR, 1e-2: drawn._HEAD}, "an axis is the whole range, not what was tried of it"


def test_the_winner_the_recipe_as_it_was_and_what_was_pruned_are_told_apart_without_colour() -> None:
    for name in ("usual", "losses"):
        found = searches.ALL[name]()
        for text in (drawn.coordinates(found), drawn.looks(found)):
            drawing = ET.fromstring(text or "")
            for trial in found["trials"]:
                if trial["value"] is None:
                    continue
                marks = set(str(line_of(drawing, trial["number"]).get("class")).split())
                assert ("won" in marks) == (trial["number"] == found["best"])
                assert ("start" in marks) == trial["start"] and ("fell" in marks) == (trial["state"] == "pruned")
        last = [g for g in ET.fromstring(drawn.coordinates(found) or "").iter("g") if "trial" in str(g.get("class"))][
            -1
        ]
        assert "won" in str(last.get("class")) or found["best"] != drawn.ranked(found)[0]["number"]
    assert re.search(r"svg \.won \.way \{ stroke-width", rendered("usual"))
    assert re.search(r"svg \.start \.way \{ stroke-dasharray", rendered("usual"))


def test_every_trial_takes_the_focus_and_tells_what_it_is() -> None:
    found = searches.usual()
    for text in (drawn.history(found), drawn.coordinates(found), drawn.looks(found)):
        groups = [g for g in ET.fromstring(text or "").iter("g") if g.get("tabindex") == "0"]
        assert len(groups) >= 22
        for group in groups:
            said = group.findtext("title") or ""
            number = int(said.removeprefix("trial ").partition(":")[0])
            trial = found["trials"][number]
            assert f"learning_rate {trial['params']['train.learning_rate']:.3g}" in said
            if trial["value"] is not None:
                assert f"macro_f1 {trial['value']:.3f}" in said
            (told,) = [inner for inner in group.findall("g") if inner.get("class") == "told"]
            assert "".join(told.itertext()).find(f"trial {number}:") >= 0


@pytest.mark.parametrize("higher", [True, False])
def test_the_best_so_far_never_gets_worse_and_skips_what_was_pruned(higher: bool) -> None:
    found = searches.usual() if higher else searches.losses()
    steps = drawn._so_far(found["trials"], higher)
    values = [y for _, y in steps]
    assert values == sorted(values, reverse=not higher) and len(steps) > 1
    complete = [trial["value"] for trial in found["trials"] if trial["state"] == "complete"]
    assert values[-1] == (max if higher else min)(complete) and values[0] == complete[0]


def test_a_trial_far_astray_does_not_flatten_all_others() -> None:
    drawing = ET.fromstring(drawn.history(searches.losses()))
    heights = {y for group in drawing.iter("g") if group.get("tabindex")
               for y in [str(group.findall("circle")[0].get("cy"))] if group.findall("circle")}  # fmt: skip
    assert len(heights) > 15
    assert "470,000,000" in rendered("losses") and "1 score so far off" in rendered("losses")
    assert "so far off" not in rendered("usual")
    assert drawn.on_scale([0.5, 0.5, 0.5, 0.1], True) == [0.5, 0.5, 0.5, 0.1]


def test_what_is_not_known_has_no_heading() -> None:
    whole = Page(rendered("usual")).sections.keys()
    assert list(whole) == list(pages._TITLES)
    for part, nothing in (("advice", []), ("importances", {})):
        assert Page(pages.page(searches.usual() | {part: nothing})).sections.keys() == whole - {part}
    assert "seeds" not in Page(pages.page(searches.usual() | {"seeds": None, "optimism": None})).sections
    assert list(Page(rendered("least")).sections) == ["change", "course", "trials", "files"]
    assert "Scores on the way" not in rendered("unmoved"), "looks at the end alone are no curve"


def test_a_search_without_seeds_or_a_rival_says_so() -> None:
    found = searches.usual()
    alone = Page(pages.page(found | {"seeds": found["seeds"] | {"against": None, "rival": None, "rival_values": []}}))
    assert "not tried" not in alone.sections["seeds"] and "gain" not in alone.sections["seeds"]
    assert "nothing to compare with" in alone.text
    one = found["seeds"]["against"] | {"low": None, "high": None, "outcome": "unclear", "gains": [0.1]}
    single = Page(
        pages.page(found | {"seeds": found["seeds"] | {"values": [0.8], "rival_values": [0.7], "against": one}})
    )
    assert "with 1 other seed: +0.1353." not in single.text or "[" not in single.text.partition("1 other seed")[2][:12]


def hostile(found: dict[str, Any]) -> dict[str, Any]:
    """The report with an attack in every text that may come from the user."""

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {(name if key != "params" and key != "importances" else name + ATTACK): walk(inner, name)
                    for name, inner in value.items()}  # fmt: skip
        if isinstance(value, list):
            return [walk(inner, key) for inner in value]
        kept = ("state", "outcome", "chosen_on", "search", "run", "recipe")
        return value + ATTACK if isinstance(value, str) and key not in kept else value

    made: dict[str, Any] = walk(found)
    place = "/home/x/" + ATTACK.replace("/", "|")
    return made | {"search": place, "run": f"{place}/runs/{ATTACK.replace('/', '|')}"}


@pytest.mark.parametrize("name", ["usual", "losses"])
def test_nothing_of_the_user_is_ever_markup(name: str) -> None:
    text = pages.page(hostile(searches.ALL[name]()))
    made = Page(text)
    assert {tag for tag, _ in made.elements} <= MARKUP
    assert [tag for tag, _ in made.elements].count("script") == [tag for tag, _ in made.elements].count("style") == 1
    assert not [attribute for _, said in made.elements for attribute in said if attribute.startswith("on")]
    assert "<script>top.ran=1" in made.text and "{{ 7*7 }}{% raw %}" in made.text
    assert not re.search("[\u202e\u200b\x00\ufffe]", text)
    assert not [said for tag, said in made.elements if tag == "a" and re.search(r"[\s<>\"':]", said["href"] or "")]
    assert drawings(text)


def test_a_link_is_never_one_of_the_web() -> None:
    for path in ("javascript:alert(1)", "https://x.example", "trials/00 07/re:cipe.yaml"):
        assert ":" not in pageparts.link(path) and " " not in pageparts.link(path)


def test_a_search_of_thousands_of_trials_has_a_page_of_a_few_hundred() -> None:
    found = searches.usual()
    trials = [searches.trial(k, 0.5 + (k % 997) / 2500, "pruned" if k % 3 else "complete") for k in range(5000)]
    best = max((one for one in trials if one["state"] == "complete"), key=lambda one: one["value"])
    text = pages.page(found | {"trials": trials, "best": best["number"]})
    assert len(text.encode()) < 2_000_000
    made = Page(text)
    assert "Of 5,000 trials with a score the best 150 are drawn." in made.text
    assert "The best 500; 4,500 others are in table.csv." in made.text
    assert sum(row[0].endswith("winner") for row in made.lines()) == 1
