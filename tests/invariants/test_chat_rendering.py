"""What is trained is what the assistant says and the end of its turn; what is asked in use is how training began."""

from pathlib import Path

import pytest

import tiny
from tunesmith.contracts import Row
from tunesmith.errors import DataError
from tunesmith.models import catalog, load
from tunesmith.models.model import Model
from tunesmith.recipe import ModelChoice
from tunesmith.tasks.chat import Chat


@pytest.fixture
def model(decoder: Path) -> Model:
    return load.load_causal_lm(catalog.find(str(decoder)), ModelChoice(name="x"), None)


def test_trained_text_is_each_answer_with_one_end_of_turn(model: Model) -> None:
    for row in tiny.chat_rows(12):
        tokens = model.text.chat(row["messages"])
        said = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
        learned = [i for i, t in zip(tokens.ids, tokens.trained, strict=True) if t]
        assert model.text.tokenizer.decode(learned) == "".join(f"{text}<|im_end|>\n" for text in said)
        ends = sum(i == model.text.tokenizer.eos_token_id for i in learned)
        assert ends == len(said)


def test_the_ids_are_those_of_the_tokenizers_own_template_call(model: Model) -> None:
    for row in tiny.chat_rows(6):
        ids = model.text.tokenizer.apply_chat_template(row["messages"], tokenize=True, return_dict=False)
        assert list(model.text.chat(row["messages"]).ids) == ids


def test_the_prompt_in_use_begins_the_row_in_training(model: Model) -> None:
    for row in tiny.chat_rows(12):
        asked = model.text.prompt(row["messages"][:-1])
        learned = model.text.chat(row["messages"])
        assert learned.ids[: len(asked.ids)] == asked.ids
        assert not any(learned.trained[: len(asked.ids)][-3:])
        assert learned.trained[len(asked.ids)]


def test_an_answers_prompt_never_holds_the_answer(model: Model) -> None:
    messages = [{"role": "user", "content": "where"}, {"role": "assistant", "content": "SECRET"}]
    (example,) = Chat().encode(Row(0, {"messages": messages}, "f", 1), model, "answer")
    assert "SECRET" not in example.parts["text"].text
    (learned,) = Chat().encode(Row(0, {"messages": messages}, "f", 1), model, "learn")
    assert "SECRET" in learned.parts["text"].text


def test_letters_of_many_bytes_are_trained_whole(model: Model) -> None:
    messages = [{"role": "user", "content": "hé"}, {"role": "assistant", "content": "né 🙂 日本"}]
    tokens = model.text.chat(messages)
    learned = [i for i, t in zip(tokens.ids, tokens.trained, strict=True) if t]
    assert model.text.tokenizer.decode(learned) == "né 🙂 日本<|im_end|>\n"


def test_a_row_of_which_no_answer_fits_is_refused_with_its_place(model: Model) -> None:
    messages = [{"role": "user", "content": "parcel " * 300}, {"role": "assistant", "content": "yes"}]
    with pytest.raises(DataError, match="nothing of the row can be learned") as caught:
        Chat().encode(Row(0, {"messages": messages}, "rows.jsonl", 17), model, "learn")
    assert caught.value.where == "rows.jsonl:17"


def test_what_is_cut_is_counted(model: Model) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "parcel " * 300}]
    tokens = model.text.chat(messages)
    assert len(tokens.ids) == model.text.max_tokens
    assert tokens.cut > 0
    assert tokens.lost == tokens.cut


def with_beginning(model: Model) -> Model:
    """The model with a template that writes the beginning of text, and a tokenizer that adds it unless told not to."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = model.text.tokenizer
    tokenizer.chat_template = "{{ bos_token }}" + tiny.TEMPLATE
    number = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        "<|im_start|> $A", "<|im_start|> $A $B", special_tokens=[("<|im_start|>", number)]
    )
    assert tokenizer("hi").input_ids[0] == number
    return model


def test_a_template_that_writes_the_beginning_of_text_has_it_once(model: Model) -> None:
    model = with_beginning(model)
    plain, begin = tiny.TEMPLATE, model.text.tokenizer.bos_token_id
    for row in tiny.chat_rows(3):
        learned, asked = model.text.chat(row["messages"]), model.text.prompt(row["messages"][:-1])
        told = model.text.tokenizer.apply_chat_template(row["messages"], tokenize=True, return_dict=False)
        assert list(learned.ids) == told
        model.text.tokenizer.chat_template = plain
        bare = model.text.chat(row["messages"])
        assert learned.ids == (begin, *bare.ids) and asked.ids == learned.ids[: len(asked.ids)]
        model = with_beginning(model)


def test_a_token_across_the_border_of_question_and_answer_is_read_not_learned(model: Model) -> None:
    """A tokenizer that joins what ends a question with what begins an answer: apart, the question has more tokens."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    from tunesmith.models.text import TextEncoder

    letters = ["<end>", "\n", *"abcdeghinorstuwy ", "\ni", "s\ni", "it"]
    bare = Tokenizer(models.BPE({name: k for k, name in enumerate(letters)}, [("\n", "i"), ("s", "\ni"), ("i", "t")]))
    text = TextEncoder(PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<end>"), 100)
    made = text.exchange("where is", "it is in")
    assert made.ids == tuple(text.backend.encode("where is\nit is in<end>").ids)
    border = made.ids.index(letters.index("s\ni"))
    assert made.trained == tuple(k > border for k in range(len(made.ids)))
    assert "".join(letters[i] for i, t in zip(made.ids, made.trained, strict=True) if t) == "t is in<end>"
