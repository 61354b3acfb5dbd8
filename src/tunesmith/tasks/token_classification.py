"""Names in a text: a label for every word (named entities, parts of an address, fields of a form).

Rows come as words with a tag each (BIO, BILOU, BIOES or bare), or as a text with spans of characters. Both become
words and entities over words; gold is read from the file, so nothing is lost to sub-words or to a model's context.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from annotated_types import Ge, Lt
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
    Tokens,
    Vector,
)
from tunesmith.data import spans
from tunesmith.errors import DataError
from tunesmith.metrics import calibrating
from tunesmith.metrics.counts import ratio
from tunesmith.written import check_text

if TYPE_CHECKING:
    from tunesmith.models.catalog import Source
    from tunesmith.models.model import Model
    from tunesmith.recipe import Recipe


@dataclass(frozen=True)
class TokenClassification(Task):
    """A label for every word, by an encoder (or a decoder); long texts are read in overlapping windows."""

    columns: ClassVar[Mapping[str, Column]] = {
        "tokens": Column("a list of words", required=False, names=("words",)),
        "tags": Column(
            "a list of tags such as B-PER, one a word",
            required=False,
            names=("ner_tags", "labels", "ner", "bio_tags"),
            target=True,
        ),
        "text": Column("a text", required=False, names=("sentence", "content", "document")),
        "spans": Column(
            "a list of {start, end, label}", required=False, names=("entities", "annotations"), target=True
        ),
    }
    headline: ClassVar[Metric] = Metric("entity_micro_f1", higher_is_better=True)
    families: ClassVar[tuple[str, ...]] = ("encoder", "decoder")

    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the target that is spread over all tags (Szegedy et al. 2016, arXiv:1512.00567)."""

    nested: Literal["refuse", "outer"] = "refuse"
    """What to do with entities inside entities: refuse the row, or keep the outer one."""

    stride: Annotated[int, Ge(0)] = 64
    """Tokens that neighbouring windows of a long text share."""

    types: tuple[str, ...] = field(default=(), metadata={"option": False})
    """Kinds of entity in the training rows."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The tags that the net chooses from: O, then B- and I- of every type."""
        return (spans.OUTSIDE, *(f"{prefix}-{kind}" for kind in self.types for prefix in "BI"))

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """Words and tags must be as many; spans must lie in their text, on top of each other only if allowed."""
        if _has_words(values):
            return _check_words(values["tokens"], values.get("tags"), learn=purpose == "learn")
        text = values.get("text")
        if text is None or (wrong := check_text("text", values)):
            return "the row has neither `tokens` nor a `text`" if text is None else wrong
        if purpose == "answer":
            return None
        if values.get("spans") is None:
            return "the row has a `text` and no `spans`; an empty list says that there is nothing in it"
        found = _read_spans(values["spans"], text)
        if isinstance(found, str):
            return found
        if self.nested == "refuse" and spans.overlap(spans.from_characters(found, spans.words_of(text))[0]):
            return "two spans overlap; `task.nested: outer` keeps the outer one"
        return None

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Text, spans of its words, and entities over words; `mended` counts tags and spans that were repaired."""
        made: dict[str, Any] = {}
        if _has_words(values):
            words = [str(word) for word in values["tokens"]]
            ends = np.cumsum([len(word) + 1 for word in words]).tolist()
            places = [(end - 1 - len(word), end - 1) for word, end in zip(words, ends, strict=True)]
            made = {"text": " ".join(words), "words": places}
            entities, mended = spans.from_tags(values["tags"]) if values.get("tags") is not None else (None, 0)
        else:
            places = spans.words_of(values["text"])
            made = {"text": values["text"], "words": places}
            given = values.get("spans")
            found = _read_spans(given, values["text"]) if given is not None else None
            assert not isinstance(found, str)
            entities, mended = spans.from_characters(found, places) if found is not None else (None, 0)
        if entities is not None:
            kept = spans.outer(entities) if self.nested == "outer" else entities
            made |= {"label_entities": [list(entity) for entity in kept], "label_mended": mended}
        return made

    def learn(self, rows: Iterable[Row]) -> TokenClassification:
        """The types, sorted. Raises DataError when no training row has any."""
        kinds = {entity[2] for row in rows for entity in row["label_entities"]}
        if not kinds:
            raise DataError("no training row has an entity; there is nothing to learn", where="data.train")
        return replace(self, types=tuple(sorted(kinds)))

    def build(self, source: Source, options: Recipe, seed: int) -> Model:
        """The pretrained net with a linear layer over every token."""
        from tunesmith.models.load import load_token_classifier

        return load_token_classifier(source, options.model, self.labels, options.data.max_tokens, seed)

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """An example a window. The first token of a word stands for it, in the window where it has most around it."""
        windows = reader.text.windows(row["text"], stride=self.stride)
        chosen = _first_tokens(windows, row["words"])
        tags = None
        if purpose == "learn":
            known = self.labels
            said = spans.to_tags([tuple(e) for e in row["label_entities"]], len(row["words"]))
            tags = [known.index(tag) if tag in known else -1 for tag in said]
        made = []
        for window, words in zip(windows, chosen, strict=True):
            if not words and len(windows) > 1:
                continue
            numbers = [words[k] for k in sorted(words)]
            target: dict[str, Any] = {"words": numbers}
            if tags is not None:
                target["labels"] = [tags[number] for number in numbers]
            trained = tuple(k in words for k in range(len(window.ids)))
            made.append(Example(row.id, {"text": replace(window, trained=trained)}, target))
        return made

    def marks(self, row: Row, example: Example, reader: Reader) -> Sequence[Mark]:
        """The tag of each word, on all its tokens; the first of them stands for it."""
        part, made = example.parts["text"], []
        firsts = [k for k, mine in enumerate(part.trained) if mine]
        for first, word, label in zip(firsts, example.target["words"], example.target["labels"], strict=True):
            end = row["words"][word][1]
            last = max(k for k, (a, b) in enumerate(part.offsets) if k == first or (k > first and a < min(b, end)))
            tag = self.labels[label] if label >= 0 else "unknown"
            made.append(Mark(tag, "text", (first, last + 1), usual=tag == spans.OUTSIDE))
        return made

    def weights(self, examples: Sequence[Example]) -> dict[str, float]:
        """Every word counts once."""
        return {"loss": float(sum(label >= 0 for e in examples for label in e.target["labels"]))}

    def loss(self, model: Model, examples: Sequence[Example]) -> dict[str, Loss]:
        """Cross entropy of the words' tags, summed."""
        from tunesmith.models.loss import class_loss

        targets = [label for example in examples for label in example.target["labels"]]
        total = class_loss(_word_logits(model, examples), targets, self.smoothing)
        return {"loss": Loss(total, self.weights(examples)["loss"])}

    def assess(self, model: Model, examples: Sequence[Example]) -> list[dict[str, Vector]]:
        """Nothing: the answers themselves are cheap and hold all there is to measure."""
        return []

    def predict(self, model: Model, examples: Sequence[Example]) -> list[Any]:
        """(word numbers, log probabilities [words, labels]) of each window."""
        logs = _word_logits(model, examples).float().log_softmax(-1).double().cpu().numpy()
        ends = np.cumsum([len(example.target["words"]) for example in examples])
        return list(zip([e.target["words"] for e in examples], np.split(logs, ends[:-1]), strict=True))

    def decode(self, row: Row, outputs: Sequence[Any]) -> Answer:
        """The likeliest tags of which every inside tag continues an entity, and the entities they say."""
        words = row["words"]
        logs = np.full((len(words), len(self.labels)), -30.0)
        logs[:, 0] = 0.0  # a word that the tokenizer makes nothing of is in no entity
        for numbers, found in outputs:
            logs[numbers] = found
        path = spans.likeliest(logs)
        entities, _ = spans.from_tags([self.labels[k] for k in path])
        chances = np.exp(logs[np.arange(len(words)), path]) if len(words) else np.zeros(0)
        return {
            "tags": spans.to_tags(entities, len(words)),
            "entities": [
                {
                    "label": kind,
                    "text": row["text"][words[first][0] : words[after - 1][1]],
                    "start": words[first][0],
                    "end": words[after - 1][1],
                    "probability": float(chances[first:after].min()),
                }
                for first, after, kind in entities
            ],
        }

    def mean_of(self, outputs: Sequence[Any], tasks: Sequence[Self]) -> Any:
        """The log of the mean of the probabilities of each word's tags; all nets read the same windows."""
        assert all(words == outputs[0][0] for words, _ in outputs)
        return outputs[0][0], calibrating.mean([logs for _, logs in outputs])

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """Counts per type (and of types that training does not have) of gold, found and both; and of words."""
        gold = {tuple(entity) for entity in row["label_entities"]}
        found = set(spans.from_tags(answer["tags"])[0])
        places = {kind: k for k, kind in enumerate(self.types)}
        counts = np.zeros((3, len(self.types) + 1))
        for line, entities in enumerate((gold, found, gold & found)):
            for _, _, kind in entities:
                counts[line, places.get(kind, len(self.types))] += 1
        said = spans.to_tags(sorted(gold), len(row["words"]))
        return {
            "row": 1.0,
            "words": float(len(said)),
            "right_words": float(sum(a == b for a, b in zip(said, answer["tags"], strict=True))),
            "gold": counts[0],
            "found": counts[1],
            "hit": counts[2],
        }

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """Strict scores of whole entities: micro over all, macro over the types that occur in gold or answers."""
        gold, found, hit = sums["gold"], sums["found"], sums["hit"]
        per_type = ratio(2 * hit, gold + found)
        present = ((gold + found) > 0).sum(-1)
        all_gold, all_found, all_hit = gold.sum(-1), found.sum(-1), hit.sum(-1)
        return {
            "entity_micro_f1": ratio(2 * all_hit, all_gold + all_found),
            "entity_micro_precision": ratio(all_hit, all_found),
            "entity_micro_recall": ratio(all_hit, all_gold),
            "entity_macro_f1": per_type.sum(-1) / np.maximum(present, 1),
            "word_accuracy": sums["right_words"][..., 0] / sums["words"][..., 0],
        }

    def counted(self) -> Sequence[str]:
        """The types of entities."""
        return self.types

    def say(self, answer: Answer) -> str:
        """The entities."""
        return "; ".join(f"{one['text']} [{one['label']}]" for one in answer["entities"]) or "(none)"

    def show(self, row: Row, answer: Answer | None) -> Shown:
        """Entities in brackets."""
        gold = [tuple(entity) for entity in row["label_entities"]]
        reference = _bracketed(row, gold)
        if answer is None:
            return Shown(row["text"], reference, "")
        found = spans.from_tags(answer["tags"])[0]
        return Shown(row["text"], reference, _bracketed(row, found), set(found) == set(gold))

    def cautions(self, rows: Sequence[Row]) -> list[str]:
        """Tags and spans that were repaired."""
        mended = [row for row in rows if row.values.get("label_mended")]
        if not mended:
            return []
        count = sum(row["label_mended"] for row in mended)
        return [
            f"{count} tags or spans in {len(mended)} rows were mended (first at {mended[0].place}): an inside tag that "
            "continues nothing begins an entity, a span that cuts a word is widened to it"
        ]

    def base(self, model: Model, rows: Sequence[Row]) -> None:
        """A linear probe: logistic regression of the tags on the frozen net's states."""
        from tunesmith.models.probe import fit_token_probe

        examples = [example for row in rows for example in self.encode(row, model, "learn")]
        fit_token_probe(model, [e.parts["text"] for e in examples], [e.target["labels"] for e in examples])

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """Each word's most frequent tag in training."""
        seen: dict[str, Counter[str]] = defaultdict(Counter)
        for row in train:
            tags = spans.to_tags([tuple(e) for e in row["label_entities"]], len(row["words"]))
            for (start, end), tag in zip(row["words"], tags, strict=True):
                seen[row["text"][start:end]][tag] += 1
        usual = {word: counts.most_common(1)[0][0] for word, counts in seen.items()}
        made = []
        for row in rows:
            tags = [usual.get(row["text"][start:end], spans.OUTSIDE) for start, end in row["words"]]
            made.append({"tags": spans.to_tags(spans.from_tags(tags)[0], len(tags)), "entities": []})
        return {"usual_tag_of_word": made}


