"""What a report looks for in the rows, when a run has ended."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tiny
from tunesmith import recipefile
from tunesmith.evidence import gather
from tunesmith.prepare import prepare


def test_labels_that_are_likely_wrong_are_looked_for_where_a_closer_look_is_wanted(
    encoder: Path, tmp_path: Path
) -> None:
    rows = tiny.label_rows(400)
    rng = np.random.default_rng(2)
    for k in rng.choice(400, 40, replace=False):
        rows[k]["label"] = str(
            rng.choice([label for label in ("billing", "shipping", "login") if label != rows[k]["label"]])
        )
    values = tiny.recipe_values(encoder, tiny.write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path)
    found = {one.kind: one for one in gather.findings(prepare(recipefile.build(values)))}
    assert found["label-noise"].count >= 15
    values["evaluate"] = {"evidence": False}
    assert "label-noise" not in {one.kind for one in gather.findings(prepare(recipefile.build(values)))}
