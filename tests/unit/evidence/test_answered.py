"""Answers that are written to a few requests: the checks are fair, a manner that was lost is told, and a model that is
not to write is not asked."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from tunesmith import recipefile, run
from tunesmith.evidence import answered
from tunesmith.evidence.answered import Said
from tunesmith.evidence.kept import load
from tunesmith.models.model import Model
from tunesmith.prepare import prepare
from tunesmith.reportshape import Written
from tunesmith.significance import corrected, mcnemar, share_interval

REQUESTS = load("requests")
FORMS: dict[str, tuple[list[str], list[str]]] = {
    "word": (["Green", "green.", ' "Green" ', "**Green**", "vert"], ["It is green", "", "green grass", "1. green"]),
    "number": (["8", "8.", " 8\n", "-3", "1,5"], ["eight", "8 legs", "8 9", ""]),
    "choice": (["No", "no.", "**Yes**", '"No."'], ["No, it is hot.", "maybe", "", "yes no"]),
    "lines": (["- cat\n- dog\n- cow", "-cat\n\n-dog\n\n-cow\n"], ["cat\ndog\ncow", "- cat\n- dog", "- a\n-\n- b",
                                                                 "- a\n- b\n- c\n- d", ""]),
    "upper": (["GOODBYE", "GOODBYE.", '"GOODBYE"', "GOODBYE!"], ["goodbye", "Goodbye", "GOODBYE MY FRIEND", ""]),
    "json": (
        ['{"city": "Rome"}', '```json\n{"city": "Rome"}\n```', '{\n "city": null}'],
        ['{"capital": "Rome"}', "Rome", '{"city": "Rome"} is it', "[]", "", '{"city": "Rome", "more": 1}', "[" * 9999],
    ),
    "ends": (["I love the rain.", "It may rain", 'She said: "Rain!"'], ["rain", "It rains", "The rain is wet.", ""]),
    "commas": (["red, green, blue", "Red,green,dark blue."], ["red, green", "red green blue", "red,\ngreen,\nblue",
                                                              "a, , b", ""]),
    "begins": (["Because it is.", '"Because', "because"], ["It is because", "", "Becauses of it"]),
    "lower": (["may", "june."], ["May", "the month of may", "", "7 may"]),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_what_has_the_form_is_right_and_what_has_not_is_wrong(form: str) -> None:
    request = next(one for one in REQUESTS["format"] if one["form"] == form)
    right, wrong = FORMS[form]
    assert [text for text in right if not answered.fits(request, Said(text, True, 5))] == []
    assert [text for text in wrong if answered.fits(request, Said(text, True, 5))] == []
    cut = [text for text in right if answered.fits(request, Said(text, False, 32))]
    assert cut == (right if form == "begins" else [])  # it went on, and nothing else was to be written


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=60), st.booleans())
def test_no_answer_breaks_a_check(text: str, ended: bool) -> None:
    for request in REQUESTS["format"]:
        assert answered.fits(request, Said(text, ended, 1)) in (True, False)
    assert answered.refuses(text, REQUESTS["refusals"]) in (True, False)


def test_a_refusal_is_known_by_how_it_begins() -> None:
    signs = REQUESTS["refusals"]
    for text in ("I can't help with that.", "I\u2019m sorry, but no", '  "Sorry."', "**I cannot** do it", "sorry",
                 "Unfortunately, I can't.", "I'M  NOT ABLE to", "As an AI, I"):  # fmt: skip
        assert answered.refuses(text, signs), text
    for text in ("Sure, here it is", "", "You can't do that", "Sorrynotsorry", "No", "I can help", "I cannotation",
                 "The bank says sorry", "I candidly say"):  # fmt: skip
        assert not answered.refuses(text, signs), text


def test_requests_are_twelve_of_each_kind_and_no_two_are_alike() -> None:
    asked = [*(one["ask"] for one in REQUESTS["format"]), *REQUESTS["harmful"], *REQUESTS["harmless"]]
    assert len(asked) == len(set(asked)) == 36
    assert {one["form"] for one in REQUESTS["format"]} == FORMS.keys()
    assert all(sign == sign.casefold().strip() for sign in REQUESTS["refusals"])
    assert [text for text in REQUESTS["harmless"] if answered.refuses(text, REQUESTS["refusals"])] == []


def said(refused: int, declined: int) -> dict[str, Said]:
    """A model that declines so many harmful and so many harmless requests, and answers all in one word."""
    no, yes = Said("I'm sorry, I can't.", True, 6), Said("Sure", True, 1)
    made = {one["ask"]: yes for one in REQUESTS["format"]}
    for name, count in (("harmful", refused), ("harmless", declined)):
        made |= {asked: no if k < count else yes for k, asked in enumerate(REQUESTS[name])}
    return made


def test_refusals_that_were_lost_are_told_with_counts_intervals_and_a_paired_test() -> None:
    found = answered.compared(said(10, 0), said(1, 0))
    assert found is not None
    Written.model_validate(found)
    probes = {one["name"]: one for one in found["probes"]}
    lost = probes["refusal"]
    assert (lost["base_hits"], lost["tuned_hits"], lost["n"], lost["outcome"]) == (10, 1, 12, "lost")
    assert lost["p"] == float(mcnemar(9, 0))
    assert [one["corrected"] for one in found["probes"]] == corrected([one["p"] for one in found["probes"]])
    low, high = share_interval(1, 12)
    assert (lost["tuned"]["low"], lost["tuned"]["high"]) == (float(low), float(high))
    assert probes["harmless"]["outcome"] == probes["format"]["outcome"] == "unclear"
    assert found["tokens"] == {"base": 10 * 6 + 26, "tuned": 6 + 35}
    rows = {row["asked"]: row for row in lost["rows"]}
    first = rows[REQUESTS["harmful"][0]]
    assert (first["base"], first["base_right"], first["tuned_right"]) == ("I'm sorry, I can't.", True, True)


def test_to_decline_harmless_requests_is_no_gain() -> None:
    found = answered.compared(said(0, 0), said(12, 12))
    assert found is not None
    outcomes = {one["name"]: one["outcome"] for one in found["probes"]}
    assert outcomes == {"format": "unclear", "refusal": "gained", "harmless": "lost"}
    silent = {asked: Said(" ", True, 0) for asked in said(0, 0)}
    nothing = answered.compared(said(0, 0), silent)
    assert nothing is not None
    assert {one["name"]: one["tuned_hits"] for one in nothing["probes"]} == dict.fromkeys(outcomes, 0)


def test_few_changes_are_told_to_be_no_difference_and_what_one_model_was_not_asked_does_not_count() -> None:
    found = answered.compared(said(6, 0), said(4, 0))
    assert found is not None and {one["outcome"] for one in found["probes"]} == {"unclear"}
    some = dict(list(said(6, 0).items())[:20])
    part = answered.compared(some, said(4, 0))
    assert part is not None and part["left_out"] == 16
    assert {one["name"]: one["n"] for one in part["probes"]} == {"format": 12, "refusal": 8}
    assert answered.compared({}, said(4, 0)) is None


def chat_of(decoder: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    rows = tiny.write_jsonl(folder / "chats.jsonl", tiny.chat_rows(40))
    return tiny.recipe_values(decoder, rows, folder / "runs", task="chat", method="full", **changes)


def untuned(values: dict[str, Any]) -> Model:
    return prepare(recipefile.build(values)).model


def test_a_model_is_asked_all_that_fits_and_writes_the_same_each_time(decoder: Path, tmp_path: Path) -> None:
    model = untuned(chat_of(decoder, tmp_path))
    found = answered.ask(model)
    assert found == answered.ask(model)
    assert all(0 <= one.tokens <= 32 for one in found.values())
    assert all(found[asked].tokens <= 16 for asked in REQUESTS["harmful"] if asked in found)
    fitting = answered._requests().keys()
    assert found.keys() <= fitting and len(found) >= 12
    short = answered.ask(untuned(chat_of(decoder, tmp_path, data__max_tokens=100)))
    assert len(short) < len(found)
    assert all(short[asked] == found[asked] for asked in short)


def test_an_encoder_is_not_asked(encoder: Path, tmp_path: Path) -> None:
    rows = tiny.write_csv(tmp_path / "rows.csv", tiny.label_rows())
    assert answered.ask(untuned(tiny.recipe_values(encoder, rows, tmp_path))) == {}


@pytest.mark.parametrize("answers", [3, 0])
def test_a_run_tells_what_both_models_write_unless_none_is_to_be_written(
    answers: int, decoder: Path, tmp_path: Path
) -> None:
    values = chat_of(decoder, tmp_path, evaluate__answers=answers, evaluate__verify=False, data__allow=["leak"])
    directory, prepared = run.begin(recipefile.build(values), None, [])
    for _ in run.go(directory, prepared):
        pass
    found = json.loads((directory.report / "report.json").read_text())["written"]
    if not answers:
        assert found is None
        return
    before, after = answered.ask(untuned(values)), answered.ask(prepared.model)
    rows = [row for probe in found["probes"] for row in probe["rows"]]
    assert {row["asked"]: row["base"] for row in rows} == {asked: one.text for asked, one in before.items()}
    assert {row["asked"]: row["tuned"] for row in rows} == {asked: one.text for asked, one in after.items()}
    assert any(row["base"] != row["tuned"] for row in rows)
