"""The recipe's fields: a type, a default, one sentence each. Help, docs and the JSON Schema are made from them.

Knows nothing of files (recipefile.py), of rows or of nets. Strict: an unknown key is an error.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from tunesmith.evaluating import Evaluate
from tunesmith.searchspace import Search, as_search
from tunesmith.section import Section


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _halves(value: Any) -> Any:
    """`{encoder: a, decoder: b}` names the encoder half."""
    value = _named(value)
    if isinstance(value, dict) and "encoder" in value:
        if "name" in value:
            raise ValueError("`name` and `encoder` say the same thing; keep one")
        if "decoder" not in value:
            raise ValueError("a pair of halves needs a `decoder` beside its `encoder`")
        value = {**{k: v for k, v in value.items() if k != "encoder"}, "name": value["encoder"]}
    return value


class ModelChoice(Section):
    """A pretrained model and how its head reads it."""

    name: str = Field(min_length=1)
    """A catalog name, a folder, or a hub id such as `org/name`. Of a pair of halves, the `encoder`."""

    decoder: str | None = Field(default=None, min_length=1)
    """An encoder that the writing half of a pair starts from: `model: {encoder: minilm, decoder: minilm}`."""

    pooling: Literal["auto", "mean", "cls", "last", "attention"] = "auto"
    """What a classifier reads: the mean of all tokens, the first (by the stock head), the last, or a mean of which the
    weights are learned."""

    head: Literal["fresh", "probe"] = "fresh"
    """Where a new head starts: random, or as the linear probe on the frozen model (mean or last pooling)."""

    head_layers: int = Field(default=1, ge=1, le=4)
    """Linear layers of a classifier's new head; GELU stands between them."""

    head_width: int | None = Field(default=None, ge=1)
    """Numbers between the layers of a new head. None takes the model's own width."""

    head_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout before each layer of a new head. None takes the model's own."""

    blocks: int | None = Field(default=None, ge=1)
    """Blocks of the pretrained model that are kept, from the first. None keeps all."""

    new_tokens: list[Annotated[str, Field(min_length=1)]] = []
    """Words that become tokens of their own. Their embeddings begin as the mean of all, and learn whatever the method
    says."""

    image_size: int | None = Field(default=None, ge=32, le=1024, multiple_of=32)
    """Height and width of the pixels that a vision net reads. None takes what the model was made for."""

    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout everywhere in the net while training. None keeps the model's own."""

    @model_validator(mode="after")
    def _whole_head(self) -> ModelChoice:
        if self.head_width is not None and self.head_layers == 1:
            raise ValueError("`head_width` is what stands between layers of a head: it needs `head_layers: 2` or more")
        if self.head == "probe" and (self.head_layers > 1 or self.pooling == "attention"):
            raise ValueError(
                "a head that starts as the linear probe has one layer, over a plain mean or the last token"
            )
        if any(word != word.strip() or " " in word for word in self.new_tokens):
            raise ValueError("a new token is one word, without white space")
        if len(set(self.new_tokens)) < len(self.new_tokens):
            raise ValueError("a new token is named twice")
        return self


