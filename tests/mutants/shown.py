"""Defects of what is shown: the report page and the card of a saved model."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_PAGE = "tests/unit/report/test_page.py"
_IN_CARD = "tests/unit/report/test_model_card.py"

_MARKUP = "Nothing that rows hold is ever markup of a page, nor moves or hides what stands around it."
_DRAWN = "Every dot and interval of a chart stands where its number says."
_NONE = "What is no number is shown as a dash and is not drawn."
_WHOLE = "A page leaves out what is not known, and nothing that is."
_CARD = "A model's card claims no model of a hub that it was not made from, and tells no place of the machine."

MUTANTS = (
    Mutant(
        name="texts-of-rows-are-markup",
        trap="",
        promise=_MARKUP,
        file="report/pagetext.py",
        edits=(("autoescape=True", "autoescape=False"),),
        tests=(f"{_IN_PAGE}::test_what_rows_hold_is_never_markup[classification]",),
    ),
    Mutant(
        name="marks-of-direction-pass",
        trap="",
        promise=_MARKUP,
        file="report/pagetext.py",
        edits=(('("Cc", "Cf", "Cs")', '("Cc", "Cs")'),),
        tests=(f"{_IN_PAGE}::test_what_rows_hold_is_never_markup[chat]",),
    ),
    Mutant(
        name="names-in-charts-are-markup",
        trap="",
        promise=_MARKUP,
        file="report/svg.py",
        edits=(("html.escape(visible(brief(said, longest)))", "visible(brief(said, longest))"),),
        tests=(f"{_IN_PAGE}::test_what_rows_hold_is_never_markup[classification]",),
    ),
    Mutant(
        name="intervals-end-at-their-value",
        trap="",
        promise=_DRAWN,
        file="report/svg.py",
        edits=(('f"{along.at(high)}%", _STRIP / 2, "interval"', 'f"{along.at(value)}%", _STRIP / 2, "interval"'),),
        tests=(f"{_IN_PAGE}::test_dots_stand_where_their_numbers_say",),
    ),
    Mutant(
        name="curves-lose-their-peaks",
        trap="",
        promise=_DRAWN,
        file="report/charts.py",
        edits=(("max(bucket, key=lambda point: point[1])", "bucket[-1]"),),
        tests=(f"{_IN_PAGE}::test_a_thinned_curve_keeps_its_extremes_and_its_order",),
    ),
    Mutant(
        name="no-number-is-zero",
        trap="",
        promise=_NONE,
        file="report/tables.py",
        edits=(('        return "-"\n    value =', "        return number(0.0)\n    value ="),),
        tests=(
            f"{_IN_PAGE}::test_numbers_that_are_none_are_a_dash_and_are_not_drawn",
            f"{_IN_CARD}::test_scores_that_are_no_numbers_are_not_in_the_metadata_and_a_dash_in_the_card",
        ),
    ),
    Mutant(
        name="groups-beyond-the-first-are-lost",
        trap="",
        promise=_WHOLE,
        file="report/sections.py",
        edits=(('"rest": lines[_GROUPS:]', '"rest": []'),),
        tests=(f"{_IN_PAGE}::test_groups_beyond_the_first_twenty_are_folded_and_none_is_lost",),
    ),
    Mutant(
        name="headings-of-nothing",
        trap="",
        promise=_WHOLE,
        file="report/page.py",
        edits=((" if made[name]}", "}"),),
        tests=(f"{_IN_PAGE}::test_the_page_of_every_kind_of_report_is_whole_and_fetches_nothing[slim]",),
    ),
    Mutant(
        name="a-folder-is-a-model-of-the-hub",
        trap="",
        promise=_CARD,
        file="report/modelcard.py",
        edits=((" and not os.path.isdir(name)", ""),),
        tests=(f"{_IN_CARD}::test_a_folder_of_the_users_is_not_taken_for_a_model_of_the_hub",),
    ),
    Mutant(
        name="the-card-tells-where-the-run-lay",
        trap="",
        promise=_CARD,
        file="report/modelcard.py",
        edits=(("# {_plain(Path(report['run']).name)}", "# {_plain(report['run'])}"),),
        tests=(f"{_IN_CARD}::test_nothing_of_the_rows_is_markup_and_no_place_of_the_machine_is_told",),
    ),
)
