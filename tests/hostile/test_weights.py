"""Safetensors that cannot be trusted: headers that lie, offsets that overlap, numbers that are none."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from models_of import Change, copied, put
from refusals import Bad, check

FILE = "model.safetensors"


def file_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header, of the length that it should have or of another that is claimed."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def one(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8), size: int = 8) -> Change:
    """A file of one tensor, described as one likes."""
    return put(FILE, file_of({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}, bytes(size)))


def edited(change: Any) -> Change:
    """The model's own file, its header and data changed."""

    def apply(folder: Path) -> None:
        whole = (folder / FILE).read_bytes()
        size = struct.unpack("<Q", whole[:8])[0]
        header, data = json.loads(whole[8 : 8 + size]), bytearray(whole[8 + size :])
        change(header, data)
        (folder / FILE).write_bytes(file_of(header, bytes(data)))

    return apply


def _drop(header: dict[str, Any], data: bytearray) -> None:
    """All of the first layer, its bytes too, so that the file is whole."""
    kept, moved = bytearray(), {}
    for name, about in sorted(
        ((n, a) for n, a in header.items() if n != "__metadata__"), key=lambda i: i[1]["data_offsets"]
    ):
        if not name.startswith("encoder.layer.0."):
            start, end = about["data_offsets"]
            moved[name] = {**about, "data_offsets": [len(kept), len(kept) + end - start]}
            kept += data[start:end]
    header.clear()
    header.update(moved)
    data[:] = kept


def _turn(header: dict[str, Any], data: bytearray) -> None:
    header["embeddings.word_embeddings.weight"]["shape"].reverse()


def _ints(header: dict[str, Any], data: bytearray) -> None:
    for name, about in header.items():
        if name != "__metadata__":
            about["dtype"] = "I32"


def _rename(header: dict[str, Any], data: bytearray) -> None:
    for name in [name for name in header if name != "__metadata__"]:
        header[f"other.{name}"] = header.pop(name)