def _first_tokens(windows: Sequence[Tokens], words: Sequence[Sequence[int]]) -> list[dict[int, int]]:
    """For each window {token: word} of the words that it answers for."""
    found: dict[int, tuple[int, int, int]] = {}
    for number, window in enumerate(windows):
        inside = [k for k, mine in enumerate(window.trained) if mine]
        at = 0
        for k in inside:
            start, end = window.offsets[k]
            while at < len(words) and words[at][1] <= start:
                at += 1
            if at == len(words) or words[at][0] >= end or start == end:
                continue
            before = found.get(at)
            if before is not None and before[1] == number:
                continue  # a later token of the same word
            around = min(k - inside[0], inside[-1] - k)
            cut = k == inside[0] and number > 0 and start > words[at][0]  # the word began in the window before
            if not cut and (before is None or around > before[0]):
                found[at] = (around, number, k)
    chosen: list[dict[int, int]] = [{} for _ in windows]
    for word, (_, number, k) in found.items():
        chosen[number][k] = word
    return chosen


def _word_logits(model: Model, examples: Sequence[Example]) -> Any:
    import torch

    rows = [example.parts["text"] for example in examples]
    starts = np.cumsum([0, *[len(row.ids) for row in rows]])
    places = [int(at) + k for at, row in zip(starts, rows, strict=False) for k, mine in enumerate(row.trained) if mine]
    return model.token_logits(rows, torch.tensor(places, dtype=torch.long))