class Plugin(BaseModel):
    """A name and the options of the plugin it names."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    name: str = Field(min_length=1)
    """The plugin: a task or a method."""

    def options(self) -> dict[str, Any]:
        """The options as written, to be checked by the plugin."""
        return dict(self.model_extra or {})


def _date(value: Any) -> Any:
    """YAML reads 2024-05-31 as a date."""
    return value.isoformat() if isinstance(value, datetime.date) else value


Moment = Annotated[str | float, BeforeValidator(_date)]


class Split(Section):
    """How rows are set aside when no validation and no test are given."""

    validation: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the rows that choose the checkpoint."""

    test: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the rows that are opened once, at the end."""

    group: str | None = None
    """A file column whose equal values stay on one side: a user, a document, a source sentence."""

    time: str | None = None
    """A file column of dates or numbers: the last rows in time are set aside, test the very last."""

    validation_from: Moment | None = None
    """The time that validation begins at. None takes its share."""

    test_from: Moment | None = None
    """The time that test begins at. None takes its share."""

    folds: int | None = Field(default=None, ge=2, le=100)
    """Parts of equal share, of which one is test: for scores on all rows, a run for each."""

    fold: int | None = Field(default=None, ge=0)
    """Which of the folds is test, from 0."""

    @model_validator(mode="after")
    def _one_way(self) -> Split:
        if self.time is not None and (self.group is not None or self.folds is not None):
            raise ValueError("rows are split by `time`, or by a hash (`group`, `folds`); keep one")
        if self.time is None and (self.validation_from is not None or self.test_from is not None):
            raise ValueError("`validation_from` and `test_from` need `time`, the column that they are of")
        if (self.folds is None) != (self.fold is None):
            raise ValueError("`folds` and `fold` go together: `folds: 5, fold: 0` is the first of five")
        if self.folds is not None and self.fold is not None and self.fold >= self.folds:
            raise ValueError(f"`fold` counts from 0: of {self.folds} folds the last is {self.folds - 1}")
        return self


class Part(Section):
    """One of several sources of rows."""

    path: str = Field(min_length=1)
    """A file, a folder, a pattern, or a URL."""

    weight: float = Field(default=1.0, gt=0, le=1000)
    """How often its training rows come in an epoch: 2 is twice, 0.5 is half of them, the other half in the next."""

    limit: int | None = Field(default=None, ge=1)
    """Most training rows of it: a fixed sample."""

    columns: dict[str, str | list[str]] = {}
    """Task column -> file column, where it differs from `data.columns`."""

    format: str | None = None
    """How it is read, where `data.format` is not right for it."""

    query: str | None = None
    """The SELECT whose rows are taken, where the path is a database."""


class Data(Section):
    """Which rows, and which of their columns."""

    train: str | list[Annotated[Part, BeforeValidator(lambda v: {"path": v} if isinstance(v, str) else v)]]
    """A file, a folder (with train, validation and test in it, or of files), a pattern, a URL; or a list of such."""

    validation: str | None = None
    """File of the rows that choose the checkpoint. None takes them from `train`."""

    test: str | None = None
    """File of the rows that are opened once, at the end."""

    query: str | None = None
    """The SELECT whose rows are taken, where `train` is a database such as `sqlite:///shop.db`."""

    text: str | list[str] | None = None
    """Shorthand for `columns.text`."""

    label: str | None = None
    """Shorthand for `columns.label`."""

    columns: dict[str, str | list[str]] = {}
    """Task column -> file column, or a list of file columns to be joined by line ends."""

    format: str | None = None
    """How the files are read: csv, jsonl ... None takes it from the file's name and content."""

    limit: int | None = Field(default=None, ge=1)
    """Most training rows used: a fixed sample that keeps the labels' shares and the order of the file."""

    max_tokens: int | None = Field(default=None, ge=2)
    """Longest row in tokens. None takes what the model was made for."""

    bad_rows: Literal["stop", "skip"] = "stop"
    """What to do with rows that cannot be used: stop and list them, or set them aside and list them."""

    allow: list[str] = []
    """Findings that would stop training and are to be trained with all the same: leak, answer-cut ..."""

    split: Split = Split()
    """How rows are set aside when no split is given."""

    @field_validator("train")
    @classmethod
    def _some(cls, value: str | list[Part]) -> str | list[Part]:
        if not value:
            raise ValueError("no source of rows is named")
        return value

    def parts(self) -> tuple[Part, ...]:
        """The sources of rows, one or several."""
        if isinstance(self.train, str):
            return (Part(path=self.train, format=self.format, query=self.query),)
        return tuple(self.train)


AutoRate = Annotated[
    Annotated[Literal["auto"], Tag("str")] | Annotated[float, Field(gt=0), Tag("float")],
    Discriminator(lambda value: "str" if value == "auto" else "float"),
]
"""A rate, or the wish that one be measured."""


