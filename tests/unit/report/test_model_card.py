"""The card of a saved model: metadata that the hub's own reader takes, scores as the report has them, its limits said,
and nothing of the rows or of the machine where it does not belong."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

import reports
from tunesmith.models.catalog import CATALOG
from tunesmith.models.folder import licence as licence_of
from tunesmith.report.modelcard import base_model, card, metadata
from tunesmith.report.tables import number

ATTACK = "<img src=x onerror=alert(1)>[x](javascript:alert(1)) `code` | cell\n\n# head\n---\n\u202e"


def header(text: str) -> dict[str, object]:
    """What stands between the first two lines of dashes."""
    _, between, _ = text.split("---\n", 2)
    read: dict[str, object] = yaml.safe_load(between)
    return read


@pytest.mark.parametrize("name", reports.ALL)
def test_the_hubs_own_reader_finds_every_score_of_every_kind_of_report(name: str) -> None:
    report = reports.valid(reports.ALL[name]())
    text = card(report)
    read = ModelCard(text)
    split = "test" if "test" in report["scores"] else "validation"
    found = {result.metric_type: result for result in read.data.eval_results}
    assert found.keys() == report["scores"][split].keys()
    for metric, score in report["scores"][split].items():
        assert found[metric].metric_value == pytest.approx(score["value"], abs=1e-6)
        interval = f"{number(score['low'])} to {number(score['high'])}, {score['n']:,} rows"
        assert interval in found[metric].metric_name
        assert found[metric].dataset_split == split
    assert read.data.library_name == "tunesmith" and report["task"] in read.data.tags
    assert report["headline_says"] in read.text
    assert not re.search(r"\b(nan|inf|None|null)\b", text)


def test_the_metadata_names_the_base_model_as_the_hub_does_and_its_licence() -> None:
    made = header(card(reports.classification()))
    assert made["base_model"] == next(entry.hub_id for entry in CATALOG if entry.name == "minilm")
    assert made["license"] == "apache-2.0" and "license_name" not in made
    assert made["pipeline_tag"] == "text-classification" and made["tags"] == [
        "tunesmith",
        "text-classification",
        "lora",
    ]
    assert metadata(reports.slim() | {"licence": "My Own 1.0"}).items() >= {
        ("license", "other"),
        ("license_name", "my-own-1.0"),
    }
    assert "license" not in metadata(reports.slim())
    hub = reports.slim() | {"sums": {"hf://org/tickets/part/train.csv": "a" * 64, "rows.csv": "b" * 64}}
    assert metadata(hub)["datasets"] == ["org/tickets"]


def test_rows_are_called_by_their_files_or_where_these_are_named_by_split_by_their_folder() -> None:
    def called(*paths: str) -> str:
        made = metadata(reports.slim() | {"sums": dict.fromkeys(paths, "a" * 64)})
        return str(made["model-index"][0]["results"][0]["dataset"]["name"])

    assert called("in/tickets.csv", "in/more.csv") == "tickets.csv, more.csv"
    assert called("/some/where/sst2/train.jsonl", "/some/where/sst2/test.jsonl.gz") == "sst2"
    assert called("train.csv") == called() == "rows of text-classification"


def test_a_folder_of_the_users_is_not_taken_for_a_model_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert base_model("org/name") == "org/name"
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert base_model("org/name") is None
    assert base_model(str(tmp_path)) is None and base_model("tiny-bert") is None and base_model(None) is None


def test_the_saved_folders_licence_is_read_back_from_its_card(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card(reports.classification()), encoding="utf-8")
    assert licence_of(tmp_path) == "apache-2.0"


def test_scores_differences_slices_rows_and_sums_are_in_the_card() -> None:
    report = reports.classification()
    text = card(report)
    for path, digest in report["sums"].items():
        assert f"| {Path(path).name} | `{digest}` |" in text
    assert "Rows: 8,000 train, 1,000 validation, 1,000 test." in text
    assert "| macro_f1 * | 0.812 [0.792, 0.832] | 0.883 [0.863, 0.903] |" in text
    for one in report["compared"]:
        assert f"| {one['name']} | {one['difference']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}] |" in text
    worse = text.split("## Where it is worse")[1].split("##")[0]
    assert "more than 40 words: accuracy 0.740" in worse and "elderly: given complaint wrongly" in worse
    assert "1 to 9 words" not in worse and "group 3" not in worse
    limits = text.split("## Limits")[1].split("##")[0]
    assert (
        "off by 0.021 [0.013, 0.029]" in limits
        and "general sentences was lost" in limits
        and "17 scored rows" in limits
    )
    assert "saved model holds: 32 rows" in text and "energy: 2.400 Wh (65 W" in text


def test_what_was_not_measured_is_said() -> None:
    limits = card(reports.slim()).split("## Limits")[1].split("##")[0]
    for said in ("not compared", "not scored by themselves", "groups of people", "forgotten"):
        assert said in limits
    whole = card(reports.classification())
    assert "was not measured" not in whole and "## Where it is worse" in whole
    assert "## Where it is worse" not in card(reports.slim()) and "## Training data" not in card(reports.slim())


def test_nothing_of_the_rows_is_markup_and_no_place_of_the_machine_is_told() -> None:
    report = reports.classification()
    report["run"] = f"/home/someone/runs/tickets{ATTACK.replace('/', '')}"
    report["slices"]["slices"][1]["value"] = report["fairness"][0]["groups"][0]["value"] = ATTACK
    report["fairness"][0]["positive"] = report["notes"] = [ATTACK]
    report["settings"]["model"] = ATTACK
    report["licence"] = ATTACK
    report["sums"] = {f"/home/someone/{ATTACK.replace('/', '')}": "c" * 64}
    report["verified"][0]["said"] = report["kept"][0]["name"] = ATTACK
    text = card(report)
    body = text.split("---\n", 2)[2]
    assert header(text)["library_name"] == "tunesmith"
    assert "<img" not in body and not re.search(r"(?<!\\)\](\(|:|\[)", body) and "/home" not in text
    assert "\u202e" not in body and not re.search(r"(?m)^# head|^---$", body)
    heads = re.findall(r"(?m)^#+ .*$", body)
    assert [head for head in heads if head.startswith("## ")] == [
        "## Intended use", "## Training data", "## Scores", "## Where it is worse", "## Limits", "## How it was made",
        "## Licence", "## How to use it",
    ]  # fmt: skip


def test_scores_that_are_no_numbers_are_not_in_the_metadata_and_a_dash_in_the_card() -> None:
    report = reports.classification()
    report["scores"]["test"]["loss"] = {"value": math.nan, "low": math.nan, "high": math.inf, "n": 1000}
    text = card(report)
    assert [one.metric_type for one in ModelCard(text).data.eval_results] == ["macro_f1", "accuracy"]
    assert "| loss | - | - [-, -] | - | - | 1,000 |" in text and not re.search(r"\b(nan|inf)\b", text)


def test_the_first_program_of_the_card_is_left_to_how_the_folder_is_opened() -> None:
    """`models/ownfiles.py` puts its program behind the card; whoever follows it takes the first one."""
    assert all("```python" not in card(make()) for make in reports.ALL.values())


def test_making_a_card_needs_no_torch() -> None:
    code = "import sys, tunesmith.report.modelcard\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
