"""Random and mutated input: whatever comes, it is read or refused as the user's mistake, and nothing else is raised."""

import json
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny
from refusals import no_longer_than
from tunesmith import recipefile
from tunesmith.data.files import raw_rows
from tunesmith.errors import UserError
from tunesmith.models.template import refuse_vast

QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ROWS = tiny.label_rows(4)
WHOLE: dict[str, bytes] = {
    "rows.csv": b'text,label\n"a, ""b""",x\nc\xc3\xa9,y\n',
    "rows.tsv": b"text\tlabel\na b\tx\nc\ty\n",
    "rows.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "rows.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "squad.json": json.dumps({"data": [{"paragraphs": [{"context": "a b", "qas": [
        {"question": "q", "answers": [{"text": "b", "answer_start": 2}]}]}]}]}).encode(),
    "rows.conll": b"anna B-PER\nlives O\n\n-DOCSTART- -X- O\n\nrome B-LOC\n",
    "rows.txt": b"a b\nc\n\nd e\n",
    "rows": b"text,label\na,b\n",
}  # fmt: skip
RECIPE = b"model: {name: m, pooling: mean}\ntask: text-classification\ndata:\n  train: x.csv\ntrain: {epochs: 2}\n"
TEMPLATE = tiny.TEMPLATE.encode()
PIECES = st.sampled_from([
    b"", b"\0", b"\n", b'"', b"'", b"{", b"}", b"[", b"]", b",", b":", b"\xff", b"\xef\xbb\xbf", b"9" * 30, b"- ",
    b"&a ", b"*a", b"{{", b"}}", b"{%", b"%}", b"null", b"NaN", b"\x1f\x8b",
])  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file in which up to four pieces are put, taken or turned; or nothing but noise."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    made = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(made)))
        made[at : at + draw(st.integers(0, 8))] = draw(PIECES | st.binary(max_size=3))
    return bytes(made)


def held(call: Callable[[], Any]) -> None:
    """Run it: it may succeed, or refuse as the user's mistake, in time."""
    with no_longer_than(10), suppress(UserError):
        call()


@pytest.mark.parametrize("name", WHOLE)
def test_a_mutated_file_of_rows_is_read_or_refused(name: str) -> None:
    @QUICK
    @given(content=mutated(WHOLE[name]))
    def try_it(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            held(lambda: list(raw_rows(path)))

    try_it()


@QUICK
@given(content=mutated(RECIPE))
def test_a_mutated_recipe_is_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.yaml"
        path.write_bytes(content)
        held(lambda: recipefile.load(path))


@QUICK
@given(text=st.text(max_size=40))
def test_any_override_is_read_or_refused(text: str) -> None:
    held(lambda: recipefile.build({"model": "m", "data": "x"}, (text, f"train.epochs={text}", f"{text}=1")))


@QUICK
@given(content=mutated(TEMPLATE))
def test_a_mutated_chat_template_renders_or_is_refused(content: bytes) -> None:
    values = {"messages": tiny.chat_rows(1)[0]["messages"], "tools": None, "add_generation_prompt": True}
    held(lambda: refuse_vast(content.decode(errors="replace"), values))


def test_a_mutated_tokenizer_or_header_of_weights_is_read_or_refused(encoder: Path) -> None:
    from tunesmith.models import pretrained
    from tunesmith.models.catalog import find
    from tunesmith.models.weights import refuse_files
    from tunesmith.recipe import ModelChoice

    tokenizer, weights = (encoder / "tokenizer.json").read_bytes(), (encoder / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", weights[:8])[0]

    def copied(folder: Path, **files: bytes) -> Any:
        for file in encoder.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_bytes(content)
        return find(str(folder))

    @settings(QUICK, max_examples=30)
    @given(words=mutated(tokenizer), header=mutated(weights[: 8 + size]))
    def try_it(words: bytes, header: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            held(lambda: pretrained._tokenizer(copied(Path(folder), tokenizer__json=words)))
            source = copied(Path(folder), tokenizer__json=tokenizer, model__safetensors=header + weights[8 + size :])
            held(lambda: refuse_files(source, pretrained.config_of(source, ModelChoice(name="m"))))

    try_it()
