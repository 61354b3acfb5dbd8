"""From a recipe to all that training needs: rows, task, net, method, encoded examples. Nothing is written here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tunesmith import encoding, plugins
from tunesmith.contracts import BadRow, Example, Method, Row, Task, Tokens
from tunesmith.data import infer, sources, tokens
from tunesmith.data.batches import Plan
from tunesmith.data.content import SOURCE
from tunesmith.data.read import refuse_bad
from tunesmith.data.rows import select
from tunesmith.data.splits import Splits
from tunesmith.data.tokens import Refused
from tunesmith.doctor.finding import Finding
from tunesmith.errors import DataError, RecipeError
from tunesmith.models import catalog
from tunesmith.models.catalog import Source
from tunesmith.models.model import Model
from tunesmith.models.precision import precision_of, settle_process
from tunesmith.models.reshape import learn_new_tokens
from tunesmith.recipe import Data, Plugin, Recipe
from tunesmith.recipefile import make_plugin
from tunesmith.train.loop import Batches
from tunesmith.train.optimizer import KINDS, Schedule, warmup_steps
from tunesmith.train.ranging import Ranged
from tunesmith.train.shape import thaw_of
from tunesmith.train.trunk import TrunkPlan, decide
from tunesmith.ways import PLAIN, Encode, Ways, build

Say = Callable[[str], None]
_CONVOLUTIONS = 10.0
"""Convolutional nets take, and need, larger steps than transformers."""
_METHODS = {"encoder": "full", "decoder": "lora", "encoder-decoder": "full", "vision": "full"}


@dataclass
class Prepared:
    """Everything that is in memory before the first update."""

    recipe: Recipe
    """Resolved: task and method are named."""
    task: Task
    method: Method
    source: Source
    splits: Splits
    model: Model
    encoded: Mapping[str, Sequence[list[Example]]]
    """Split -> the examples of each row."""
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    """Most memory of this process before the kernel's mark was set back."""
    findings: list[Finding] | None = None
    """What is wrong with the rows, once it was looked for."""
    ranged: Ranged | None = None
    """What a range test saw, where the recipe asks for one."""

    @property
    def train_rows(self) -> Sequence[Row]:
        return self.splits.rows["train"]

    @property
    def examples(self) -> Sequence[list[Example]]:
        """Of each training row."""
        return self.encoded["train"]

    @property
    def final_split(self) -> str:
        """The rows that the verdict rests on: test where there is one."""
        return "test" if "test" in self.splits.rows else "validation"

    @cached_property
    def _plan(self) -> Plan:
        train = self.recipe.train
        groups = tuple(self.task.groups(self.train_rows) or ())
        weights = tuple(part.weight for part in self.recipe.data.parts())
        if all(weight == 1 for weight in weights):
            pairs = self.task.joint and bool(groups)
            return Plan(len(self.train_rows), train.batch_size, train.seed, train.shuffle, groups, pairs=pairs)
        if groups:
            raise RecipeError(
                "the sources' weights and balanced sampling both say how often a row comes",
                where="data.train",
                hint="leave the weights out, or take `balance: weights`, which weighs the loss instead",
            )
        sources = tuple(row.values.get(SOURCE, 0) for row in self.train_rows)
        return Plan(len(self.train_rows), train.batch_size, train.seed, train.shuffle, sources, weights)

    def plan(self) -> Plan:
        """The order of the training rows."""
        return self._plan

    def batches(self, budget: int) -> Batches:
        """The micro-batches of every update."""
        task, model = self.task, self.model
        varies = type(task).vary is not Task.vary
        vary = (lambda example, rng: task.vary(example, model, rng)) if varies else None
        mix = task.mix if type(task).mix is not Task.mix else None
        return Batches(self.train_rows, self.examples, self.plan(), budget, vary, mix)

    def schedule(self) -> Schedule:
        """Updates, warm-up and decay."""
        train = self.recipe.train
        steps = train.steps or max(1, round(train.epochs * self.plan().per_epoch))
        return Schedule(steps, warmup_steps(train.warmup, steps), train.schedule, train.clip)

    def seen_rows(self) -> list[Tokens]:
        """The rows that are run more than once: of training, and of the looks at the validation rows."""
        looked = self.encoded["validation"]  # the ids of a classifier's row are the same to learn and to answer
        return [part for row in (*self.examples, *looked) for example in row for part in example.parts.values()]

    def trunk_plan(self) -> TrunkPlan:
        """Whether the frozen blocks are run once a row."""
        train = self.recipe.train
        if type(self.task).vary is not Task.vary or self.model.prefix:  # no row is read twice, or as it is
            return TrunkPlan()
        visits = self.schedule().steps / self.plan().per_epoch
        memory = None if train.memory == "auto" else train.memory
        return decide(self.model, self.seen_rows, visits, "off" if train.noise else train.cache, memory)

    def rates(self) -> tuple[float, float]:
        """Peak learning rates: (of pretrained tensors and adapters, of a fresh head). Where one is to be measured, the
        method's own until it is."""
        asked = self.recipe.train.learning_rate
        if asked == "auto":
            asked = None if self.ranged is None else self.ranged.rate
        share = KINDS[self.recipe.train.optimizer].share
        rate = asked or share * default_rate(self.method, self.model)
        return rate, self.head_rate(rate)

    def head_rate(self, rate: float) -> float:
        """Peak learning rate of a fresh head, beside that of the rest."""
        train = self.recipe.train
        return train.head_learning_rate or max(min(10 * rate, KINDS[train.optimizer].share * 2e-3), rate)

    def share_of(self, name: str) -> float:
        """Of the learning rate, for a pretrained tensor or an adapter: the method's own, and less for blocks that are
        far from the answer (Howard and Ruder 2018, arXiv:1801.06146; the last block has the whole)."""
        decay = self.recipe.train.layer_decay
        return self.method.rate(name) * (1.0 if decay is None else decay ** max(self.model.height(name) - 1, 0))


