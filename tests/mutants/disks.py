"""Defects of what is written: what a death, a full disk or a flipped bit may leave behind."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_PROMISES = "tests/faults/test_promises.py"
_IN_RUNDIR = "tests/unit/test_rundir.py"
_IN_RESUME = "tests/faults/test_resume.py"

_WHOLE = "A name that exists is complete: a death at any write leaves the checkpoint before, or the new one, whole."
_DURABLE = "What has its final name is on the disk."
_FULL = "A full disk destroys nothing: the error names the path and the bytes, and the exit code is 1."
_BITS = "A flipped bit in a checkpoint is noticed, said, and the checkpoint before it taken."
_ORDER = "Checkpoints are ordered by the number of their update."

MUTANTS = (
    Mutant(
        name="written-under-the-final-name",
        trap="2.1",
        promise=_WHOLE,
        file="train/checkpoint.py",
        edits=(
            (
                '    temporary = run.checkpoints / f".{path.name}.tmp"\n',
                "    temporary = path\n",
            ),
            (
                "                _remove(path)\n            temporary.rename(path)\n",
                "                temporary.rename(path)\n",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_a_death_at_any_write_of_a_checkpoint_leaves_a_whole_one",),
    ),
    Mutant(
        name="old-one-removed-first",
        trap="2.2",
        promise=_WHOLE,
        file="train/checkpoint.py",
        edits=(
            (
                "    with guarded(path, sum(map(len, contents.values()))):\n",
                '    for old in run.checkpoints.glob("step_*"):\n'
                "        shutil.rmtree(old)\n"
                "    with guarded(path, sum(map(len, contents.values()))):\n",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_a_death_at_any_write_of_a_checkpoint_leaves_a_whole_one",),
    ),
    Mutant(
        name="removed-before-the-links-turn",
        trap="2.2",
        promise=_WHOLE,
        file="train/checkpoint.py",
        edits=(
            (
                "    point_at(run, progress)\n    prune(run)\n",
                '    for old in run.checkpoints.glob("step_*"):\n'
                "        if old.name != path.name:\n"
                "            shutil.rmtree(old)\n"
                "    point_at(run, progress)\n"
                "    prune(run)\n",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_a_death_at_any_write_of_a_checkpoint_leaves_a_whole_one",),
    ),
    Mutant(
        name="removed-under-its-name",
        trap="2.2",
        promise=_WHOLE,
        file="train/checkpoint.py",
        edits=(
            (
                "        folder.rename(hidden)\n    shutil.rmtree(hidden, ignore_errors=True)",
                "        shutil.rmtree(folder)",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_a_death_at_any_write_of_a_checkpoint_leaves_a_whole_one",),
    ),
    Mutant(
        name="run-directory-made-in-place",
        trap="2.1",
        promise=_WHOLE,
        file="rundir.py",
        edits=(
            (
                "        temporary = beside(parent / name)\n",
                "        temporary = parent / name\n",
            ),
            (
                "            path = _claim(parent, name, temporary)\n",
                "            path = temporary\n",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_a_death_at_any_write_of_a_new_run_leaves_none_or_a_whole_one",),
    ),
    Mutant(
        name="file-not-synced",
        trap="2.1",
        promise=_DURABLE,
        file="rundir.py",
        edits=(
            (
                "                file.flush()\n                os.fsync(file.fileno())\n",
                "                file.flush()\n",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_every_file_of_a_checkpoint_is_on_the_disk_before_its_name_is",),
    ),
    Mutant(
        name="folder-not-synced",
        trap="2.1",
        promise=_DURABLE,
        file="train/checkpoint.py",
        edits=(
            (
                "            temporary.rename(path)\n            sync_folder(run.checkpoints)\n",
                "            temporary.rename(path)\n",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_every_file_of_a_checkpoint_is_on_the_disk_before_its_name_is",),
    ),
    Mutant(
        name="written-over-the-old-file",
        trap="2.3",
        promise=_FULL,
        file="rundir.py",
        edits=(
            (
                "    temporary = beside(path)\n    with guarded(path, size):",
                "    temporary = path\n    with guarded(path, size):",
            ),
        ),
        tests=(f"{_IN_RUNDIR}::test_a_write_that_fails_keeps_the_old_file",),
    ),
    Mutant(
        name="bytes-not-said",
        trap="2.3",
        promise=_FULL,
        file="rundir.py",
        edits=(
            (
                '        needed = f"; it takes {size:,} bytes" if size else ""\n',
                '        needed = ""\n',
            ),
        ),
        tests=(f"{_IN_RUNDIR}::test_a_write_that_fails_keeps_the_old_file",),
    ),
    Mutant(
        name="disk-blamed-on-the-user",
        trap="2.3",
        promise=_FULL,
        file="errors.py",
        edits=(
            (
                '    """It happened to the run: exit code 1."""\n',
                '    """It happened to the run: exit code 1."""\n\n    exit_code = 2\n',
            ),
        ),
        tests=(f"{_IN_RESUME}::test_a_full_disk_keeps_the_checkpoint_before_and_ends_with_exit_code_1",),
    ),
    Mutant(
        name="sums-not-compared",
        trap="2.4",
        promise=_BITS,
        file="train/checkpoint.py",
        edits=(
            (
                "        if hashlib.sha256(content).hexdigest() != sums.get(name):\n",
                "        if name not in sums:\n",
            ),
        ),
        tests=(f"{_IN_RESUME}::test_a_damaged_checkpoint_is_passed_over_and_that_is_said",),
    ),
    Mutant(
        name="damage-not-said",
        trap="2.4",
        promise=_BITS,
        file="train/checkpoint.py",
        edits=(
            (
                'warn(f"{fault.problem} ({fault.where}); going on from the checkpoint',
                'str(f"{fault.problem} ({fault.where}); going on from the checkpoint',
            ),
        ),
        tests=(f"{_IN_RESUME}::test_a_damaged_checkpoint_is_passed_over_and_that_is_said",),
    ),
    Mutant(
        name="newest-by-name",
        trap="2.9",
        promise=_ORDER,
        file="train/checkpoint.py",
        edits=(
            (
                "sorted(_folders(run), key=_step_of, reverse=True)",
                "sorted(_folders(run), reverse=True)",
            ),
        ),
        tests=(
            "tests/faults/test_damage.py::"
            "test_the_newest_checkpoint_is_the_one_of_the_largest_number_though_its_name_sorts_first",
        ),
    ),
    Mutant(
        name="newest-by-age",
        trap="2.9",
        promise=_ORDER,
        file="train/checkpoint.py",
        edits=(
            (
                "sorted(_folders(run), key=_step_of, reverse=True)",
                "sorted(_folders(run), key=lambda folder: folder.stat().st_mtime, reverse=True)",
            ),
        ),
        tests=(f"{_IN_PROMISES}::test_the_newest_checkpoint_is_that_of_the_highest_update_whatever_its_age",),
    ),
)
