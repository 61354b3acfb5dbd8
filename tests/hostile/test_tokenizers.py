"""Tokenizer files of a model folder that cannot be used, or that do not fit its net."""

from pathlib import Path
from typing import Any

import pytest

import tiny
from models_of import both, copied, drop, inside, keys, put
from refusals import Bad, check

FILE = "tokenizer.json"


def deep(path: str, value: Any) -> Any:
    return inside(FILE, path, value)


TOKENIZERS: dict[str, Bad] = {
    "no file": Bad(
        both(drop(FILE), drop("tokenizer_config.json")),
        "the model has no tokenizer",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "empty": Bad(
        put(FILE, ""),
        "the model's tokenizer cannot be used: Expecting value: line 1 column 1 (char 0)",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "torn": Bad(
        put(FILE, '{"version": "1.0", "model": '),
        "the model's tokenizer cannot be used: Expecting value: line 1 column 29 (char 28)",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "a list": Bad(
        put(FILE, "[]"),
        "the model's tokenizer cannot be used: TypeError: 'str' object cannot be interpreted as an integer",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "an empty object": Bad(
        put(FILE, "{}"),
        "the model's tokenizer cannot be used: KeyError: 'added_tokens'",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "no UTF-8": Bad(
        put(FILE, b'{"version": "\xff"}'),
        (
            "the model's tokenizer cannot be used: 'utf-8' codec can't decode byte 0xff in "
            "position 13: invalid start byte"
        ),
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "a version of the future": Bad(
        keys(FILE, version="9.9"),
        "the model's tokenizer cannot be used: Unknown tokenizer version '9.9'",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "no model": Bad(
        keys(FILE, model=None),
        "the model's tokenizer cannot be used: Model missing.",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "a kind that is unknown": Bad(
        deep("model.type", "Magic"),
        "the model's tokenizer cannot be used: data did not match any variant of untagged enum ModelUntagged",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "a vocabulary that is a list": Bad(
        deep("model.vocab", ["a", "b"]),
        "the model's tokenizer cannot be used: invalid type: sequence, expected a map",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "a vocabulary of nothing": Bad(
        deep("model.vocab", {}),
        "the model's tokenizer cannot be used: WordPiece error: Missing [UNK] token from the vocabulary",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "an id that is negative": Bad(
        deep("model.vocab.the", -1),
        "the model's tokenizer cannot be used: invalid value: integer `-1`, expected u32",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "an id beyond 32 bits": Bad(
        deep("model.vocab.the", 2**40),
        "the model's tokenizer cannot be used: invalid value: integer `1099511627776`, expected u32",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "an id that is a text": Bad(
        deep("model.vocab.the", "five"),
        'the model\'s tokenizer cannot be used: invalid type: string "five", expected u32',
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "an id beyond the net": Bad(
        deep("model.vocab.the", 5000),
        "the tokenizer gives `the` the number 5000, and the net has 150 embeddings",
        "<here>/model",
        "this folder's tokenizer and weights are of different models",
    ),
    "an unknown token that is unknown": Bad(
        deep("model.unk_token", "[NONE]"),
        "the model's tokenizer cannot be used: WordPiece error: Missing [UNK] token from the vocabulary",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
        twin="the words are there",
    ),
    "a normalizer that is unknown": Bad(
        deep("normalizer", {"type": "Magic"}),
        "the model's tokenizer cannot be used: data did not match any variant of untagged enum NormalizerUntagged",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "a pattern that is none": Bad(
        deep("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": False}),
        "the model's tokenizer cannot be used: Oniguruma error: end pattern with unmatched parenthesis",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "a template of unknown tokens": Bad(
        deep("post_processor.single", [{"SpecialToken": {"id": "[X]", "type_id": 0}}]),
        "the model's tokenizer cannot be used: no entry found for key",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "a padding of no size": Bad(
        keys("tokenizer_config.json", pad_token=None, model_max_length=0),
        "the tokenizer's `model_max_length` is 0",
        "tokenizer_config.json",
        "write there how many tokens the model reads, or leave it out",
    ),
    "a config that is torn": Bad(
        put("tokenizer_config.json", '{"model_max_length": '),
        "the file cannot be read as JSON: Expecting value: line 1 column 22 (char 21)",
        "<here>/model/tokenizer_config.json",
    ),
    "a config that is a list": Bad(
        put("tokenizer_config.json", "[]"),
        "the file is not a JSON object: tokenizer_config.json",
        "<here>/model/tokenizer_config.json",
    ),
    "a class that is a number": Bad(
        keys("tokenizer_config.json", tokenizer_class=3),
        "the model's tokenizer cannot be used: AttributeError: 'int' object has no attribute 'removesuffix'",
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "a length that is a text": Bad(
        keys("tokenizer_config.json", model_max_length="long"),
        "the tokenizer's `model_max_length` is 'long'",
        "tokenizer_config.json",
        "write there how many tokens the model reads, or leave it out",
    ),
    "a length that is negative": Bad(
        keys("tokenizer_config.json", model_max_length=-5),
        "the tokenizer's `model_max_length` is -5",
        "tokenizer_config.json",
        "write there how many tokens the model reads, or leave it out",
    ),
    "a token that is a number": Bad(
        keys("tokenizer_config.json", cls_token=7),
        (
            "the model's tokenizer cannot be used: TypeError: Special token cls_token has to be "
            "either str or AddedToken but got: <class 'int'>"
        ),
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
    "pickled words": Bad(
        both(drop(FILE), put("vocab.pkl", b"\x80\x04.")),
        (
            "the model's tokenizer cannot be used: Couldn't instantiate the backend tokenizer "
            "from one of: (1) a `tokenizers` library serialization file,"
        ),
        "<here>/model",
        "the folder needs a `tokenizer.json`",
    ),
}
"""What changes a folder that is good."""


@pytest.mark.parametrize("case", TOKENIZERS)
def test_a_tokenizer_that_cannot_be_used_is_refused(
    case: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(encoder, tmp_path, TOKENIZERS[case].given)
    rows = tiny.write_csv(tmp_path / "rows.csv", tiny.label_rows(60))
    place = ("--set", f"run.dir={tmp_path / 'runs'}", "--set", "train.steps=1")
    check(TOKENIZERS[case], capsys, tmp_path, "train", str(folder), str(rows), "--task", "text-classification", *place)
