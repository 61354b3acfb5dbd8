"""Defects of what is saved: adapters, embeddings, and the model that others open."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_RESHAPED = "tests/unit/models/test_reshaped.py"
_IN_VOCABULARY = "tests/invariants/test_vocabulary.py"
_IN_ADAPTERS = "tests/unit/models/test_adapters.py"
_IN_SAVED_MODELS = "tests/runs/test_saved_models.py"

_TOKENS = "Tokens that a model did not have begin as the mean of all others, learn under every method and are saved."
_MERGE = "An adapter gives the same in our blocks, in stock ones, merged into the weights, and in PEFT's files."
_TIED = "An embedding that is the output layer too is never changed through one of its two uses alone."
_OPENED = "The saved model opens in Transformers, PEFT or sentence-transformers with the same logits."

MUTANTS = (
    Mutant(
        name="new-tokens-stay-frozen",
        trap="1.18",
        promise=_TOKENS,
        file="models/reshape.py",
        edits=(
            (
                "    if table.weight.requires_grad:\n        return\n",
                "    return\n",
            ),
        ),
        tests=(f"{_IN_RESHAPED}::test_new_tokens_begin_as_the_mean_learn_under_every_method_and_are_saved[head]",),
    ),
    Mutant(
        name="new-tokens-begin-at-random",
        trap="1.18",
        promise=_TOKENS,
        file="models/reshape.py",
        edits=(
            (
                "            table.weight[list(ids)] = mean\n",
                "            pass\n",
            ),
        ),
        tests=(f"{_IN_RESHAPED}::test_new_tokens_begin_as_the_mean_learn_under_every_method_and_are_saved[full]",),
    ),
    Mutant(
        name="new-tokens-not-saved",
        trap="1.18",
        promise=_TOKENS,
        file="models/vocabulary.py",
        edits=(
            (
                "        rows.table.weight[rows.get_buffer(IDS)] = rows.rows\n",
                "",
            ),
        ),
        tests=(
            f"{_IN_RESHAPED}::test_new_tokens_begin_as_the_mean_learn_under_every_method_and_are_saved[head]",
            f"{_IN_VOCABULARY}::test_training_the_rows_in_use_is_training_the_whole_table",
        ),
    ),
    Mutant(
        name="merged-in-halves",
        trap="1.17",
        promise=_MERGE,
        file="models/lora.py",
        edits=(
            (
                "return self.matrix.double() + (b.double() @ a.double()) * self.scale, self.bias",
                "return (self.matrix.bfloat16() + (b.bfloat16() @ a.bfloat16()) * self.scale).double(), self.bias",
            ),
        ),
        tests=(
            f"{_IN_ADAPTERS}::"
            "test_an_adapter_begins_as_nothing_and_is_the_same_in_our_blocks_in_stock_ones_merged_and_in_"
            "peft[lora-encoder]",
            f"{_IN_SAVED_MODELS}::test_an_adapter_merged_into_its_base_gives_the_same_logits",
        ),
    ),
    Mutant(
        name="merged-without-its-scale",
        trap="1.17",
        promise=_MERGE,
        file="models/lora.py",
        edits=(
            (
                "return self.matrix.double() + (b.double() @ a.double()) * self.scale, self.bias",
                "return self.matrix.double() + b.double() @ a.double(), self.bias",
            ),
        ),
        tests=(
            f"{_IN_ADAPTERS}::"
            "test_an_adapter_begins_as_nothing_and_is_the_same_in_our_blocks_in_stock_ones_merged_and_in_"
            "peft[lora-encoder]",
        ),
    ),
    Mutant(
        name="merged-the-wrong-way-round",
        trap="1.17",
        promise=_MERGE,
        file="models/adapted.py",
        edits=(
            (
                "(matrix if isinstance(module.base, nn.Linear) else matrix.T).to(",
                "matrix.reshape(module.weight.shape).to(",
            ),
        ),
        tests=(
            f"{_IN_ADAPTERS}::"
            "test_an_adapter_begins_as_nothing_and_is_the_same_in_our_blocks_in_stock_ones_merged_and_in_"
            "peft[lora-gpt2]",
        ),
    ),
    Mutant(
        name="scale-not-in-the-file",
        trap="1.17",
        promise=_MERGE,
        file="models/lora.py",
        edits=(
            (
                "        alpha = self.scale * rank\n",
                "        alpha = float(rank)\n",
            ),
        ),
        tests=(
            f"{_IN_ADAPTERS}::"
            "test_an_adapter_begins_as_nothing_and_is_the_same_in_our_blocks_in_stock_ones_merged_and_in_"
            "peft[lora-encoder]",
        ),
    ),
    Mutant(
        name="lengths-of-dora-not-saved",
        trap="1.17",
        promise=_MERGE,
        file="models/lora.py",
        edits=(
            (
                'return {**super().tensors(), "lora_magnitude_vector": self.magnitude}',
                'return {**super().tensors(), "lora_magnitude_vector": self._lengths()}',
            ),
        ),
        tests=(
            f"{_IN_ADAPTERS}::"
            "test_an_adapter_begins_as_nothing_and_is_the_same_in_our_blocks_in_stock_ones_merged_and_in_"
            "peft[dora-decoder]",
        ),
    ),
    Mutant(
        name="tied-table-tuned-by-its-rows-in-use",
        trap="1.16",
        promise=_TIED,
        file="models/vocabulary.py",
        edits=(
            (
                "    if users == 1 and wanted and",
                "    if wanted and",
            ),
        ),
        tests=(f"{_IN_VOCABULARY}::test_a_table_that_the_output_layer_shares_is_trained_whole",),
    ),
    Mutant(
        name="tied-output-layer-is-a-head",
        trap="1.16",
        promise=_TIED,
        file="methods/head.py",
        edits=(
            (
                "                if id(parameter) not in trunk:\n",
                "                if parameter is not None:\n",
            ),
        ),
        tests=("tests/contracts/test_battery.py::test_head_of_a_model_with_tied_embeddings_is_refused_with_a_reason",),
    ),
    Mutant(
        name="head-not-saved-with-its-adapter",
        trap="",
        promise=_OPENED,
        file="models/peftfiles.py",
        edits=(
            (
                "    for child in in_full:\n",
                "    for child in in_full[:0]:\n",
            ),
        ),
        tests=(f"{_IN_SAVED_MODELS}::test_a_fresh_pooler_inside_the_trunk_is_saved_with_its_adapter",),
    ),
)
