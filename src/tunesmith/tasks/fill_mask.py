"""Plain text of which an encoder learns to fill in what is hidden: pretraining that goes on, on a domain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Gt, Lt
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
from tunesmith.written import check_text

if TYPE_CHECKING:
    from tunesmith.metrics.neighbours import Neighbours
    from tunesmith.models.catalog import Source
    from tunesmith.models.model import Model
    from tunesmith.recipe import Recipe

_MASK, _OTHER = 0.8, 0.1
"""Shares of chosen tokens that are masked, and that are replaced by another; the rest stays (Devlin et al. 2019)."""


@dataclass(frozen=True)
class FillMask(Task):
    """The tuning of an encoder on plain text. What is hidden changes with each epoch, but not between two looks."""

    columns: ClassVar[Mapping[str, Column]] = {
        "text": Column("a text", names=("content", "document", "body", "article", "context")),
    }
    headline: ClassVar[Metric] = Metric("mean_masked_loss", higher_is_better=False)
    families: ClassVar[tuple[str, ...]] = ("encoder",)

    share: Annotated[float, Gt(0), Lt(1)] = 0.15
    """Share of the tokens that are hidden."""

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """A text that is not blank."""
        return check_text("text", values)

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The text as it is."""
        return {"text": values["text"]}

    def learn(self, rows: Iterable[Row]) -> Self:
        """Nothing."""
        return self

    def build(self, source: Source, options: Recipe, seed: int) -> Model:
        """The encoder with the head that fills in; fresh where the folder has none."""
        from tunesmith.models.load import load_masked_lm

        return load_masked_lm(source, options.model, options.data.max_tokens, seed)

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """An example a piece of the text; the target is what was hidden. A text with masks of its own keeps them."""
        made = []
        for k, window in enumerate(reader.text.windows(row["text"], stride=0)):
            example = Example(row.id, {"text": window}, [])
            own = [token == reader.text.tokenizer.mask_token_id for token in window.ids]
            if any(own):
                made.append(
                    replace(example, parts={"text": replace(window, trained=tuple(own))}, target=[-1] * sum(own))
                )
            else:
                made.append(self.vary(example, reader, np.random.default_rng((row.id, k))))
        return made

    def vary(self, example: Example, reader: Reader, rng: np.random.Generator) -> Example:
        """The same text with other tokens hidden."""
        part = example.parts["text"]
        ids = list(part.ids)
        if example.target:  # put back what was hidden before
            places = [k for k, hidden in enumerate(part.trained) if hidden]
            for k, was in zip(places, example.target, strict=True):
                ids[k] = was if was >= 0 else ids[k]
        special = reader.text.special()
        usual = [k for k, token in enumerate(ids) if token not in special]
        count = min(max(1, round(self.share * len(usual))), len(usual))
        chosen = sorted(rng.choice(usual, count, replace=False).tolist()) if usual else []
        target = [ids[k] for k in chosen]
        for k, draw in zip(chosen, rng.random(count), strict=True):
            if draw < _MASK:
                ids[k] = reader.text.tokenizer.mask_token_id
            elif draw < _MASK + _OTHER:
                ids[k] = int(rng.integers(len(reader.text.tokenizer)))
        hidden = set(chosen)
        made = replace(part, ids=tuple(ids), trained=tuple(k in hidden for k in range(len(ids))))
        return Example(example.row_id, {"text": made}, target)

    def marks(self, row: Row, example: Example, reader: Reader) -> Sequence[Mark]:
        """What the model reads where a token is to be told."""
        part = example.parts["text"]
        places = [k for k, hidden in enumerate(part.trained) if hidden]
        names = reader.text.tokenizer.convert_ids_to_tokens([part.ids[k] for k in places])
        said = zip(places, names, example.target, strict=True)
        return [Mark(f"read as {name}", "text", (k, k + 1), usual=part.ids[k] == was) for k, name, was in said]

    def weights(self, examples: Sequence[Example]) -> dict[str, float]:
        """Every hidden token counts once."""
        return {"loss": float(sum(len(example.target) for example in examples))}

    def loss(self, model: Model, examples: Sequence[Example]) -> dict[str, Loss]:
        """Cross entropy of the hidden tokens, summed."""
        return {"loss": Loss(self._losses(model, examples).sum(), self.weights(examples)["loss"])}

    def _losses(self, model: Model, examples: Sequence[Example]) -> Any:
        from tunesmith.models.loss import row_losses

        targets = [token for example in examples for token in example.target]
        return row_losses(model.masked_logits([example.parts["text"] for example in examples]), targets)

    def assess(self, model: Model, examples: Sequence[Example]) -> list[dict[str, Vector]]:
        """Nothing: the answers hold the losses."""
        return []

    def predict(self, model: Model, examples: Sequence[Example]) -> list[Any]:
        """(tokens filled in, loss, how many are what was hidden, of how many that is known) of each piece."""
        logs = model.masked_logits([example.parts["text"] for example in examples]).float().log_softmax(-1)
        best = logs.argmax(-1).tolist()
        made, at = [], 0
        for example in examples:
            count = len(example.target)
            known = [(k, token) for k, token in enumerate(example.target, at) if token >= 0]
            loss = -sum(float(logs[k, token]) for k, token in known)
            right = sum(best[k] == token for k, token in known)
            filled = [model.text.tokenizer.convert_ids_to_tokens(token) for token in best[at : at + count]]
            made.append((filled, loss, right, len(known)))
            at += count
        return made

    def decode(self, row: Row, outputs: Sequence[Any]) -> Answer:
        """The tokens filled in; of a text without masks of its own, how well hidden ones were told."""
        return {
            "tokens": [token for filled, *_ in outputs for token in filled],
            "loss": float(sum(loss for _, loss, _, _ in outputs)),
            "right": int(sum(right for _, _, right, _ in outputs)),
            "known": int(sum(known for *_, known in outputs)),
        }

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """Loss and right answers over hidden tokens; masks of the user's own have no right answer."""
        return {"loss": answer["loss"], "tokens": float(answer["known"]), "right": float(answer["right"])}

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """mean_masked_loss, masked_perplexity and masked_accuracy over hidden tokens."""
        tokens = np.where(sums["tokens"][..., 0] > 0, sums["tokens"][..., 0], np.nan)
        mean = sums["loss"][..., 0] / tokens
        return {
            "mean_masked_loss": mean,
            "masked_perplexity": np.exp(mean),
            "masked_accuracy": sums["right"][..., 0] / tokens,
        }

    def say(self, answer: Answer) -> str:
        """The tokens filled in."""
        return " ".join(answer["tokens"])

    def show(self, row: Row, answer: Answer | None) -> Shown:
        """The text, and the tokens filled in."""
        return Shown(row["text"], "", " ".join(answer["tokens"]) if answer else "")

    def base(self, model: Model, rows: Sequence[Row]) -> None:
        """Nothing: the untuned model fills in too. Where its head is fresh, that is a guess at random."""

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """Counting: the same hidden tokens told from the two beside each, as they were in training."""
        from tunesmith.metrics.neighbours import count

        pieces = (piece.ids for row in train for piece in reader.text.windows(row["text"], stride=0))
        counted = count(pieces, len(reader.text.tokenizer), reader.text.special())
        made = []
        for row in rows:
            outputs = [_told(counted, example, reader) for example in self.encode(row, reader, "answer")]
            made.append(self.decode(row, outputs))
        return {"neighbours": made}


def _told(counted: Neighbours, example: Example, reader: Reader) -> tuple[list[str], float, int, int]:
    """What `predict` gives of an example, from its neighbours alone."""
    ids, hidden = example.parts["text"].ids, example.parts["text"].trained
    places = [k for k, chosen in enumerate(hidden) if chosen]
    loss, right, filled = 0.0, 0, []
    for k, wanted in zip(places, example.target, strict=True):
        left, right_of = (ids[at] if 0 <= at < len(ids) else None for at in (k - 1, k + 1))
        log, best = counted.guess(left, right_of, max(wanted, 0))
        filled.append(reader.text.tokenizer.convert_ids_to_tokens(best))
        loss -= log if wanted >= 0 else 0.0
        right += best == wanted
    return filled, loss, right, sum(wanted >= 0 for wanted in example.target)


plugin = FillMask