def _bracketed(row: Row, entities: Sequence[spans.Entity]) -> str:
    return "; ".join(
        f"{row['text'][row['words'][first][0] : row['words'][after - 1][1]]} [{kind}]"
        for first, after, kind in sorted(entities)
    )


def _has_words(values: Mapping[str, Any]) -> bool:
    """Whether the row comes as words. Tools that mark spans may write their own tokens, as objects, beside the text."""
    words = values.get("tokens")
    objects = isinstance(words, list) and words and all(isinstance(word, Mapping) for word in words)
    return words is not None and not (objects and isinstance(values.get("text"), str))


def _check_words(words: Any, tags: Any, *, learn: bool) -> str | None:
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        return "`tokens` is not a list of words"
    if not learn:
        return None
    if not isinstance(tags, list):
        return "`tags` is missing" if tags is None else "`tags` is not a list of tags"
    if any(not isinstance(tag, str) for tag in tags):
        return "`tags` holds numbers; write the names of the tags"
    if len(tags) != len(words):
        return f"the row has {len(words)} words and {len(tags)} tags"
    empty = next((k for k, tag in enumerate(tags, 1) if not tag.strip()), None)
    return spans.odd(tags) if empty is None else f"tag {empty} is empty; a word in no entity has the tag O"


def _read_spans(given: Any, text: str) -> list[tuple[int, int, str]] | str:
    """Spans as {start, end, label} or [start, end, label], or in words why they cannot be read."""
    if not isinstance(given, list):
        return "`spans` is not a list"
    made = []
    for number, item in enumerate(given, 1):
        if isinstance(item, Mapping):
            label = next((item[name] for name in ("label", "type", "entity", "tag") if name in item), None)
            item = [item.get("start"), item.get("end"), label]
        if not isinstance(item, list | tuple) or len(item) != 3:
            return f"span {number} is not {{start, end, label}}"
        start, end, label = item
        if type(start) is not int or type(end) is not int or not isinstance(label, str) or not label.strip():
            return f"span {number} is not {{start, end, label}} with whole numbers and a name"
        if not 0 <= start < end <= len(text):
            return f"span {number} is ({start}, {end}); its text has {len(text)} characters"
        made.append((start, end, label))
    return made


plugin = TokenClassification
