"""Defects of the loss: what is summed, and what it is divided by."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_UPDATE = "tests/invariants/test_update.py"

_CUT = "An update is the same however its batch was cut into micro-batches: every label counts once."
_HAND = "The loss is the sum of the cross entropies of the labels over their number, as a hand would compute it."
_EMPTY = "A micro-batch, or a whole update, without a label adds nothing and divides nothing by zero."

MUTANTS = (
    Mutant(
        name="mean-of-means",
        trap="1.1",
        promise=_CUT,
        file="train/accumulate.py",
        edits=(
            (
                "parts = [loss.total / weights[name] for name, loss in losses.items() if weights[name]]",
                "parts = [loss.total / loss.weight / len(pieces) for loss in losses.values() if loss.weight]",
            ),
        ),
        tests=(
            f"{_IN_UPDATE}::test_cutting_a_batch_into_pieces_does_not_change_the_update[False-lora]",
            f"{_IN_UPDATE}::test_cutting_a_batch_into_pieces_does_not_change_the_update[True-lora]",
        ),
    ),
    Mutant(
        name="pairs-of-a-piece-alone",
        trap="1.1",
        promise=_CUT,
        file="train/accumulate.py",
        edits=(
            (
                "    if task.joint and (len(pieces) > 1 or ranks.count > 1):",
                "    if task.joint and ranks.count > 1:",
            ),
        ),
        tests=("tests/unit/tasks/test_retrieval.py::test_an_update_does_not_depend_on_how_its_batch_was_cut",),
    ),
    Mutant(
        name="halves-added-up-in-halves",
        trap="1.1",
        promise=_CUT,
        file="models/learner.py",
        edits=(
            (
                "master.grad = grad if master.grad is None else master.grad.add_(grad)",
                "master.grad = grad if master.grad is None else (master.grad.bfloat16() + grad.bfloat16()).float()",
            ),
        ),
        tests=("tests/invariants/test_precision.py::test_gradients_of_pieces_add_up_in_full_precision",),
    ),
    Mutant(
        name="counted-before-the-shift",
        trap="1.3",
        promise=_HAND,
        file="models/writing.py",
        edits=(
            (
                "sum(_learned(example).trained[1:])",
                "sum(_learned(example).trained)",
            ),
        ),
        tests=(
            "tests/unit/tasks/test_plain_text.py::test_the_weight_of_plain_text_is_the_number_of_its_predicted_tokens",
        ),
    ),
    Mutant(
        name="label-not-shifted",
        trap="1.11",
        promise=_HAND,
        file="models/loss.py",
        edits=(
            (
                "positions += [start + t - 1 for t in chosen]",
                "positions += [start + t for t in chosen]",
            ),
        ),
        tests=(f"{_IN_UPDATE}::test_the_chat_loss_is_the_sum_of_shifted_cross_entropies_over_trained_tokens",),
    ),
    Mutant(
        name="label-shifted-twice",
        trap="1.11",
        promise=_HAND,
        file="models/loss.py",
        edits=(
            (
                "positions += [start + t - 1 for t in chosen]",
                "positions += [start + max(t - 2, 0) for t in chosen]",
            ),
        ),
        tests=(f"{_IN_UPDATE}::test_the_chat_loss_is_the_sum_of_shifted_cross_entropies_over_trained_tokens",),
    ),
    Mutant(
        name="answer-shifted-for-an-encoder-decoder",
        trap="1.11",
        promise=_HAND,
        file="models/seq2seq.py",
        edits=(
            (
                "found: Tensor = states[there.bool()][positions.to(states.device)]",
                "found: Tensor = states[there.bool()][positions.to(states.device) + 1]",
            ),
        ),
        tests=(
            "tests/invariants/test_encoder_decoders.py::test_the_loss_is_that_of_the_stock_class_with_labels[bart]",
        ),
    ),
    Mutant(
        name="last-chunk-of-labels-left-out",
        trap="",
        promise=_HAND,
        file="models/loss.py",
        edits=(
            (
                "    for start in range(0, len(states), rows):",
                "    for start in range(0, max(len(states) - rows, 1), rows):",
            ),
        ),
        tests=("tests/invariants/test_engine.py::test_losses_in_chunks_are_the_cross_entropy_of_the_whole",),
    ),
    Mutant(
        name="nothing-over-nothing",
        trap="1.4",
        promise=_EMPTY,
        file="train/accumulate.py",
        edits=(
            (
                "for name, loss in losses.items() if weights[name]]",
                "for name, loss in losses.items()]",
            ),
        ),
        tests=(f"{_IN_UPDATE}::test_an_update_without_labels_changes_nothing_and_is_finite",),
    ),
    Mutant(
        name="silent-row-counts",
        trap="1.4",
        promise=_EMPTY,
        file="models/loss.py",
        edits=(
            (
                'reduction="none", ignore_index=-1,',
                'reduction="none", ignore_index=-100,',
            ),
            (
                "    wanted = torch.tensor(list(targets), device=logits.device)\n"
                '    return cross_entropy(fine(logits), wanted, reduction="none"',
                "    wanted = torch.tensor(list(targets), device=logits.device).clamp(min=0)\n"
                '    return cross_entropy(fine(logits), wanted, reduction="none"',
            ),
        ),
        tests=(f"{_IN_UPDATE}::test_a_piece_without_labels_among_others_adds_nothing",),
    ),
)