def default_rate(method: Method, model: Model) -> float:
    """The method's own rate, which is for transformers 768 wide; narrower ones take, and need, larger steps."""
    if model.family == "vision" and not getattr(model.config, "num_attention_heads", None):
        return _CONVOLUTIONS * method.learning_rate
    whole = getattr(model.config, "decoder", None) or model.config
    width = int(getattr(whole, "hidden_size", 768))
    return method.learning_rate * max(1.0, (768 / width) ** 2)


def resolve(recipe: Recipe, say: Say) -> tuple[Recipe, Task, Method, Source]:
    """Name what the recipe left open, from the rows and the model, and say what was taken for what.

    Raises RecipeError for a task that the model cannot do.
    """
    recipe = sources.local(recipe, say)
    values: dict[str, Any] = {}
    if recipe.task is None or _needs_columns(recipe):
        chosen = recipe.task.name if recipe.task else None
        options = recipe.task.options() if recipe.task else None
        first = recipe.data.parts()[0]
        columns = {**recipe.column_map(), **first.columns}
        guess = infer.infer(Path(first.path), columns, chosen, first.format or recipe.data.format, options)
        values["task"] = recipe.task or Plugin(name=guess.task)
        values["data"] = _with_columns(recipe, guess.columns)
        if recipe.task is None or guess.task == "text-classification":
            say(f"taken as {guess.task}: {guess.why}")
    task_name = (recipe.task or values["task"]).name
    for entry in catalog.CATALOG:  # known before anything is fetched
        if entry.name == recipe.model.name and recipe.model.decoder is None:
            _fits(recipe.model.name, entry.kind, task_name)
    source = find_model(recipe, say)
    if recipe.method is None:
        name = _METHODS.get(source.kind, "full")
        values["method"] = Plugin(name=name)
        say(f"method {name}: usual for {'an' if source.kind[0] in 'aeiou' else 'a'} {source.kind}")
    recipe = recipe.model_copy(update=values)
    assert recipe.task is not None and recipe.method is not None
    task: Task = make_plugin("tasks", task_name, recipe.task.options())
    method: Method = make_plugin("methods", recipe.method.name, recipe.method.options())
    _fits(recipe.model.name, source.kind, task_name)
    return recipe, task, method, source


