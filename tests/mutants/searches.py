"""Defects of searches: what sharing, a kill, or choosing may do to their numbers."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_TRIAL = "tests/unit/search/test_trial.py"
_IN_SEARCH = "tests/runs/test_search.py"
_IN_DESK = "tests/unit/search/test_ray_desk.py"
_IN_PAGE = "tests/unit/search/test_page.py"
_IN_EDGES = "tests/unit/search/test_edges.py"
_IN_RANGING = "tests/unit/train/test_ranging.py"

_ALONE = "A trial of a search is, to the bit, what its recipe is when it is trained alone, whatever trials share."
_KILLED = "A search that was killed goes on with the trials it would have had, and runs none again that had finished."
_CHOICE = (
    "The test rows of a search are scored once, when the choice is made; without them, half of validation is kept out."
)
_SPREAD = (
    "Trials that workers of a cluster train are those of one process, to the bit, with the same pruning and table; a "
    "machine with other rows or another model ends the search, and a death costs only the trial's time."
)
_PAGE = "The page of a search shows each trial where its numbers say, and nothing of the user's is markup there."
_EDGE = (
    "A search says that its best value lies at an end of its range only where the next best lie there too, with a "
    "change that the recipe takes."
)
_RANGE = "Measuring a learning rate leaves the model and all generators as they were, to the bit."

MUTANTS = (
    Mutant(
        name="trials-tune-one-net",
        trap="",
        promise=_ALONE,
        file="search/shared.py",
        edits=(("net=copy.deepcopy(made.net)", "net=made.net"),),
        tests=(f"{_IN_TRIAL}::test_a_trial_is_its_recipe_trained_alone_to_the_bit[top layers over kept blocks]",),
    ),
    Mutant(
        name="a-net-of-another-seed",
        trap="",
        promise=_ALONE,
        file="search/shared.py",
        edits=(
            (
                "task_as_json(recipe.task.name, task), train.seed, refused]",
                "task_as_json(recipe.task.name, task), refused]",
            ),
        ),
        tests=(f"{_IN_TRIAL}::test_another_seed_or_another_head_is_another_net",),
    ),
    Mutant(
        name="refused-of-the-first-trial-only",
        trap="",
        promise=_ALONE,
        file="search/shared.py",
        edits=(("[train.batch_size, train.ema, train.average] if task.joint else []", "[]"),),
        tests=(f"{_IN_TRIAL}::test_what_a_net_is_refused_for_is_asked_of_every_trial",),
    ),
    Mutant(
        name="a-finished-trial-run-again",
        trap="",
        promise=_KILLED,
        file="search/study.py",
        edits=(("        result = self.directory.result(frozen.number)\n", "        result = None\n"),),
        tests=(f"{_IN_SEARCH}::test_a_trial_that_finished_before_the_study_was_told_is_not_run_again",),
    ),
    Mutant(
        name="proposals-of-a-process",
        trap="",
        promise=_KILLED,
        file="search/study.py",
        edits=(
            (
                '    seed = zlib.crc32(f"{search.seed} {number} {name}".encode())\n',
                '    seed = zlib.crc32(f"{search.seed} {number} {name} {os.getpid()}".encode())\n',
            ),
        ),
        tests=(f"{_IN_SEARCH}::test_a_search_that_was_killed_goes_on_without_losing_a_finished_trial",),
    ),
    Mutant(
        name="proposals-by-the-order-they-are-asked-for",
        trap="",
        promise=_KILLED,
        file="search/study.py",
        edits=(
            (
                "            self._study.sampler = _sampler(self.search, self.space, claim.number, name)\n",
                "",
            ),
        ),
        tests=(f"{_IN_SEARCH}::test_a_trial_whose_process_died_among_its_proposals_gets_the_same_ones",),
    ),
    Mutant(
        name="a-lock-on-nothing",
        trap="",
        promise=_KILLED,
        file="search/directory.py",
        edits=(("            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)\n", "            pass\n"),),
        tests=(f"{_IN_SEARCH}::test_two_processes_share_the_trials_and_one_of_them_runs_the_winner",),
    ),
    Mutant(
        name="test-rows-choose-the-trial",
        trap="1.31",
        promise=_CHOICE,
        file="search/trial.py",
        edits=(
            (
                '            rows = prepared.splits.rows["validation"]\n',
                "            rows = prepared.splits.rows[prepared.final_split]\n",
            ),
        ),
        tests=(f"{_IN_SEARCH}::test_test_rows_are_scored_by_the_run_of_the_winner_alone",),
    ),
    Mutant(
        name="what-chose-is-what-is-kept",
        trap="1.31",
        promise=_CHOICE,
        file="search/trial.py",
        edits=(("else halves(rows)", "else (rows, rows)"),),
        tests=(
            f"{_IN_SEARCH}::test_without_test_rows_the_winner_is_also_scored_on_validation_rows_that_chose_nothing",
        ),
    ),
    Mutant(
        name="axes-of-logarithms-drawn-straight",
        trap="",
        promise=_PAGE,
        file="search/drawings.py",
        edits=(('logarithmic=axis["log"]', "logarithmic=False"),),
        tests=(f"{_IN_PAGE}::test_a_line_of_the_parallel_coordinates_passes_each_axis_where_its_value_is",),
    ),
    Mutant(
        name="the-best-so-far-is-the-highest",
        trap="",
        promise=_PAGE,
        file="search/drawings.py",
        edits=(
            ('elif trial["value"] > before if higher else trial["value"] < before:', 'elif trial["value"] > before:'),
        ),
        tests=(f"{_IN_PAGE}::test_the_best_so_far_never_gets_worse_and_skips_what_was_pruned[False]",),
    ),
    Mutant(
        name="names-of-trials-are-markup",
        trap="",
        promise=_PAGE,
        file="report/svg.py",
        edits=(
            (
                'role="img"><title>{words(said)}</title>{"".join(body)}{told}</g>',
                'role="img"><title>{said}</title>{"".join(body)}{told}</g>',
            ),
        ),
        tests=(f"{_IN_PAGE}::test_nothing_of_the_user_is_ever_markup[usual]",),
    ),
    Mutant(
        name="an-edge-of-one-lucky-trial",
        trap="",
        promise=_EDGE,
        file="search/edges.py",
        edits=((" or min(ahead) < 0.5 or not behind", " or not behind"),),
        tests=(f"{_IN_EDGES}::test_those_that_share_the_third_place_are_asked_too",),
    ),
    Mutant(
        name="an-edge-of-few-trials",
        trap="",
        promise=_EDGE,
        file="search/edges.py",
        edits=(("len(tried) < FEWEST", "len(tried) < _BEST"),),
        tests=(f"{_IN_EDGES}::test_fewer_than_eight_trials_tell_nothing_and_eight_do",),
    ),
    Mutant(
        name="a-range-that-no-recipe-takes",
        trap="",
        promise=_EDGE,
        file="search/edges.py",
        edits=(("                if takes(changed, {**best.params, edge.name: end}):\n", "                if end:\n"),),
        tests=(
            f"{_IN_EDGES}::test_a_range_goes_on_only_as_far_as_the_recipe_takes_it_and_where_it_takes_nothing_is_not_told",
        ),
    ),
    Mutant(
        name="generators-left-where-the-range-test-ended",
        trap="",
        promise=_RANGE,
        file="train/ranging.py",
        edits=(("    torch.set_rng_state(generators[0])\n", ""),),
        tests=(f"{_IN_RANGING}::test_measuring_leaves_no_trace_and_finds_the_same_twice[adapters]",),
    ),
    Mutant(
        name="weights-left-where-the-range-test-ended",
        trap="",
        promise=_RANGE,
        file="train/ranging.py",
        edits=(("        parameter.copy_(held[name])\n", "        pass\n"),),
        tests=(f"{_IN_RANGING}::test_measuring_leaves_no_trace_and_finds_the_same_twice[full]",),
    ),
    Mutant(
        name="a-worker-with-other-rows",
        trap="",
        promise=_SPREAD,
        file="search/ray_worker.py",
        edits=(("        if odd is not None:\n", "        if odd is not None and not odd:\n"),),
        tests=(
            f"{_IN_DESK}::test_a_machine_with_other_files_ends_the_search_and_no_trial_fails"
            "[rows-of another-the rows are not those of the search]",
        ),
    ),
    Mutant(
        name="a-trial-that-fell-behind-told-as-whole",
        trap="",
        promise=_SPREAD,
        file="search/ray_worker.py",
        edits=(("pruned=True", "pruned=False"),),
        tests=(f"{_IN_DESK}::test_trials_that_workers_train_are_those_of_one_process_to_the_bit_the_pruned_ones_too",),
    ),
    Mutant(
        name="what-happened-told-at-every-look-again",
        trap="",
        promise=_SPREAD,
        file="search/ray_worker.py",
        edits=(("        self._waiting = []\n", ""),),
        tests=(f"{_IN_DESK}::test_trials_that_workers_train_are_those_of_one_process_to_the_bit_the_pruned_ones_too",),
    ),
    Mutant(
        name="a-death-of-a-worker-fails-its-trial",
        trap="",
        promise=_SPREAD,
        file="search/ray_desk.py",
        edits=((" >= _DEATHS:", " >= 1:"),),
        tests=(f"{_IN_DESK}::test_a_trial_whose_worker_died_goes_out_again_and_fails_when_three_have",),
    ),
)
