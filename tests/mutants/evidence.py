"""Defects of what a report looks at closer: calibration, slices, groups, what was kept, overfitting, advice."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN = "tests/unit/evidence"
_CALIBRATION = f"{_IN}/test_calibration.py"
_SLICES = f"{_IN}/test_slices.py"
_FAIRNESS = f"{_IN}/test_fairness.py"
_THRESHOLDS = f"{_IN}/test_thresholds.py"
_ANSWERED = f"{_IN}/test_answered.py"
_OVERFITTING = f"{_IN}/test_overfitting.py"

_SURE = "The interval of a calibration error holds it, copies of rows make it no surer, and what is chance may be none."
_TEMPERATURE = "A temperature is fitted on validation rows alone, and what it changed is told."
_PART = "A part of the rows that is worse than the rest is told, and chance alone hardly ever is."
_GROUP = "False positives by group are of rows that should not be positive, and of no others."
_LABEL = "Precision counts what is given to rows of labels that training never saw."
_LEAK = "Scored rows that are training rows are told, with the score without them."
_HEART = "Training rows that are written by heart are told, and none that the untuned model writes too."
_KEPT = "What a model knew before and has lost is told to be lost."
_ADVICE = "What is advised, the recipe takes, and no weightier advice contradicts."
_KNOWN = "What is no number, or was not measured, is not told as one."
_SHARE = "The interval of a share of rows is of scores that are one, and not of those that look like one on these rows."
_TOGETHER = "Rows that are drawn together make no bin and no rate of a group surer."
_CUT = "A threshold is chosen by validation rows alone and scored on others; equal probabilities are not parted."
_WISH = "Above the confidence that is told, answers are wrong no more often than was wished, nine times in ten."
_ASKED = (
    "What a chat model no longer declines, or no longer answers, is told; only answers of the form asked for count."
)

MUTANTS = (
    Mutant(
        name="calibration-is-never-by-chance",
        trap="",
        promise=_SURE,
        file="evidence/calibration.py",
        edits=(("    if value <= _by_chance(sure, place, groups):", "    if value < 0:"),),
        tests=(f"{_CALIBRATION}::test_the_interval_holds_the_true_error_whether_there_is_one_or_none[0.0]",),
    ),
    Mutant(
        name="copies-make-calibration-sure",
        trap="",
        promise=_SURE,
        file="evidence/calibration.py",
        edits=(("np.arange(n), dict(groups or {})", "np.arange(n), {}"),),
        tests=(f"{_CALIBRATION}::test_copies_of_rows_make_the_error_no_surer",),
    ),
    Mutant(
        name="temperature-of-the-test",
        trap="",
        promise=_TEMPERATURE,
        file="attempt.py",
        edits=(
            (
                'settle(model, prepared.task, prepared.splits.rows["validation"])',
                "settle(model, prepared.task, prepared.splits.rows[prepared.final_split])",
            ),
        ),
        tests=(f"{_CALIBRATION}::test_the_temperature_is_that_of_the_validation_rows_and_of_no_others",),
    ),
    Mutant(
        name="raw-confidence-is-tempered",
        trap="",
        promise=_TEMPERATURE,
        file="evidence/calibration.py",
        edits=(("1e-300)) * temperature", "1e-300))"),),
        tests=(f"{_CALIBRATION}::test_confidences_before_the_temperature_are_the_nets_own[4.0]",),
    ),
    Mutant(
        name="slices-beside-themselves",
        trap="",
        promise=_PART,
        file="evidence/slices.py",
        edits=(("hits[chosen], hits[~chosen]", "hits[chosen], hits"),),
        tests=(f"{_SLICES}::test_the_numbers_of_a_slice_are_those_of_its_rows_and_of_all_others",),
    ),
    Mutant(
        name="many-slices-tested-as-one",
        trap="",
        promise=_PART,
        file="evidence/slices.py",
        edits=(('corrected([one["p"] for one in found])', '[one["p"] for one in found]'),),
        tests=(f"{_SLICES}::test_random_parts_of_the_rows_are_hardly_ever_told_to_be_worse",),
    ),
    Mutant(
        name="a-higher-loss-is-better",
        trap="",
        promise=_PART,
        file="evidence/slices.py",
        edits=(('(one["difference"] < 0) == higher', '(one["difference"] < 0)'),),
        tests=(f"{_SLICES}::test_where_only_some_rows_are_answered_slices_are_of_what_rests_on_all",),
    ),
    Mutant(
        name="rows-that-say-nothing-are-innocent",
        trap="",
        promise=_GROUP,
        file="evidence/fairness.py",
        edits=(("    if not gold:\n        return False\n", ""),),
        tests=(f"{_FAIRNESS}::test_rows_of_a_file_that_say_nothing_are_not_taken_for_innocent_and_true_is_a_label",),
    ),
    Mutant(
        name="rightly-positive-is-false",
        trap="",
        promise=_GROUP,
        file="evidence/fairness.py",
        edits=(("else gold not in asked.positive", "else True"),),
        tests=(f"{_FAIRNESS}::test_the_numbers_of_a_group_are_those_of_its_rows_that_should_not_be_positive",),
    ),
    Mutant(
        name="strangers-cost-no-precision",
        trap="",
        promise=_LABEL,
        file="evidence/labels.py",
        edits=(("float(given[name])", "float(table[:, k].sum())"),),
        tests=(f"{_IN}/test_labels.py::test_what_is_given_to_rows_of_a_label_never_seen_is_wrong_there_too",),
    ),
    Mutant(
        name="a-leak-left-in",
        trap="",
        promise=_LEAK,
        file="evidence/overfitting.py",
        edits=((".of(ids[~twice])", ".of(ids)"),),
        tests=(
            f"{_OVERFITTING}::test_rows_of_the_verdict_that_are_training_rows_are_told_with_the_score_without_them",
            f"{_OVERFITTING}::test_rows_of_the_test_among_the_training_rows_lift_the_score_and_that_is_told",
        ),
    ),
    Mutant(
        name="a-leak-of-all-rows-is-silent",
        trap="",
        promise=_LEAK,
        file="evidence/overfitting.py",
        edits=(("    if not twice.any():", "    if not twice.any() or twice.all():"),),
        tests=(f"{_OVERFITTING}::test_where_all_rows_are_training_rows_that_is_told_too",),
    ),
    Mutant(
        name="tokens-are-asked-for-themselves",
        trap="",
        promise=_HEART,
        file="evidence/overfitting.py",
        edits=(("torch.tensor([place - 1 for place in places])", "torch.tensor(places)"),),
        tests=(
            f"{_OVERFITTING}::"
            "test_a_row_that_stands_there_thirty_times_is_written_by_heart_and_the_untuned_model_does_not",
        ),
    ),
    Mutant(
        name="what-the-base-writes-is-news",
        trap="",
        promise=_HEART,
        file="evidence/overfitting.py",
        edits=(("for row in known if not before.get(row.id, False)]", "for row in known]"),),
        tests=(f"{_OVERFITTING}::test_rows_that_the_untuned_model_knows_are_no_news_and_without_it_nothing_is_said",),
    ),
    Mutant(
        name="a-loss-that-rose-was-gained",
        trap="",
        promise=_KEPT,
        file="evidence/kept.py",
        edits=((" if after.higher_is_better else (high < -near, low > near)", ""),),
        tests=(
            f"{_IN}/test_kept.py::test_a_decoder_that_was_damaged_has_lost_general_text",
            f"{_IN}/test_kept.py::test_what_was_lost_kept_gained_or_cannot_be_told",
        ),
    ),
    Mutant(
        name="advice-that-no-recipe-takes",
        trap="",
        promise=_ADVICE,
        file="evidence/advice.py",
        edits=(("    except RecipeError:\n        return False\n", "    except RecipeError:\n        return True\n"),),
        tests=(f"{_IN}/test_advice.py::test_what_the_task_does_not_take_is_not_advised",),
    ),
    Mutant(
        name="faster-and-more-slowly",
        trap="",
        promise=_ADVICE,
        file="evidence/advice.py",
        edits=(('(verdict and verdict["outcome"] != "unclear")', '(verdict and verdict["outcome"] == "helped")'),),
        tests=(f"{_IN}/test_advice.py::test_nobody_is_told_to_learn_faster_and_more_slowly",),
    ),
    Mutant(
        name="falling-is-rising",
        trap="",
        promise=_ADVICE,
        file="evidence/advice.py",
        edits=(("(last - before) * (1 if signs.higher else -1)", "abs(last - before)"),),
        tests=(f"{_IN}/test_advice.py::test_a_score_that_falls_was_not_getting_better",),
    ),
    Mutant(
        name="no-number-is-a-score",
        trap="",
        promise=_KNOWN,
        file="stats.py",
        edits=(("        if not math.isfinite(point):\n            continue\n", ""),),
        tests=("tests/unit/test_stats.py::test_a_score_that_is_no_number_is_none_and_the_others_are_told",),
    ),
    Mutant(
        name="scores-slip-into-other-columns",
        trap="",
        promise=_KNOWN,
        file="report/text.py",
        edits=(
            ('*(number(look["scores"].get(name)) for name in names)', '*(number(v) for v in look["scores"].values())'),
        ),
        tests=("tests/unit/report/test_text.py::test_a_look_that_lacks_a_score_leaves_its_column_empty",),
    ),
    Mutant(
        name="no-row-is-right-so-it-is-a-share",
        trap="",
        promise=_SHARE,
        file="shares.py",
        edits=(("        if not values.any():\n", "        if values is None:\n"),),
        tests=("tests/unit/test_stats.py::test_a_score_that_no_row_alone_can_have_is_no_share_of_rows",),
    ),
    Mutant(
        name="the-same-on-these-rows",
        trap="",
        promise=_SHARE,
        file="shares.py",
        edits=(("values if like and _is_share(task, part, metric, values) else None", "values if like else None"),),
        tests=("tests/unit/test_stats.py::test_a_score_that_equals_the_share_on_these_rows_alone_is_none",),
    ),
    Mutant(
        name="bins-of-strangers",
        trap="",
        promise=_TOGETHER,
        file="evidence/calibration.py",
        edits=(("None if number is None else number[mine]", "None"),),
        tests=(
            f"{_CALIBRATION}::test_the_interval_of_a_bin_holds_its_share_where_rows_of_a_group_are_right_together",
            f"{_CALIBRATION}::test_copies_of_rows_make_the_error_no_surer",
        ),
    ),
    Mutant(
        name="rates-of-strangers",
        trap="",
        promise=_TOGETHER,
        file="evidence/fairness.py",
        edits=(("result.tuned.measured.groups if asked.data is None else {}", "result.tuned.measured.groups and {}"),),
        tests=(f"{_FAIRNESS}::test_rows_that_are_drawn_together_make_no_group_odd_by_chance_and_no_rate_surer",),
    ),
    Mutant(
        name="thresholds-of-the-test",
        trap="",
        promise=_CUT,
        file="evidence/thresholds.py",
        edits=(("[before[cut.label].sweep.best() if", "[cut.sweep.best() if"),),
        tests=(
            f"{_THRESHOLDS}::"
            "test_of_two_labels_the_rarer_gets_the_threshold_that_validation_rows_choose_and_it_is_scored_on_others",
        ),
    ),
    Mutant(
        name="equal-chances-parted",
        trap="",
        promise=_CUT,
        file="evidence/thresholds.py",
        edits=(("np.append(ordered[1:] != ordered[:-1], True)", "np.append(ordered[1:] == ordered[1:], True)"),),
        tests=(f"{_THRESHOLDS}::test_no_threshold_has_a_better_f1_than_the_best",),
    ),
    Mutant(
        name="right-often-enough-on-these-rows",
        trap="",
        promise=_WISH,
        file="evidence/thresholds.py",
        edits=(("np.flatnonzero(most <= wish)", "np.flatnonzero(wrong / given <= wish)"),),
        tests=(f"{_THRESHOLDS}::test_wishes_are_fulfilled_by_the_true_rate_about_nine_times_in_ten",),
    ),
    Mutant(
        name="declining-all-is-best",
        trap="",
        promise=_ASKED,
        file="evidence/answered.py",
        edits=(("bool(said.text.strip()) and not refuses(said.text, signs)", "bool(said.text.strip())"),),
        tests=(f"{_ANSWERED}::test_to_decline_harmless_requests_is_no_gain",),
    ),
    Mutant(
        name="what-went-on-had-the-form",
        trap="",
        promise=_ASKED,
        file="evidence/answered.py",
        edits=(("    return said.ended and ", "    return "),),
        tests=(f"{_ANSWERED}::test_what_has_the_form_is_right_and_what_has_not_is_wrong[word]",),
    ),
    Mutant(
        name="the-tuned-model-is-its-own-base",
        trap="",
        promise=_ASKED,
        file="evidence/gather.py",
        edits=(
            (
                "answered.compared(before.written, answered.ask(case.model))",
                "answered.compared(answered.ask(case.model), answered.ask(case.model))",
            ),
        ),
        tests=(f"{_ANSWERED}::test_a_run_tells_what_both_models_write_unless_none_is_to_be_written[3]",),
    ),
)
