"""What tasks share that put documents in order for a query: rows, relevance, scores, and BM25 beside them.

A document is known by its words: two that differ in case or spaces alone are one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import Answer, BadRow, Column, Metric, Purpose, Reader, Row, Shown, Sums, Task, Vector
from tunesmith.data.files import raw_rows
from tunesmith.errors import DataError
from tunesmith.written import check_text, check_texts, texts

DEPTH = 10
"""Documents of an answer, and the depth of its scores."""
CANDIDATES = "beside_candidates"
"""The column of a row's candidates: no part of what tells two rows apart."""
COLUMNS = {
    "query": Column("a text", names=("question", "anchor", "search", "sentence1")),
    "document": Column(
        "a relevant text, or a list of them",
        names=("positive", "passage", "context", "paragraph", "product", "answer", "sentence2"),
        target=True,
    ),
    "negatives": Column(
        "texts that are not relevant", required=False, names=("negative", "hard_negatives"), target=True
    ),
    "candidates": Column("the texts to put in order", required=False, names=("documents", "passages")),
}


@dataclass(frozen=True)
class Ranked(Task):
    """A task whose answer is documents, best first. After `gather` a row knows, under `label_relevant`, what is
    relevant to its query in any row of its split, and, under `label_first`, whether its query is new: a query counts
    once."""

    columns: ClassVar[Mapping[str, Column]] = COLUMNS
    headline: ClassVar[Metric] = Metric("ndcg_at_10", higher_is_better=True)
    probed: ClassVar[bool] = False

    corpus: str | None = None
    """File of further documents, one a row under `text` or `document`, to be searched beside those of the rows."""

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """Texts that are not blank."""
        wrong = check_text("query", values)
        names = ["candidates"] if purpose == "answer" else ["document", "negatives", "candidates"]
        for name in names:
            if name == "document" or values.get(name) not in (None, []):
                wrong = wrong or check_texts(name, values)
        return wrong

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The query, and lists of texts."""
        made: dict[str, Any] = {"query": values["query"]}
        for name, kept in (("document", "label_documents"), ("negatives", "label_negatives")):
            if values.get(name) not in (None, []):
                made[kept] = texts(values[name])
        if values.get("candidates") not in (None, []):
            made[CANDIDATES] = unique(texts(values["candidates"]))
        return made

    def learn(self, rows: Any) -> Task:
        """Nothing: documents come with the rows."""
        return self

    def assess(self, model: Any, examples: Sequence[Any]) -> list[dict[str, Vector]]:
        """Nothing: what is worth knowing is the order."""
        return []

    def documents(self, rows: Sequence[Row]) -> list[str]:
        """The corpus of some rows: what is relevant to any, what is not, and the file's."""
        known = [
            text
            for row in rows
            for name in ("label_documents", "label_negatives", CANDIDATES)
            for text in row.values.get(name, ())
        ]
        return unique([*known, *self.filed()])

    def filed(self) -> list[str]:
        """The documents of the `corpus` file."""
        return [] if self.corpus is None else read_corpus(self.corpus)

    def decode(self, row: Row, outputs: Sequence[Any]) -> Answer:
        """What `together` or `predict` made."""
        return dict(outputs[0])

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """Of each query once: where the relevant documents stand among the first ten."""
        if not row.values.get("label_first", True) or "documents" not in answer:
            return {}
        relevant = set(map(identity, relevant_to(row)))
        found = [identity(made["text"]) in relevant for made in answer["documents"]]
        return {"query": 1.0, "of": float(answer["of"]), "ranks": gains(found, len(relevant))}

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """Means over queries: mrr_at_10, ndcg_at_10, recall_at_1, recall_at_10; documents_ranked, how many."""
        queries = sums["query"][..., 0]
        names = ("mrr_at_10", "ndcg_at_10", "recall_at_1", "recall_at_10")
        made = {name: sums["ranks"][..., k] / queries for k, name in enumerate(names)}
        return made | {"documents_ranked": sums["of"][..., 0] / queries}

    def show(self, row: Row, answer: Answer | None) -> Shown:
        """The query, a relevant document, the first of the answer."""
        relevant = relevant_to(row)
        said = self.say(answer) if answer else ""
        return Shown(row["query"], relevant[0], said, identity(said) in map(identity, relevant) if answer else None)

    def say(self, answer: Answer) -> str:
        """The best document."""
        return str(answer["documents"][0]["text"]) if answer.get("documents") else ""

    def base(self, model: Any, rows: Sequence[Row]) -> None:
        """Nothing: the untuned model is asked the same."""

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """BM25 over the same documents."""
        corpus = self.documents(rows)
        place = {identity(text): k for k, text in enumerate(corpus)}
        scores = bm25(corpus)
        made: list[Answer] = []
        for row in rows:
            found, listed = scores(row["query"]), row.values.get(CANDIDATES)
            if listed:
                made.append(ranking(listed, found[[place[identity(text)] for text in listed]]))
            else:
                made.append(ranking(corpus, found))
        return {"bm25": made}


