"""Models with adapters over one frozen base, whose rows go through it in one stream.

The frozen matrices multiply the tokens of all; each model's adapters are for its own span alone, and what it draws is
what it draws alone. Everything behind the trunk is each model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith.contracts import Tokens
from tunesmith.errors import RecipeError
from tunesmith.models import anatomy, bodies
from tunesmith.models.adapted import Adapted, found
from tunesmith.models.draws import Dice, kept
from tunesmith.models.lora import LoraLinear
from tunesmith.models.segments import Look
from tunesmith.models.stream import Segment, Stream

if TYPE_CHECKING:
    from tunesmith.models.model import Model

_LABELS = ("id2label", "label2id", "_name_or_path")
"""What a config says of a head."""


@dataclass(frozen=True)
class Crew:
    """Whose tokens stand where among those of several models."""

    spans: tuple[slice, ...]
    """Of each model, one behind the other."""
    dice: tuple[Dice, ...]
    adapters: Mapping[nn.Module, Sequence[LoraLinear]]
    """An adapted product of the first model -> those of all models at its place."""

    def product(self, x: Tensor, module: nn.Module) -> Tensor:
        """x [tokens, in] times a layer of the first model, with each model's adapter at its own tokens
        -> [tokens, out]."""
        if not isinstance(module, Adapted):
            return torch.as_tensor(module(x))
        plain = module.base(x)
        made = []
        for one, span, dice in zip(self.adapters[module], self.spans, self.dice, strict=True):
            with dice.turn():
                made.append(one.beside(x[span], plain[span]))
        return torch.cat(made)

    def dropout(self, x: Tensor, rate: float) -> Tensor:
        """x [tokens, width] with some of its numbers set to 0 and the others scaled up."""
        return x * torch.cat([kept(x[span], rate, dice) for span, dice in zip(self.spans, self.dice, strict=True)])

    def repeated(self, block: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A block that draws the same numbers when it is computed a second time."""
        states = [dice.state for dice in self.dice]

        def again(*given: Any) -> Tensor:
            for dice, state in zip(self.dice, states, strict=True):
                dice.state = state
            return block(*given)

        return again


@dataclass(frozen=True)
class Asked:
    """What a model wants of the trunk: its rows, as a stream, and what of them it looks at."""

    model: Model
    adapters: Mapping[str, LoraLinear]
    """`adapters_of` it."""
    rows: Sequence[Tokens]
    stream: Stream
    look: Look | None
    dice: Dice
    """What its blocks draw from; when they have run, it stands where they leave it."""


def adapters_of(model: Model) -> dict[str, LoraLinear]:
    """The adapters of a model by their paths in its base."""
    return {path: module for path, module in found(model.base) if isinstance(module, LoraLinear)}


def states_of(asked: Sequence[Asked]) -> list[Tensor]:
    """Last hidden states [tokens, width], or [looked at, width], for each of some models that were united: by the
    blocks of the first and the library that multiplies for it."""
    first = asked[0].model
    trunks = [_body(one.model) for one in asked]
    sizes = [len(one.stream.ids) for one in asked]
    spans = _spans(sizes)
    adapters: dict[nn.Module, list[LoraLinear]] = {
        module: [one.adapters[path] for one in asked] for path, module in asked[0].adapters.items()
    }
    crew = Crew(spans, tuple(one.dice for one in asked), adapters)
    stream = _joined([one.stream for one in asked], crew)
    look = _look([one.look for one in asked], sizes, crew)
    checkpointing = any(one.model.checkpointing for one in asked)
    states = bodies.run(trunks[0], stream, first.depth, look, _entry(asked, trunks), checkpointing=checkpointing)
    parts = states.split(sizes if look is None or look.crew is None else [s.stop - s.start for s in look.crew.spans])
    return list(parts)


def _spans(sizes: Sequence[int]) -> tuple[slice, ...]:
    ends = list(accumulate(sizes))
    return tuple(slice(end - size, end) for end, size in zip(ends, sizes, strict=True))


def _joined(streams: Sequence[Stream], crew: Crew) -> Stream:
    """Streams as one, each with its filler, so that each draws as many numbers as alone. Where the tokens of rows went
    is each one's own to know."""
    segments = [
        Segment(
            segment.start + span.start,
            segment.length,
            tuple((start + span.start, stop + span.start) for start, stop in segment.path),
            owner,
        )
        for owner, (stream, span) in enumerate(zip(streams, crew.spans, strict=True))
        for segment in stream.segments
    ]
    ids, positions, lengths = (
        torch.cat([getattr(stream, name) for stream in streams]) for name in ("ids", "positions", "lengths")
    )
    return Stream(ids, positions, tuple(segments), lengths, None, crew=crew)


