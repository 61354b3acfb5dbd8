"""What tasks share that put a label, several, or a number on a text or on a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.contracts import Answer, Column, Reader, Row, Tokens
from tunesmith.data import content
from tunesmith.errors import RecipeError

if TYPE_CHECKING:
    from tunesmith.models.model import Model
    from tunesmith.recipe import Recipe

TEXT_NAMES = (
    "sentence",
    "message",
    "content",
    "body",
    "question",
    "review",
    "comment",
    "utterance",
    "query",
    "document",
    "sentence1",
    "text_a",
    "premise",
)
COLUMNS = {
    "text": Column("a text", names=TEXT_NAMES),
    "second": Column("a second text", required=False, names=("text_pair", "sentence2", "text_b", "hypothesis")),
}
"""What is read of a row."""


def check(values: Mapping[str, Any]) -> str | None:
    """Why the texts of a row cannot be used, or None. A second text may be missing in every row, not in some."""
    for name in ("text", "second"):
        if name not in values and name == "second":
            continue
        text = plain(values.get(name))
        if text is None:
            return f"`{name}` is missing"
        if not isinstance(text, str):
            return f"`{name}` is {content.kind_of(text)}, not a text"
        if not text.strip():
            return f"`{name}` is empty"
    return None


def normalize(values: Mapping[str, Any]) -> dict[str, Any]:
    """The texts as texts."""
    return {name: str(plain(values[name])) for name in ("text", "second") if name in values}


def label_text(value: Any) -> str:
    """A label as the tasks read it; empty where there is none."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def plain(value: Any) -> Any:
    """A number as the text that it was written as."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def kind_of(value: Any) -> str:
    """A value's kind in words."""
    return "missing" if value is None else content.kind_of(value)


def tokens(row: Row, reader: Reader) -> Tokens:
    """The text, or both, as the model's own template joins them."""
    second = row.values.get("second")
    return reader.text.text(row["text"]) if second is None else reader.text.pair(row["text"], second)


def shown(row: Row) -> str:
    """The texts for people."""
    second = row.values.get("second")
    return str(row["text"]) if second is None else f"{row['text']} | {second}"


def logits(model: Model, examples: Sequence[Any]) -> Any:
    """[rows, outputs]"""
    return model.class_logits([example.parts["text"] for example in examples])


def words_of(rows: Sequence[Row], others: Sequence[Row]) -> tuple[Any, Any] | None:
    """TF-IDF of words and word pairs of two sets of rows, fitted on the first; None where no text has a word in it."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    try:
        features = words.fit_transform([shown(row) for row in rows])
    except ValueError:
        return None
    return features, words.transform([shown(row) for row in others])


Answers = dict[str, list[Answer]]


_LEAST = 4
"""Rows of a batch that learns by pairs."""


def refuse_contrast(options: Recipe, *, linear: bool) -> None:
    """Raise RecipeError where no head can be fitted at once, or what is fitted would be averaged over updates."""
    if not linear:
        raise RecipeError(
            "`contrast` fits a linear head on plainly pooled states, and this head is more than that",
            where="model",
            hint="leave `pooling` and `head_layers` out",
        )
    if options.train.batch_size < _LEAST:
        raise RecipeError(
            "`contrast` learns from the pairs of a batch, and this one has hardly any",
            where="train.batch_size",
            hint=f"set it to {_LEAST} or more; 32 is usual",
        )
    if options.train.ema is not None or options.train.average is not None:
        key = "ema" if options.train.ema is not None else "average"
        raise RecipeError(
            "`contrast` fits the head at once, which has no average over updates",
            where=f"train.{key}",
            hint="leave it out",
        )
