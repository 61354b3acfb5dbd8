"""Documents put in order by a net that reads the query and a document together (a cross-encoder)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge

from tunesmith.contracts import Example, Loss, Mark, Purpose, Reader, Row
from tunesmith.errors import DataError
from tunesmith.retrieving import CANDIDATES, Ranked, best_first, bm25, identity, ranking, unique, with_relevant

if TYPE_CHECKING:
    from tunesmith.models.catalog import Source
    from tunesmith.models.model import Model
    from tunesmith.recipe import Recipe


@dataclass(frozen=True)
class Reranking(Ranked):
    """A better order for the best documents of a cheaper search. Negatives and candidates that a row does not bring are
    what BM25 finds among the documents of its split."""

    families: ClassVar[tuple[str, ...]] = ("encoder", "decoder")

    negatives: Annotated[int, Ge(1)] = 4
    """Documents that are not relevant, beside each relevant one in training."""

    depth: Annotated[int, Ge(2)] = 20
    """Documents that BM25 finds to be put in order, where a row has no candidates."""

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """As Ranked; to answer, candidates must be there."""
        wrong = super().check_row(values, purpose)
        if wrong is None and purpose == "answer" and values.get("candidates") in (None, []):
            return "`candidates` is missing"
        return wrong

    def gather(self, rows: Sequence[Row], model: Model, purpose: Purpose) -> Sequence[Row]:
        """What is relevant to each query; to learn, negatives; to answer, candidates. Raises DataError where no row has
        a document that is not relevant."""
        known = with_relevant(rows)
        corpus = self.documents(known)
        scores = bm25(corpus)
        made = []
        for row in known:
            relevant = {identity(text) for text in row["label_relevant"]}
            best: list[str] = []
            if purpose == "learn" or CANDIDATES not in row.values:
                order = best_first(corpus, scores(row["query"]), self.depth + len(relevant))
                best = [corpus[k] for k in order]
            values: dict[str, Any] = {CANDIDATES: best[: self.depth], **row.values}
            if purpose == "learn":
                near = [*row.values.get("label_negatives", ()), *row.values.get(CANDIDATES, ()), *best]
                far = [text for text in unique(near) if identity(text) not in relevant]
                values["label_negatives"] = far[: self.negatives]
            made.append(replace(row, values=values))
        if purpose == "learn" and not any(row["label_negatives"] for row in made):
            raise DataError(
                "every document is relevant to every query: nothing can be put in order",
                where=made[0].file,
                hint="name others under `negatives`, or in the file `task.corpus`",
            )
        return made

    def build(self, source: Source, options: Recipe, seed: int) -> Model:
        """The pretrained net with one output."""
        from tunesmith.models.load import load_classifier

        return load_classifier(source, options.model, ("relevance",), options.data.max_tokens, seed)

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """To learn, an example for each relevant document, with the negatives; to answer, one with all candidates."""
        if purpose == "answer":
            return [Example(row.id, self._parts(row["query"], row[CANDIDATES], reader))]
        negatives = row.values.get("label_negatives", ())
        return [
            Example(row.id, self._parts(row["query"], [document, *negatives], reader), 0)
            for document in row["label_documents"]
        ]

    def _parts(self, query: str, documents: Sequence[str], reader: Reader) -> dict[str, Any]:
        names = ["text", *(f"text{k}" for k in range(1, len(documents)))]
        return {name: reader.text.pair(query, text) for name, text in zip(names, documents, strict=True)}

    def marks(self, row: Row, example: Example, reader: Reader) -> Sequence[Mark]:
        """Which document is relevant to the query."""
        return [Mark("not relevant" if k else "relevant", name) for k, name in enumerate(example.parts)]

    def weights(self, examples: Sequence[Example]) -> dict[str, float]:
        """Every relevant document counts once."""
        return {"loss": float(len(examples))}

    def loss(self, model: Model, examples: Sequence[Example]) -> dict[str, Loss]:
        """Cross entropy of the relevant document against the negatives beside it."""
        import torch

        parts = self._scores(model, examples)
        losses = [torch.logsumexp(found, 0) - found[0] for found in parts]
        return {"loss": Loss(torch.stack(losses).sum(), float(len(examples)))}

    def _scores(self, model: Model, examples: Sequence[Example]) -> Sequence[Any]:
        """[documents] of each example."""
        from tunesmith.models.loss import fine

        found = model.class_logits([part for example in examples for part in example.parts.values()])[:, 0]
        return list(fine(found).split([len(example.parts) for example in examples]))

    def predict(self, model: Model, examples: Sequence[Example]) -> list[Any]:
        """The candidates' scores."""
        return [found.detach().double().cpu().numpy() for found in self._scores(model, examples)]

    def together(
        self, model: Model, rows: Sequence[Row], outputs: Mapping[int, Sequence[Any]]
    ) -> Mapping[int, Sequence[Any]]:
        """The candidates in the order of their scores."""
        return {row.id: [ranking(row[CANDIDATES], outputs[row.id][0])] for row in rows}


plugin = Reranking
