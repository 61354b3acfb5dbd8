"""Defects of scores: what is measured, on which rows, and how sure it is."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_BATTERY = "tests/contracts/test_battery.py"
_IN_UPDATE = "tests/invariants/test_update.py"
_IN_CHOICE = "tests/invariants/test_choice.py"
_IN_STEPS = "tests/invariants/test_steps.py"
_IN_STATS = "tests/unit/test_stats.py"

_BATCHES = "A score is a sum over rows, and does not depend on how rows are put into batches."
_COUNTED = "Tokens that were computed are reported as real, padding and targets, each by itself."
_GOLD = "Answers are scored against the file: whole words, whole documents, references that no model's context cut."
_NAMES = "A metric is what its name says, as the usual library computes it, and carries the rows it rests on."
_SURE = "An interval is that of resampling rows; a verdict is that of a paired test that is seldom wrong."

MUTANTS = (
    Mutant(
        name="mean-of-batch-means",
        trap="1.23",
        promise=_BATCHES,
        file="train/evaluate.py",
        edits=(
            (
                "            for name, vector in measures.items():\n"
                "                vectors[name].append((example.row_id, vector))",
                "            for name, vector in measures.items():\n"
                "                vectors[name].append((example.row_id, vector / len(batch)))",
            ),
        ),
        tests=(f"{_IN_BATTERY}::test_scores_do_not_depend_on_how_rows_are_put_together[chat-decoder]",),
    ),
    Mutant(
        name="mean-of-row-means",
        trap="1.23",
        promise=_BATCHES,
        file="models/writing.py",
        edits=(
            (
                'return [{"loss": found, "tokens": float(count)} for found, count in sums]',
                'return [{"loss": found / max(count, 1), "tokens": 1.0} for found, count in sums]',
            ),
        ),
        tests=(f"{_IN_UPDATE}::test_the_chat_loss_is_the_sum_of_shifted_cross_entropies_over_trained_tokens",),
    ),
    Mutant(
        name="scored-with-dropout",
        trap="1.23",
        promise=_BATCHES,
        file="train/evaluate.py",
        edits=(
            (
                "    model.net.eval()\n    for start in range(0, len(rows), _ROWS):",
                "    for start in range(0, len(rows), _ROWS):",
            ),
        ),
        tests=(f"{_IN_CHOICE}::test_a_look_in_the_middle_of_training_scores_without_dropout",),
    ),
    Mutant(
        name="window-counts-as-a-row",
        trap="1.23",
        promise=_BATCHES,
        file="train/evaluate.py",
        edits=(
            (
                "summed[row] = summed[row] + np.atleast_1d(vector) if row in summed else np.atleast_1d(vector)",
                "summed[row] = np.atleast_1d(vector)",
            ),
        ),
        tests=("tests/unit/tasks/test_plain_text.py::test_bits_per_byte_are_the_loss_over_the_bytes_of_the_documents",),
    ),
    Mutant(
        name="smoothing-in-scores",
        trap="",
        promise=_BATCHES,
        file="models/writing.py",
        edits=(
            (
                "    losses, counts = token_losses(model, examples)\n",
                "    losses, counts = token_losses(model, examples, 0.1)\n",
            ),
        ),
        tests=(f"{_IN_UPDATE}::test_the_chat_loss_is_the_sum_of_shifted_cross_entropies_over_trained_tokens",),
    ),
    Mutant(
        name="padding-counts-as-tokens",
        trap="1.24",
        promise=_COUNTED,
        file="train/loop.py",
        edits=(
            (
                "            tokens=sum(example.count for example in begun.examples),\n",
                "            tokens=sum(len(piece.examples) * max(e.length for e in piece.examples) for piece in "
                "pieces),\n",
            ),
        ),
        tests=(f"{_IN_STEPS}::test_real_tokens_padding_and_targets_are_counted_apart",),
    ),
    Mutant(
        name="read-tokens-count-as-targets",
        trap="1.24",
        promise=_COUNTED,
        file="train/loop.py",
        edits=(
            (
                "            labels=sum(begun.weights.values()),\n",
                "            labels=float(sum(example.count for example in begun.examples)),\n",
            ),
        ),
        tests=(f"{_IN_STEPS}::test_real_tokens_padding_and_targets_are_counted_apart",),
    ),
    Mutant(
        name="references-from-cut-labels",
        trap="1.26",
        promise=_GOLD,
        file="tasks/summarization.py",
        edits=(
            (
                "        references = row[REFERENCES]\n",
                '        references = [" ".join(text.split()[:12]) for text in row[REFERENCES]]\n',
            ),
        ),
        tests=(f"{_IN_CHOICE}::test_a_reference_that_the_model_cannot_read_whole_is_scored_whole",),
    ),
    Mutant(
        name="pieces-of-words-scored",
        trap="1.28",
        promise=_GOLD,
        file="tasks/token_classification.py",
        edits=(
            (
                "            if before is not None and before[1] == number:\n"
                "                continue  # a later token of the same word\n",
                "",
            ),
        ),
        tests=(f"{_IN_CHOICE}::test_a_word_of_several_tokens_is_learned_by_its_first_and_scored_once",),
    ),
    Mutant(
        name="gold-lost-past-the-cut",
        trap="1.28",
        promise=_GOLD,
        file="tasks/token_classification.py",
        edits=(
            (
                '        windows = reader.text.windows(row["text"], stride=self.stride)\n',
                '        windows = reader.text.windows(row["text"], stride=self.stride)[:1]\n',
            ),
        ),
        tests=(
            f"{_IN_BATTERY}::"
            "test_gold_encoded_then_decoded_scores_the_most_that_can_be_scored[12-token-classification-encoder]",
        ),
    ),
    Mutant(
        name="accuracy-that-is-a-recall",
        trap="1.29",
        promise=_NAMES,
        file="tasks/text_classification.py",
        edits=(
            (
                '            "accuracy": right / rows,\n',
                '            "accuracy": np.divide(hit, gold, out=np.zeros_like(hit), where=gold > 0).sum(-1)\n'
                "            / np.maximum((gold > 0).sum(-1), 1),\n",
            ),
        ),
        tests=(f"{_IN_STATS}::test_scores_equal_scikit_learns",),
    ),
    Mutant(
        name="unseen-labels-left-out",
        trap="1.29",
        promise=_NAMES,
        file="tasks/text_classification.py",
        edits=(
            (
                "        counts[0, gold] = counts[1, guess] = 1.0\n",
                "        counts[0, gold] = counts[1, guess] = float(gold < len(self.labels))\n",
            ),
        ),
        tests=(f"{_IN_STATS}::test_a_label_never_seen_in_training_is_counted_wrong_and_not_left_out",),
    ),
    Mutant(
        name="rows-of-another-measure",
        trap="1.29",
        promise=_NAMES,
        file="shares.py",
        edits=(
            (
                "            behind[metric] = count\n",
                "            behind[metric] = max(map(len, measured.rows.values()))\n",
            ),
        ),
        tests=(f"{_IN_STATS}::test_metrics_carry_the_rows_they_rest_on",),
    ),
    Mutant(
        name="entities-by-overlap",
        trap="1.29",
        promise=_NAMES,
        file="tasks/token_classification.py",
        edits=(
            (
                "        for line, entities in enumerate((gold, found, gold & found)):\n",
                "        near = {one for one in gold if any(one[0] == other[0] for other in found)}\n"
                "        for line, entities in enumerate((gold, found, near)):\n",
            ),
        ),
        tests=("tests/unit/data/test_spans.py::test_scores_are_those_of_seqeval_strict",),
    ),
    Mutant(
        name="interval-too-narrow",
        trap="",
        promise=_SURE,
        file="stats.py",
        edits=(
            (
                "    ends = bias + np.array([-sure, sure])\n",
                "    ends = bias + np.array([-1.0, 1.0])\n",
            ),
        ),
        tests=(f"{_IN_STATS}::test_the_interval_is_that_of_resampling_rows_one_by_one[mean_row_loss]",),
    ),
    Mutant(
        name="interval-trusts-few-rows",
        trap="",
        promise=_SURE,
        file="stats.py",
        edits=(
            ("    return float(stdtrit(min(2 / uneven, 1e9), 0.975)) if uneven > 0 else SURE\n", "    return SURE\n"),
        ),
        tests=(f"{_IN_STATS}::test_the_interval_of_a_score_that_few_rows_decide_is_as_wide_as_students",),
    ),
    Mutant(
        name="test-not-paired",
        trap="",
        promise=_SURE,
        file="stats.py",
        edits=(
            (
                "sides @ (tuned.values[name] - base.values[name])",
                "sides @ (tuned.values[name][::-1] - base.values[name])",
            ),
        ),
        tests=(f"{_IN_STATS}::test_a_clear_gain_helped_a_clear_loss_hurt_and_the_same_is_unclear",),
    ),
    Mutant(
        name="any-gain-helped",
        trap="",
        promise=_SURE,
        file="stats.py",
        edits=(
            (
                "    if p < LEVEL and min(low * gain, high * gain) > 0:",
                "    if difference * gain > 0:",
            ),
        ),
        tests=(f"{_IN_STATS}::test_the_paired_test_is_wrong_about_five_times_in_a_hundred_when_nothing_differs",),
    ),
    Mutant(
        name="losses-judged-as-scores",
        trap="",
        promise=_SURE,
        file="stats.py",
        edits=(
            (
                "    gain = 1.0 if metric.higher_is_better else -1.0\n",
                "    gain = 1.0\n",
            ),
        ),
        tests=(f"{_IN_STATS}::test_a_lower_loss_counts_as_help",),
    ),
)
