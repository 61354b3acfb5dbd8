"""Weights that were cut short, or whose header lies, are refused by name: nothing is made of them, and nobody waits."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.errors import ModelError
from tunesmith.models import catalog, load
from tunesmith.recipe import ModelChoice


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def header_beyond_the_file(content: bytes) -> bytes:
    return struct.pack("<Q", 2**40) + content[8:]


def tensor_beyond_the_file(content: bytes) -> bytes:
    size = struct.unpack("<Q", content[:8])[0]
    held = json.loads(content[8 : 8 + size])
    last = max((name for name in held if name != "__metadata__"), key=lambda name: held[name]["data_offsets"][1])
    held[last]["data_offsets"][1] += 2**40
    return packed(held, content[8 + size :])


def tensors_on_top_of_each_other(content: bytes) -> bytes:
    size = struct.unpack("<Q", content[:8])[0]
    held = json.loads(content[8 : 8 + size])
    first, second = [name for name in held if name != "__metadata__"][:2]
    held[first]["data_offsets"] = held[second]["data_offsets"]
    return packed(held, content[8 + size :])


def packed(header: dict[str, object], rest: bytes) -> bytes:
    written = json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + rest


TORN = [cut_short, header_beyond_the_file, tensor_beyond_the_file, tensors_on_top_of_each_other]


@pytest.mark.parametrize("torn", TORN, ids=lambda torn: torn.__name__)
def test_weights_that_are_torn_or_lie_about_their_size_are_refused(
    torn: Callable[[bytes], bytes], encoder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "torn"
    shutil.copytree(encoder, folder)
    file = folder / "model.safetensors"
    file.write_bytes(torn(file.read_bytes()))
    fault: Exception | None = None
    try:
        load.load_embedder(catalog.find(str(folder)), ModelChoice(name="x"), None, 0, {})
    except Exception as caught:
        fault = caught
    assert isinstance(fault, ModelError), repr(fault)
    assert str(folder) in str(fault)