def _look(looks: Sequence[Look | None], sizes: Sequence[int], crew: Crew) -> Look | None:
    """What all look at; a model that looks at no token in particular looks at each."""
    if all(look is None for look in looks):
        return None
    whole = [tuple(range(size)) if look is None else look.places for look, size in zip(looks, sizes, strict=True)]
    places = tuple(span.start + place for span, own in zip(crew.spans, whole, strict=True) for place in own)
    device = next(look.index.device for look in looks if look is not None)
    return Look(torch.tensor(places, device=device), places, replace(crew, spans=_spans(list(map(len, whole)))))


def _body(model: Model) -> bodies.Body:
    body = model.body()
    assert body is not None, "models are united before they run"
    return body


def _entry(asked: Sequence[Asked], trunks: Sequence[bodies.Body]) -> tuple[int, Tensor]:
    """The block that all go on from, and what it reads: kept or made of the embeddings, as each model does alone."""
    starts: list[tuple[Asked, bodies.Body, int, Tensor]] = []
    for one, body in zip(asked, trunks, strict=True):
        with one.dice.turn():
            starts.append((one, body, *one.model.entry(body, one.rows, one.stream)))
    first = max(number for *_, number, _ in starts)
    made = []
    for one, body, start, x in starts:
        with one.dice.turn():
            for number in range(start, first):  # its rows are not in the table that others have
                x = body.block(number, x, one.stream, None)
        made.append(x)
    return first, torch.cat(made)


def unite(models: Sequence[Model]) -> None:
    """Have models of one shape share the frozen tensors of the first; each stays a whole model, which can be scored and
    saved by itself. What would change the frozen tensors of one in place (merging) would change those of all.

    Raises RecipeError for models that cannot run together, before anything is changed.
    """
    for model in models:
        _refuse_alone(model)
    shared = [_shared_with(models[0], model) for model in models[1:]]
    for model, twins in zip(models[1:], shared, strict=True):
        for module in model.net.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if parameter in twins:
                    setattr(module, name, twins[parameter])


def _refuse_alone(model: Model) -> None:
    """Raise RecipeError for a model whose trunk is none of frozen blocks with our own low-rank adapters."""
    if model.layout != "packed" or model.body() is None:
        raise RecipeError(
            f"`{model.source.label}` runs by its stock blocks, which know of one model only",
            where="model",
            hint="train its trials one by one; most nets of BERT's, GPT's and LLaMA's kind can be trained together",
        )
    adapters = adapters_of(model)
    owned = {id(p) for module in adapters.values() for p in (*module.parameters(recurse=False),)}
    inside = f"{model.root}."
    for name, parameter in model.trained():
        apart = not name.startswith(inside) or anatomy.in_head(model.anatomy, name.removeprefix(inside))
        if id(parameter) not in owned and not apart:
            raise RecipeError(
                f"`{name}` learns in the trunk, which trials that train together have in common",
                where="method",
                hint="take `method: lora`, without `model.new_tokens`; or train the trials one by one",
            )
    if not adapters:
        raise RecipeError(
            "trials that train together have low-rank adapters of their own over one frozen trunk; this one has none",
            where="method",
            hint="take `method: lora`",
        )


def _shared_with(first: Model, other: Model) -> dict[nn.Parameter, nn.Parameter]:
    """The frozen tensors of another model -> those of the first that are the same. Raises RecipeError for a model of
    another shape, and for other values."""
    odd = _difference(first, other)
    mine = {name: p for name, p in first.net.named_parameters() if not p.requires_grad}
    theirs = {name: p for name, p in other.net.named_parameters() if not p.requires_grad}
    if odd is None:
        names = [name for name in mine.keys() | theirs.keys() if not _same(mine.get(name), theirs.get(name))]
        odd = f"the frozen tensors are not the same, such as `{min(names)}`" if names else None
    if odd is not None:
        raise RecipeError(
            f"the trials are not of one shape: {odd}", where="method", hint="train them one by one, or make them alike"
        )
    return {theirs[name]: mine[name] for name in mine if theirs[name] is not mine[name]}


def _same(mine: nn.Parameter | None, theirs: nn.Parameter | None) -> bool:
    if mine is None or theirs is None:
        return False
    return mine is theirs or (
        mine.dtype == theirs.dtype and mine.device == theirs.device and bool(torch.equal(mine, theirs))
    )


def _difference(first: Model, other: Model) -> str | None:
    """In words, what two models would have to have in common to run as one; None where they have it."""
    if type(first.base) is not type(other.base) or _config(first) != _config(other):
        return "the nets are, or drop out, differently"
    if adapters_of(first).keys() != adapters_of(other).keys():
        return "the adapters are at other layers"
    if first.frozen_blocks() != other.frozen_blocks():
        return "other blocks learn"
    return None


def _config(model: Model) -> dict[str, Any]:
    config: Any = model.base.config
    return {name: value for name, value in config.to_dict().items() if name not in _LABELS}
