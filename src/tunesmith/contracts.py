"""What a task and a method must be. Read this first.

Data flows one way: rows -> `Task.encode` -> examples -> batches -> `Task.loss` -> the loop; and for use
`Task.encode` -> `Task.predict` -> `Task.decode` -> `Task.measure` -> `Task.reduce` -> scores.

Nothing here imports torch: the names of tensors and nets are for the type checker alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from tunesmith.models.model import Model
    from tunesmith.models.text import TextEncoder

Purpose = Literal["learn", "answer"]
Sums = Mapping[str, NDArray[np.float64]]
"""Name of a measure -> its sum over rows, shape [..., width]; the leading axes are bootstrap replicates."""


@dataclass(frozen=True)
class Row:
    """One row of a data file, with the place it came from."""

    id: int
    """Position among the rows of its split: unique there and stable."""
    values: Mapping[str, Any]
    file: str
    line: int

    def __getitem__(self, column: str) -> Any:
        return self.values[column]

    @property
    def place(self) -> str:
        """`file:line`, as errors print it; a row that is of no file has no line."""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why. It is shown, never dropped in silence."""

    file: str
    line: int
    reason: str
    hint: str | None = None


@dataclass(frozen=True)
class Column:
    """What a task needs from a row. `accepts` says in words which values fit."""

    accepts: str
    required: bool = True
    names: tuple[str, ...] = ()
    """File columns that are taken for this one when nothing is said, most telling first."""
    target: bool = False
    """What is to be predicted: not there when the model is used."""
    path: bool = False
    """A file, named from the folder that the rows' file is in."""


