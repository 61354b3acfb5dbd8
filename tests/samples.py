"""Rows for every task, and what a net that knows all of them would put out: what the battery feeds on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tiny
from tunesmith.contracts import Example, Row
from tunesmith.models.generate import Generated
from tunesmith.retrieving import CANDIDATES, ranking


def words(number: int, count: int) -> list[str]:
    generator = torch.Generator().manual_seed(number)
    return [tiny.WORDS[k] for k in torch.randint(0, len(tiny.WORDS), (count,), generator=generator).tolist()]


def entity_rows(count: int = 90) -> list[dict[str, Any]]:
    """Things and persons among other words; a thing may have two words."""
    rows = []
    for number in range(count):
        tokens, tags = [], []
        for word in words(number, 4 + number % 9):
            tag = {"parcel": "B-THING", "box": "B-THING", "you": "B-WHO", "they": "B-WHO", "we": "B-WHO"}.get(word, "O")
            if tag == "B-THING" and number % 2:
                tokens, tags = [*tokens, "red"], [*tags, "B-THING"]
                tag = "I-THING"
            tokens, tags = [*tokens, word], [*tags, tag]
        rows.append({"tokens": [*tokens, "box"], "tags": [*tags, "B-THING"]})
    return rows


def question_rows(count: int = 90) -> list[dict[str, Any]]:
    """The answer is the colour in the text, in some texts there is none."""
    rows = []
    for number in range(count):
        text = words(number, 6 + number % 12)
        text = [word for word in text if word not in ("red", "blue")]
        answer = ["red", "blue", ""][number % 3]
        if answer:
            text.insert(number % len(text), answer)
        rows.append({"question": "what is it?", "context": " ".join(text), "answers": [answer] if answer else []})
    return rows


def summary_rows(count: int = 40) -> list[dict[str, Any]]:
    return [
        {"document": f"{' '.join(words(n, 9))}. {' '.join(words(n + 99, 5))}.", "summary": f"the {tiny.WORDS[n % 9]}"}
        for n in range(count)
    ]


def translation_rows(count: int = 40) -> list[dict[str, Any]]:
    return [
        {"source": f"my {tiny.WORDS[n % 20]} {n}", "target": f"your {tiny.WORDS[n % 20]} is {n} now"}
        for n in range(count)
    ]


def number_rows(count: int = 90) -> list[dict[str, Any]]:
    """How much of the first of two texts is one word."""
    rows = []
    for number in range(count):
        text = words(number, 3) + ["good"] * (4 * (number % 4))
        rows.append({"text": " ".join(text), "second": " ".join(words(number + 7, 3)), "score": 0.5 * (number % 4) + 1})
    return rows


def labels_rows(count: int = 90) -> list[dict[str, Any]]:
    """None, one or two labels, each of which a word gives away."""
    rows = []
    for number in range(count):
        labels = [name for name, every in (("red", 2), ("blue", 3), ("late", 5)) if number % every == 0]
        rows.append({"text": " ".join([*words(number, 4 + number % 3), *labels, str(number)]), "labels": labels})
    return rows


def text_rows(count: int = 40) -> list[dict[str, Any]]:
    return [{"text": " ".join(words(number % 7, 9 + number % 5))} for number in range(count)]


def search_rows(count: int = 60) -> list[dict[str, Any]]:
    """Which of four texts speaks of the thing that is asked for: the right one, first in half of the rows, says `good`
    too, which a net without attention can learn."""
    rows = []
    things = ["parcel", "bill", "card", "screen", "login", "door", "street", "money"]
    for number in range(count):
        asked = [things[(number + k) % 8] for k in (0, 3, 5, 6)]
        texts = [f"{' '.join(words(number + 31 * k, 3))} {thing} {thing} {number}" for k, thing in enumerate(asked)]
        texts[0] += " good good good"
        listed = texts if number % 2 else [texts[0], *texts[:0:-1]]
        query = f"where is the {asked[0]} {number} {tiny.WORDS[number % 11]}"
        rows.append({"query": query, "document": texts[0], "candidates": listed})
    return rows


def image_rows(count: int = 60) -> list[dict[str, Any]]:
    """Which of three colours an image is mostly of; the paths are from the folder of the file."""
    return [{"image": f"images/{n}.png", "label": ["red", "green", "blue"][n % 3]} for n in range(count)]


def draw(folder: Path) -> None:
    """The images of `image_rows`."""
    from PIL import Image

    (folder / "images").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(60):
        pixels = rng.integers(0, 120, (40, 48, 3), dtype=np.uint8)
        pixels[..., number % 3] += 120
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")


ROWS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "text-classification": tiny.label_rows,
    "chat": tiny.chat_rows,
    "token-classification": entity_rows,
    "question-answering": question_rows,
    "summarization": summary_rows,
    "translation": translation_rows,
    "text-regression": number_rows,
    "text-generation": text_rows,
    "fill-mask": text_rows,
    "image-classification": image_rows,
    "multi-label-classification": labels_rows,
    "retrieval": search_rows,
    "reranking": search_rows,
}
"""Task -> rows. A task without rows here does not pass the battery."""


def write(task: str, folder: Path) -> Path:
    if task == "image-classification":
        draw(folder)
    return tiny.write_jsonl(folder / f"{task}.jsonl", ROWS[task]())


def gold(task: str, known: Any, row: Row, examples: Sequence[Example], model: Any) -> list[Any]:
    """What `predict` would give for a row's examples (made to learn) if the net knew every answer: of a net that
    writes, the tokens that it learns to write last."""
    if task in ("text-classification", "image-classification"):
        return [np.log(np.eye(len(known.labels))[e.target] + 1e-9) for e in examples]
    if task in ("retrieval", "reranking"):
        return [ranking(row[CANDIDATES], np.isin(row[CANDIDATES], row["label_documents"]).astype(float))]
    if task == "text-regression":
        return [e.target for e in examples]
    if task == "multi-label-classification":
        return [np.isin(np.arange(len(known.labels)), e.target).astype(float) for e in examples]
    if task == "token-classification":
        return [(e.target["words"], np.log(np.eye(len(known.labels))[e.target["labels"]] + 1e-9)) for e in examples]
    if task == "question-answering" and examples[0].target is not None:
        made = []
        for e in examples:
            offsets, (first, last) = e.parts["text"].offsets, e.target["span"]
            held = [(9.0, offsets[first][0], offsets[last][1])] if first else [(-9.0, *offsets[-2])]
            made.append((held, -9.0 if first else 9.0))
        return made
    if task == "fill-mask":
        return [(["x"] * len(e.target), 0.0, len(e.target), len(e.target)) for e in examples]
    written = examples[0].parts.get("answer", examples[0].parts["text"])
    learned = written.ids[_begins(written.trained) :]
    return [Generated(model.text.decode(learned).strip(), True, len(learned))]


def _begins(trained: Sequence[bool]) -> int:
    """Where the last run of trained tokens begins."""
    end = len(trained) - [*trained][::-1].index(True)
    return next((k + 1 for k in range(end - 1, -1, -1) if not trained[k]), 0)


BEST = {"fill-mask": ("masked_accuracy", 1.0), "chat": ("answer_exact_match", 1.0), "translation": ("bleu", 100.0)}
"""Task -> the score that gold answers must have, where it is not a headline of 1."""

LABELLED = ("text-classification", "image-classification", "multi-label-classification", "text-regression", "retrieval",
            "reranking")  # fmt: skip
"""Tasks that put something on a whole text."""
