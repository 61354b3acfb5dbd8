"""A report as Markdown: whole tables, and nothing that is no number."""

import json
import re
from typing import Any

import pytest

import reports
from tunesmith.report import text


@pytest.mark.parametrize("name", list(reports.ALL))
def test_every_report_has_its_tables_whole_and_no_nan(name: str) -> None:
    made = text.markdown(reports.valid(reports.ALL[name]()))
    assert not re.search(r"\b(nan|inf|None)\b", made)
    for block in re.findall(r"(?:^\|.*\n?)+", made, re.M):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().split("\n")}
        assert len(widths) == 1, block


@pytest.mark.parametrize("name", list(reports.ALL))
def test_numbers_that_are_none_or_no_number_are_a_dash(name: str) -> None:
    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without(part) for key, part in value.items()}
        return [without(part) for part in value] if isinstance(value, list) else value

    report = without(reports.ALL[name]())
    report["headline_says"] = "said"
    for one in report["slices"]["slices"] if report["slices"] else []:
        one["score"] |= {"value": float("nan"), "low": float("nan")}
        one["base"] = None
        one |= {"difference": float("nan"), "low": float("nan"), "high": float("nan"), "corrected": float("nan")}
    for one in report["compared"]:
        one |= {"difference": float("nan"), "p": float("nan")}
    assert not re.search(r"\b(nan|inf)\b", text.markdown(report))


def test_a_look_that_lacks_a_score_leaves_its_column_empty() -> None:
    report = reports.classification()
    report["curves"]["looks"] = [
        {"step": 5, "scores": {"mae": 0.75}}, {"step": 10, "scores": {"pearson": 0.5, "mae": 0.25}},
    ]  # fmt: skip
    made = text.markdown(report)
    assert "| update | mae | pearson |\n|---|---|---|\n| 5 | 0.750 | - |\n| 10 | 0.250 | 0.500 |" in made


def test_what_rows_say_breaks_no_table() -> None:
    report = json.loads(json.dumps(reports.classification()))
    odd = "a | b\n# c\r\n| d |"
    report["labels"][0]["label"] = report["slices"]["slices"][0]["value"] = odd
    report["changed"]["rows"][0] |= {"text": odd, "reference": odd, "base": odd, "tuned": odd, "file": "odd | name.csv"}
    report["fairness"][0]["groups"][0]["value"] = odd
    made = text.markdown(report)
    assert "\n# c" not in made and "a \\| b # c \\| d \\|" in made
    for block in re.findall(r"(?:^\|.*\n?)+", made, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().split("\n")}) == 1


def test_a_leak_is_told_with_the_score_without_it_and_also_where_none_is_left() -> None:
    report = reports.classification()
    assert "17 rows of the verdict are training rows too: 0.883 with them, 0.880 without." in text.markdown(report)
    report["overfitting"]["duplicates"]["without"] = None
    assert "17 rows of the verdict are training rows too: 0.883 with them, and without them none is left." in (
        text.markdown(reports.valid(report))
    )
