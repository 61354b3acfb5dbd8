"""What of a net learns: its tensors by name, their state, and their masters in half precision."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.models import vocabulary


@dataclass
class Learner:
    """A net and which of its parameters learn."""

    net: nn.Module
    fresh: frozenset[str] = field(kw_only=True)
    """Names of the parameters that no pretrained value was loaded for."""
    masters: dict[str, nn.Parameter] = field(kw_only=True, default_factory=dict)
    """In half precision, what learns in full precision, by name: the optimizer moves these. Empty in full precision."""

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """What learns, by name. A tensor that two modules share is named once."""
        return [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]

    def state(self) -> dict[str, Tensor]:
        """What a run changed: trained tensors, which rows of a table they are, what adapters began as."""
        rows = {f"{path}.{vocabulary.IDS}": table.get_buffer(vocabulary.IDS) for path, table in self._tables()}
        rows |= {name: buffer for name, buffer in self.net.named_buffers() if name.endswith((".start_A", ".start_B"))}
        return {name: parameter.detach() for name, parameter in self.learned()} | rows

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put a run's tensors back, by name. Raises ModelError when they are not the ones this net trains."""
        for name in state:
            path, _, last = name.rpartition(".")
            if last == vocabulary.IDS and isinstance(self.net.get_submodule(path), nn.Embedding):
                vocabulary.put(self.net, path, state[name].to(next(self.net.parameters()).device))
        mine = self.state()
        if mine.keys() != state.keys():
            odd = sorted(mine.keys() ^ state.keys())
            raise ModelError(f"the saved tensors are not those of this net: {', '.join(odd[:3])} ...")
        other = next((name for name, parameter in mine.items() if parameter.shape != state[name].shape), None)
        if other is not None:
            raise ModelError(f"the saved tensor `{other}` has another shape than this net's")
        with torch.no_grad():
            for name, parameter in mine.items():
                parameter.copy_(state[name])
        self.spread()

    def learned(self) -> list[tuple[str, nn.Parameter]]:
        """What the optimizer moves, by name: what learns, or its masters."""
        return list(self.masters.items()) or self.trained()

    def halve(self) -> None:
        """Go on in bfloat16, with masters in full precision for what learns. Buffers stay: positions come from them."""
        self.masters = {name: nn.Parameter(p.detach().float().clone()) for name, p in self.trained()}
        for parameter in self.net.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)

    def collect(self) -> None:
        """Add the gradients of a backward to those of the masters, in full precision."""
        for name, parameter in self.trained() if self.masters else ():
            if parameter.grad is not None:
                master, grad = self.masters[name], parameter.grad.float()
                master.grad = grad if master.grad is None else master.grad.add_(grad)
                parameter.grad = None

    def spread(self) -> None:
        """Take the masters' values over into the net."""
        with torch.no_grad():
            for name, parameter in self.trained() if self.masters else ():
                parameter.copy_(self.masters[name])

    def keep_fitted(self) -> None:
        """Take what was put into the net at once, a head, over into the masters."""
        with torch.no_grad():
            for name, parameter in self.trained() if self.masters else ():
                if name in self.fresh:
                    self.masters[name].copy_(parameter)

    def forget_gradients(self) -> None:
        """Drop every gradient."""
        for _, parameter in (*self.trained(), *self.masters.items()):
            parameter.grad = None

    def _tables(self) -> list[tuple[str, vocabulary.RowsInUse]]:
        return list(vocabulary.found(self.net))

    def sizes(self) -> tuple[int, int]:
        """(parameters that learn, all parameters); a table of which only the rows in use move counts whole."""
        doubled = sum(table.rows.numel() for _, table in self._tables())
        still = sum(table.table.weight.numel() for _, table in self._tables()) - doubled
        learns = sum(p.numel() for _, p in self.trained())
        return learns + still, sum(p.numel() for p in self.net.parameters()) - doubled

    def freeze(self) -> None:
        """Nothing learns but what is new: where every method starts."""
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(name in self.fresh)