def _with_columns(recipe: Recipe, found: Mapping[str, str | list[str]]) -> Data:
    """The data with the columns that were found; of several sources with columns of their own, for the first alone."""
    data = recipe.data
    if isinstance(data.train, list) and data.train[0].columns:
        first = data.train[0].model_copy(update={"columns": {**found, **data.train[0].columns}})
        return data.model_copy(update={"train": [first, *data.train[1:]]})
    return data.model_copy(update={"columns": {**found, **recipe.column_map()}, "text": None, "label": None})


def find_model(recipe: Recipe, say: Say | None = None) -> Source:
    """The pretrained model of a recipe, or the pair of two."""
    found = catalog.find(recipe.model.name, say)
    if recipe.model.decoder is None:
        return found
    from tunesmith.models import pair

    return pair.join(found, catalog.find(recipe.model.decoder, say))


def _fits(model: str, kind: str, task: str) -> None:
    """Raise RecipeError for a kind of model that the task is not for."""
    if kind == "unknown" or kind in plugins.load("tasks", task).families:
        return
    fitting = [entry.name for entry, _ in catalog.recommend(task)]
    raise RecipeError(
        f"`{model}` is of the kind `{kind}` and cannot do {task}",
        where="model",
        hint="take " + " or ".join(f"`{name}`" for name in fitting) if fitting else None,
    )


def _needs_columns(recipe: Recipe) -> bool:
    """True when required columns were left to be found."""
    assert recipe.task is not None
    task = plugins.load("tasks", recipe.task.name)
    wanted = {name for name, column in task.columns.items() if column.required}
    return bool(wanted - set(recipe.column_map()))


def prepare(
    recipe: Recipe,
    say: Say = lambda _: None,
    *,
    precision: Literal["auto", "fp32", "bf16"] | None = None,
    ways: Ways = PLAIN,
) -> Prepared:
    """Read the rows, load the net, apply the method, encode. Raises UserError; writes nothing.

    `precision` is that of a run's plan; None asks the recipe.

    A head that starts as the probe follows Kumar et al. 2022 (arXiv:2202.10054): tuning then distorts the pretrained
    states less than the large first gradients of a random head do.
    """
    began = time.perf_counter()
    settle_process()
    recipe, task, method, source = resolve(recipe, say)
    found = ways.rows(recipe, task)
    read = time.perf_counter()
    model = ways.net(recipe, found.task, source)
    if recipe.model.head == "probe":
        if not found.task.probed:
            raise RecipeError("the task has no probe to start from", where="model.head", hint="leave it out")
        if not model.linear_head:
            raise RecipeError(
                "`model.head: probe` needs a classifier with mean or last pooling",
                where="model.head",
                hint="leave it out, or leave `model.pooling` out",
            )
        found.task.base(model, found.rows["train"])
    found = gather(found, model)
    method.apply(model, recipe.train.seed)
    learn_new_tokens(model)
    freeze(model, recipe.train.freeze)
    fitted = recipe.model.head == "probe" or (type(found.task).refit is not Task.refit and found.task.joint)
    if fitted and not model.fresh <= {name for name, _ in model.trained()}:
        raise RecipeError(
            "a head that is fitted, not learned, would be in no checkpoint where it is frozen",
            where="train.freeze",
            hint="freeze less",
        )
    if found.task.joint and fitted and not {name for name, _ in model.trained()} - model.fresh:
        raise RecipeError(
            "the head is fitted, not learned, and nothing else learns",
            where="method",
            hint="take `full`, `top-layers` or `lora`; or leave `task.contrast` out",
        )
    if recipe.train.noise:
        _refuse_noise(model)
        model.noise = recipe.train.noise
    loaded = time.perf_counter()
    found, encoded = encode_all(recipe, found, model, ways.examples)
    if model.family != "vision":
        model.narrow_vocabulary(tokens.used_ids(encoded["train"]))
    if precision_of(precision or recipe.train.precision, model.device) == "bf16":
        model.halve()
    seconds = {"read": read - began, "load": loaded - read, "encode": time.perf_counter() - loaded}
    prepared = Prepared(recipe, found.task, method, source, found, model, encoded, seconds)
    _refuse_late(prepared)
    return prepared


