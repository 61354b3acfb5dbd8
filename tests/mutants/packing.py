"""Defects of packing: which tokens see each other, and where each thinks it stands."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_LAYOUTS = "tests/invariants/test_layouts.py"
_IN_ENGINE = "tests/invariants/test_engine.py"
_IN_GENERATION = "tests/invariants/test_generation.py"
_IN_STEPS = "tests/invariants/test_steps.py"

_APART = "Rows that share a batch never see each other, packed or padded, in training and in use."
_PLACES = "Every row's positions begin at its own first token."
_SEES = "A net that would let packed rows see each other is stopped at its first batch."

MUTANTS = (
    Mutant(
        name="one-stream-one-row",
        trap="1.5",
        promise=_APART,
        file="models/segments.py",
        edits=(
            (
                "runs = _runs(_offsets(stream.segments, look), causal, flash, near)",
                "runs = _runs(_offsets((Segment(0, len(stream.ids)),), look), causal, flash, near)",
            ),
        ),
        tests=(
            f"{_IN_LAYOUTS}::test_another_sequence_in_the_stream_moves_nothing_not_even_in_train_mode[bert-False]",
            f"{_IN_LAYOUTS}::test_another_sequence_in_the_stream_moves_nothing_not_even_in_train_mode[gpt2-True]",
            "tests/invariants/test_attention.py::test_what_a_gpu_runs_in_full_precision_is_the_same_attention",
        ),
    ),
    Mutant(
        name="padding-is-seen",
        trap="1.5",
        promise=_APART,
        file="models/model.py",
        edits=(
            (
                "out = self.base(input_ids=ids, attention_mask=mask, ",
                "out = self.base(input_ids=ids, attention_mask=torch.ones_like(mask), ",
            ),
        ),
        tests=(f"{_IN_LAYOUTS}::test_the_two_layouts_give_the_same_logits",),
    ),
    Mutant(
        name="next-token-is-seen",
        trap="1.5",
        promise=_APART,
        file="models/segments.py",
        edits=(
            (
                "hidden = hidden | (places > asks)",
                "hidden = hidden | (places > asks + 1)",
            ),
        ),
        tests=(f"{_IN_LAYOUTS}::test_label_logits_of_a_decoder_equal_the_stock_class_one_row_at_a_time[llama]",),
    ),
    Mutant(
        name="beginning-of-another-row",
        trap="1.5",
        promise=_APART,
        file="models/stream.py",
        edits=(
            (
                "            place(group, done + agree, (*path, span))",
                "            place(group, done + agree, (span,))",
            ),
        ),
        tests=(f"{_IN_ENGINE}::test_computing_a_shared_beginning_once_changes_neither_losses_nor_gradients",),
    ),
    Mutant(
        name="window-forgotten",
        trap="1.5",
        promise=_APART,
        file="models/segments.py",
        edits=(
            (
                "hidden = hidden | ((asks - places).abs() >= window)",
                "hidden = hidden | ((asks - places).abs() > 10**6)",
            ),
        ),
        tests=(f"{_IN_LAYOUTS}::test_a_sliding_window_is_honoured",),
    ),
    Mutant(
        name="last-token-predicts-the-next-row",
        trap="1.6",
        promise=_APART,
        file="models/loss.py",
        edits=(
            (
                "for t in range(1, len(row.ids)) if row.trained",
                "for t in range(len(row.ids)) if row.trained",
            ),
        ),
        tests=("tests/invariants/test_update.py::test_the_first_token_of_a_sequence_is_never_a_label",),
    ),
    Mutant(
        name="first-token-for-the-last",
        trap="1.8",
        promise=_APART,
        file="models/model.py",
        edits=(
            (
                'get_submodule("score")(self.states_at(rows, ends - 1))',
                'get_submodule("score")(self.states_at(rows, ends - lengths))',
            ),
        ),
        tests=(f"{_IN_LAYOUTS}::test_logits_of_a_decoder_are_those_that_the_stock_class_reads_from_its_last_token",),
    ),
    Mutant(
        name="prompts-padded-on-the-right",
        trap="1.8",
        promise=_APART,
        file="models/generate.py",
        edits=(
            (
                "[[pad] * (longest - len(p.ids)) + list(p.ids) for p",
                "[list(p.ids) + [pad] * (longest - len(p.ids)) for p",
            ),
            (
                "[[0] * (longest - len(p.ids)) + [1] * len(p.ids) for p",
                "[[1] * len(p.ids) + [0] * (longest - len(p.ids)) for p",
            ),
        ),
        tests=(f"{_IN_GENERATION}::test_answers_are_those_of_the_stock_loop_one_at_a_time[gemma2-True]",),
    ),
    Mutant(
        name="positions-go-on",
        trap="1.7",
        promise=_PLACES,
        file="models/stream.py",
        edits=(
            (
                "steps = [torch.arange(s.before, s.before + s.length) for s in segments]",
                "steps = [torch.arange(len(ids))]",
            ),
        ),
        tests=(
            f"{_IN_LAYOUTS}::"
            "test_two_texts_in_a_stream_give_the_logits_of_the_stock_class_one_row_at_a_time[token-bert]",
            f"{_IN_ENGINE}::test_every_token_of_every_row_has_a_place_in_a_shared_stream",
        ),
    ),
    Mutant(
        name="positions-behind-a-shared-beginning",
        trap="1.7",
        promise=_PLACES,
        file="models/stream.py",
        edits=(
            (
                "steps = [torch.arange(s.before, s.before + s.length) for s in segments]",
                "steps = [torch.arange(s.length) for s in segments]",
            ),
        ),
        tests=(f"{_IN_ENGINE}::test_computing_a_shared_beginning_once_changes_neither_losses_nor_gradients",),
    ),
    Mutant(
        name="rotated-by-the-streams-position",
        trap="1.7",
        promise=_PLACES,
        file="models/staged.py",
        edits=(
            (
                "self._rope(x, stream.positions, kind)",
                "self._rope(x, stream.positions * len(stream.segments), kind)",
            ),
        ),
        tests=(f"{_IN_LAYOUTS}::test_label_logits_of_a_decoder_equal_the_stock_class_one_row_at_a_time[llama]",),
    ),
    Mutant(
        name="position-one-late-while-writing",
        trap="1.7",
        promise=_PLACES,
        file="models/decode.py",
        edits=(
            (
                "rope = body.rope_at(number, x, batch.lengths)",
                "rope = body.rope_at(number, x, batch.lengths + 1)",
            ),
        ),
        tests=(f"{_IN_GENERATION}::test_answers_are_those_of_the_stock_loop_one_at_a_time[llama-False]",),
    ),
    Mutant(
        name="attention-never-called",
        trap="1.33",
        promise=_SEES,
        file="models/stock.py",
        edits=(
            (
                '    assert stream.calls == depth, f"attention ran in {stream.calls} of {depth} blocks"\n',
                "",
            ),
        ),
        tests=(f"{_IN_STEPS}::test_a_net_that_never_calls_the_attention_it_was_given_is_stopped",),
    ),
    Mutant(
        name="packing-off-in-training",
        trap="1.34",
        promise=_SEES,
        file="models/stock.py",
        edits=(
            (
                "    out = base(position_ids=stream.positions[None], attention_mask=None, stream=stream, **more)\n",
                "    whole = Stream(stream.ids, stream.positions, (Segment(0, len(stream.ids)),), "
                "stream.lengths, None)\n"
                "    seen = whole if base.training else stream\n"
                "    out = base(position_ids=stream.positions[None], attention_mask=None, stream=seen, **more)\n"
                "    stream.calls = seen.calls\n",
            ),
            (
                "from tunesmith.models.stream import Stream",
                "from tunesmith.models.stream import Segment, Stream",
            ),
        ),
        tests=(f"{_IN_LAYOUTS}::test_another_sequence_in_the_stream_moves_nothing_not_even_in_train_mode[gpt2-True]",),
    ),
    Mutant(
        name="rotation-scaled-by-the-longest-row",
        trap="1.34",
        promise=_SEES,
        file="models/staged.py",
        edits=(
            (
                "self._rope(x, stream.positions, kind)",
                "self._rope(x, stream.positions / int(stream.lengths.max()) * 16, kind)",
            ),
        ),
        tests=(f"{_IN_STEPS}::test_the_longest_row_of_a_stream_moves_no_other",),
    ),
    Mutant(
        name="positions-stretched-by-the-longest-row",
        trap="1.34",
        promise=_SEES,
        file="models/pretrained.py",
        edits=(
            (
                '    if rope.get("rope_type") == "longrope":',
                '    if rope.get("rope_type") == "none":',
            ),
        ),
        tests=(f"{_IN_STEPS}::test_rows_are_as_long_as_positions_mean_the_same_whatever_row_is_beside_them",),
    ),
)
