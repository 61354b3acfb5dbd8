"""The report page: whole HTML with nothing to fetch, every number as the report has it, every drawing where its numbers
say; nothing of the rows is markup; what is not known is left out."""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import yaml

import reports
from pages import ATTACK, MARKUP, Page, drawings
from tunesmith.report import charts, course, pagetext, sections, svg
from tunesmith.report import page as pages
from tunesmith.report.tables import number

OPTIONAL = {
    "compared": [], "advice": [], "changed": None, "labels": [], "confusion": None, "calibration": None, "slices": None,
    "thresholds": [],
    "fairness": [], "kept": [], "overfitting": None, "scaling": None, "models": [], "verified": [],
}  # fmt: skip
SECTION = {"compared": "against"}
"""Part of the report -> section of the page, where they are called differently."""


@functools.cache
def rendered(name: str) -> str:
    """The page of a report that no test has changed."""
    return pages.page(reports.valid(reports.ALL[name]()))


def changed_everywhere(value: Any, change: Callable[[Any], Any]) -> Any:
    """A report with each of its leaves changed."""
    if isinstance(value, dict):
        return {key: changed_everywhere(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [changed_everywhere(inner, change) for inner in value]
    return change(value)


@pytest.mark.parametrize("name", reports.ALL)
def test_the_page_of_every_kind_of_report_is_whole_and_fetches_nothing(name: str) -> None:
    text = rendered(name)
    made = Page(text)
    assert text.startswith("<!doctype html>")
    assert {tag for tag, _ in made.elements} <= MARKUP
    assert not re.search(r"https?:|@import|url\(|\b(src|srcset|action|poster|data)=", text)
    identities = [said["id"] for _, said in made.elements if "id" in said]
    assert len(identities) == len(set(identities))
    links = [said["href"] for tag, said in made.elements if tag == "a"]
    assert links == [f"#{identity}" for identity in made.sections]
    assert {"forest", "scores", "cost"} <= set(made.sections)
    assert all(said.strip() for said in made.sections.values()), made.sections
    assert not re.search(r"\b(nan|inf|None|NaN|Infinity|null)\b", made.text)
    assert reports.ALL[name]()["headline_says"] in made.text


@pytest.mark.parametrize("name", reports.ALL)
def test_every_drawing_is_well_formed_has_a_name_and_stays_inside_its_box(name: str) -> None:
    found = drawings(rendered(name))
    assert len(found) >= 2
    for drawing in found:
        assert drawing.get("aria-hidden") == "true" or (
            drawing.get("role") == "img" and (drawing.findtext("title") or "").strip()
        )
        if drawing.get("viewBox"):
            _, _, width, height = map(float, str(drawing.get("viewBox")).split())
            for element in drawing.iter():
                for key, most in (("x", width), ("x1", width), ("x2", width), ("cx", width), ("y", height),
                                  ("y1", height), ("y2", height), ("cy", height)):  # fmt: skip
                    assert -0.01 <= float(element.get(key, 0)) <= most + 0.01


def test_every_score_difference_and_count_is_on_the_page_as_the_report_has_it() -> None:
    report = reports.classification()
    made = Page(rendered("classification"))
    lines = made.lines()
    for one in report["compared"]:
        shown = [row for row in lines if row[0].startswith(one["name"]) and len(row) == 6]
        difference = f"{one['difference']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]"
        assert [row[2] for row in shown] == [difference]
        assert shown[0][3] == ("< 0.001" if one["p"] < 0.001 else f"{one['p']:.3f}")
        assert shown[0][5].endswith({"helped": "tuned is better", "unclear": "no difference shown"}[one["outcome"]])
    for one in report["labels"]:
        numbers = [f"{one[key]:.3f}" for key in ("precision", "recall", "f1", "base_f1")]
        assert [one["label"], f"{one['n']}", *numbers] in lines
    for one in report["slices"]["slices"]:
        mark = "▼ worse than the rest" if one["worse"] else ""
        (shown_slice,) = [row for row in lines if row[0] == f"{one['by']} {one['value']}{mark}"]
        assert shown_slice[2].startswith(f"{one['score']['value']:.3f} [") and shown_slice[-1] == f"{one['n']}"
    assert ["base right", "787", "25 broken"] in lines and ["base wrong", "96 fixed", "92"] in lines
    for found in report["verified"]:
        assert f"{found['name']}: {found['said']}" in made.text
    for path, digest in report["sums"].items():
        assert [path.split("/")[-1], digest] in lines
    assert "8,000 train, 1,000 validation, 1,000 test" in made.text and "279,374 (1.2 %)" in made.text


def test_groups_beyond_the_first_twenty_are_folded_and_none_is_lost() -> None:
    report, text = reports.classification(), rendered("classification")
    assert "8 more groups</summary>" in text
    folded = text.partition("8 more groups</summary>")[2].partition("</details>")[0]
    names = [found["value"] for found in report["fairness"][0]["groups"]]
    assert [f">{name}</bdi>" in folded for name in names] == [k >= 20 for k in range(28)]
    assert all(any(row[0].partition("▲")[0] == name for row in Page(text).lines()) for name in names)
    assert (
        "elderly▲ higher than the others" in Page(text).text
        and "3 groups of fewer than 20 rows are left out" in Page(text).text
    )


def test_dots_stand_where_their_numbers_say() -> None:
    report = reports.classification()
    view = sections.forest(report)
    assert view is not None
    found = {}
    for line in view["lines"]:
        drawing = ET.fromstring(line["strip"])
        (dot,), (interval,) = drawing.findall("circle"), drawing.findall("line[@class='interval']")
        places = [str(dot.get("cx")), str(interval.get("x1")), str(interval.get("x2"))]
        assert all(place.endswith("%") for place in places)
        for key, place in zip(("value", "low", "high"), places, strict=True):
            found[line["score"][key]] = float(place[:-1])
    (least, first), *others, (most, last) = sorted(found.items())
    assert first < last and len(others) > 10
    for value, place in others:
        assert place == pytest.approx(first + (value - least) / (most - least) * (last - first), abs=0.02)


def test_the_reliability_diagram_stands_on_its_diagonal_where_confidence_is_accuracy() -> None:
    found = reports.calibration()
    for one in found["bins"]:
        one["accuracy"] = one["confidence"]
    drawing = ET.fromstring(charts.reliability(found) or "")
    (ideal,) = drawing.findall("line[@class='ideal']")
    x1, y1, x2, y2 = (float(str(ideal.get(key))) for key in ("x1", "y1", "x2", "y2"))
    dots = drawing.findall("circle")
    assert len(dots) == sum(one["n"] > 0 for one in found["bins"]) == 8
    for dot in dots:
        x, y = float(str(dot.get("cx"))), float(str(dot.get("cy")))
        assert y == pytest.approx(y1 + (x - x1) / (x2 - x1) * (y2 - y1), abs=0.05)
    tall = {box.get("class"): 0.0 for box in drawing.findall("rect")}
    heights = [float(str(box.get("height"))) for box in drawing.findall("rect")]
    assert set(tall) == {"count"} and heights[-1] == max(heights)
    assert heights[-2] / heights[-1] == pytest.approx(160 / 658, abs=1e-3)


def test_a_thinned_curve_keeps_its_extremes_and_its_order() -> None:
    points = [(float(k), math.sin(k / 17) + (k == 7777) * 9 - (k == 4321) * 9) for k in range(10_000)]
    thinned = charts.thin(points)
    assert len(thinned) <= 700 and thinned == sorted(thinned)
    assert {(7777.0, points[7777][1]), (4321.0, points[4321][1])} <= set(thinned) <= set(points)
    assert charts.thin(points[:500]) == points[:500]


def test_names_at_dots_never_lie_over_one_another() -> None:
    places = [(60.0 + 3 * k, 80.0 + 2 * k) for k in range(9)]
    drawn = [ET.fromstring(found) for found in charts.names_beside(places, [f"model {k}" for k in range(9)])]
    assert len(drawn) >= 2
    rooms = []
    for name in drawn:
        x, y, wide = float(str(name.get("x"))), float(str(name.get("y"))), 6.5 * len(name.text or "")
        left = {"start": x, "end": x - wide, "middle": x - wide / 2}[str(name.get("text-anchor"))]
        rooms.append((left, y - 11, left + wide, y + 3))
    for k, (a, b, c, d) in enumerate(rooms):
        assert not any(a < g - 0.1 and e < c - 0.1 and b < h - 0.1 and f < d - 0.1 for e, f, g, h in rooms[k + 1 :])


@pytest.mark.parametrize("low", [-1e-9, -3.2, 0.0, 0.86, 1e-7, 61.0, 12_345.0])
@pytest.mark.parametrize("wide", [1e-6, 0.0031, 0.2, 1.0, 7.3, 480.0, 2e6])
def test_ticks_are_few_round_inside_and_told_apart(low: float, wide: float) -> None:
    for most in (3, 4, 6):
        along = svg.scale([low, low + wide], 0, 100)
        ticks = along.ticks(most)
        assert 1 <= len(ticks) <= most
        assert all(along.low - 1e-9 * wide <= tick <= along.high + 1e-9 * wide for tick in ticks)
        if wide / max(abs(low), 1) > 1e-4:
            assert len(set(along.said(ticks))) == len(ticks)
        apart = [b - a for a, b in pairwise(ticks)]
        assert not apart or max(apart) == pytest.approx(min(apart), rel=1e-5)


def test_ticks_of_a_logarithmic_scale_are_few_and_inside() -> None:
    for low, high in ((1000, 16_000), (0.02, 0.03), (3.1, 210.0), (1e-3, 1e6)):
        along = svg.log_scale([low, high], 0, 100)
        ticks = along.ticks()
        assert 1 <= len(ticks) <= 6 and all(along.low <= tick <= along.high for tick in ticks)
        assert along.at(low) < along.at(high)


def test_a_scale_of_shares_does_not_reach_beyond_them_and_one_value_has_room_around_it() -> None:
    assert (svg.scale([0.0, 1.0], 0, 1).low, svg.scale([0.0, 1.0], 0, 1).high) == (0.0, 1.0)
    one = svg.scale([0.5, math.nan, None], 0, 100)
    assert one.low < 0.5 < one.high and one.at(0.5) == pytest.approx(50)


@pytest.mark.parametrize("part", OPTIONAL)
def test_what_is_not_known_has_no_heading(part: str) -> None:
    section = SECTION.get(part, part)
    whole = Page(rendered("classification"))
    assert section in whole.sections
    without = Page(pages.page(reports.valid(reports.classification() | {part: OPTIONAL[part]})))
    assert without.sections.keys() == whole.sections.keys() - {section}


def test_the_least_report_has_its_score_and_its_cost_and_nothing_else() -> None:
    made = Page(pages.page(reports.valid(reports.slim())))
    assert list(made.sections) == ["forest", "scores", "cost"]
    assert "nothing to compare with" in made.text


def test_numbers_that_are_none_are_a_dash_and_are_not_drawn() -> None:
    for nothing in (math.nan, math.inf, -math.inf, None):
        report = changed_everywhere(reports.classification(), lambda v, n=nothing: n if isinstance(v, float) else v)
        report["advice"] = []
        text = pages.page(report)
        made = Page(text)
        assert not re.search(r"(?i)\b(nan|inf|none|infinity|null)\b", made.text)
        assert not re.search(
            r'(?i)="[^"]*\b(nan|inf|none)\b', re.sub(r"<(?!line|circle|rect|polyline|text|td)[^>]*>", "", text)
        )
        assert ["address", "117", "-", "-", "-"] in [row[:5] for row in made.lines()]
        assert drawings(text)


def test_a_finding_of_no_number_does_not_hide_those_beside_it() -> None:
    report = reports.classification()
    report["compared"][0]["score"] |= {"low": math.nan}
    report["curves"]["losses"][5] = math.nan
    made = pages.page(report)
    assert "0.812" in made and "[-, 0.832]" in made
    assert len(drawings(made)) == len(drawings(rendered("classification")))


def hostile(report: dict[str, Any]) -> dict[str, Any]:
    """The report with an attack in every text that may come from rows, files or names."""
    kept = {"outcome", "change", "kind", "state", "unit", "headline", "metric", "watched", "run"}

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: walk(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner, key) for inner in value]
        return value + ATTACK if isinstance(value, str) and key not in kept else value

    made: dict[str, Any] = walk(report)
    return made | {
        "run": report["run"] + ATTACK.replace("/", "|"),
        "settings": {f"model{ATTACK}": ATTACK},
        "sums": {ATTACK: ATTACK},
    }


@pytest.mark.parametrize("name", ["classification", "chat", "images"])
def test_what_rows_hold_is_never_markup(name: str) -> None:
    text = pages.page(hostile(reports.ALL[name]()))
    made = Page(text)
    assert {tag for tag, _ in made.elements} <= MARKUP
    assert [tag for tag, _ in made.elements].count("script") == [tag for tag, _ in made.elements].count("style") == 1
    assert not [attribute for _, said in made.elements for attribute in said if attribute.startswith("on")]
    assert "<script>top.ran=1" in made.text and "{{ 7*7 }}{% raw %}" in made.text
    assert not re.search("[\u202e\u200b\x00\ufffe]", text) and "⟨U+202E⟩" in made.text and "⟨U+200B⟩" in made.text
    assert drawings(text)


def test_the_policy_lets_the_pages_own_script_run_and_nothing_be_fetched() -> None:
    text = rendered("classification")
    policy = next(said["content"] or "" for _, said in Page(text).elements if "http-equiv" in said)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    summed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["script-src"] == f"'sha256-{summed}'"
    assert rules["style-src"] == "'unsafe-inline'" and rules["img-src"] == "data:"
    assert script.count("\n") <= 60


def test_a_page_of_many_long_rows_and_labels_stays_small() -> None:
    report = reports.classification()
    texts = ["w" * 50_000, "<&>" * 9000, "😀\u200b" * 9000, "مرحبا " * 9000]
    report["changed"]["rows"] = [
        reports.row("fixed", k, text=texts[k % 4], reference=texts[k % 3], base=texts[k % 2], tuned=texts[3 - k % 4])
        for k in range(500)
    ]
    text = pages.page(report)
    assert len(text.encode()) < 2_000_000 and text.count("more characters") >= 500
    names = [f"label {k} " + "x" * 300 for k in range(1000)]
    report = reports.classification()
    report["labels"] = [dict(report["labels"][0], label=name) for name in names]
    report["confusion"] = {
        "labels": names,
        "counts": [[int(j in (i, (i + 1) % 1000)) for j in range(1000)] for i in range(1000)],
    }
    text = pages.page(report)
    assert len(text.encode()) < 2_000_000
    assert sum(row[0].startswith("label ") and len(row) == 6 for row in Page(text).lines()) == 1000
    assert "The largest 25 of 1,000 pairs" in text


def test_rows_without_a_base_are_right_or_wrong_and_have_no_table_of_both() -> None:
    report = reports.classification()
    rows = [reports.row(kind, base=None) for kind in ("both right", "both wrong")]
    report["changed"] = {"fixed": 0, "broken": 0, "both_right": 9, "both_wrong": 2, "p": None, "rows": rows}
    made = Page(pages.page(reports.valid(report)))
    assert "Right the tuned model is right" in made.text and "Wrong the tuned model is wrong" in made.text
    assert "base right" not in made.text and "Both" not in made.sections["changed"]
    assert "base" not in made.sections["changed"]


def test_an_answer_of_nothing_is_said_to_be_nothing_and_long_ones_are_folded() -> None:
    report = reports.chat()
    report["changed"]["rows"][0] |= {"tuned": " \n", "text": "long " * 100}
    text = pages.page(report)
    assert text.count('<span class="faint">nothing</span>') == 1
    (folded,) = re.findall(r'<details class="long">(?:(?!</details>).)*long long.*?</details>', text, re.DOTALL)
    assert folded.count("long ") >= 100 + 43
    assert "86.0 % [82.0 %, 90.0 %] of 220 rows" in Page(text).text


def test_how_many_rows_would_tell_is_said_once() -> None:
    report = reports.unclear()
    assert Page(pages.page(report)).text.count("2,400 rows") == 1
    report["headline_says"] += " You would need about 2,400 rows to tell."
    assert Page(pages.page(report)).text.count("2,400 rows") == 1


def test_of_many_labels_the_largest_confusions_are_listed() -> None:
    report = reports.images()
    report["confusion"]["counts"][4][9] = 17
    view = sections.confusion(report)
    assert view is not None and view["map"] is None and len(view["pairs"]) == 25
    share = 17 / sum(report["confusion"]["counts"][4])
    assert view["pairs"][0] == {"gold": "class 4", "said": "class 9", "n": 17, "share": share}


def test_a_map_of_confusions_tells_every_cell() -> None:
    report = reports.classification()
    drawing = ET.fromstring(charts.confusion(report["confusion"]["labels"], report["confusion"]["counts"]))
    told = {box.findtext("title") for box in drawing.findall("rect")}
    for i, row in enumerate(report["confusion"]["counts"]):
        for j, n in enumerate(row):
            names = report["confusion"]["labels"]
            assert n == 0 or f"{names[i]}, the model says {names[j]}: {n} of {sum(row)}" in told


def test_a_change_of_the_recipe_is_yaml_that_reads_back() -> None:
    report = reports.classification()
    (_, shown) = sections.advice(report)
    assert yaml.safe_load(shown["yaml"]) == {
        "train": {"epochs": 3, "weight_decay": 0.05},
        "method": {"name": "lora", "dropout": 0.1},
    }
    assert "weight_decay: 0.05" in Page(rendered("classification")).text
    assert sections.nested({"a.b": 1, "a.c.d": 2, "e": None}) == {"a": {"b": 1, "c": {"d": 2}}, "e": None}


def test_the_best_update_is_marked_only_where_it_can_be_told() -> None:
    report = reports.classification()
    assert "best: 1,200" in "".join(course.curves(report))
    assert "best: 1,200" in "".join(course.curves(report | {"overfitting": None}))
    other = report["curves"] | {"watched": "loss"}
    assert "best" not in "".join(course.curves(report | {"overfitting": None, "curves": other}))


def test_numbers_in_words() -> None:
    assert [number(value) for value in (0.8834, -0.0001, 123.4, 0.0, None, math.nan)] == [
        "0.883", "0.000", "123", "0.000", "-", "-"]  # fmt: skip
    assert [pagetext.signed(value) for value in (0.07, -0.07, 0.0001, None)] == ["+0.070", "-0.070", "0.000", "-"]
    assert [pagetext.chance(p) for p in (0.0, 0.04, 1.0, None)] == ["< 0.001", "0.040", "1.000", "-"]
    assert [pagetext.percent(share) for share in (0.0123, 1.0, 0.00012, 0.0, math.nan)] == [
        "1.2 %", "100.0 %", "0.012 %", "0.0 %", "-"]  # fmt: skip
    assert [pagetext.duration(s) for s in (0.0123, 3.2, 42, 133, 9000, None)] == [
        "0.012 s", "3.2 s", "42 s", "2 min", "2.5 h", "-"]  # fmt: skip
    assert [pagetext.size(n) for n in (0, 950, 91_000_000, 1_300_000_000)] == [
        "0 bytes",
        "950 bytes",
        "91.0 MB",
        "1.3 GB",
    ]
    assert [pagetext.compact(n) for n in (950, 1200, 35_210, 2_100_000, 1000)] == ["950", "1.2k", "35k", "2.1M", "1k"]


def test_making_a_page_needs_no_torch() -> None:
    import subprocess

    code = "import sys, tunesmith.report.page, tunesmith.report.svg\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_thresholds_and_wishes_are_on_the_page_as_the_report_has_them() -> None:
    report = reports.classification()
    made = Page(rendered("classification"))
    for one in report["thresholds"]:
        (line,) = [row for row in made.lines() if row[0] == one["label"] and len(row) == 7]
        assert line[1:3] == [f"{one['n']}", pagetext.cutting(one["in_force"]["threshold"])]
        assert line[3].startswith(f"{one['in_force']['f1']['value']:.3f} [")
        assert line[6] == ("-" if one["gain"] is None else "+0.030[+0.010, +0.050]")
    drawn = ET.fromstring(charts.threshold(report["thresholds"][0]) or "")
    at = {line.get("x1") for line in drawn.findall("line[@class='mark']")}
    assert at == {"196.0", "156.84"}
    said = " ".join(made.sections["calibration"].split())
    assert "at most 1.0 % of the time, no threshold can be told to be enough by so many validation rows" in said
    assert "answer only from a confidence of 0.831 on: 71.0 % of the rows [68.0 %, 74.0 %], of which 4.5 %" in said
    assert "at most 10.0 % of the time, answer all: 71.0 %" in said


def test_a_threshold_is_told_with_the_digits_it_needs_and_never_rounded_up() -> None:
    assert [pagetext.cutting(value) for value in (0.5, 0.83196, 0.0, 1.0, 0.83, None, math.nan)] == [
        "0.500", "0.831", "0.000", "1.000", "0.830", "-", "-",
    ]  # fmt: skip
    assert (pagetext.cutting(0.99934), pagetext.cutting(0.00042)) == ("0.99934", "0.00042")