def _refuse_late(prepared: Prepared) -> None:
    """Raise RecipeError where some of what is to begin to learn would not do so before the end."""
    every = prepared.recipe.train.unfreeze_every
    if every is None:
        return
    thaw = thaw_of(prepared.model, every)
    steps = max(thaw.heights.values(), default=thaw.lowest) - thaw.lowest
    epochs = prepared.schedule().steps / prepared.plan().per_epoch
    if every * steps >= epochs:
        raise RecipeError(
            f"in {epochs:g} epochs, one block more every {every:g} does not reach the first of {steps}",
            where="train.unfreeze_every",
            hint=f"set it to less than {epochs / steps:.3g}, train longer, or freeze what is not to learn",
        )


def untuned(recipe: Recipe, task: Task, method: Method, source: Source) -> Model:
    """The net of a run as it was before its first update, but for a head that began as the probe."""
    model = build(recipe, task, source)
    method.apply(model, recipe.train.seed)
    learn_new_tokens(model)
    freeze(model, recipe.train.freeze)
    return model


def freeze(model: Model, patterns: Sequence[str]) -> None:
    """Keep what these patterns name as it is. Raises RecipeError for one that names nothing that learns, and where
    nothing is left."""
    for pattern in patterns:
        named = [(name, p) for name, p in model.net.named_parameters() if fnmatchcase(name, pattern)]
        if not any(parameter.requires_grad for _, parameter in named):
            some = ", ".join(f"`{name}`" for name, _ in model.trained()[:3])
            raise RecipeError(
                f"nothing that learns is called like `{pattern}`",
                where="train.freeze",
                hint=f"names are such as {some}; `*` stands for any part",
            )
        for _, parameter in named:
            parameter.requires_grad_(False)
        if not model.trained():
            raise RecipeError("nothing is left that learns", where="train.freeze", hint="freeze less")


def _refuse_noise(model: Model) -> None:
    """Raise RecipeError for a net whose tokens are not embedded in one place, in rows end to end."""
    if model.family in ("vision", "encoder-decoder") or model.layout == "padded":
        raise RecipeError(
            "noise goes on the embeddings of texts that one stack of blocks reads without padding",
            where="train.noise",
            hint=f"leave it out for {model.source.label}",
        )


def gather(found: Splits, model: Model) -> Splits:
    """The rows of every split with what only all of them, or the untuned model, can tell."""
    model.net.eval()
    rows = {
        name: found.task.gather(part, model, "learn" if name == "train" else "answer")
        for name, part in found.rows.items()
    }
    return replace(found, rows=rows)


def encode_all(
    recipe: Recipe, found: Splits, model: Model, encode: Encode = encoding.encode
) -> tuple[Splits, dict[str, Sequence[list[Example]]]]:
    """Encode every row; rows that the model cannot take are refused, or set aside where the recipe says so."""
    assert recipe.task is not None
    rows, bad = dict(found.rows), dict(found.bad)
    encoded: dict[str, Sequence[list[Example]]] = {}
    for name, part in found.rows.items():
        encoded[name], lost = encode(recipe.task.name, found.task, part, model)
        kept, refused = part_refused(part, lost)
        if refused and recipe.data.bad_rows == "stop":
            refuse_bad(refused)
        if len(refused) == len(part):
            raise DataError(f"no row of `{name}` can be used", where=found.files[name][0])
        if refused:
            rows[name] = kept
            bad[name] = (*bad[name], *refused)
            encoded[name] = encoding.without_refused(encoded[name])
    return replace(found, rows=rows, bad=bad), encoded


def part_refused(rows: Sequence[Row], lost: Sequence[Refused]) -> tuple[Sequence[Row], tuple[BadRow, ...]]:
    """The rows that a model can take, numbered anew, and those that it cannot, with the reason."""
    if not lost:
        return rows, ()
    refused = tuple(BadRow(rows[row.row].file, rows[row.row].line, row.reason, row.hint) for row in lost)
    kept = np.setdiff1d(np.arange(len(rows)), [row.row for row in lost])
    return select(rows, kept), refused
