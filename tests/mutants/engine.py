"""Defects of the engine: what is kept, computed again, shared, or computed in half precision."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_TRUNK = "tests/invariants/test_trunk.py"
_IN_ENGINE = "tests/invariants/test_engine.py"
_IN_ATTENTION = "tests/invariants/test_attention.py"
_BRANCHES = f"{_IN_ATTENTION}::test_attention_to_a_shared_beginning_and_its_gradients_are_those_of_every_row_alone"
_IN_PRECISION = "tests/invariants/test_precision.py"

_AGAIN = "Computing a part of the net a second time, to save memory, draws the same random numbers."
_KEPT = (
    "What frozen blocks made of a row is kept only where that changes nothing, and never used for other rows or "
    "weights."
)
_GRADIENT = "Our own forward and backward are plain autograd to rounding."
_HALF = "Half precision computes; what learns is kept, moved and saved in full precision."

MUTANTS = (
    Mutant(
        name="other-dropout-in-the-backward",
        trap="1.13",
        promise=_AGAIN,
        file="models/bodies.py",
        edits=(
            (
                "x, stream, at, use_reentrant=False)",
                "x, stream, at, use_reentrant=False, preserve_rng_state=False)",
            ),
        ),
        tests=(
            "tests/unit/train/test_memory.py::"
            "test_computing_blocks_again_gives_the_same_gradient_to_the_bit_with_dropout[bert-full]",
        ),
    ),
    Mutant(
        name="other-dropout-in-the-second-pass",
        trap="1.13",
        promise=_AGAIN,
        file="train/accumulate.py",
        edits=(
            (
                "        seed(piece.seed, model.device)\n        (task.represent(model, piece.examples) * pull)",
                "        (task.represent(model, piece.examples) * pull)",
            ),
        ),
        tests=("tests/unit/tasks/test_retrieval.py::test_the_second_pass_of_a_joint_update_draws_what_the_first_drew",),
    ),
    Mutant(
        name="frozen-blocks-drop-out",
        trap="1.15",
        promise=_KEPT,
        file="models/model.py",
        edits=(
            (
                "            for block in anatomy.blocks(self.base, self.anatomy)[:frozen]:\n"
                "                block.eval()",
                "            anatomy.blocks(self.base, self.anatomy)[:frozen]",
            ),
        ),
        tests=(f"{_IN_TRUNK}::test_the_update_is_the_same_with_and_without_what_was_kept[bert-head]",),
    ),
    Mutant(
        name="kept-for-other-weights",
        trap="1.15",
        promise=_KEPT,
        file="train/trunk.py",
        edits=(
            (
                "json.dumps([identity, plan.blocks, plan.dtype,",
                "json.dumps([plan.blocks, plan.dtype,",
            ),
        ),
        tests=(f"{_IN_TRUNK}::test_a_table_on_disk_is_found_again_by_all_it_depends_on_and_made_anew_when_torn",),
    ),
    Mutant(
        name="kept-for-other-rows",
        trap="1.15",
        promise=_KEPT,
        file="train/trunk.py",
        edits=(
            (
                "    for key in rows:\n        digest.update(json.dumps(key).encode())\n",
                "    digest.update(str(len(rows)).encode())\n",
            ),
        ),
        tests=(f"{_IN_TRUNK}::test_a_table_on_disk_is_found_again_by_all_it_depends_on_and_made_anew_when_torn",),
    ),
    Mutant(
        name="torn-table-is-trusted",
        trap="1.15",
        promise=_KEPT,
        file="train/trunk.py",
        edits=(
            (
                '        return hashlib.file_digest(file, "sha256").hexdigest() == _sum_of(path).read_text()',
                "        return True",
            ),
        ),
        tests=(f"{_IN_TRUNK}::test_a_table_on_disk_is_found_again_by_all_it_depends_on_and_made_anew_when_torn",),
    ),
    Mutant(
        name="kept-for-other-adapters",
        trap="1.15",
        promise=_KEPT,
        file="models/adapted.py",
        edits=(
            (
                "                digest.update(value.detach().float().contiguous().cpu().numpy().tobytes())\n",
                "",
            ),
        ),
        tests=("tests/unit/models/test_adapters.py::test_frozen_adapters_are_part_of_what_a_kept_trunk_is_known_by",),
    ),
    Mutant(
        name="kept-where-an-embedding-learns",
        trap="1.15",
        promise=_KEPT,
        file="models/model.py",
        edits=(
            (
                "return max(self.depth - max((self.height(name) for name, _ in self.trained()), default=0), 0)",
                'return max(self.depth - max((self.height(name) for name, _ in self.trained() if "embeddings" '
                "not in name), default=0), 0)",
            ),
        ),
        tests=(f"{_IN_TRUNK}::test_nothing_is_kept_where_it_cannot_pay_or_be_right",),
    ),
    Mutant(
        name="encoded-by-another-tokenizer",
        trap="",
        promise=_KEPT,
        file="encoding.py",
        edits=(
            (
                "parts: list[Any] = [purpose, reader.family, reader.text.identity(), task_as_json(name, task), "
                "packages]",
                "parts: list[Any] = [purpose, reader.family, task_as_json(name, task), packages]",
            ),
        ),
        tests=("tests/unit/data/test_tokens.py::test_anything_it_depends_on_makes_another_table",),
    ),
    Mutant(
        name="residual-without-its-gradient",
        trap="",
        promise=_GRADIENT,
        file="models/fused.py",
        edits=(
            (
                "        return dx, dy if wants_residual else None, None, None, *found_g, *found_u, *found_d\n",
                "        return dx, dy / 2 if wants_residual else None, None, None, *found_g, *found_u, *found_d\n",
            ),
        ),
        tests=(f"{_IN_ENGINE}::test_a_gated_feed_forward_and_the_norm_and_their_gradients_are_autograds",),
    ),
    Mutant(
        name="adapter-without-its-pull-on-the-input",
        trap="",
        promise=_GRADIENT,
        file="models/fused.py",
        edits=(
            (
                "            own.of(dx).addmm_(thin, a)\n",
                "            dx.add_(0)\n",
            ),
        ),
        tests=(f"{_IN_ENGINE}::test_products_of_one_input_and_their_gradients_are_autograds",),
    ),
    Mutant(
        name="gate-that-lets-all-through-in-the-backward",
        trap="",
        promise=_GRADIENT,
        file="models/elementwise.py",
        edits=(("torch.mul(ctx.act.forward(gate), dh, out=du)", "torch.mul(gate, dh, out=du)"),),
        tests=(f"{_IN_ENGINE}::test_an_open_gate_and_its_gradient_are_autograds[silu]",),
    ),
    Mutant(
        name="what-does-not-turn-lost",
        trap="1.7",
        promise=_GRADIENT,
        file="models/attention.py",
        edits=(("    out[..., 2 * half :] = still\n", "    out[..., 2 * half :] = 0\n"),),
        tests=(
            "tests/invariants/test_layouts.py::"
            "test_label_logits_of_a_decoder_equal_the_stock_class_one_row_at_a_time[gpt_neox]",
        ),
    ),
    Mutant(
        name="a-second-beginning-without-the-first",
        trap="",
        promise=_GRADIENT,
        file="models/branches.py",
        edits=(("    sums.copy_(total)\n", "    sums.copy_(sums)\n"),),
        tests=(f"{_BRANCHES}[dtype0-False-None-None]",),
    ),
    Mutant(
        name="a-part-of-a-softmax-taken-for-the-whole",
        trap="",
        promise=_GRADIENT,
        file="models/branches.py",
        edits=((", inner, (own - sums).exp_())", ", inner, torch.ones_like(own))"),),
        tests=(f"{_BRANCHES}[dtype0-False-None-None]",),
    ),
    Mutant(
        name="a-beginning-too-far-away-is-seen",
        trap="",
        promise=_GRADIENT,
        file="models/segments.py",
        edits=(("stream.positions[keys] >= window", "stream.positions[keys] > window"),),
        tests=(f"{_BRANCHES}[dtype0-False-None-6]",),
    ),
    Mutant(
        name="dropout-not-scaled",
        trap="",
        promise=_GRADIENT,
        file="models/draws.py",
        edits=(
            (
                ".to(like.dtype).mul_(_STEPS / (_STEPS - dropped))",
                ".to(like.dtype)",
            ),
        ),
        tests=("tests/unit/models/test_draws.py::test_a_mask_drops_as_often_as_it_is_told_and_keeps_the_mean",),
    ),
    Mutant(
        name="shared-where-dropout-draws",
        trap="",
        promise=_GRADIENT,
        file="models/model.py",
        edits=(
            (
                "        share = exact and not self.draws() and not",
                "        share = exact and not",
            ),
        ),
        tests=(f"{_IN_ENGINE}::test_nothing_is_shared_where_random_numbers_are_drawn",),
    ),
    Mutant(
        name="masters-not-saved",
        trap="",
        promise=_HALF,
        file="attempt.py",
        edits=(
            (
                "    if not model.masters:\n        return model\n",
                "    return model\n",
            ),
        ),
        tests=(f"{_IN_PRECISION}::test_the_saved_model_holds_the_masters_and_the_predictor_computes_as_training_did",),
    ),
    Mutant(
        name="steps-lost-in-halves",
        trap="",
        promise=_HALF,
        file="models/learner.py",
        edits=(
            (
                "                parameter.copy_(self.masters[name])",
                "                parameter.copy_(self.masters[name])\n"
                "                self.masters[name].copy_(parameter)",
            ),
        ),
        tests=(f"{_IN_PRECISION}::test_a_step_smaller_than_a_half_can_tell_is_not_lost",),
    ),
)
