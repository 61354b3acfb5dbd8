"""The mean of the weights of several nets that began as one (model soups, Wortsman et al. 2022, arXiv:2203.05482).

Sums are in double precision and rounded once. Low-rank adapters are put end to end: B A is no mean of B times a mean of
A, but the mean of several B A is one adapter of all their ranks, with a scale that is divided by their number. That is
exact, to the bit of every tensor, and the adapter stays one. Adapters that are no such sum are folded into the weights
first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tunesmith.errors import ModelError
from tunesmith.models import adapted, anypeft, vocabulary
from tunesmith.models.bottleneck import Bottleneck
from tunesmith.models.ia3 import Ia3Linear
from tunesmith.models.lora import DoraLinear, LoraLinear
from tunesmith.models.model import Model

Form = Literal["tensors", "adapters", "folded"]
"""What is averaged: what learned, tensor by tensor; with adapters end to end; weights with adapters folded in."""
_ENDS = {"lora_A": 0, "lora_B": 1}
"""Name of a tensor of a low-rank adapter -> where its rank is."""


def refuse(model: Model) -> None:
    """Raise ModelError for a net of which what learned is no part of its weights."""
    kinds = [type(module) for _, module in adapted.found(model.net)]
    if model.prefix or Bottleneck in kinds:
        what = "virtual tokens are" if model.prefix else "bottleneck adapters are"
        raise ModelError(
            f"{what} no part of the model's weights, and each training begins them elsewhere: they have no mean",
            where="evaluate.combine",
            hint="take `ensemble`, which averages answers, or another method",
        )


def form_of(model: Model) -> Form:
    """How the weights of nets like this one are averaged. Raises ModelError where they have no mean."""
    refuse(model)
    kinds = [type(module) for _, module in adapted.found(model.net)]
    if model.peft is not None or DoraLinear in kinds:
        return "folded"
    return "adapters" if LoraLinear in kinds else "tensors" if set(kinds) <= {Ia3Linear} else "folded"


def own(model: Model, form: Form) -> dict[str, Tensor]:
    """All tensors of a net by name, as they are averaged. The net is changed by it. Raises ModelError for an adapter
    that cannot be folded."""
    if form == "folded":
        anypeft.merge(model)
    vocabulary.settle(model.net)
    found = {name: parameter.detach() for name, parameter in model.net.named_parameters()}
    for path, module in adapted.found(model.net):
        if isinstance(module, LoraLinear):  # what PiSSA takes off again is a part of it
            found |= {f"{path}.{name.removesuffix('.weight')}": value for name, value in module.tensors().items()}
    return found


@dataclass
class Mean:
    """A mean of tensors by name, as they come."""

    first: dict[str, Tensor] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    """In double precision, of those that are not the same in all."""
    ends: dict[str, list[Tensor]] = field(default_factory=dict)
    count: int = 0

    @torch.no_grad()
    def add(self, tensors: Mapping[str, Tensor]) -> None:
        """The tensors of one more. Raises ModelError for others than the first's."""
        if self.count and tensors.keys() != self.first.keys():
            odd = sorted(tensors.keys() ^ self.first.keys())
            raise ModelError(f"the nets have other tensors: {', '.join(odd[:3])}")
        for name, value in tensors.items():
            kept = self.first.setdefault(name, value.detach().clone())
            if kept.shape != value.shape:
                raise ModelError(
                    f"the tensor `{name}` is {tuple(kept.shape)} in one net, {tuple(value.shape)} in another"
                )
            if name.rpartition(".")[2] in _ENDS:
                self.ends.setdefault(name, []).append(value.detach().clone())
            elif value.is_floating_point() and (name in self.sums or not torch.equal(kept, value)):
                before = self.sums.get(name)
                self.sums[name] = (kept.double() * self.count if before is None else before) + value.double()
        self.count += 1

    def made(self) -> dict[str, Tensor]:
        """The mean, in the precision of the first; whole numbers are the first's, adapters stand end to end."""
        found = dict(self.first)
        for name, total in self.sums.items():
            found[name] = (total / self.count).to(found[name].dtype)
        for name, parts in self.ends.items():
            found[name] = torch.cat(parts, _ENDS[name.rpartition(".")[2]])
        return found


def state_for(target: Model, found: Mapping[str, Tensor], *, loose: bool = False) -> dict[str, Tensor] | None:
    """Of averaged tensors, those that a net's state has. None where others are not as the net has them, unless `loose`:
    those are read by nothing."""
    made = dict(found)
    for path, table in vocabulary.found(target.net):  # of new tokens alone
        ids = table.get_buffer(vocabulary.IDS)
        whole = made.pop(f"{path}.weight")
        made[f"{path}.rows"], made[f"{path}.{vocabulary.IDS}"] = whole[ids], ids
        rest = table.table.weight.detach().clone()
        rest[ids] = whole[ids]
        if not loose and not torch.equal(rest, whole):
            return None
    state = target.state()
    mine = dict(target.net.named_parameters())
    unread = {f"{target.root}.{path}" for path in target.anatomy.unread}
    for name, value in () if loose else made.items():
        if name not in state and name not in unread and not torch.equal(mine[name], value):
            return None
    return {name: made[name] for name in state}