def _fill(value: float) -> Change:
    def change(header: dict[str, Any], data: bytearray) -> None:
        data[:] = np.full(len(data) // 4, value, np.float32).tobytes()

    return edited(change)


MANY = {f"tensor.{k}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for k in range(300_000)}

WEIGHTS: dict[str, Bad] = {
    "empty": Bad(
        put(FILE, b""),
        "the model's weights cannot be used: Error while deserializing header: header too small",
        "<here>/model/model.safetensors",
    ),
    "a length and no header": Bad(
        put(FILE, struct.pack("<Q", 64)),
        "the model's weights cannot be used: Error while deserializing header: invalid header length",
        "<here>/model/model.safetensors",
    ),
    "a header longer than the file": Bad(
        put(FILE, file_of({}, length=1000)),
        "the model's weights cannot be used: Error while deserializing header: invalid header length",
        "<here>/model/model.safetensors",
        twin="a header, but not all",
    ),
    "a header of an exabyte": Bad(
        put(FILE, file_of({}, length=2**60)),
        "the model's weights cannot be used: Error while deserializing header: header too large",
        "<here>/model/model.safetensors",
    ),
    "a header of no length": Bad(
        put(FILE, file_of(b"", length=0)),
        (
            "the model's weights cannot be used: Error while deserializing header: invalid JSON "
            "in header: EOF while parsing a value"
        ),
        "<here>/model/model.safetensors",
    ),
    "a header that is no JSON": Bad(
        put(FILE, file_of(b"{nothing")),
        (
            "the model's weights cannot be used: Error while deserializing header: invalid JSON "
            "in header: key must be a string"
        ),
        "<here>/model/model.safetensors",
    ),
    "a header that is no UTF-8": Bad(
        put(FILE, file_of(b'{"\xff": 1}')),
        (
            "the model's weights cannot be used: Error while deserializing header: invalid UTF-8 "
            "in header: invalid utf-8 sequence of 1 bytes from index 2"
        ),
        "<here>/model/model.safetensors",
    ),
    "a header that is a list": Bad(
        put(FILE, file_of([1, 2])),
        (
            "the model's weights cannot be used: Error while deserializing header: invalid JSON "
            "in header: invalid type: sequence, expected struct HashMetadata"
        ),
        "<here>/model/model.safetensors",
    ),
    "a header nested deeply": Bad(
        put(FILE, file_of(b'{"a":' * 100_000)),
        (
            "the model's weights cannot be used: Error while deserializing header: invalid JSON "
            "in header: recursion limit exceeded"
        ),
        "<here>/model/model.safetensors",
    ),
    "a pickle": Bad(
        put(FILE, b"\x80\x04\x95\x10\0\0\0\0\0\0\0cos\nsystem\n."),
        "the model's weights cannot be used: it is a pickle, which can run code and is never opened",
        "<here>/model/model.safetensors",
    ),
    "a page of the web": Bad(
        put(FILE, b"<!DOCTYPE html><html>404</html>"),
        "the model's weights cannot be used: it is a page of the web, which a download left that failed",
        "<here>/model/model.safetensors",
    ),
    "a pointer to the file": Bad(
        put(FILE, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "the model's weights cannot be used: it is a pointer to the file, as git has without LFS",
        "<here>/model/model.safetensors",
    ),
    "a kind of number that is unknown": Bad(
        one(dtype="F33"),
        (
            "the model's weights cannot be used: Error while deserializing header: invalid JSON "
            "in header: unknown variant `F33`, expected one of `BOOL`, `F4`, `F6_E2M3`, "
            "`F6_E3M2`, `U8`, `I8`, `F8_E5M2`, `F8_E4M3`, `F8_E8M0`, `F8_E4M3FNUZ`, "
            "`F8_E5M2FNUZ`, `I16`, `U16`, `F16`, `BF16`, `I32`, `U32`, `F32`, `C64`, `F64`, "
            "`I64`, `U64`"
        ),
        "<here>/model/model.safetensors",
    ),
    "a shape that is negative": Bad(
        one(shape=[-2]),
        (
            "the model's weights cannot be used: Error while deserializing header: invalid JSON "
            "in header: invalid value: integer `-2`, expected usize"
        ),
        "<here>/model/model.safetensors",
    ),
    "a shape beyond 64 bits": Bad(
        one(shape=[2**40, 2**40]),
        (
            "the model's weights cannot be used: Error while deserializing header: overflow "
            "computing buffer size from shape and/or element type"
        ),
        "<here>/model/model.safetensors",
    ),
    "a shape that is a text": Bad(
        one(shape="two"),
        (
            "the model's weights cannot be used: Error while deserializing header: invalid JSON "
            'in header: invalid type: string "two", expected a sequence'
        ),
        "<here>/model/model.safetensors",
    ),
    "offsets that go back": Bad(
        one(offsets=[8, 0]),
        "the model's weights cannot be used: Error while deserializing header: invalid offset for tensor `a`",
        "<here>/model/model.safetensors",
    ),
    "offsets beyond the end": Bad(
        one(offsets=[0, 8], size=4),
        (
            "the model's weights cannot be used: Error while deserializing header: incomplete "
            "metadata, file not fully covered"
        ),
        "<here>/model/model.safetensors",
    ),
    "offsets that are too many": Bad(
        one(offsets=[0, 4, 8]),
        (
            "the model's weights cannot be used: Error while deserializing header: invalid JSON "
            "in header: invalid length 3, expected 2 elements in sequence"
        ),
        "<here>/model/model.safetensors",
    ),
    "fewer bytes than the shape": Bad(
        one(offsets=[0, 4], size=4),
        (
            "the model's weights cannot be used: Error while deserializing header: invalid "
            "shape, data type, or offset for tensor"
        ),
        "<here>/model/model.safetensors",
    ),
    "tensors that overlap": Bad(
        put(
            FILE,
            file_of(
                {
                    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                    "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
                },
                bytes(12),
            ),
        ),
        "the model's weights cannot be used: Error while deserializing header: invalid offset for tensor `b`",
        "<here>/model/model.safetensors",
    ),
    "a tensor twice": Bad(
        put(
            FILE,
            file_of(
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
                bytes(8),
            ),
        ),
        "the model's weights cannot be used: Error while deserializing header: invalid offset for tensor `a`",
        "<here>/model/model.safetensors",
        twin="a key that JSON has twice",
    ),
    "notes that are numbers": Bad(
        put(FILE, file_of({"__metadata__": {"a": 3}})),
        (
            "the model's weights cannot be used: Error while deserializing header: invalid JSON "
            "in header: invalid type: integer `3`, expected a string"
        ),
        "<here>/model/model.safetensors",
    ),
    "no tensor": Bad(
        put(FILE, file_of({})),
        "the config says `num_hidden_layers: 2`, and the weights are too few for that",
        "<here>/model/config.json",
        "this folder's config and weights are of different models",
    ),
    "300,000 tensors of nothing": Bad(
        put(FILE, file_of(MANY)),
        "the config says `hidden_size: 32`, and the weights are too few for that",
        "<here>/model/config.json",
        "this folder's config and weights are of different models",
    ),
    "cut short": Bad(
        lambda folder: (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-100]),
        (
            "the model's weights cannot be used: Error while deserializing header: incomplete "
            "metadata, file not fully covered"
        ),
        "<here>/model/model.safetensors",
        twin="what was there is gone",
    ),
    "tensors of another net": Bad(
        edited(_rename),
        "the model's files lack 37 tensors, embeddings.LayerNorm.bias among them",
        "<here>/model",
        "this folder holds another kind of model, or was not copied whole",
    ),
    "a layer that is missing": Bad(
        edited(_drop),
        "the model's files lack 16 tensors, encoder.layer.0.attention.output.LayerNorm.bias among them",
        "<here>/model",
        "this folder holds another kind of model, or was not copied whole",
    ),
    "a shape that is turned": Bad(
        edited(_turn), "the model's weights cannot be used: they have other shapes than its config says", "<here>/model"
    ),
    "whole numbers": Bad(
        edited(_ints),
        "the tensor `embeddings.LayerNorm.weight` is of whole numbers",
        "<here>/model/model.safetensors",
        "take the model that it was made from, before it was quantized",
    ),
    "numbers that are none": Bad(
        _fill(float("nan")),
        (
            "the model's weights cannot be used: `embeddings.word_embeddings.weight` holds "
            "numbers that are NaN or infinite"
        ),
        "<here>/model",
        "fetch it again; if it was trained, its training had failed",
    ),
    "numbers without an end": Bad(
        _fill(float("inf")),
        (
            "the model's weights cannot be used: `embeddings.word_embeddings.weight` holds "
            "numbers that are NaN or infinite"
        ),
        "<here>/model",
        "fetch it again; if it was trained, its training had failed",
        twin="infinite, not NaN",
    ),
    "a link to nothing": Bad(
        lambda folder: ((folder / FILE).unlink(), (folder / FILE).symlink_to("gone")),
        "`<here>/model` lacks weights: there is no .safetensors file",
        "<here>/model",
        "the folder was not copied or downloaded whole, or its weights have another form",
    ),
}
"""What changes a folder that is good."""


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_cannot_be_trusted_are_refused(
    case: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(encoder, tmp_path, WEIGHTS[case].given)
    rows = tiny.write_csv(tmp_path / "rows.csv", tiny.label_rows(60))
    place = ("--set", f"run.dir={tmp_path / 'runs'}", "--set", "train.steps=1")
    check(WEIGHTS[case], capsys, tmp_path, "train", str(folder), str(rows), "--task", "text-classification", *place)
