"""The documents of a corpus that answer a query, by embeddings; or how alike two texts are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from tunesmith.contracts import (
    Answer,
    Column,
    Example,
    Loss,
    Mark,
    Metric,
    Purpose,
    Reader,
    Row,
    Shown,
    Sums,
    Task,
    Vector,
)
from tunesmith.errors import DataError
from tunesmith.metrics import ranking as order_of
from tunesmith.metrics.moments import moments, pearson
from tunesmith.retrieving import (
    CANDIDATES,
    COLUMNS,
    DEPTH,
    Ranked,
    best_first,
    gains,
    identity,
    ranking,
    relevant_to,
    with_relevant,
)
from tunesmith.tasks.text_regression import number_of
from tunesmith.written import check_texts

if TYPE_CHECKING:
    from torch import Tensor

    from tunesmith.models.catalog import Source
    from tunesmith.models.model import Model
    from tunesmith.recipe import Recipe


@dataclass(frozen=True)
class Retrieval(Ranked):
    """Embeddings of queries and documents, near where one answers the other. Learned from pairs, with the documents of
    all other rows of an update as negatives; from triplets; or from pairs with a score."""

    columns: ClassVar[Mapping[str, Column]] = {
        **COLUMNS,
        "score": Column("a number: how alike the two texts are", required=False, names=("similarity",), target=True),
    }
    families: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    each: ClassVar[tuple[str, ...]] = ("said", "gold")

    scale: Annotated[float, Gt(0)] = 20.0
    """What cosines are multiplied with in the loss: 1 / temperature."""

    mine: Annotated[int, Ge(0)] = 0
    """Hard negatives of each training row, found with the untuned model."""

    margin: Annotated[float, Gt(0), Le(1)] = 0.95
    """A document is no hard negative where its cosine is above this share of the relevant document's: it may be
    relevant too (Moreira et al. 2024, arXiv:2407.15831)."""

    sizes: tuple[int, ...] = ()
    """Lengths of shorter embeddings, the first numbers of the whole, that are to work too (Matryoshka, Kusupati et al.
    2022, arXiv:2205.13147)."""

    query_prefix: str = ""
    """What the model reads before a query."""

    document_prefix: str = ""
    """What the model reads before a document."""

    scored: bool = field(default=False, metadata={"option": False})
    """Whether the training rows have scores."""

    def asked(self) -> Mapping[str, Column]:
        """The query, and what else may be there; of scored pairs, both texts."""
        both = ("query", "document")
        return {name: self.columns[name] for name in both} if self.scored else super().asked()

    @property
    def joint(self) -> bool:
        """Other rows' documents are the wrong ones."""
        return True

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """As Ranked; a score must be a number, and stands for one document."""
        wrong = super().check_row(values, purpose)
        if self.scored and purpose == "answer":
            return wrong or check_texts("document", values)
        if wrong or purpose == "answer" or values.get("score") is None:
            return wrong
        if number_of(values["score"]) is None:
            return f"`score` is not a number: {values['score']!r}"
        return None if isinstance(values["document"], str) else "a row with a score has one document"

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """As Ranked, with the score as a number."""
        made = super().normalize(values)
        return made | ({"label_score": number_of(values["score"])} if values.get("score") is not None else {})

    def learn(self, rows: Iterable[Row]) -> Task:
        """Whether rows have scores. Raises DataError where some have and some have not."""
        listed = list(rows)
        scored = ["label_score" in row.values for row in listed]
        if any(scored) and not all(scored):
            row = listed[scored.index(False)]
            raise DataError("this row has no score and others have", where=row.place, hint="give all a score, or none")
        return replace(self, scored=any(scored))

    def gather(self, rows: Sequence[Row], model: Model, purpose: Purpose) -> Sequence[Row]:
        """What is relevant to each query; to learn, hard negatives."""
        odd = next((row for row in rows if ("label_score" in row.values) != self.scored), None)
        if odd is not None:
            has, others = ("no score", "have one") if self.scored else ("a score", "have none")
            raise DataError(f"this row has {has} and the training rows {others}", where=odd.place)
        if self.scored:
            return rows
        self.filed()  # a file that is not there is better missed now
        made = with_relevant(rows)
        return self._mined(made, model) if self.mine and purpose == "learn" else made

    def _mined(self, rows: Sequence[Row], model: Model) -> list[Row]:
        corpus = self.documents(rows)
        place = {identity(text): k for k, text in enumerate(corpus)}
        documents = self._embed(model, corpus, self.document_prefix)
        queries = self._embed(model, [row["query"] for row in rows], self.query_prefix)
        made = []
        for row, query in zip(rows, queries, strict=True):
            cosines = documents @ query
            relevant = [place[identity(text)] for text in row["label_relevant"] if identity(text) in place]
            most = self.margin * max(cosines[k] for k in relevant)
            far = [k for k in np.argsort(-cosines, kind="stable") if cosines[k] < most and k not in relevant]
            given = row.values.get("label_negatives", [])
            known = {identity(text) for text in given}
            found = [corpus[k] for k in far[: self.mine + len(given)] if identity(corpus[k]) not in known]
            made.append(replace(row, values={**row.values, "label_negatives": [*given, *found[: self.mine]]}))
        return made

    def build(self, source: Source, options: Recipe, seed: int) -> Model:
        """The pretrained net without a head. Raises RecipeError for sizes that are not shorter than its states."""
        from tunesmith.errors import RecipeError
        from tunesmith.models.load import load_embedder

        prompts = {"query": self.query_prefix, "document": self.document_prefix}
        model = load_embedder(source, options.model, options.data.max_tokens, seed, prompts)
        width = int(model.config.hidden_size)
        if any(not 0 < size < width for size in self.sizes):
            raise RecipeError(
                f"the model's embeddings have {width} numbers", where="task.sizes", hint="shorter ones are from 1 on"
            )
        return model

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """To learn, an example for each relevant document, with the negatives; to answer, the query."""
        query = reader.text.text(self.query_prefix + row["query"])
        if purpose == "answer":
            return [Example(row.id, {"text": query})]
        made = []
        negatives = row.values.get("label_negatives", ())
        for document in row["label_documents"]:
            parts = [document, *negatives]
            said = {f"document{k}": reader.text.text(self.document_prefix + text) for k, text in enumerate(parts)}
            target = {
                "documents": [identity(text) for text in parts],
                "relevant": [identity(text) for text in relevant_to(row)],
                "score": row.values.get("label_score"),
            }
            made.append(Example(row.id, {"text": query, **said}, target))
        return made

    def marks(self, row: Row, example: Example, reader: Reader) -> Sequence[Mark]:
        """Which part is the query, and which document is relevant to it."""
        score = example.target["score"]
        first = "relevant" if score is None else f"score: {score:g}"
        _, *documents = example.parts
        said = [Mark("not relevant" if k else first, name) for k, name in enumerate(documents)]
        return [Mark("query", "text"), *said]

    def weights(self, examples: Sequence[Example]) -> dict[str, float]:
        """Every pair counts once; an order of scores is one thing."""
        return {"loss": 1.0 if self.scored else float(len(examples))}

    def loss(self, model: Model, examples: Sequence[Example]) -> dict[str, Loss]:
        """The joint loss of these examples."""
        return self.joint_loss(self.represent(model, examples), examples)

    def represent(self, model: Model, examples: Sequence[Example]) -> Tensor:
        """Embeddings of every example's query, document and negatives."""
        return model.embeddings([part for example in examples for part in example.parts.values()])

    def joint_loss(self, vectors: Tensor, examples: Sequence[Example]) -> dict[str, Loss]:
        """Cross entropy of each query's document against all documents that are not known to be relevant (InfoNCE, van
        den Oord et al. 2018); of scored pairs, that the more alike have the larger cosine (CoSENT, Su 2022). The mean
        over all sizes."""
        import torch
        from torch.nn.functional import normalize

        starts = np.cumsum([0, *(len(example.parts) for example in examples[:-1])])
        queries = torch.tensor(starts, device=vectors.device)
        others = np.setdiff1d(np.arange(len(vectors)), starts)
        documents = torch.tensor(others, device=vectors.device)
        wide = vectors if vectors.dtype == torch.float64 else vectors.float()
        totals = []
        for size in (wide.shape[1], *self.sizes):
            unit = normalize(wide[:, :size], dim=1)
            asked, there = unit[queries], unit[documents]
            totals.append(
                self._of_order(asked, there, examples) if self.scored else self._of_pairs(asked, there, examples)
            )
        return {"loss": Loss(torch.stack(totals).mean(), self.weights(examples)["loss"])}

    def _of_pairs(self, asked: Tensor, there: Tensor, examples: Sequence[Example]) -> Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        ids = [number for example in examples for number in example.target["documents"]]
        firsts = np.cumsum([0, *(len(example.target["documents"]) for example in examples[:-1])])
        _, first_of = np.unique(ids, return_index=True)
        again = np.ones(len(ids), dtype=bool)
        again[first_of] = False
        hidden = np.stack([again | np.isin(ids, example.target["relevant"]) for example in examples])
        hidden[np.arange(len(examples)), firsts] = False
        scores = self.scale * (asked @ there.T)
        scores = scores.masked_fill(torch.tensor(hidden, device=scores.device), float("-inf"))
        return cross_entropy(scores, torch.tensor(firsts, device=scores.device), reduction="sum")

    def _of_order(self, asked: Tensor, there: Tensor, examples: Sequence[Example]) -> Tensor:
        import torch

        counts = [len(example.target["documents"]) for example in examples]
        firsts = torch.tensor(np.cumsum([0, *counts[:-1]]), device=there.device)
        cosines = self.scale * (asked * there[firsts]).sum(1)
        gold = torch.tensor([example.target["score"] for example in examples], device=cosines.device)
        wrong = (cosines[:, None] - cosines[None, :])[gold[:, None] < gold[None, :]]
        return torch.logsumexp(torch.cat([wrong.new_zeros(1), wrong]), 0)

    def predict(self, model: Model, examples: Sequence[Example]) -> list[Any]:
        """An embedding a query."""
        from torch.nn.functional import normalize

        found = model.embeddings([example.parts["text"] for example in examples]).float()
        return list(normalize(found, dim=1).cpu().numpy())

    def together(
        self, model: Model, rows: Sequence[Row], outputs: Mapping[int, Sequence[Any]]
    ) -> Mapping[int, Sequence[Any]]:
        """Cosines with a row's candidates, else with all documents of the rows and of the corpus; of scored pairs, the
        cosine of the two; where there is nothing to compare with, the embedding itself."""
        shared = self.documents([row for row in rows if CANDIDATES not in row.values])
        texts = list(dict.fromkeys(text for row in rows for text in row.values.get(CANDIDATES, ())))
        pairs = [row["label_documents"][0] for row in rows] if self.scored else []
        texts = list(dict.fromkeys([*([] if pairs else shared), *texts, *pairs]))
        place = {text: k for k, text in enumerate(texts)}
        vectors = self._embed(model, texts, self.document_prefix)
        everywhere = np.array([place[text] for text in shared if text in place], dtype=np.int64)
        made: dict[int, list[Answer]] = {}
        for number, row in enumerate(rows):
            query = outputs[row.id][0]
            if pairs:
                made[row.id] = [{"similarity": float(vectors[place[pairs[number]]] @ query)}]
                continue
            listed = row.values.get(CANDIDATES)
            here = np.array([place[text] for text in listed], dtype=np.int64) if listed else everywhere
            if not len(here):
                made[row.id] = [{"embedding": [round(float(value), 6) for value in query]}]
                continue
            answer = ranking([texts[k] for k in here], vectors[here] @ query)
            for size in self.sizes:
                short = _shorter(vectors[here], size) @ _shorter(query[None], size)[0]
                best = best_first([texts[k] for k in here], short, DEPTH)
                answer[f"best_of_{size}"] = [identity(texts[here[k]]) for k in best]
            made[row.id] = [answer]
        return made

    def _embed(self, model: Model, texts: Sequence[str], prefix: str) -> NDArray[np.float32]:
        """[texts, width], of length 1."""
        from tunesmith.models.embed import embed

        return embed(model, [model.text.text(prefix + text) for text in texts])

    def watched(self, scores: Mapping[str, float]) -> Metric:
        """Of scored pairs, the correlation."""
        return Metric("pearson", higher_is_better=True) if "pearson" in scores else self.headline

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """As Ranked, and at each shorter size; of scored pairs, the two numbers."""
        if "similarity" in answer:
            said, gold = float(answer["similarity"]), float(row["label_score"])
            return {"row": 1.0, "moments": moments(gold, said), "said": said, "gold": gold}
        made = super().measure(row, answer)
        for size in self.sizes if made else ():
            if f"best_of_{size}" not in answer:
                continue
            relevant = set(map(identity, relevant_to(row)))
            made[f"ranks_{size}"] = gains([k in relevant for k in answer[f"best_of_{size}"]], len(relevant))
        return made

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """As Ranked, with ndcg_at_10_of_SIZE; of scored pairs, pearson."""
        if "moments" in sums:
            return {"pearson": pearson(sums["moments"], sums["row"][..., 0])}
        made = super().reduce(sums) if "query" in sums else {}
        for size in self.sizes:
            if f"ranks_{size}" in sums:
                made[f"ndcg_at_10_of_{size}"] = sums[f"ranks_{size}"][..., 1] / sums["query"][..., 0]
        return made

    def order(self, values: Sums, counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """spearman, of scored pairs"""
        return {"spearman": order_of.spearman(values["said"][:, 0], values["gold"][:, 0], counts)}

    def show(self, row: Row, answer: Answer | None) -> Shown:
        """As Ranked; of scored pairs, the two texts and the two numbers."""
        if not self.scored:
            return super().show(row, answer)
        said = f"{answer['similarity']:.3f}" if answer else ""
        return Shown(f"{row['query']} | {row['label_documents'][0]}", f"{row['label_score']:g}", said)

    def say(self, answer: Answer) -> str:
        """The best document; else the cosine, or the first numbers of the embedding."""
        if "similarity" in answer:
            return f"{answer['similarity']:.3f}"
        if "embedding" in answer:
            return " ".join(f"{value:.3f}" for value in answer["embedding"][:4]) + " ..."
        return super().say(answer)

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """BM25; of scored pairs, the share of words that the two have in common."""
        if not self.scored:
            return super().baselines(train, rows, reader)
        from tunesmith.retrieving import words

        made: list[Answer] = []
        for row in rows:
            a, b = set(words(row["query"])), set(words(row["label_documents"][0]))
            made.append({"similarity": len(a & b) / max(len(a | b), 1)})
        return {"common_words": made}


def _shorter(vectors: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The first numbers of each, brought to length 1."""
    cut = vectors[:, :size]
    made: NDArray[np.float32] = cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12)
    return made


plugin = Retrieval
