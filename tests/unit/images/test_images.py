"""Images of every kind are read right or refused by name; what is varied depends on seed, epoch and row alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import samples
import tiny
from tunesmith import DataError, load, recipefile, run
from tunesmith.contracts import Change, Pixels
from tunesmith.data.files import find_files, raw_rows
from tunesmith.data.sums import sha256
from tunesmith.models import anatomy
from tunesmith.models.image import changed, open_image
from tunesmith.prepare import Prepared, prepare


def ready(model: Path, tmp_path: Path, **changes: Any) -> Prepared:
    rows = samples.write("image-classification", tmp_path)
    task = changes.pop("task", "image-classification")
    return prepare(recipefile.build(tiny.recipe_values(model, rows, tmp_path, task=task, **changes)))


def saved(path: Path, image: Any, **how: Any) -> Path:
    image.save(path, **how)
    return path


RED = (200, 30, 20)


@pytest.mark.parametrize(
    ("name", "mode", "colour", "how"),
    [
        ("a.png", "RGB", RED, {}),
        ("a.jpg", "CMYK", (55, 225, 235, 0), {}),
        ("a.png", "P", None, {}),
        ("a.png", "RGBA", (*RED, 255), {}),
        ("a.tif", "RGB", RED, {}),
        ("a.bmp", "RGB", RED, {}),
        ("a.webp", "RGB", RED, {"lossless": True}),
    ],
)
def test_colours_survive_every_mode_and_form(tmp_path: Path, name: str, mode: str, colour: Any, how: Any) -> None:
    image = Image.new("RGB", (30, 20), RED).quantize(8) if mode == "P" else Image.new(mode, (30, 20), colour)
    found = np.asarray(open_image(saved(tmp_path / name, image, **how)), dtype=int)
    assert found.shape == (20, 30, 3)
    assert np.abs(found - np.array(RED)).max() <= 12


def test_sixteen_bits_become_eight_and_grey_becomes_three_channels(tmp_path: Path) -> None:
    wide = np.linspace(0, 65_535, 600).reshape(20, 30).astype(np.uint16)
    found = np.asarray(open_image(saved(tmp_path / "a.png", Image.fromarray(wide))), dtype=int)
    assert found.shape == (20, 30, 3)
    assert np.abs(found[..., 0] - wide / 257).max() <= 1
    small = np.full((4, 4), 200, np.uint16)  # bytes that were stored in sixteen bits
    assert int(np.asarray(open_image(saved(tmp_path / "b.png", Image.fromarray(small))))[0, 0, 0]) == 200


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    found = open_image(saved(tmp_path / "a.png", Image.new("RGBA", (4, 4), (0, 0, 0, 0))))
    assert found.getpixel((0, 0)) == (255, 255, 255)


def test_an_image_stands_upright_and_the_first_of_several_is_taken(tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 10), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    found = open_image(saved(tmp_path / "a.png", image, exif=exif))
    assert found.size == (10, 20) and found.getpixel((9, 0)) == (255, 255, 255)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert open_image(tmp_path / "a.gif").getpixel((0, 0))[0] > 200


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n broken", None])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "a.png"
    if content is None:
        Image.new("RGB", (64, 64), "red").save(file)
        file.write_bytes(file.read_bytes()[:60])  # cut short
    else:
        file.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        open_image(file)
    with pytest.raises(DataError, match="no such image"):
        open_image(tmp_path / "b.png")


def test_a_broken_image_is_a_bad_row_with_its_name(vision: Path, tmp_path: Path) -> None:
    rows = samples.write("image-classification", tmp_path)
    (tmp_path / "images" / "7.png").write_bytes(b"broken")
    values = tiny.recipe_values(vision, rows, tmp_path, task="image-classification")
    with pytest.raises(DataError, match=r"cannot be read.*7\.png") as caught:
        prepare(recipefile.build(values))
    assert (caught.value.where or "").startswith(f"{rows}:8")
    values["data"]["bad_rows"] = "skip"
    assert len(prepare(recipefile.build(values)).splits.bad["train"]) == 1


def folders(root: Path) -> Path:
    for split, height in (("train", 16), ("test", 17)):
        for label, colour in (("cat", "red"), ("dog", "blue")):
            place = root / split / label
            place.mkdir(parents=True)
            for number in range(12):
                Image.new("RGB", (16 + number, height), colour).save(place / f"{number}.png")
    return root


def test_folders_of_folders_are_rows_with_the_folders_name(tmp_path: Path) -> None:
    root = folders(tmp_path / "pets")
    found = find_files(root)
    assert found == {"test": [root / "test"], "train": [root / "train"]}
    rows = [item[1] for item in raw_rows(root / "train") if isinstance(item, tuple)]
    assert len(rows) == 24 and {row["label"] for row in rows} == {"cat", "dog"}
    assert find_files(root / "train") == {"train": [root / "train"]}
    before = sha256(root / "train")
    (root / "train" / "cat" / "0.png").rename(root / "train" / "cat" / "00.png")
    assert sha256(root / "train") != before


def test_an_image_folder_is_trained_on_bare_and_predicts_by_path(vision: Path, tmp_path: Path) -> None:
    root = folders(tmp_path / "pets")
    recipe = recipefile.build({"model": str(vision), "data": str(root), "run": {"dir": str(tmp_path / "runs")},
                               "train": {"epochs": 4, "learning_rate": 1e-2, "batch_size": 4}})  # fmt: skip
    directory = run.train_recipe(recipe)
    assert directory.json("resolved")["task"]["name"] == "image-classification"
    answers = load(directory.path).predict(
        [str(root / "test" / "cat" / "3.png"), {"image": str(root / "test/dog/3.png")}]
    )
    assert [answer["label"] for answer in answers] == ["cat", "dog"]


def test_a_run_on_an_image_folder_that_was_stopped_ends_in_the_same_bits(vision: Path, tmp_path: Path) -> None:
    root = folders(tmp_path / "pets")
    values: dict[str, Any] = {"model": str(vision), "data": {"train": str(root)}, "evaluate": {"compare": False}}
    values["train"] = {"epochs": 2, "batch_size": 4, "save_every": 2}
    whole = tiny.last_bits({**values, "run": {"dir": str(tmp_path / "whole")}})
    assert tiny.last_bits({**values, "run": {"dir": str(tmp_path / "broken")}}, stop_at=3) == whole


def test_what_an_epoch_sees_depends_on_seed_epoch_and_row_alone(vision: Path, tmp_path: Path) -> None:
    prepared = ready(vision, tmp_path)
    batches = prepared.batches(10_000)
    per_epoch = prepared.plan().per_epoch

    def seen(epoch: int) -> dict[int, Pixels]:
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        return {e.row_id: e.parts["image"] for step in steps for e in batches.chosen(step)}

    again = ready(vision, tmp_path).batches(64)
    first = {e.row_id: e.parts["image"] for step in range(per_epoch) for e in again.chosen(step)}
    assert seen(0) == first and all(a.seed != b.seed for a, b in zip(seen(0).values(), seen(1).values(), strict=True))
    plain = ready(vision, tmp_path, task={"name": "image-classification", "crop": 1, "colour": 0})
    assert plain.batches(10_000).chosen(0)[0].parts["image"].change is None


def test_a_change_is_the_same_for_the_same_seed_and_keeps_the_size() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8))
    change = Change(0.5, True, 0.3)
    one, two, other = (changed(image, change, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.size == image.size and np.array_equal(np.asarray(one), np.asarray(two))
    assert not np.array_equal(np.asarray(one), np.asarray(other))
    assert np.array_equal(
        np.asarray(changed(image, Change(1.0, False, 0.0), np.random.default_rng(0))), np.asarray(image)
    )


@pytest.mark.parametrize("kind", ["vit", "deit", "dinov2", "resnet", "convnext", "efficientnet"])
def test_cutting_a_batch_of_images_does_not_change_the_update(kind: str, tmp_path: Path) -> None:
    """BatchNorm runs on its stored statistics, which no update moves."""
    from tunesmith.train.accumulate import Piece, accumulate

    prepared = ready(tiny.make_vision(tmp_path / kind, kind), tmp_path)
    model, task = prepared.model, prepared.task
    model.net.double()
    for module in model.net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    examples = [example for row in prepared.examples[:13] for example in row]
    buffers = {name: value.clone() for name, value in model.net.named_buffers()}
    found = []
    for size in (13, 5, 1):
        pieces = [Piece(k, examples[at : at + size]) for k, at in enumerate(range(0, 13, size))]
        model.train()
        losses = accumulate(model, task, pieces, task.weights(examples))
        grads = {name: p.grad.clone() for name, p in model.trained() if p.grad is not None}
        found.append((float(losses["loss"]), grads))
        model.forget_gradients()
    assert found[0][1].keys() == {name for name, _ in model.trained()}
    for loss, grads in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-10)
        for name, grad in grads.items():  # each by its own size: those of first layers are small
            if name.endswith("k_proj.bias"):  # moves no softmax: its gradient is rounding
                continue
            first = found[0][1][name]
            assert float(first.norm()) > 0 and float((grad - first).norm() / first.norm()) < 1e-7, name
    assert all(torch.equal(value, buffers[name]) for name, value in model.net.named_buffers())


@pytest.mark.parametrize(
    ("kind", "blocks"), [("vit", 2), ("deit", 2), ("dinov2", 2), ("resnet", 2), ("convnext", 2), ("efficientnet", None)]
)
def test_the_table_finds_the_blocks_of_vision_nets(kind: str, blocks: int | None, tmp_path: Path) -> None:
    model = ready(tiny.make_vision(tmp_path / kind, kind), tmp_path, method={"name": "top-layers", "layers": 1}).model
    found = anatomy.blocks(model.base, model.anatomy)
    config = getattr(model.config, model.anatomy.depth)
    assert len(found) == (blocks or len(found))
    assert kind in ("efficientnet",) or len(found) == (config if isinstance(config, int) else len(config))
    learning = {name for name, _ in model.trained()}
    last = f"{model.root}.{model.anatomy.blocks}.{len(found) - 1}."
    assert any(name.startswith(last) for name in learning) and model.fresh <= learning
    assert not any(name.startswith(f"{model.root}.{model.anatomy.blocks}.0.") for name in learning)


def test_lora_beside_a_net_without_linear_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(recipefile.RecipeError, match="no linear layers"):
        ready(tiny.make_vision(tmp_path / "resnet", "resnet"), tmp_path, method="lora")


@pytest.mark.network
def test_the_gates_of_lite0_are_left_out_at_work_and_put_back_when_saved(tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    rows = samples.write("image-classification", tmp_path)
    values = tiny.recipe_values(Path("x"), rows, tmp_path, task="image-classification", method="head")
    values |= {"model": {"name": "efficientnet-lite0", "image_size": 64}, "evaluate": {"compare": False}}
    directory = run.train_recipe(recipefile.build(values))
    predictor = load(directory.path)
    net = AutoModelForImageClassification.from_pretrained(directory.path / "model").eval()
    images = [Pixels(str(tmp_path / "images" / f"{n}.png")) for n in range(4)]
    pixels = torch.stack([predictor.model.reads.pixels(image) for image in images])
    with torch.no_grad():
        assert torch.allclose(net(pixels).logits, predictor.model.image_logits(images), atol=1e-5)
    assert not any("squeeze_excite" in name for name, _ in predictor.model.net.named_parameters())
    assert sum(p.numel() for p in net.efficientnet.parameters()) > sum(
        p.numel() for p in predictor.model.base.parameters()
    )


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_images_do_not_depend_on_how_the_batch_was_cut_and_their_shares_are_of_pixels(
    vision: Path, tmp_path: Path, options: dict[str, float]
) -> None:
    from tunesmith.train.accumulate import Piece, accumulate

    prepared = ready(vision, tmp_path, task={"name": "image-classification", "crop": 1.0, "colour": 0.0, **options})
    model, task = prepared.model, prepared.task
    examples = list(prepared.batches(10**6).chosen(1))
    assert list(prepared.batches(64).chosen(1)) == examples
    model.net.eval()
    found = []
    for size in (len(examples), 3, 1):
        pieces = [Piece(0, examples[at : at + size]) for at in range(0, len(examples), size)]
        losses = accumulate(model, task, pieces, task.weights(examples))
        found.append((float(losses["loss"]), torch.cat([p.grad.flatten() for _, p in model.trained()])))  # type: ignore[union-attr]
        model.forget_gradients()
    for loss, grads in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=5e-6)
        assert float((grads - found[0][1]).norm() / found[0][1].norm()) < 5e-6
    for example in examples:
        image = example.parts["image"]
        whole = model.reads.pixels(image)  # type: ignore[union-attr]
        first, second = (model.reads.pixels(Pixels(part.path)) for part in (image, image.blend.other))  # type: ignore[union-attr]
        if image.blend.box is None:
            assert torch.allclose(whole, image.blend.share * first + (1 - image.blend.share) * second, atol=1e-5)
            continue
        left, top, right, bottom = image.blend.box
        assert image.blend.share == 1 - (right - left) * (bottom - top) / 256
        taken = (whole == second).all(0)
        assert taken.float().mean() >= 1 - image.blend.share
        assert torch.equal(whole[:, ~taken], first[:, ~taken])


def test_the_loss_of_a_mixed_image_is_of_both_labels_by_their_shares(vision: Path, tmp_path: Path) -> None:
    prepared = ready(vision, tmp_path, task={"name": "image-classification", "mixup": 1.0})
    task, model = prepared.task, prepared.model
    examples = list(prepared.batches(10**6).chosen(0))
    with torch.no_grad():
        logs = task.logits(model, examples).log_softmax(-1)  # type: ignore[attr-defined]
        found = task.loss(model, examples)["loss"]
    by_hand = sum(-s * logs[k, a] - (1 - s) * logs[k, b] for k, (a, b, s) in enumerate(e.target for e in examples))
    assert float(found.total) == pytest.approx(float(by_hand), rel=1e-5)
    assert found.weight == pytest.approx(len(examples))


def test_a_run_with_mixed_images_resumes_to_the_same_bits(vision: Path, tmp_path: Path) -> None:
    rows = samples.write("image-classification", tmp_path)
    task = {"name": "image-classification", "mixup": 0.2, "cutmix": 1.0}
    values = tiny.recipe_values(vision, rows, tmp_path / "a", task=task)
    whole = tiny.last_bits(values)
    assert tiny.last_bits({**values, "run": {"dir": str(tmp_path / "b")}}, stop_at=3) == whole
