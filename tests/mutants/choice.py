"""Defects of choices: which rows are learned and scored, and by what the best checkpoint is chosen."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_CHOICE = "tests/invariants/test_choice.py"
_IN_DIAGNOSIS = "tests/runs/test_diagnosis.py"
_IN_SPLIT = "tests/unit/data/test_split.py"

_BEST = "The best checkpoint is the one with the best value of one declared metric, in its declared direction."
_TEST = "Test rows choose nothing: not the checkpoint, not a threshold."
_UNTOUCHED = "No command removes or changes test or validation rows."
_SIDES = "Equal rows, and rows of a group, are on one side of a split; rows added later move none."
_LEAKS = "Rows that stand on two sides of a split are found, and stop training where they are many."

MUTANTS = (
    Mutant(
        name="sum-of-all-metrics",
        trap="1.30",
        promise=_BEST,
        file="attempt.py",
        edits=(
            (
                "    value = updated.scores[metric.name]\n",
                "    value = sum(updated.scores.values())\n",
            ),
        ),
        tests=(f"{_IN_CHOICE}::test_the_best_checkpoint_is_that_of_the_declared_metric_in_its_direction",),
    ),
    Mutant(
        name="lower-is-better",
        trap="1.30",
        promise=_BEST,
        file="attempt.py",
        edits=(
            (
                "    return value > best if higher else value < best\n",
                "    return value < best\n",
            ),
        ),
        tests=(f"{_IN_CHOICE}::test_the_best_checkpoint_is_that_of_the_declared_metric_in_its_direction",),
    ),
    Mutant(
        name="last-for-best",
        trap="1.30",
        promise=_BEST,
        file="train/checkpoint.py",
        edits=(
            (
                "            trained, beside = read(folder)\n",
                '            trained, beside = read(run.checkpoints / "last")\n',
            ),
        ),
        tests=(f"{_IN_CHOICE}::test_what_is_saved_and_scored_is_the_best_checkpoint",),
    ),
    Mutant(
        name="checkpoint-chosen-on-test",
        trap="1.31",
        promise=_TEST,
        file="attempt.py",
        edits=(
            (
                'splits.rows["validation"], answers=0).measured)',
                "splits.rows[state.prepared.final_split], answers=0).measured)",
            ),
        ),
        tests=(f"{_IN_CHOICE}::test_other_test_rows_change_neither_the_looks_nor_the_choice",),
    ),
    Mutant(
        name="threshold-chosen-on-test",
        trap="1.31",
        promise=_TEST,
        file="attempt.py",
        edits=(
            (
                'settle(model, prepared.task, prepared.splits.rows["validation"])\n',
                "settle(model, prepared.task, prepared.splits.rows[prepared.final_split])\n",
            ),
        ),
        tests=(f"{_IN_CHOICE}::test_other_test_rows_change_neither_the_looks_nor_the_choice",),
    ),
    Mutant(
        name="copies-removed-from-test",
        trap="1.32",
        promise=_UNTOUCHED,
        file="mend.py",
        edits=(
            (
                "    gone = {k for finding in findings for k in finding.remove}\n"
                "    left = Counter(_key(row) for row in (train[k] for k in sorted(gone)))\n",
                "    gone = {k for finding in findings for k in finding.remove}\n"
                "    both = [row for part in found.rows.values() for row in part]\n"
                "    told = {content(train[k]) for k in gone}\n"
                "    left = Counter(_key(row) for row in both if content(row) in told)\n",
            ),
        ),
        tests=(f"{_IN_DIAGNOSIS}::test_what_is_mended_has_the_same_split_and_nothing_left_to_mend",),
    ),
    Mutant(
        name="copies-on-two-sides",
        trap="",
        promise=_SIDES,
        file="data/content.py",
        edits=(
            (
                '    return digest(together(row), "split") / 2**64',
                '    return digest(f"{together(row)}{row.line}", "split") / 2**64',
            ),
        ),
        tests=(f"{_IN_SPLIT}::test_exact_duplicates_are_on_one_side_whatever_their_label",),
    ),
    Mutant(
        name="label-decides-the-side",
        trap="",
        promise=_SIDES,
        file="data/content.py",
        edits=(
            (
                'if not key.startswith(("label", "beside")) and',
                'if not key.startswith("beside") and',
            ),
        ),
        tests=(f"{_IN_SPLIT}::test_exact_duplicates_are_on_one_side_whatever_their_label",),
    ),
    Mutant(
        name="group-is-torn",
        trap="",
        promise=_SIDES,
        file="data/content.py",
        edits=(
            (
                "    return content(row) if group is None else",
                "    return content(row) if group is not None else",
            ),
        ),
        tests=(f"{_IN_SPLIT}::test_a_group_is_on_one_side_and_new_rows_of_it_follow",),
    ),
    Mutant(
        name="later-rows-move-others",
        trap="",
        promise=_SIDES,
        file="data/split.py",
        edits=(
            (
                "        side[(place >= low) & (place < high)] = names.index(name)\n",
                "        rank = np.argsort(np.argsort(place)) / len(place)\n"
                "        side[(rank >= low) & (rank < high)] = names.index(name)\n",
            ),
        ),
        tests=(f"{_IN_SPLIT}::test_rows_added_later_move_no_old_row",),
    ),
    Mutant(
        name="a-leak-missed",
        trap="",
        promise=_LEAKS,
        file="doctor/checks/copies.py",
        edits=(
            (
                "np.isin(sums[second], sums[first]))[:_MOST].tolist()]",
                "np.isin(sums[second], sums[first]))[1:_MOST].tolist()]",
            ),
        ),
        tests=(f"{_IN_DIAGNOSIS}::test_test_rows_in_train_stop_training_from_five_percent_on_and_nothing_is_written",),
    ),
    Mutant(
        name="leaks-never-stop",
        trap="",
        promise=_LEAKS,
        file="doctor/checks/copies.py",
        edits=(
            (
                'second == "test" and len(shared) > _MOST_LEAKED * of',
                'second == "test" and len(shared) > of',
            ),
        ),
        tests=(f"{_IN_DIAGNOSIS}::test_test_rows_in_train_stop_training_from_five_percent_on_and_nothing_is_written",),
    ),
)