@dataclass(frozen=True)
class Tokens:
    """Token ids of one sequence, and which of them the loss is on."""

    ids: tuple[int, ...]
    trained: tuple[bool, ...] = ()
    """True where the token is predicted and learned. Empty when no token is a target."""
    cut: int = 0
    """Tokens of the row that did not fit the model's context."""
    lost: int = 0
    """Trained tokens among those cut."""
    types: tuple[int, ...] = ()
    """Which of two texts a token is of, for nets that are told (token types). Empty where all are of the first."""
    text: str = ""
    offsets: tuple[tuple[int, int], ...] = ()
    """Per token the span of characters in `text`; for the token view."""

    unit: ClassVar[str] = "tokens"

    @property
    def count(self) -> int:
        """How much of its unit it is."""
        return len(self.ids)

    @property
    def read(self) -> tuple[Any, ...]:
        """What training makes of it."""
        return (self.ids, self.trained, self.types) if self.types else (self.ids, self.trained)

    @property
    def size(self) -> int:
        """What it costs: its tokens."""
        return len(self.ids)

    @property
    def key(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """All that the net reads."""
        return self.ids, self.types


@dataclass(frozen=True)
class Change:
    """How images are varied in training."""

    crop: float
    """Least share of the image that is seen."""
    flip: bool
    colour: float


@dataclass(frozen=True)
class Pixels:
    """An image by its file; it is read when a batch needs it."""

    path: str
    change: Change | None = None
    seed: int = 0
    """Of the change."""
    blend: Blend | None = None
    """What of another image is in it."""

    cut: ClassVar[int] = 0
    unit: ClassVar[str] = "images"
    count: ClassVar[int] = 1

    @property
    def read(self) -> tuple[Any, ...]:
        """What training makes of it: the bytes are in the sum of the data."""
        return (self.path.rpartition("/")[2],)

    @property
    def size(self) -> int:
        """What it costs, in the unit of tokens."""
        return _IMAGE_COST


@dataclass(frozen=True)
class Blend:
    """A part of another image: all of it thinly, or a box of it."""

    other: Pixels
    share: float
    """Of the first image in the whole."""
    box: tuple[int, int, int, int] | None = None
    """Left, top, right and bottom of the box that the other fills, in sixteenths of the image."""


_IMAGE_COST = 64


@dataclass(frozen=True)
class Example:
    """One unit of a batch; never split."""

    row_id: int
    parts: Mapping[str, Any]
    """Name -> Tokens, or Pixels."""
    target: Any = None

    @property
    def count(self) -> int:
        """Tokens, or images."""
        return sum(part.count for part in self.parts.values())

    @property
    def unit(self) -> str:
        """`tokens` or `images`."""
        return str(next(iter(self.parts.values())).unit)

    @property
    def length(self) -> int:
        """Tokens over all parts: what it costs."""
        return sum(part.size for part in self.parts.values())


@dataclass(frozen=True)
class Loss:
    """A sum of losses and the count it is to be divided by. Dividing once, at the end, is what makes the
    update independent of how a batch was cut."""

    total: Tensor
    weight: float


@dataclass(frozen=True)
class Metric:
    """The one score that picks the best checkpoint, and its direction."""

    name: str
    higher_is_better: bool


@dataclass(frozen=True)
class Mark:
    """What a task says for people: of an example, a part of it, or tokens of the part (first, one past the last)."""

    label: str
    part: str | None = None
    span: tuple[int, int] | None = None
    usual: bool = False
    """Whether it goes without saying, as `O` does."""


@dataclass(frozen=True)
class Shown:
    """A row and an answer to it in words, for people."""

    asked: str
    reference: str
    answer: str
    right: bool | None = None
    """None where an answer is better or worse, not right or wrong."""


Answer = dict[str, Any]
"""What `predict` gives the user for one row; plain JSON values."""
Outputs = Mapping[int, Sequence[Any]]
"""Row id -> what `predict` gave for each of its examples."""
Vector = float | NDArray[np.float64]


class Reader(Protocol):
    """How a model reads rows: all of it that `encode` may know. A Model is one."""

    @property
    def text(self) -> TextEncoder:
        """Its tokenizer and its context, of a model that reads texts."""

    @property
    def family(self) -> str:
        """`encoder`, `decoder`, `vision`"""


class Task(Protocol):
    """What is learned. A frozen dataclass; its fields are its options and what it learned from the rows."""

    columns: ClassVar[Mapping[str, Column]]
    headline: ClassVar[Metric]
    each: ClassVar[tuple[str, ...]] = ()
    """Measures that are not summed: `order` reads them row by row."""
    has_references: ClassVar[bool] = False
    """Whether the loss is that of references, which one model may find likelier than another."""
    asks: ClassVar[bool] = True
    """Whether answers to rows are worth writing when the task was assessed already."""
    families: ClassVar[tuple[str, ...]]
    """Kinds of pretrained model that can do it: `encoder`, `decoder`, `vision`."""
    probed: ClassVar[bool] = True
    """Whether `base` fits a head on the frozen states, where a net has one."""

    @property
    def joint(self) -> bool:
        """Whether the loss is of all rows of an update together, from what `represent` makes of each."""
        return False

    def watched(self, scores: Mapping[str, float]) -> Metric:
        """The metric that picks the best checkpoint, one of those that a look at the validation rows gives."""
        return self.headline

    def asked(self) -> Mapping[str, Column]:
        """The columns of a row that is to be answered."""
        return {name: column for name, column in self.columns.items() if not column.target}

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """Why the row cannot be used, or None. To answer, what is to be predicted may be missing."""

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The row's values in the one form that the rest of the task sees."""

    def learn(self, rows: Iterable[Row]) -> Task:
        """What only the training rows can tell (labels, lengths): a new task."""

    def build(self, source: Any, options: Any, seed: int) -> Model:
        """The pretrained net with this task's head."""

    def gather(self, rows: Sequence[Row], model: Model, purpose: Purpose) -> Sequence[Row]:
        """The rows of a split with what only all of them, or the untuned model, can tell (negatives); as many."""
        return rows

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """Examples of a row, one at least. For `answer`, nothing of the answer is in them. Raises DataError for a row
        that the model cannot take."""

    def marks(self, row: Row, example: Example, reader: Reader) -> Sequence[Mark]:
        """What is learned of an example that was encoded to learn, where its trained tokens alone do not tell."""
        return ()

    def vary(self, example: Example, reader: Reader, rng: np.random.Generator) -> Example:
        """The example as this epoch sees it (augmentation, masking): a function of seed, epoch and row alone."""
        return example

    def mix(self, examples: Sequence[Example], rng: np.random.Generator) -> Sequence[Example]:
        """The examples of an update made of one another, as many: a function of seed and update alone."""
        return examples

    def groups(self, rows: Sequence[Row]) -> Sequence[int] | None:
        """The group of each training row, where groups are to be drawn equally often; of a joint task, side by side."""
        return None

    def weights(self, examples: Sequence[Example]) -> dict[str, float]:
        """What each named loss of these examples is divided by, from the labels alone."""

    def loss(self, model: Model, examples: Sequence[Example]) -> dict[str, Loss]:
        """Name -> (sum, weight) over the examples."""

    def represent(self, model: Model, examples: Sequence[Example]) -> Tensor:
        """Of a joint task: vectors [parts of all examples, width], in order."""
        raise TypeError("the task's loss is of each row by itself")

    def joint_loss(self, vectors: Tensor, examples: Sequence[Example]) -> dict[str, Loss]:
        """Of a joint task: the losses of an update, from the vectors of all its examples."""
        raise TypeError("the task's loss is of each row by itself")

    def assess(self, model: Model, examples: Sequence[Example]) -> list[dict[str, Vector]]:
        """Measures of each example that need its own target (a loss): no answer is made. May be empty."""

    def predict(self, model: Model, examples: Sequence[Example]) -> list[Any]:
        """One raw output per example."""

    def together(self, model: Model, rows: Sequence[Row], outputs: Outputs) -> Outputs:
        """The outputs, once those of all rows are there: for answers that depend on other rows."""
        return outputs

    def decode(self, row: Row, outputs: Sequence[Any]) -> Answer:
        """The outputs of a row's examples, put together as its answer."""

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """What the answer is worth: a small vector whose sums over rows `reduce` can read."""

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """Scores from sums of measures; every sum has leading replicate axes, and so has every score."""

    def order(self, values: Sums, counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Scores that depend on the order of rows: values of the measures in `each` [rows, width], and how often each
        row was drawn [replicates, rows] -> score [replicates]."""
        return {}

    def refit(self, model: Model, rows: Sequence[Row]) -> None:
        """Before every look at the validation rows: fit to the training rows what no update learns."""
        return

    def settle(self, rows: Sequence[Row], outputs: Outputs) -> Task:
        """What only a tuned model's outputs on validation rows can tell (thresholds): a new task."""
        return self

    def portable(self, reader: Reader) -> Task:
        """The task as it goes with the saved model: without texts of the training rows."""
        return self

    def show(self, row: Row, answer: Answer | None) -> Shown:
        """The row and its answer (or none) in words."""

    def say(self, answer: Answer) -> str:
        """The answer in a line."""
        return str(answer["answer"])

    def classes(self) -> Sequence[str]:
        """The labels, where each row has one of them and is given one, under `label`; else nothing."""
        return ()

    def counted(self) -> Sequence[str]:
        """Names of which the measures `gold`, `found` and `hit` hold a count each, in order (types of entities)."""
        return ()

    def notes(self) -> list[str]:
        """How the scores are to be read."""
        return []

    def cautions(self, rows: Sequence[Row]) -> list[str]:
        """What the user should know about rows that were mended as they were read."""
        return []

    def base(self, model: Model, rows: Sequence[Row]) -> None:
        """Make the untuned model do the task by its frozen knowledge alone (a linear probe; nothing at all)."""

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """Name -> answers of a cheap system that never saw a neural net; it may read as the model does."""


class Method(Protocol):
    """How it is learned: which tensors move. A frozen dataclass of its options."""

    learning_rate: ClassVar[float]

    def apply(self, model: Model, seed: int) -> None:
        """Edit the module tree; leave `requires_grad` telling the truth. A fresh head always learns."""

    def rate(self, name: str) -> float:
        """What share of the learning rate a tensor that is not fresh learns at."""
        return 1.0
