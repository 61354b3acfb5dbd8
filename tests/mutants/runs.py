"""Defects of runs: what a stop, a second process or a changed file may do to them."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_PROMISES = "tests/faults/test_promises.py"
_IN_RESUME = "tests/faults/test_resume.py"

_RESUMED = "A run that was stopped or killed anywhere and resumed ends with the bits of one that was left alone."
_STOP = "SIGTERM, at whatever moment of training, ends it with the work at hand saved, to be resumed."
_LOCK = "Two processes never work in one run: the second is refused with the first one's number."
_CHANGED = "A run is not gone on with where its rows, its model or the program have changed."

MUTANTS = (
    Mutant(
        name="one-update-skipped",
        trap="2.5",
        promise=_RESUMED,
        file="attempt.py",
        edits=(
            (
                "        start=state.progress.step,\n",
                "        start=state.progress.step + bool(state.progress.step),\n",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_a_resumed_run_takes_the_rows_and_the_random_numbers_that_were_left",),
    ),
    Mutant(
        name="one-update-repeated",
        trap="2.5",
        promise=_RESUMED,
        file="attempt.py",
        edits=(
            (
                "        start=state.progress.step,\n",
                "        start=max(state.progress.step - 1, 0),\n",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_a_resumed_run_takes_the_rows_and_the_random_numbers_that_were_left",),
    ),
    Mutant(
        name="order-of-this-process",
        trap="2.5",
        promise=_RESUMED,
        file="data/batches.py",
        edits=(
            (
                "            self.orders[epoch] = self._order(epoch)\n",
                "            self.orders[epoch] = self._order(len(self.orders))\n",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_a_resumed_run_takes_the_rows_and_the_random_numbers_that_were_left",),
    ),
    Mutant(
        name="dropout-goes-on-from-anywhere",
        trap="2.5",
        promise=_RESUMED,
        file="train/accumulate.py",
        edits=(
            (
                "    for piece in pieces:\n"
                "        seed(piece.seed, model.device)\n"
                "        losses = task.loss(model, piece.examples)\n",
                "    for piece in pieces:\n        losses = task.loss(model, piece.examples)\n",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_a_resumed_run_takes_the_rows_and_the_random_numbers_that_were_left",),
    ),
    Mutant(
        name="moments-forgotten",
        trap="2.6",
        promise=_RESUMED,
        file="attempt.py",
        edits=(
            (
                "        load_optimizer_state(optimizer, without_average(moments))\n",
                "",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_a_resumed_run_takes_the_rows_and_the_random_numbers_that_were_left",),
    ),
    Mutant(
        name="moments-by-position",
        trap="2.6",
        promise=_RESUMED,
        file="train/optimizer.py",
        edits=(
            (
                "    for name, parameter in _named(optimizer):\n        if name in by_name:\n",
                "    alike: dict[Any, list[str]] = {}\n"
                "    for name, parts in by_name.items():\n"
                '        alike.setdefault(parts["exp_avg"].shape, []).append(name)\n'
                "    for _, parameter in _named(optimizer):\n"
                "        name = alike[parameter.shape].pop(0)\n"
                "        if name in by_name:\n",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_a_resumed_run_takes_the_rows_and_the_random_numbers_that_were_left",),
    ),
    Mutant(
        name="best-forgotten",
        trap="",
        promise=_RESUMED,
        file="train/checkpoint.py",
        edits=(
            (
                '        progress = Progress(**json.loads(contents["state.json"]))\n',
                '        said = json.loads(contents["state.json"])\n'
                '        progress = Progress(said["step"], tokens=said["tokens"], seconds=said["seconds"])\n',
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_the_best_checkpoint_so_far_is_remembered_across_a_stop",),
    ),
    Mutant(
        name="last-link-not-turned-again",
        trap="",
        promise=_RESUMED,
        file="attempt.py",
        edits=(
            (
                "        if state.ranks.first:\n            checkpoint.point_at(state.run, state.progress)\n",
                "",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_a_death_between_the_last_checkpoint_and_its_links_loses_no_better_one",),
    ),
    Mutant(
        name="average-forgotten",
        trap="",
        promise=_RESUMED,
        file="attempt.py",
        edits=(
            (
                "        if average is not None:\n            average.load(moments)\n",
                "",
            ),
        ),
        tests=(f"{_IN_RESUME}::test_a_run_of_any_optimizer_pull_hold_and_average_is_resumed_to_the_same_bits[lion]",),
    ),
    Mutant(
        name="masks-of-this-process",
        trap="",
        promise=_RESUMED,
        file="train/loop.py",
        edits=(
            (
                "        epoch = step // self.plan.per_epoch\n",
                "        epoch = len(self.plan.orders)\n",
            ),
        ),
        tests=(
            "tests/unit/tasks/test_plain_text.py::test_what_is_hidden_changes_with_the_epoch_and_with_nothing_else",
        ),
    ),
    Mutant(
        name="sigterm-not-heard",
        trap="2.8",
        promise=_STOP,
        file="stopping.py",
        edits=(
            (
                "for number in (signal.SIGINT, signal.SIGTERM)}",
                "for number in (signal.SIGINT,)}",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_sigterm_at_any_moment_of_training_ends_it_with_the_work_at_hand_saved",),
    ),
    Mutant(
        name="lock-is-shared",
        trap="2.10",
        promise=_LOCK,
        file="rundir.py",
        edits=(
            (
                "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
                "fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)",
            ),
        ),
        tests=(f"{_IN_RESUME}::test_a_second_process_is_refused_with_the_first_ones_pid",),
    ),
    Mutant(
        name="stale-lock-is-kept",
        trap="2.10",
        promise=_LOCK,
        file="rundir.py",
        edits=(
            (
                "            return True\n        except BlockingIOError:\n            time.sleep(",
                "            return not os.fstat(file.fileno()).st_size\n"
                "        except BlockingIOError:\n            time.sleep(",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_the_lock_of_a_process_that_died_is_taken_over",),
    ),
    Mutant(
        name="changed-rows-are-taken",
        trap="",
        promise=_CHANGED,
        file="provenance.py",
        edits=(
            (
                '            if now != file["sha256"]:\n',
                "            if not now:\n",
            ),
        ),
        tests=(f"{_IN_RESUME}::test_changed_rows_are_refused_on_resume",),
    ),
    Mutant(
        name="changed-model-is-taken",
        trap="",
        promise=_CHANGED,
        file="run.py",
        edits=(
            (
                '    if differing := differences(run.json("receipt")["model_sha256"], model_hash(prepared)):\n',
                "    if differing := differences(model_hash(prepared), model_hash(prepared)):\n",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_a_changed_model_is_refused_on_resume",),
    ),
)