class Train(Section):
    """How long and how fast the model learns."""

    epochs: float = Field(default=3.0, gt=0)
    """Passes over the training rows. Not used when `steps` is set."""

    steps: int | None = Field(default=None, ge=1)
    """Updates of the weights. None takes `epochs`."""

    batch_size: int = Field(default=16, ge=1)
    """Rows per update, over all devices together."""

    learning_rate: AutoRate | None = None
    """Peak learning rate. None takes the method's own, fitted to the size of the model; `auto` measures one."""

    head_learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate of a fresh head. None takes ten times `learning_rate`, at most 2e-3."""

    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""

    warmup: float = Field(default=0.06, ge=0)
    """Updates of linear warm-up; below 1, a share of all updates."""

    optimizer: Literal["adamw", "adamw-8bit", "sgd", "adafactor", "lion"] = "adamw"
    """How gradients become steps; `sgd` has a momentum of .9, `adamw-8bit` needs the library bitsandbytes."""

    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay (of `sgd`, plain); biases and norms have none."""

    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """The rate of a block, as a share of that of the block behind it: earlier ones move less. None has one rate."""

    freeze: list[str] = []
    """Patterns of names, such as `*.layer.0.*`, of what does not learn whatever the method says."""

    unfreeze_every: float | None = Field(default=None, gt=0)
    """Epochs between two blocks that begin to learn, from the last; the head learns from the beginning."""

    l2_sp: float = Field(default=0.0, ge=0)
    """How hard what is pretrained is pulled back to where it began (L2-SP); .001 to .1 are usual."""

    noise: float = Field(default=0.0, ge=0)
    """Noise on the token embeddings while the model learns (NEFTune); 5 is usual for decoders."""

    ema: float | None = Field(default=None, gt=0, lt=1)
    """Score and save a moving average of the weights that keeps this share of itself at every update: .99, .999."""

    average: float | None = Field(default=None, gt=0, le=1)
    """Score and save the mean of the weights over the last updates, this share of all."""

    not_finite: Literal["stop", "skip"] = "stop"
    """What becomes of an update whose loss or gradient is NaN or infinite: `skip` leaves it out, names its rows and
    goes on; ten in a row stop the run all the same."""

    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient of an update."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """The seed that all randomness comes from."""

    shuffle: bool = True
    """Take the rows of each epoch in a new order; false keeps the order of the file."""

    save_every: int | None = Field(default=None, ge=1)
    """Updates between checkpoints. None saves whenever it evaluates."""

    memory: Literal["auto"] | Annotated[float, Field(gt=0)] = "auto"
    """Memory in GB that training may take; `auto` takes what is free. Decides how a batch is cut."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Numbers that the net computes with; what learns is kept in fp32. `auto` takes bf16 on a GPU made for it."""

    cache: Literal["auto", "off", "fp16"] = "auto"
    """Keep what frozen blocks make of each row, where that saves time: `auto` exactly, `fp16` in half the memory."""

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if self.ema is not None and self.average is not None:
            raise ValueError("`train.ema` and `train.average` are two averages of the weights; keep one")
        if self.noise and self.cache == "fp16":
            raise ValueError(
                "with `train.noise` no two passes over a row are alike, so nothing can be kept; leave `cache` out"
            )
        if self.steps is not None and self.epochs != Train.model_fields["epochs"].default:
            raise ValueError("`train.steps` and `train.epochs` contradict each other; keep one")
        return self


class RunPlace(Section):
    """Where the run is written."""

    dir: str = "runs"
    """Folder that holds the run directories."""

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run directory. None makes one from date, data, model, method and a hash of the recipe."""


class Recipe(Section):
    """What to learn, from what, starting where, and how."""

    model: Annotated[ModelChoice, BeforeValidator(_halves)]
    """The pretrained model: a name, `{name: ..., pooling: ...}`, or `{encoder: ..., decoder: ...}`."""

    task: Annotated[Plugin, BeforeValidator(_named)] | None = None
    """The task: a name or `{name: ..., options}`. None infers it from the rows."""

    data: Annotated[Data, BeforeValidator(lambda v: {"train": v} if isinstance(v, str | list) else v)]
    """The rows: a file, a folder, a list of these, or the keys below."""

    method: Annotated[Plugin, BeforeValidator(_named)] | None = None
    """The tuning method: a name or `{name: ..., options}`. None takes full for encoders, lora for decoders."""

    train: Train = Train()
    """How long and how fast the model learns."""

    evaluate: Evaluate = Evaluate()
    """When and on what the model is scored."""

    run: RunPlace = RunPlace()
    """Where the run is written."""

    search: Annotated[Search, BeforeValidator(as_search)] | None = None
    """What `tunesmith search` tries, and how: `auto`, or the keys below."""

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Recipe:
        for short in ("text", "label"):
            if getattr(self.data, short) is not None and short in self.data.columns:
                raise ValueError(f"`data.{short}` and `data.columns.{short}` say the same thing; keep one")
        return self

    def column_map(self) -> dict[str, str | list[str]]:
        """Task column -> file columns, the shorthands included."""
        short = {"text": self.data.text, "label": self.data.label}
        return {**self.data.columns, **{k: v for k, v in short.items() if v is not None}}
