"""A pretrained net with its tokenizer and head: what tasks compute with and what methods edit.

Both layouts give flat states [tokens, width] of sequences end to end, so nothing above sees which is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tunesmith.contracts import Tokens
from tunesmith.errors import ModelError
from tunesmith.models import anatomy, attention
from tunesmith.models.anatomy import Anatomy, Layout
from tunesmith.models.catalog import Source
from tunesmith.models.heads import PooledClassifier
from tunesmith.models.text import TextEncoder

Kind = Literal["classifier", "causal-lm"]
Pooling = Literal["mean", "cls", "last"]


@dataclass
class Model:
    """A net, how it reads text, and which of its parameters are new."""

    net: nn.Module
    text: TextEncoder
    kind: Kind
    anatomy: Anatomy
    source: Source
    fresh: frozenset[str]
    """Names of the parameters that no pretrained value was loaded for."""
    device: torch.device
    pooling: Pooling | None = None
    layout: Layout = "packed"
    _checked: bool = field(default=False, repr=False)

    @property
    def config(self) -> Any:
        """The Transformers config."""
        return self.net.config

    @property
    def root(self) -> str:
        """Path of the base model in the net: `encoder`, `model`, `bert` ..."""
        if isinstance(self.net, PooledClassifier):
            return "encoder"
        return str(self.net.base_model_prefix)

    @property
    def base(self) -> nn.Module:
        """The pretrained trunk, without any head."""
        return self.net.get_submodule(self.root)

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """What learns, by name. A tensor that two modules share is named once."""
        return [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]

    def state(self) -> dict[str, Tensor]:
        """What a run changed: the trained tensors. The nets at hand keep no other state that training moves."""
        return {name: parameter.detach() for name, parameter in self.trained()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put a run's tensors back, by name. Raises ModelError when they are not the ones this net trains."""
        mine = dict(self.trained())
        if mine.keys() != state.keys():
            odd = sorted(mine.keys() ^ state.keys())
            raise ModelError(f"the saved tensors are not those of this net: {', '.join(odd[:3])} ...")
        with torch.no_grad():
            for name, parameter in mine.items():
                parameter.copy_(state[name])

    def sizes(self) -> tuple[int, int]:
        """(parameters that learn, all parameters)"""
        return (
            sum(p.numel() for _, p in self.trained()),
            sum(p.numel() for p in self.net.parameters()),
        )

    def freeze(self) -> None:
        """Nothing learns but what is new: where every method starts."""
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(name in self.fresh)

    def head_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """The net's children beside its base model: its head."""
        for name, child in self.net.named_children():
            if name != self.root and any(True for _ in child.parameters()):
                yield name, child

    def depth_of(self, name: str) -> int | None:
        """Which block a parameter is in, or None outside the blocks."""
        inside = name.removeprefix(f"{self.root}.")
        match = re.match(rf"{re.escape(self.anatomy.blocks)}\.(\d+)\.", inside)
        return int(match.group(1)) if match else None

    def states(self, rows: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        """Last hidden states [tokens, width] of sequences end to end, and their lengths [rows]."""
        lengths = torch.tensor([len(row.ids) for row in rows], device=self.device)
        if self.layout == "padded":
            ids, mask = self._padded(rows)
            out = self.base(input_ids=ids, attention_mask=mask)
            return out.last_hidden_state[mask.bool()], lengths
        out = self._packed(self.base, rows)
        return out.last_hidden_state[0], lengths

    def label_logits(self, rows: Sequence[Tokens], positions: Tensor) -> Tensor:
        """Next-token logits [positions, vocabulary] at positions of sequences end to end; no others are computed."""
        if self.layout == "padded":
            ids, mask = self._padded(rows)
            logits = self.net(input_ids=ids, attention_mask=mask, use_cache=False).logits
            return torch.as_tensor(logits[mask.bool()][positions])
        out = self._packed(self.net, rows, logits_to_keep=positions)
        return torch.as_tensor(out.logits[0])

    def class_logits(self, rows: Sequence[Tokens]) -> Tensor:
        """Logits [rows, labels] of a classifier."""
        states, lengths = self.states(rows)
        if isinstance(self.net, PooledClassifier):
            return torch.as_tensor(self.net(states, lengths))
        ends = lengths.cumsum(0)
        if self.pooling == "last":
            return torch.as_tensor(self.net.get_submodule("score")(states[ends - 1]))
        return anatomy.first_token_logits(self.net, self.base, self.anatomy, states[ends - lengths])

    def _packed(self, net: nn.Module, rows: Sequence[Tokens], **more: Any) -> Any:
        """One stream without padding: positions start anew in each sequence."""
        segments = attention.Segments([len(row.ids) for row in rows])
        first = self.anatomy.first_position
        ids = torch.tensor([i for row in rows for i in row.ids], device=self.device)[None]
        positions = torch.cat([torch.arange(first, first + n) for n in segments.lengths]).to(self.device)[None]
        if self.anatomy.family == "decoder":
            more["use_cache"] = False
        out = net(input_ids=ids, position_ids=positions, attention_mask=None, segments=segments, **more)
        if not self._checked:
            depth = len(anatomy.blocks(self.base, self.anatomy))
            assert segments.calls == depth, f"attention ran in {segments.calls} of {depth} blocks"
            self._checked = True
        return out

    def _padded(self, rows: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        longest = max(len(row.ids) for row in rows)
        pad = self.text.tokenizer.pad_token_id or 0
        ids = [list(row.ids) + [pad] * (longest - len(row.ids)) for row in rows]
        mask = [[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)
