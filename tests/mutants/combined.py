"""Defects of one model that is made of several trainings: means that are none, and scores that are too good."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_SOUP = "tests/unit/models/test_soup.py"
_IN_COMBINE = "tests/runs/test_combine.py"

_MEAN = "Averaged weights are the exact mean of those of the trainings; of adapters, of what each adds to the weights."
_ANSWERS = "An ensemble's probabilities are the mean of its members', each as that member answers alone."
_UNSEEN = "A combination of trainings is never scored on a row that one of them learned from or was chosen by."
_BESIDE = "A combination is held against the mean of its members' scores, by a paired test that is seldom wrong."
_WHOLE = "A combination can be moved, and is refused where a net in it is another than it was made of."

MUTANTS = (
    Mutant(
        name="the-mean-of-a-and-the-mean-of-b",
        trap="",
        promise=_MEAN,
        file="models/soup.py",
        edits=(('            if name.rpartition(".")[2] in _ENDS:\n', "            if name in _ENDS:\n"),),
        tests=(
            f"{_IN_SOUP}::test_adapters_end_to_end_are_the_mean_of_what_each_adds_to_the_weights",
            f"{_IN_COMBINE}::test_the_saved_mean_opens_elsewhere_and_answers_the_same[folds]",
        ),
    ),
    Mutant(
        name="adapters-summed-not-averaged",
        trap="",
        promise=_MEAN,
        file="methods/lora.py",
        edits=(("scale = wider / count if self", "scale = wider if self"),),
        tests=(f"{_IN_SOUP}::test_adapters_end_to_end_are_the_mean_of_what_each_adds_to_the_weights",),
    ),
    Mutant(
        name="a-sum-for-a-mean",
        trap="",
        promise=_MEAN,
        file="models/soup.py",
        edits=(("found[name] = (total / self.count)", "found[name] = (total / 2)"),),
        tests=(
            f"{_IN_SOUP}::test_a_mean_is_the_true_mean_rounded_once",
            f"{_IN_COMBINE}::test_averaged_weights_are_the_mean_of_what_the_members_learned",
        ),
    ),
    Mutant(
        name="members-without-their-temperatures",
        trap="",
        promise=_ANSWERS,
        file="tasks/text_classification.py",
        edits=(("[calibrating.tempered(logs, task.temperature) for", "[calibrating.tempered(logs, 1.0) for"),),
        tests=(f"{_IN_COMBINE}::test_an_ensembles_probabilities_are_the_mean_of_its_members_each_as_it_answers",),
    ),
    Mutant(
        name="the-first-members-temperature",
        trap="",
        promise=_ANSWERS,
        file="tasks/text_classification.py",
        edits=(("        return replace(self, temperature=1.0)\n", "        return self\n"),),
        tests=(
            f"{_IN_COMBINE}::test_an_ensembles_probabilities_are_the_mean_of_its_members_each_as_it_answers",
            f"{_IN_COMBINE}::test_a_temperature_is_fitted_anew_to_averaged_weights_and_left_out_where_no_row_tells",
        ),
    ),
    Mutant(
        name="folds-scored-on-rows-of-other-folds",
        trap="",
        promise=_UNSEEN,
        file="combinedscores.py",
        edits=(("    if len(found) > 1:  #", "    if not found:  #"),),
        tests=(f"{_IN_COMBINE}::test_over_folds_no_row_that_a_member_has_seen_scores_it",),
    ),
    Mutant(
        name="new-rows-of-which-some-are-old",
        trap="",
        promise=_UNSEEN,
        file="combined.py",
        edits=(("np.flatnonzero(~np.isin(contents(rows), seen_by(self.run.path)))", "np.arange(len(rows))"),),
        tests=(f"{_IN_COMBINE}::test_over_folds_no_row_that_a_member_has_seen_scores_it",),
    ),
    Mutant(
        name="the-mean-member-by-its-counts",
        trap="",
        promise=_BESIDE,
        file="stats.py",
        edits=(
            (
                "float(np.mean([reduced(task, member, name) for member in summed]))",
                "float(task.reduce({n: np.mean([m.values[n].sum(0) for m in summed], 0) for n in tuned.rows})[name])",
            ),
        ),
        tests=("tests/unit/test_stats.py::test_the_mean_of_scores_is_not_the_score_of_what_all_said_together",),
    ),
    Mutant(
        name="a-net-that-was-exchanged",
        trap="",
        promise=_WHOLE,
        file="combined.py",
        edits=(('        if sum_of(RunDir(place)) != net["sha256"]:\n', "        if not sum_of(RunDir(place)):\n"),),
        tests=(f"{_IN_COMBINE}::test_a_damaged_combination_and_one_that_leads_out_of_its_folder_are_refused",),
    ),
)
