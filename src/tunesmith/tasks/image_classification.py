"""One label for one image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray

from tunesmith import labelled
from tunesmith.contracts import (
    Answer,
    Blend,
    Change,
    Column,
    Example,
    Pixels,
    Purpose,
    Reader,
    Row,
    Shown,
    Sums,
    Vector,
)
from tunesmith.errors import DataError, RecipeError
from tunesmith.tasks.text_classification import LABEL_NAMES, TextClassification

if TYPE_CHECKING:
    from torch import Tensor

    from tunesmith.models.catalog import Source
    from tunesmith.models.model import Model
    from tunesmith.recipe import Recipe


@dataclass(frozen=True)
class ImageClassification(TextClassification):
    """One label for one image, from a folder of folders or a table with paths. Labels, losses and scores are those of
    texts."""

    columns: ClassVar[Mapping[str, Column]] = {
        "image": Column(
            "the path of an image", names=("file", "path", "image_path", "filename", "file_name"), path=True
        ),
        "label": Column("a string, a whole number or true/false", names=LABEL_NAMES, target=True),
    }
    families: ClassVar[tuple[str, ...]] = ("vision",)

    crop: Annotated[float, Gt(0), Le(1)] = 0.8
    """Least share of an image that is seen in training; 1 sees all of it, always."""

    flip: bool = False
    """Mirror half of the images in training: right for photographs of things, wrong for signs and letters."""

    colour: Annotated[float, Ge(0), Lt(1)] = 0.1
    """How far brightness, contrast and colour are moved in training; 0 leaves them."""

    mixup: Annotated[float, Ge(0)] = 0.0
    """Mix images of an update in pairs, their labels with them: the share is drawn from Beta(mixup, mixup). 0.2 is
    usual, 0 leaves them."""

    cutmix: Annotated[float, Ge(0)] = 0.0
    """Put a box of another image of the update into each: its area is drawn from Beta(cutmix, cutmix). 1 is usual. With
    `mixup` too, each image gets one or the other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.contrast and (self.mixup or self.cutmix):
            raise RecipeError(
                "`contrast` draws images of one label together, and one mixed of two has none",
                where="task.contrast",
                hint="leave `mixup` and `cutmix` out",
            )

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """The image must be there and readable, the label one plain value."""
        from tunesmith.models.image import open_image

        path = values.get("image")
        if not isinstance(path, str) or not path.strip():
            return "`image` is missing" if path is None else "`image` is not a path"
        if "://" in path:
            return "`image` is a URL, and images are read from files"
        try:
            open_image(Path(path))
        except DataError as fault:
            return f"{fault.problem} ({Path(path).name})"
        return super().check_row({**values, "text": "an image"}, purpose)

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The path, the sum of what the file holds, and the label as a string."""
        made = super().normalize({**values, "text": values["image"]})
        with open(values["image"], "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"image": made.pop("text"), "image_sha256": digest, **made}

    def build(self, source: Source, options: Recipe, seed: int) -> Model:
        """The pretrained net with one logit per label."""
        from tunesmith.models.load import load_image_classifier

        if self.contrast:
            labelled.refuse_contrast(options, linear=True)
        return load_image_classifier(source, options.model, self.labels, seed)

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """One example: the file, and the label's number."""
        target = None
        if purpose == "learn":
            target = self.labels.index(row["label"]) if row["label"] in self.labels else -1
        return [Example(row.id, {"image": Pixels(row["image"])}, target)]

    def vary(self, example: Example, reader: Reader, rng: np.random.Generator) -> Example:
        """Another crop, mirrored or not, in other colours."""
        change = Change(self.crop, self.flip, self.colour)
        if change == Change(1.0, False, 0.0):
            return example
        seen = replace(example.parts["image"], change=change, seed=int(rng.integers(2**63)))
        return replace(example, parts={"image": seen})

    def mix(self, examples: Sequence[Example], rng: np.random.Generator) -> Sequence[Example]:
        """Each with a part of another of the update; its target is then (label, the other's label, share)."""
        if not (self.mixup or self.cutmix):
            return examples
        partners = rng.permutation(len(examples))
        made = []
        for example, number in zip(examples, partners, strict=True):
            other = examples[int(number)]
            boxed = bool(self.cutmix) and (not self.mixup or rng.random() < 0.5)
            share, box = _box(rng, self.cutmix) if boxed else (float(rng.beta(self.mixup, self.mixup)), None)
            pixels = replace(example.parts["image"], blend=Blend(other.parts["image"], share, box))
            made.append(replace(example, parts={"image": pixels}, target=(example.target, other.target, share)))
        return made

    def weights(self, examples: Sequence[Example]) -> dict[str, float]:
        """As for texts; of a mixed image, by the shares of both labels."""
        total = 0.0
        for example in examples:
            mixed = example.target if isinstance(example.target, tuple) else (example.target, -1, 1.0)
            for label, share in ((mixed[0], mixed[2]), (mixed[1], 1 - mixed[2])):
                total += share * self.weight_of(label) if label >= 0 else 0.0
        return {"loss": total}

    def losses_of(self, logits: Any, examples: Sequence[Example]) -> Any:
        """As for texts; of a mixed image, by the shares of both labels."""
        firsts = [e.target[0] if isinstance(e.target, tuple) else e.target for e in examples]
        found = self.label_losses(logits, firsts)
        mixed = [k for k, e in enumerate(examples) if isinstance(e.target, tuple)]
        if mixed:
            shares = found.new_ones(len(examples))
            shares[mixed] = found.new_tensor([examples[k].target[2] for k in mixed])
            seconds = [e.target[1] if isinstance(e.target, tuple) else -1 for e in examples]
            found = shares * found + (1 - shares) * self.label_losses(logits, seconds)
        return found

    def logits(self, model: Model, examples: Sequence[Example]) -> Any:
        """[rows, labels]"""
        return model.image_logits([example.parts["image"] for example in examples])

    def represent(self, model: Model, examples: Sequence[Example]) -> Tensor:
        """What the head reads of each image."""
        return model.image_features([example.parts["image"] for example in examples])

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """As for texts, and whether the label is among the five likeliest."""
        best = sorted(answer["probabilities"].items(), key=lambda item: -item[1])[:5]
        return super().measure(row, answer) | {"top5": float(row["label"] in dict(best))}

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """As for texts; top5_accuracy where there are more than five labels."""
        made = super().reduce(sums)
        return made | ({"top5_accuracy": sums["top5"][..., 0] / sums["row"][..., 0]} if len(self.labels) > 5 else {})

    def show(self, row: Row, answer: Answer | None) -> Shown:
        """The file's name, its label, the label given."""
        said = answer["label"] if answer else ""
        return Shown(Path(row["image"]).name, row["label"], said, said == row["label"] if answer else None)

    def base(self, model: Model, rows: Sequence[Row]) -> None:
        """A linear probe: logistic regression on what the frozen net's head reads, put in as its head."""
        from tunesmith.models.probe import fit_image_probe

        examples = [self.encode(row, model, "learn")[0] for row in rows]
        fit_image_probe(model, [e.parts["image"] for e in examples], [e.target for e in examples])

    def baselines(self, train: Sequence[Row], rows: Sequence[Row], reader: Reader) -> dict[str, list[Answer]]:
        """The most frequent label; logistic regression on colours: means of an 8 x 8 grid."""
        from sklearn.linear_model import LogisticRegression

        from tunesmith.models.image import open_image

        def grid(part: Sequence[Row]) -> NDArray[np.float64]:
            images = [open_image(Path(row["image"])).resize((8, 8)) for row in part]
            return np.array([np.asarray(image, dtype=np.float64).ravel() / 255 for image in images])

        found = {"majority": self.majority(train, rows)}
        fitted = LogisticRegression(C=1.0, max_iter=200).fit(grid(train), [row["label"] for row in train])
        found["colours_linear"] = [self._answer(fitted.classes_, line) for line in fitted.predict_proba(grid(rows))]
        return found


def _box(rng: np.random.Generator, alpha: float) -> tuple[float, tuple[int, int, int, int]]:
    """A box in sixteenths, and the share of the image outside of it."""
    side = np.sqrt(1 - rng.beta(alpha, alpha))
    width = height = round(16 * float(side))
    left, top = int(rng.integers(17 - width)), int(rng.integers(17 - height))
    return 1 - width * height / 256, (left, top, left + width, top + height)


plugin = ImageClassification
