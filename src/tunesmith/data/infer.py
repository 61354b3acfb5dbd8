"""What a file of rows is for, when nobody says: the task and the columns, or a question back to the user.

Guesses from names and from what the values look like, says what it guessed, and asks rather than be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tunesmith import plugins
from tunesmith.contracts import BadRow, Column
from tunesmith.data.files import find_files, raw_rows
from tunesmith.data.languages import LANGUAGES
from tunesmith.data.read import Columns, refuse_bad
from tunesmith.errors import DataError

_LOOK = 1000
_MARKS = (
    "label", "kto_tag", "completion_label", "is_correct", "correct", "is_good", "good", "accepted", "preferred",
    "thumbs_up", "feedback",
)  # fmt: skip
"""Columns that may say which answers are good."""
_WHETHER = (
    ("true", "false"), ("0", "1"), ("0.0", "1.0"), ("-1", "1"), ("yes", "no"), ("good", "bad"), ("up", "down"),
)  # fmt: skip
_CHOICES = ("choices", "options", "candidates", "endings", "answer_choices")
_LETTERED = (
    ("A", "B", "C"), ("option_a", "option_b"), ("option1", "option2"), ("opa", "opb"), ("ending0", "ending1"),
    ("sol1", "sol2"), ("choice1", "choice2"), ("choice_a", "choice_b"), ("answera", "answerb"),
)  # fmt: skip
"""Columns of answers to choose from: in one, and apart."""


@dataclass(frozen=True)
class Guess:
    """A task and its columns, with the reason in words."""

    task: str
    columns: dict[str, str | list[str]]
    why: str


def infer(
    path: Path,
    given: Columns,
    task: str | None = None,
    file_format: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Guess:
    """What the training rows at a path are for. Raises DataError that lists the columns when it cannot tell."""
    file = find_files(path)["train"][0]
    items = list(islice(raw_rows(file, file_format), _LOOK))
    rows = [item[1] for item in items if not isinstance(item, BadRow)]
    if not rows:
        refuse_bad([item for item in items if isinstance(item, BadRow)])
        raise DataError("the file has no rows", where=str(file))
    names = list(dict.fromkeys(name for row in rows for name in row))
    if task not in (None, "text-classification"):
        return Guess(str(task), _languages(names, options or {}) if task == "translation" else {}, "as you said")
    if task is None:
        if file.is_dir():
            return Guess("image-classification", {}, "the folders hold images")
        for look in (
            _preferences,
            _choices,
            _plain,
            _chat,
            _entities,
            _questions,
            _searches,
            _summaries,
            _translations,
        ):
            found = look(names, rows)
            if found is not None:
                return found
    if task is None:
        found = _many_labels(names, rows)
        if found is not None:
            return found
    columns: dict[str, str | list[str]] = dict(given)
    label = columns.get("label") or _label(names, rows)
    text = columns.get("text") or _texts(names, rows, label)
    if label is None or not text:
        lost = "label" if label is None else "text"
        raise DataError(
            f"which column is the {lost}? The file has {_samples(names, rows)}",
            where=str(file),
            hint="say it with `--set data.text=COLUMN --set data.label=COLUMN`; for something else name the task and "
            "its columns: `--task chat --set data.columns.prompt=COLUMN --set data.columns.completion=COLUMN`",
        )
    columns |= {"text": text, "label": label}
    shown = text if isinstance(text, str) else " + ".join(text)
    return Guess("text-classification", columns, f"text is `{shown}`, label is `{label}`")


def _plain(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> Guess | None:
    if list(names) != ["text"] or not _running([row.get("text") for row in rows]):
        return None
    return Guess("text-generation", {}, "there is nothing but `text`")


def _chat(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> Guess | None:
    for name in ("messages", "conversations", "conversation", "chat"):
        value = _first(name, rows)
        if isinstance(value, list) and value and isinstance(value[0], dict) and {"role", "from"} & value[0].keys():
            return Guess("chat", {"messages": name}, f"`{name}` holds messages with roles")
    for asked, answered in (("prompt", "completion"), ("prompt", "response"), ("instruction", "output")):
        if asked in names and answered in names:
            return Guess("chat", {}, f"`{asked}` and `{answered}` are a question and its answer")
    if "instruction" in names and "response" in names:
        more = next((name for name in ("context", "input") if name in names), None)
        columns: dict[str, str | list[str]] = {"instruction": "instruction", "output": "response"}
        read = f", `{more}` what it is about" if more else ""
        why = f"`instruction` and `response` are a question and its answer{read}"
        return Guess("chat", columns | ({"input": more} if more else {}), why)
    pair = {"question", "answer"}
    alone = pair <= set(names) and not {"context", "passage", "paragraph"} & set(names)
    if alone and all(_running([row.get(name) for row in rows]) for name in pair):
        why = "`question` and `answer` are texts, and there is no context to answer from"
        return Guess("chat", {"prompt": "question", "completion": "answer"}, why)
    return None


def _preferences(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> Guess | None:
    """Raise DataError for answers that are marked better or worse: to learn all of them alike would be wrong."""
    if {"chosen", "rejected"} <= set(names):
        asked = next((name for name in ("prompt", "question", "instruction", "input") if name in names), None)
        if isinstance(_first("chosen", rows), list):
            said = "`--task chat --set data.columns.messages=chosen`"
        elif asked is not None:
            said = f"`--task chat --set data.columns.prompt={asked} --set data.columns.completion=chosen`"
        else:
            said = "`--task text-generation --set data.columns.text=chosen`"
        raise DataError(
            "the rows are pairs of a better and a worse answer, which no task here learns from",
            hint=f"to learn the better ones alone: {said}",
        )
    talk = any(name in names for name in ("messages", "conversations", "completion", "response", "output", "answer"))
    marked = next((name for name in _MARKS if name in names and _says_whether(name, rows)), None)
    if marked and talk:
        raise DataError(
            f"`{marked}` says which answers are good; as a chat the bad ones would be learned too",
            hint="keep the rows with good answers in a file of their own and train on that, or say `--task chat` to "
            "learn from all",
        )
    return None


def _says_whether(name: str, rows: Sequence[dict[str, Any]]) -> bool:
    """Whether a column holds nothing but yes and no, however they are written."""
    held = {str(value).strip().lower() for row in rows if (value := row.get(name)) is not None}
    return bool(held) and any(held <= {no, yes} for no, yes in _WHETHER)


def _choices(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> Guess | None:
    """Raise DataError for questions with answers to choose from: a label without them would mean nothing."""
    several = [name for name in _CHOICES if isinstance(_first(name, rows), list | dict)]
    apart = next((group for group in _LETTERED if set(group) <= {*names, *map(str.lower, names)}), ())
    if several or apart:
        shown = several[0] if several else ", ".join(apart)
        raise DataError(
            f"the rows are questions with answers to choose from (`{shown}`), which is no task of its own here",
            hint="write the choices into the question and the right one as the answer, and train it as a chat: "
            "`--task chat --set data.columns.prompt=COLUMN --set data.columns.completion=COLUMN`",
        )
    return None


def _entities(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> Guess | None:
    columns = plugins.load("tasks", "token-classification").columns
    words = _named(columns, "tokens", names, lambda value: isinstance(value, list), rows)
    tags = _named(columns, "tags", names, lambda value: isinstance(value, list), rows)
    if words and tags and len(_first(words, rows)) == len(_first(tags, rows)):
        held = {name: _first(name, rows) for name in names if name not in (words, tags)}
        others = [
            name for name, value in held.items() if isinstance(value, list) and len(value) == len(_first(words, rows))
        ]
        unread = f"; `{others[0]}` is not read, `data.columns.tags` would choose it" if others else ""
        why = f"`{tags}` has a tag for each of `{words}`{unread}"
        return Guess("token-classification", {"tokens": words, "tags": tags}, why)
    text = _named(columns, "text", names, lambda value: isinstance(value, str), rows)
    spans = _named(columns, "spans", names, lambda value: isinstance(value, list), rows)
    if text and spans:
        return Guess("token-classification", {"text": text, "spans": spans}, f"`{spans}` marks parts of `{text}`")
    return None


def _many_labels(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> Guess | None:
    columns = plugins.load("tasks", "multi-label-classification").columns
    labels = _named(columns, "labels", names, lambda value: isinstance(value, list), rows)
    text = _named(columns, "text", names, lambda value: isinstance(value, str), rows)
    if labels is None or text is None:
        return None
    why = f"`{labels}` is a list of labels of `{text}`"
    return Guess("multi-label-classification", {"text": text, "labels": labels}, why)


def _questions(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> Guess | None:
    columns = plugins.load("tasks", "question-answering").columns
    found = {name: _named(columns, name, names, lambda value: value is not None, rows) for name in columns}
    if not all(found.values()) or found["context"] in ("text", "document"):
        return None
    said = {name: str(column) for name, column in found.items()}
    why = f"`{said['question']}` is asked of `{said['context']}` and answered in `{said['answers']}`"
    return Guess("question-answering", {**said}, why)


def _searches(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> Guess | None:
    columns = plugins.load("tasks", "retrieval").columns
    query = next((name for name in ("query", "anchor", "search") if name in names), None)
    if _label(names, rows) is not None:  # whether a document is relevant may be what is to be told
        return None
    document = _named(columns, "document", names, lambda value: isinstance(value, str | list), rows)
    if query is None or document in (None, "answer", "context") or not isinstance(_first(query, rows), str):
        return None
    return Guess("retrieval", {"query": query, "document": str(document)}, f"`{document}` is what `{query}` is to find")


def _summaries(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> Guess | None:
    columns = plugins.load("tasks", "summarization").columns
    short = _named(columns, "summary", names, lambda value: isinstance(value, str | list), rows)
    long = _named(columns, "document", names, lambda value: isinstance(value, str), rows)
    if short is None or long is None:
        return None
    return Guess("summarization", {"document": long, "summary": short}, f"`{short}` is a summary of `{long}`")


def _translations(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> Guess | None:
    spoken = [name for name in names if name in LANGUAGES and _running([row.get(name) for row in rows])]
    if len(spoken) >= 2:
        raise DataError(
            f"from which language to which? The file has {', '.join(f'`{name}`' for name in spoken)}",
            hint=f"say it in the recipe: `task: {{name: translation, source_language: {spoken[0]}, "
            f"target_language: {spoken[1]}}}`",
        )
    return None


def _languages(names: Sequence[str], options: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Columns that are called by the codes of the languages."""
    found: dict[str, str | list[str]] = {}
    for column in ("source", "target"):
        code = options.get(f"{column}_language")
        if isinstance(code, str) and code in names and column not in names:
            found[column] = code
    return found