def relevant_to(row: Row) -> list[str]:
    """What is known to be relevant to a row's query: in any row of its split, once they were gathered."""
    found: list[str] = row.values.get("label_relevant", row["label_documents"])
    return found


def with_relevant(rows: Sequence[Row]) -> list[Row]:
    """Rows that know what is relevant to their query in any of them, and whether they are its first."""
    relevant: dict[int, list[str]] = {}
    for row in rows:
        relevant.setdefault(identity(row["query"]), []).extend(row["label_documents"])
    seen: set[int] = set()
    made = []
    for row in rows:
        query = identity(row["query"])
        known = {"label_relevant": unique(relevant[query]), "label_first": query not in seen}
        seen.add(query)
        made.append(replace(row, values={**row.values, **known}))
    return made


def gains(found: Sequence[bool], relevant: int) -> NDArray[np.float64]:
    """(reciprocal rank, NDCG, recall at 1, recall) of the first ten: whether each is relevant, and how many are in all.

    NDCG with gains of 0 and 1 (Jarvelin and Kekalainen 2002)."""
    hits = np.array(found[:DEPTH], dtype=np.float64)
    discount = 1 / np.log2(np.arange(2, DEPTH + 2))
    first = np.flatnonzero(hits)
    return np.array(
        [
            1 / (first[0] + 1) if len(first) else 0.0,
            (hits * discount[: len(hits)]).sum() / discount[: min(relevant, DEPTH)].sum(),
            hits[:1].sum() / relevant,
            hits.sum() / relevant,
        ]
    )


def ranking(documents: Sequence[str], scores: NDArray[Any]) -> Answer:
    """The ten best, with their scores, and of how many they are."""
    best = best_first(documents, scores, DEPTH)
    return {
        "documents": [{"text": documents[k], "score": round(float(scores[k]), 6)} for k in best],
        "of": len(documents),
    }


def best_first(documents: Sequence[str], scores: NDArray[Any], most: int) -> list[int]:
    """Places of the `most` best, by falling score. Equal scores come in an order of the texts alone: that of the file
    may be telling, as the relevant one often stands first. What is no number comes last."""
    known = -np.where(np.isnan(scores), -np.inf, scores)
    most = min(most, len(known))
    bound = np.partition(known, most - 1)[most - 1] if most else 0.0
    places = np.flatnonzero(known <= bound).tolist()
    chosen = [(float(known[k]), identity(documents[k]), k) for k in places]
    return [k for _, _, k in sorted(chosen)[:most]]


def bm25(documents: Sequence[str]) -> Callable[[str], NDArray[np.float64]]:
    """Query -> the BM25 score of every document (Robertson et al. 1994, as the library bm25s has it)."""
    import bm25s

    split = [list(words(text)) for text in documents]
    index = bm25s.BM25()
    if any(split):
        index.index(split, show_progress=False)

    def scores(query: str) -> NDArray[np.float64]:
        asked = list(words(query))
        if not any(split) or not asked:
            return np.zeros(len(documents))
        return np.asarray(index.get_scores(asked), dtype=np.float64)

    return scores


def words(text: str) -> Iterator[str]:
    """Words in lower case."""
    return (match.group() for match in re.finditer(r"\w+", text.lower()))


def identity(text: str) -> int:
    """A number for a text, whatever its case and spaces."""
    plain = " ".join(text.split()).casefold()
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=7).digest())


def unique(documents: Sequence[str]) -> list[str]:
    """Each text once, in the order of their first places."""
    found: dict[int, str] = {}
    for text in documents:
        found.setdefault(identity(text), text)
    return list(found.values())


def read_corpus(path: str) -> list[str]:
    """The documents of a file. Raises DataError for a row without one."""
    found = []
    for item in raw_rows(Path(path)):
        if isinstance(item, BadRow):
            raise DataError(item.reason, where=f"{item.file}:{item.line}", hint=item.hint)
        line, values = item
        text = next((values[name] for name in ("text", "document", "passage") if name in values), None)
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                "a document of the corpus is missing or no text",
                where=f"{path}:{line}",
                hint="each row needs a column `text`",
            )
        found.append(text)
    return found
