"""Defects of learning: what moves, how far, how often, and by which rows."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_BATTERY = "tests/contracts/test_battery.py"
_IN_STEPS = "tests/invariants/test_steps.py"
_IN_UPDATE = "tests/invariants/test_update.py"
_IN_RESUME = "tests/faults/test_resume.py"

_DECLARED = "Every tensor that is declared to learn moves, and every other stays as it was to the last bit."
_DECAY = "An optimizer's step is the textbook's, and biases and norms are not decayed."
_ONCE = "Gradients are clipped once an update, by their norm over all that learns."
_LENGTH = "The number of updates and the learning rate of each are those of the schedule, however batches are cut."
_EVERY_ROW = "Every epoch takes each row once, in an order of its own; or as often as its weight says."
_FINITE = "A loss, gradient or weight that is not finite touches nothing: the run stops and names the rows."
_ONE_PROCESS = "Several processes make the update that one makes, however unevenly labels fall to them."

MUTANTS = (
    Mutant(
        name="both-matrices-begin-as-nothing",
        trap="1.14",
        promise=_DECLARED,
        file="models/lora.py",
        edits=(
            (
                "torch.empty(kind.rank, wide).uniform_(-bound, bound, generator=generator)",
                "torch.zeros(kind.rank, wide)",
            ),
        ),
        tests=(f"{_IN_BATTERY}::test_what_is_declared_moves_and_the_rest_stays_to_the_bit[chat-decoder-lora]",),
    ),
    Mutant(
        name="unread-pooler-is-declared",
        trap="1.14",
        promise=_DECLARED,
        file="models/pretrained.py",
        edits=(
            (
                '    "bert": {"add_pooling_layer": False},\n',
                "",
            ),
        ),
        tests=(
            f"{_IN_BATTERY}::"
            "test_what_is_declared_moves_and_the_rest_stays_to_the_bit[text-classification-encoder-full]",
        ),
    ),
    Mutant(
        name="head-leaves-the-trunk-learning",
        trap="1.14",
        promise=_DECLARED,
        file="methods/head.py",
        edits=(
            (
                'input embedding too."""\n        model.freeze()\n',
                'input embedding too."""\n',
            ),
        ),
        tests=(f"{_IN_STEPS}::test_what_a_method_freezes_is_what_it_says[text-classification-encoder-head]",),
    ),
    Mutant(
        name="base-learns-beside-the-adapter",
        trap="1.14",
        promise=_DECLARED,
        file="methods/lora.py",
        edits=(
            (
                "        model.freeze()\n        paths = self._paths(model)",
                "        paths = self._paths(model)",
            ),
        ),
        tests=(f"{_IN_STEPS}::test_what_a_method_freezes_is_what_it_says[chat-decoder-lora]",),
    ),
    Mutant(
        name="decay-on-biases",
        trap="",
        promise=_DECAY,
        file="train/optimizer.py",
        edits=(
            (
                '"weight_decay": 0.0 if is_vector else weight_decay,',
                '"weight_decay": weight_decay,',
            ),
        ),
        tests=(f"{_IN_UPDATE}::test_one_step_of_adamw_is_the_textbooks",),
    ),
    Mutant(
        name="clipped-in-every-piece",
        trap="1.20",
        promise=_ONCE,
        file="train/accumulate.py",
        edits=(
            (
                "            torch.stack(parts).sum().backward()\n",
                "            torch.stack(parts).sum().backward()\n"
                "            torch.nn.utils.clip_grad_norm_([p for _, p in model.learned()], 0.05)\n",
            ),
        ),
        tests=(f"{_IN_STEPS}::test_an_update_is_clipped_once_over_all_that_learns_however_it_was_cut",),
    ),
    Mutant(
        name="clipped-by-a-part-of-the-norm",
        trap="1.20",
        promise=_ONCE,
        file="train/loop.py",
        edits=(
            (
                "get_total_norm([p.grad for p in learned if p.grad",
                "get_total_norm([p.grad for p in learned[-2:] if p.grad",
            ),
        ),
        tests=(f"{_IN_STEPS}::test_an_update_is_clipped_once_over_all_that_learns_however_it_was_cut",),
    ),
    Mutant(
        name="small-gradients-scaled-up",
        trap="1.20",
        promise=_ONCE,
        file="train/optimizer.py",
        edits=(
            (
                "over = ((found[0] + 1e-6) / most).clamp(min=1.0).float()",
                "over = ((found[0] + 1e-6) / most).float()",
            ),
        ),
        tests=(f"{_IN_UPDATE}::test_clipping_takes_the_step_that_clipped_gradients_take[10.0]",),
    ),
    Mutant(
        name="schedule-counts-pieces",
        trap="1.21",
        promise=_LENGTH,
        file="train/loop.py",
        edits=(
            (
                "        pieces, losses = _gradients(updates, begun, ranks)\n",
                "        pieces, losses = _gradients(updates, begun, ranks)\n"
                "        begun = replace(\n"
                "            begun, rate=schedule.apply(optimizer, min(begun.step * len(pieces), schedule.steps - 1))\n"
                "        )\n",
            ),
        ),
        tests=(f"{_IN_STEPS}::test_the_updates_of_a_run_and_their_rates_do_not_depend_on_how_batches_are_cut",),
    ),
    Mutant(
        name="epochs-counted-by-whole-batches",
        trap="1.21",
        promise=_LENGTH,
        file="prepare.py",
        edits=(
            (
                "round(train.epochs * self.plan().per_epoch))",
                "int(train.epochs * (len(self.train_rows) // train.batch_size)))",
            ),
        ),
        tests=(f"{_IN_STEPS}::test_the_updates_of_a_run_and_their_rates_do_not_depend_on_how_batches_are_cut",),
    ),
    Mutant(
        name="decay-never-ends",
        trap="1.21",
        promise=_LENGTH,
        file="train/optimizer.py",
        edits=(
            (
                "done = (step - self.warmup) / max(self.steps - self.warmup, 1)",
                "done = (step - self.warmup) / max(self.steps, 1)",
            ),
        ),
        tests=(f"{_IN_UPDATE}::test_the_number_of_updates_and_the_last_rate_do_not_depend_on_the_cut",),
    ),
    Mutant(
        name="last-rows-dropped",
        trap="1.22",
        promise=_EVERY_ROW,
        file="data/batches.py",
        edits=(
            (
                "return -(-self.length // self.batch_size)",
                "return max(self.length // self.batch_size, 1)",
            ),
        ),
        tests=(f"{_IN_UPDATE}::test_every_row_is_taken_once_an_epoch",),
    ),
    Mutant(
        name="rows-drawn-again",
        trap="1.22",
        promise=_EVERY_ROW,
        file="data/batches.py",
        edits=(
            (
                "            return np.random.default_rng((self.seed, epoch)).permutation(self.rows)",
                "            return np.random.default_rng((self.seed, epoch)).integers(0, self.rows, self.rows)",
            ),
        ),
        tests=(f"{_IN_UPDATE}::test_every_row_is_taken_once_an_epoch",),
    ),
    Mutant(
        name="the-same-order-every-epoch",
        trap="1.22",
        promise=_EVERY_ROW,
        file="data/batches.py",
        edits=(
            (
                "            return np.random.default_rng((self.seed, epoch)).permutation(self.rows)",
                "            return np.random.default_rng(self.seed).permutation(self.rows)",
            ),
        ),
        tests=(f"{_IN_STEPS}::test_every_epoch_has_an_order_of_its_own",),
    ),
    Mutant(
        name="long-rows-left-out-of-a-cut",
        trap="1.22",
        promise=_EVERY_ROW,
        file="data/batches.py",
        edits=(
            (
                "        else:\n            pieces.append([k])\n            used = lengths[k]",
                "        elif lengths[k] <= budget:\n            pieces.append([k])\n            used = lengths[k]",
            ),
        ),
        tests=(f"{_IN_UPDATE}::test_a_cut_keeps_every_row_and_its_budget",),
    ),
    Mutant(
        name="weighted-rows-drawn-anew",
        trap="1.22",
        promise=_EVERY_ROW,
        file="data/batches.py",
        edits=(
            (
                "            first, skipped = divmod(epoch * size, len(rows))\n",
                "            first, skipped = epoch, 0\n",
            ),
        ),
        tests=(
            "tests/unit/data/test_batches.py::"
            "test_weighted_sources_come_as_often_as_they_weigh_and_their_rows_equally_often",
        ),
    ),
    Mutant(
        name="not-finite-is-taken",
        trap="2.7",
        promise=_FINITE,
        file="train/optimizer.py",
        edits=(
            (
                "optimizer.found_inf = (~found.isfinite().all()).float()",
                "optimizer.found_inf = torch.zeros(())",
            ),
        ),
        tests=(f"{_IN_UPDATE}::test_an_update_that_is_not_finite_touches_neither_weights_nor_moments",),
    ),
    Mutant(
        name="not-finite-goes-on",
        trap="2.7",
        promise=_FINITE,
        file="train/loop.py",
        edits=(
            (
                "lost = 0 if all(map(math.isfinite, (norm, *values))) else lost + 1",
                "lost = 0 if not any(map(math.isinf, (norm, *values))) else lost + 1",
            ),
        ),
        tests=(f"{_IN_RESUME}::test_a_loss_that_is_not_finite_stops_with_the_rows_and_keeps_the_last_checkpoint",),
    ),
    Mutant(
        name="not-finite-names-other-rows",
        trap="2.7",
        promise=_FINITE,
        file="train/loop.py",
        edits=(
            (
                "raise NotFinite(step, rows=batches.places(step))",
                "raise NotFinite(step, rows=batches.places(0))",
            ),
        ),
        tests=(f"{_IN_STEPS}::test_the_rows_of_an_update_that_is_not_finite_are_those_it_was_made_of",),
    ),
    Mutant(
        name="not-finite-is-saved",
        trap="2.7",
        promise=_FINITE,
        file="train/checkpoint.py",
        edits=(
            (
                "        if not bool(torch.isfinite(tensor).all()):",
                "        if bool(torch.isnan(tensor).any()):",
            ),
        ),
        tests=(f"{_IN_RESUME}::test_weights_that_are_not_finite_are_never_committed",),
    ),
    Mutant(
        name="mean-of-the-processes-means",
        trap="1.2",
        promise=_ONE_PROCESS,
        file="train/accumulate.py",
        edits=(
            (
                "        losses = _singly(model, task, ranks.share(pieces), weights)\n",
                "        mine = [example for piece in ranks.share(pieces) for example in piece.examples]\n"
                "        share = {name: count * ranks.count for name, count in task.weights(mine).items()}\n"
                "        losses = _singly(model, task, ranks.share(pieces), share)\n",
            ),
        ),
        tests=("tests/invariants/test_ranks.py::test_gradients_and_losses_are_those_of_one_process[2]",),
    ),
    Mutant(
        name="gradients-averaged-over-processes",
        trap="1.2",
        promise=_ONE_PROCESS,
        file="train/ranks.py",
        edits=(
            (
                "parameter.grad = part.view_as(parameter)",
                "parameter.grad = part.div(self.count).view_as(parameter)",
            ),
        ),
        tests=("tests/invariants/test_ranks.py::test_gradients_and_losses_are_those_of_one_process[2]",),
    ),
)
