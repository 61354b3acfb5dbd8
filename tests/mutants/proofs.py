"""Defects of what proves a run (`verify`, its short form in `train`, `reproduce`), and of what is told of updates."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_VERIFY = "tests/runs/test_verify.py"
_IN_UPDATES = "tests/faults/test_odd_updates.py"

_PROVED = "Before a run ends, what it saved is opened as others would, and must give the tuned model's outputs."
_VERIFIED = "`verify` says of each promise whether it holds for this run, and where one does not the exit code is 1."
_AGAIN = "`reproduce` makes a run again and tells every bit that differs, and what has changed since."
_LEFT_OUT = (
    "Where the recipe says so, an update that is not finite is left out, counted and named, and touches nothing."
)
_SPIKE = "A loss that jumps is told with its rows."

MUTANTS = (
    Mutant(
        name="a-look-that-stops-nothing",
        trap="",
        promise=_PROVED,
        file="commands.py",
        edits=(
            (
                '    failed = any(check["holds"] is False for check in report["verified"])\n',
                "    failed = False\n",
            ),
        ),
        tests=(f"{_IN_VERIFY}::test_training_ends_with_exit_code_1_where_the_saved_model_is_not_the_tuned_one",),
    ),
    Mutant(
        name="any-output-is-near",
        trap="",
        promise=_VERIFIED,
        file="promises.py",
        edits=(("TOLERANCE = 1e-4\n", "TOLERANCE = 1e4\n"),),
        tests=(
            f"{_IN_VERIFY}::test_a_saved_tensor_that_differs_is_found",
            f"{_IN_VERIFY}::test_scores_that_are_not_the_models_are_found",
        ),
    ),
    Mutant(
        name="read-again-as-it-was-learned",
        trap="1.25",
        promise=_VERIFIED,
        file="verify.py",
        edits=(("        yield made, row\n", "        yield row, row\n"),),
        tests=(f"{_IN_VERIFY}::test_a_template_that_use_renders_otherwise_is_found",),
    ),
    Mutant(
        name="losses-held-against-themselves",
        trap="",
        promise=_VERIFIED,
        file="verify.py",
        edits=(("    gap = difference(first, losses)\n", "    gap = difference(losses, losses)\n"),),
        tests=(f"{_IN_VERIFY}::test_losses_that_another_run_wrote_are_found",),
    ),
    Mutant(
        name="shapes-that-differ-are-near",
        trap="",
        promise=_VERIFIED,
        file="promises.py",
        edits=(
            (
                '        if one.shape != two.shape:\n            return float("inf")\n',
                "        if one.shape != two.shape:\n            return 0.0\n",
            ),
        ),
        tests=(f"{_IN_VERIFY}::test_numbers_that_differ_and_values_of_another_shape_are_told_apart",),
    ),
    Mutant(
        name="nearly-the-same-weights",
        trap="",
        promise=_AGAIN,
        file="reproduce.py",
        edits=(("not torch.equal(first[key], second[key])", "not torch.allclose(first[key], second[key], atol=1e-4)"),),
        tests=(f"{_IN_VERIFY}::test_what_came_out_otherwise_is_named[weights]",),
    ),
    Mutant(
        name="intervals-not-compared",
        trap="",
        promise=_AGAIN,
        file="reproduce.py",
        edits=(
            (
                'for key in ("scores", "base", "baselines", "verdict"))',
                'for key in ("verdict",))',
            ),
        ),
        tests=(f"{_IN_VERIFY}::test_what_came_out_otherwise_is_named[scores]",),
    ),
    Mutant(
        name="other-code-is-not-said",
        trap="",
        promise=_AGAIN,
        file="reproduce.py",
        edits=(
            (
                '        ("code", {"tunesmith": receipt.get("code_sha256")}, {"tunesmith": of_code()}),\n',
                "",
            ),
        ),
        tests=(f"{_IN_VERIFY}::test_what_has_changed_since_is_named",),
    ),
    Mutant(
        name="left-out-without-a-count",
        trap="2.7",
        promise=_LEFT_OUT,
        file="attempt.py",
        edits=(("left_out=before.left_out + updated.left_out", "left_out=before.left_out"),),
        tests=(f"{_IN_UPDATES}::test_an_update_that_is_not_finite_stops_the_run_unless_it_is_to_be_left_out",),
    ),
    Mutant(
        name="averaged-though-left-out",
        trap="2.7",
        promise=_LEFT_OUT,
        file="train/loop.py",
        edits=(("        if not lost:\n            member.follow(step)\n", "        member.follow(step)\n"),),
        tests=(f"{_IN_UPDATES}::test_an_average_of_the_weights_does_not_count_an_update_that_is_left_out",),
    ),
    Mutant(
        name="left-out-without-an-end",
        trap="2.7",
        promise=_LEFT_OUT,
        file="train/loop.py",
        edits=(("(not member.skip or lost == _IN_A_ROW)", "not member.skip"),),
        tests=(f"{_IN_UPDATES}::test_weights_that_are_gone_stop_the_run_although_updates_are_left_out",),
    ),
    Mutant(
        name="usual-by-the-mean",
        trap="",
        promise=_SPIKE,
        file="train/spikes.py",
        edits=(("            usual = statistics.median(self.recent)\n", "            usual = max(self.recent)\n"),),
        tests=(f"{_IN_UPDATES}::test_what_is_a_spike_and_what_is_not",),
    ),
    Mutant(
        name="spikes-forgotten-by-a-resume",
        trap="",
        promise=_SPIKE,
        file="attempt.py",
        edits=(("Spikes(_losses_before(state))", "Spikes()"),),
        tests=(f"{_IN_UPDATES}::test_a_spike_is_told_with_its_rows_and_again_after_a_resume",),
    ),
)
