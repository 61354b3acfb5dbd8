"""What every system was worth on every row, as a file: read again it is the same, and a torn one is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load, save

import judged
from tunesmith.contracts import Row
from tunesmith.data.content import GROUP
from tunesmith.data.rows import contents
from tunesmith.errors import RunError
from tunesmith.evidence.case import Case
from tunesmith.report import measures


def some(**beside: list[int]) -> Case:
    gold = ["a", "b", "c"] * 20
    rng = np.random.default_rng(0)
    rows = judged.labelled_rows(gold, **beside)
    case = judged.of_labels(gold, judged.mostly(gold, 0.7, rng), judged.mostly(gold, 0.5, rng), rows=rows)
    case.result.baselines_judged["tf/idf"] = case.result.tuned
    return case


@pytest.mark.parametrize("beside", [{}, {GROUP: [k // 2 for k in range(60)]}])
def test_what_was_packed_is_unpacked_the_same(beside: dict[str, list[int]], tmp_path: Path) -> None:
    case = some(**beside)
    path = tmp_path / "measures.safetensors"
    path.write_bytes(measures.pack(case.task, case.rows, case.result))
    kept = measures.unpack(path)
    assert np.array_equal(kept.content, contents(case.rows))
    assert set(kept.systems) == {"tuned", "base", "tf/idf"}
    assert case.result.base_judged is not None
    for name, was in (("tuned", case.result.tuned), ("base", case.result.base_judged)):
        found = kept.systems[name]
        assert set(found.values) == set(was.measured.values) - set(case.task.each)
        assert found.groups == was.measured.groups and bool(found.groups) == bool(beside)
        for measure, values in found.values.items():
            assert np.array_equal(values, was.measured.values[measure])
            assert np.array_equal(found.rows[measure], was.measured.rows[measure])


@settings(deadline=None, max_examples=50)
@given(
    arrays(
        np.float64, st.tuples(st.integers(0, 6), st.integers(1, 5)), elements=st.sampled_from([0.0, 1.0, -2.5, np.nan])
    )
)
def test_any_table_is_packed_and_unpacked_the_same(table: np.ndarray) -> None:
    assert np.array_equal(measures._unpacked(measures._packed(table)), table, equal_nan=True)


def test_a_table_of_many_labels_takes_little_room() -> None:
    table = np.eye(77)[np.random.default_rng(0).integers(0, 77, 2000)]
    assert sum(part.nbytes for part in measures._packed(table).values()) < table.nbytes / 30


def test_a_missing_and_a_torn_file_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "measures.safetensors"
    with pytest.raises(RunError, match="has no measures of single rows") as caught:
        measures.unpack(path)
    assert (caught.value.where, caught.value.hint) == (str(path), "train it again")
    case = some()
    whole = measures.pack(case.task, case.rows, case.result)
    tensors = load(whole)
    torn = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "no content": save({name: part for name, part in tensors.items() if name != "content"}),
        "no rows": save({name: part for name, part in tensors.items() if name != "tuned/gold/rows"}),
        "no values": save({name: part for name, part in tensors.items() if name != "tuned/loss/values"}),
        "no shape": save({name: part for name, part in tensors.items() if name != "tuned/gold/shape"}),
        "a name of nothing": save(tensors | {"odd": np.zeros(1)}),
        "beyond the table": save(tensors | {"tuned/gold/at": tensors["tuned/gold/at"] + 10**6}),
        "a negative shape": save(tensors | {"tuned/gold/shape": np.array([-1, 4])}),
        "rows that are too few": save(tensors | {"tuned/gold/rows": np.arange(3)}),
    }
    for name, written in torn.items():
        path.write_bytes(written)
        with pytest.raises(RunError, match="the measures of the run are torn") as caught:
            measures.unpack(path)
        assert caught.value.where == str(path), name


def test_rows_that_differ_in_their_label_alone_have_one_content() -> None:
    rows = [Row(k, {"text": "t", "label": label, "label_type": "str"}, "f", k) for k, label in enumerate("ab")]
    assert len(set(contents(rows).tolist())) == 1
