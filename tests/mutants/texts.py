"""Defects of texts: how they become tokens, which of these are learned, and what is asked."""

from __future__ import annotations

from mutants.mutant import Mutant

_IN_CHAT_RENDERING = "tests/invariants/test_chat_rendering.py"
_IN_CONVERSATIONS = "tests/unit/tasks/test_conversations.py"

_TURNS = "Of a chat, what the assistant says and the end of its turn are learned, once each, and nothing else."
_TEMPLATE = "A row's tokens are those of the model's own template and tokenizer: nothing doubled, nothing left out."
_ASKED = "Nothing of the answer is in what a model is asked."
_CUT_ROWS = "Answers that the model's context cuts are counted and named, and refused where nothing of them is left."
_ROOM = "Answers have as much room as training answers took, and how many were cut at it is said."

MUTANTS = (
    Mutant(
        name="end-of-turn-taken-for-padding",
        trap="1.9",
        promise=_TURNS,
        file="models/text.py",
        edits=(
            (
                "        trained = _inside(made.offsets, spans)\n",
                "        trained = _inside(made.offsets, spans)\n"
                "        trained = [t and i != self.tokenizer.pad_token_id for t, i in zip(trained, made.ids)]\n",
            ),
        ),
        tests=(f"{_IN_CHAT_RENDERING}::test_trained_text_is_each_answer_with_one_end_of_turn",),
    ),
    Mutant(
        name="every-turn-is-learned",
        trap="1.9",
        promise=_TURNS,
        file="tasks/chat.py",
        edits=(
            (
                'chosen = {"assistant": mine,',
                'chosen = {"assistant": [True] * len(mine),',
            ),
        ),
        tests=(f"{_IN_CONVERSATIONS}::test_what_is_learned_is_what_was_asked_for",),
    ),
    Mutant(
        name="beginning-of-text-twice",
        trap="1.10",
        promise=_TEMPLATE,
        file="models/text.py",
        edits=(
            (
                "return self._trained(whole, spans, special=False)",
                "return self._trained(whole, spans, special=True)",
            ),
        ),
        tests=(f"{_IN_CHAT_RENDERING}::test_a_template_that_writes_the_beginning_of_text_has_it_once",),
    ),
    Mutant(
        name="beginning-of-text-twice-in-use",
        trap="1.10",
        promise=_TEMPLATE,
        file="models/text.py",
        edits=(
            (
                "text = self.render(messages, tools, answer_next=True)\n"
                "        made = self.backend.encode(text, add_special_tokens=False)",
                "text = self.render(messages, tools, answer_next=True)\n        made = self.backend.encode(text)",
            ),
        ),
        tests=(f"{_IN_CHAT_RENDERING}::test_a_template_that_writes_the_beginning_of_text_has_it_once",),
    ),
    Mutant(
        name="prompt-and-answer-apart",
        trap="1.19",
        promise=_TEMPLATE,
        file="models/text.py",
        edits=(
            (
                "        trained = _inside(made.offsets, spans)\n        kept = self.max_tokens\n",
                "        first = len(self.backend.encode(text[: spans[0][0]], add_special_tokens=special).ids)\n"
                "        trained = [k >= first for k in range(len(made.ids))]\n"
                "        kept = self.max_tokens\n",
            ),
        ),
        tests=(f"{_IN_CHAT_RENDERING}::test_a_token_across_the_border_of_question_and_answer_is_read_not_learned",),
    ),
    Mutant(
        name="no-invitation-to-answer",
        trap="1.25",
        promise=_TEMPLATE,
        file="models/text.py",
        edits=(
            (
                "text = self.render(messages, tools, answer_next=True)\n",
                "text = self.render(messages, tools, answer_next=False)\n",
            ),
        ),
        tests=(f"{_IN_CHAT_RENDERING}::test_the_prompt_in_use_begins_the_row_in_training",),
    ),
    Mutant(
        name="another-prompt-in-use",
        trap="1.25",
        promise=_TEMPLATE,
        file="models/text.py",
        edits=(
            (
                'text, special = f"{asked}\\n", True',
                'text, special = f"{asked}:", True',
            ),
        ),
        tests=(f"{_IN_CONVERSATIONS}::test_a_decoder_without_a_chat_template_learns_question_line_answer_end",),
    ),
    Mutant(
        name="answer-in-the-question",
        trap="",
        promise=_ASKED,
        file="tasks/chat.py",
        edits=(
            (
                '            asked = messages[:-1] if messages[-1]["role"] == "assistant" else messages\n',
                "            asked = messages\n",
            ),
        ),
        tests=(f"{_IN_CHAT_RENDERING}::test_an_answers_prompt_never_holds_the_answer",),
    ),
    Mutant(
        name="nothing-left-to-learn",
        trap="1.12",
        promise=_CUT_ROWS,
        file="tasks/chat.py",
        edits=(
            (
                "        if not any(tokens.trained):",
                "        if not tokens.trained:",
            ),
        ),
        tests=(f"{_IN_CHAT_RENDERING}::test_a_row_of_which_no_answer_fits_is_refused_with_its_place",),
    ),
    Mutant(
        name="cut-answers-not-counted",
        trap="1.12",
        promise=_CUT_ROWS,
        file="models/text.py",
        edits=(
            (
                "lost=sum(trained[kept:]),",
                "lost=0,",
            ),
        ),
        tests=(
            f"{_IN_CHAT_RENDERING}::test_what_is_cut_is_counted",
            "tests/runs/test_diagnosis.py::test_cut_answers_are_all_found_and_stop_training_where_most_are_cut",
        ),
    ),
    Mutant(
        name="answers-cut-at-twenty",
        trap="1.27",
        promise=_ROOM,
        file="models/writing.py",
        edits=(
            (
                "return max(_LEAST, min(math.ceil(1.2 * reader.text.size_written(long_answer)), "
                "reader.text.max_tokens // 2))",
                "return 20",
            ),
        ),
        tests=(f"{_IN_CONVERSATIONS}::test_an_answer_has_as_much_room_as_long_ones_in_training_take_in_any_script",),
    ),
    Mutant(
        name="cut-answers-not-said",
        trap="1.27",
        promise=_ROOM,
        file="report/write.py",
        edits=(
            (
                "    if endless > 0.02 * len(answers):\n",
                "    if endless > len(answers):\n",
            ),
        ),
        tests=("tests/invariants/test_choice.py::test_answers_that_were_cut_at_the_limit_are_counted_in_a_note",),
    ),
)
