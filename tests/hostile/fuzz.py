"""Coverage-guided fuzzing (atheris, libFuzzer): `make fuzz`, or `python tests/hostile/fuzz.py NAME [SECONDS]`.

Each target reads what the fuzzer makes as a user's file; it may be read or refused as the user's mistake. Anything else
that is raised, a hang or memory without an end is a crash, whose input libFuzzer keeps in the working folder.
"""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 60
sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]


@dataclass(frozen=True)
class Target:
    """What reads an input, and inputs to begin with."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


def _file(name: str, read: Callable[[Path], object], *seeds: bytes) -> Target:
    """A reader of a file of one name."""
    path = Path(tempfile.mkdtemp(prefix="tunesmith-fuzz-")) / name

    def written(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    return Target(written, seeds)


def _rows(name: str, *seeds: bytes) -> Target:
    from hostile.test_random import WHOLE
    from tunesmith.data.files import raw_rows

    return _file(name, lambda path: list(raw_rows(path)), *seeds, *([WHOLE[name]] if name in WHOLE else []))


def _parquet() -> Target:
    import pyarrow as arrow
    from pyarrow import parquet

    out = io.BytesIO()
    parquet.write_table(arrow.table({"text": ["a", "b"], "label": ["x", "y"]}), out)
    return _rows("rows.parquet", out.getvalue())


def _recipe() -> Target:
    from hostile.test_random import RECIPE
    from tunesmith import recipefile

    return _file("r.yaml", recipefile.load, RECIPE)


def _template() -> Target:
    from hostile.test_random import TEMPLATE
    from tunesmith.models.template import refuse_vast

    said = [{"role": "user", "content": "where is my parcel"}, {"role": "assistant", "content": "on its way"}]
    values = {"messages": said, "tools": None, "add_generation_prompt": True}
    return Target(lambda content: refuse_vast(content.decode(errors="replace"), values), (TEMPLATE,))


def _image() -> Target:
    from PIL import Image

    from tunesmith.models.image import open_image

    seeds = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        out = io.BytesIO()
        Image.new("RGB", (5, 4), "red").save(out, kind)
        seeds.append(out.getvalue())
    return _file("x.png", open_image, *seeds)


def _model(name: str, read: Callable[[Any, Any], object]) -> Target:
    """A reader of a model folder, of which one file is replaced."""
    import tiny
    from tunesmith.models.catalog import find
    from tunesmith.recipe import ModelChoice

    folder = tiny.make_encoder(Path(tempfile.mkdtemp(prefix="tunesmith-fuzz-")) / "m")
    source, choice = find(str(folder)), ModelChoice(name="m")
    seed = (folder / name).read_bytes()[:3000]

    def written(content: bytes) -> object:
        (folder / name).write_bytes(content)
        return read(source, choice)

    return Target(written, (seed,))


def _weights() -> Target:
    from tunesmith.models.pretrained import config_of
    from tunesmith.models.weights import refuse_files

    return _model("model.safetensors", lambda source, choice: refuse_files(source, config_of(source, choice)))


def _config() -> Target:
    from tunesmith.models.pretrained import config_of

    return _model("config.json", config_of)


TARGETS: dict[str, Callable[[], Target]] = {
    "csv": lambda: _rows("rows.csv"),
    "jsonl": lambda: _rows("rows.jsonl"),
    "json": lambda: _rows("rows.json"),
    "conll": lambda: _rows("rows.conll"),
    "text": lambda: _rows("rows.txt"),
    "parquet": _parquet,
    "gzip": lambda: _rows("rows.jsonl.gz", gzip.compress(b'{"text": "a", "label": "b"}\n')),
    "recipe": _recipe,
    "template": _template,
    "image": _image,
    "weights": _weights,
    "config": _config,
}


def fuzz(name: str, seconds: int) -> None:
    """Run one target in this process, which it ends."""
    import atheris

    with atheris.instrument_imports(include=["tunesmith"]):
        from tunesmith.errors import UserError

        target = TARGETS[name]()
    corpus = Path(tempfile.mkdtemp(prefix="tunesmith-fuzz-"))
    for number, seed in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(seed)

    def once(content: bytes) -> None:
        try:
            target.read(content)
        except UserError:
            return

    flags = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=6000", "-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], once)
    atheris.Fuzz()


def main() -> int:
    """Every target in a process of its own, or one in this."""
    if len(sys.argv) > 1:
        fuzz(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else SECONDS)
        return 0
    failed = []
    for name in TARGETS:
        done = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=False)
        told = [line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        print(f"{name:10} {'held' if done.returncode == 0 else 'BROKEN'} {told[0] if told else '?'} inputs", flush=True)
        if done.returncode != 0:
            failed.append(name)
            print("\n".join([*done.stdout.splitlines()[-12:], *done.stderr.splitlines()[-3:]]), flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
