"""What the trials of a search share: rows, examples, pretrained nets and tables of frozen blocks.

Each is made once, and found by all that it depends on. A trial gets a copy of a net, since it changes it; nothing else
of what is here is ever changed. So a trial is, to the bit, the run that its recipe is by itself.
"""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from tunesmith import encoding
from tunesmith.contracts import Example, Row, Task
from tunesmith.data import splits
from tunesmith.data.splits import Splits
from tunesmith.data.tokens import Refused
from tunesmith.models import adapted
from tunesmith.models.catalog import Source
from tunesmith.models.kept import Kept
from tunesmith.models.matmul import Matmul
from tunesmith.models.model import Model
from tunesmith.models.precision import available_bytes, host_bytes
from tunesmith.prepare import Prepared, Say, prepare
from tunesmith.provenance import model_hash
from tunesmith.recipe import Recipe
from tunesmith.recipefile import task_as_json
from tunesmith.train import trunk
from tunesmith.train.trunk import TrunkPlan
from tunesmith.ways import Ways, build

V = TypeVar("V")
_SHARE = 4
"""What is kept takes at most this part of the memory that is free: a quarter."""
_SETS = 12
"""Sets of encoded rows that are kept: each split, for four ways to read it."""


class Store(Generic[V]):
    """What was made last, by name, within `room()` bytes and `most` things."""

    def __init__(self, size: Callable[[V], int], room: Callable[[], int], most: int = 64) -> None:
        self._size, self._room, self._most = size, room, most
        self._held: OrderedDict[str, V] = OrderedDict()
        self.made = 0
        """Things that were not there when they were asked for."""

    def get(self, name: str, make: Callable[[], V]) -> V:
        """The thing of that name, made where it is not there."""
        if name in self._held:
            self._held.move_to_end(name)
            return self._held[name]
        self.made += 1
        value = self._held[name] = make()
        while self._held and (len(self._held) > self._most or self._bytes() > self._room()):
            self._held.popitem(last=False)
        return value

    def _bytes(self) -> int:
        return sum(map(self._size, self._held.values()))


class Shared:
    """What is made once for all trials of a search, in one process."""

    def __init__(self) -> None:
        self.rows: Store[Splits] = Store(lambda _: 0, lambda: 0)
        self.nets: Store[Model] = Store(_bytes_of, lambda: available_bytes() // _SHARE)
        self.examples: Store[tuple[Sequence[list[Example]], tuple[Refused, ...]]] = Store(lambda _: 0, lambda: 0, _SETS)
        self.matmul: Matmul | None = None
        """The library that multiplies, where the search has chosen it: which is faster is measured, and on a busy
        machine another process may find the other one."""
        self.tables: Store[Kept] = Store(lambda kept: kept.table.nbytes, lambda: host_bytes() // _SHARE)

    def prepare(self, recipe: Recipe, say: Say = lambda _: None) -> Prepared:
        """As `prepare.prepare`, of what is shared. Raises UserError."""
        return prepare(recipe, say, ways=self.ways())

    def ways(self) -> Ways:
        """How a trial comes by its rows, net and examples."""
        return Ways(self._rows, self._net, self._examples)

    def trunk(self, prepared: Prepared, plan: TrunkPlan) -> Kept:
        """What the frozen blocks make of every row."""
        identity = json.dumps([model_hash(prepared), adapted.frozen_sum(prepared.model.net)])
        rows = prepared.seen_rows()
        name = trunk.name_of(prepared.model, plan, rows, identity)
        return self.tables.get(name, lambda: trunk.fill(prepared.model, plan, rows, identity))

    def _rows(self, recipe: Recipe, task: Task) -> Splits:
        assert recipe.task is not None
        name = _name(recipe.data, recipe.evaluate.limit, task_as_json(recipe.task.name, task))
        return self.rows.get(name, lambda: splits.load(recipe, task))

    def _net(self, recipe: Recipe, task: Task, source: Source) -> Model:
        """A copy. What a net is built from is what `Task.build` reads of a recipe: of `train` it is the seed, and where
        the loss is of a whole update, what such a loss refuses."""
        assert recipe.task is not None
        train = recipe.train
        refused = [train.batch_size, train.ema, train.average] if task.joint else []
        told = [str(source.folder), task_as_json(recipe.task.name, task), train.seed, refused]
        made = self.nets.get(_name(recipe.model, recipe.data, told), lambda: build(recipe, task, source))
        matmul = made.matmul if self.matmul is None else self.matmul
        return replace(made, net=copy.deepcopy(made.net), masters={}, matmul=matmul)

    def _examples(
        self, name: str, task: Task, rows: Sequence[Row], model: Model
    ) -> tuple[Sequence[list[Example]], tuple[Refused, ...]]:
        if model.family == "vision":  # an image is a path until a batch needs it
            return encoding.encode(name, task, rows, model)
        key = encoding.key_of(name, task, rows, model, "learn")
        return self.examples.get(key, lambda: encoding.encode(name, task, rows, model))


def _name(*parts: Any) -> str:
    plain = [part.model_dump(mode="json") if hasattr(part, "model_dump") else part for part in parts]
    return json.dumps(plain, sort_keys=True)


def _bytes_of(model: Model) -> int:
    return sum(p.numel() * p.element_size() for p in model.net.parameters())