def _named(
    columns: Mapping[str, Column], name: str, there: Sequence[str], fits: Callable[[Any], bool], rows: Sequence[Any]
) -> str | None:
    """The file's column for a task's column, by name and by what it first holds."""
    return next((c for c in (name, *columns[name].names) if c in there and fits(_first(c, rows))), None)


def _first(name: str | None, rows: Sequence[dict[str, Any]]) -> Any:
    """What the first row that has something in a column has there; None where none has."""
    return next((value for row in rows if (value := row.get(str(name))) is not None), None)


def _label(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> str | None:
    for name in _names("label"):
        if name in names and not _running([row.get(name) for row in rows]):  # texts are no labels, whatever their name
            return name
    few = [name for name in names if _few_values([row.get(name) for row in rows])]
    return few[0] if len(few) == 1 else None


def _texts(names: Sequence[str], rows: Sequence[dict[str, Any]], label: Any) -> str | list[str]:
    for name in _names("text"):
        if name in names and name != label:
            return name
    running = [name for name in names if name != label and _running([row.get(name) for row in rows])]
    return running[0] if len(running) == 1 else running


def _names(column: str) -> tuple[str, ...]:
    """What a text classifier's column is usually called in files."""
    return (column, *plugins.load("tasks", "text-classification").columns[column].names)


def _samples(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """The columns, each with what it first holds."""
    held = {name: " ".join(str(value).split()) for name in names if (value := _first(name, rows)) is not None}
    return ", ".join(f"`{name}` ({text[:30]}{'...' if len(text) > 30 else ''})" for name, text in held.items())


def _few_values(values: Sequence[Any]) -> bool:
    """Short values that come again and again: at least four rows each on average."""
    plain = [value for value in values if isinstance(value, str | int | bool) and value != ""]
    if len(plain) < 0.9 * len(values) or not plain:
        return False
    return 2 <= len(set(plain)) <= len(plain) / 4 and max(len(str(v)) for v in plain) <= 60


def _running(values: Sequence[Any]) -> bool:
    """Words in a row, mostly different ones."""
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < 0.9 * len(values):
        return False
    words = sum(len(text.split()) for text in texts) / max(len(texts), 1)
    return words >= 3 and len(set(texts)) > 0.5 * len(texts)
