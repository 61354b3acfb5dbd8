"""Rows -> examples, once: what takes more than a moment is kept in the user's cache, by all that it depends on.

What takes long is done by several processes.

As a program, `python -m tunesmith.encoding JOB.json` is one of those processes.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunesmith.cache import cache_folder, prune
from tunesmith.contracts import Example, Purpose, Reader, Row, Task
from tunesmith.data.rows import identity
from tunesmith.data.sums import of_code
from tunesmith.data.tokens import Refused, Table, Writer, open_table
from tunesmith.errors import DataError
from tunesmith.models.text import TextEncoder
from tunesmith.recipefile import task_as_json, task_from

_TRIED = 256
"""Rows that are encoded to tell how long all take."""
_KEPT_SECONDS = 1.0
_APART_SECONDS = 10.0
"""Another process takes about 3 s to start."""
_MOST_PROCESSES = 8
_CHUNK = 4096
_KIND = "tokens"


@dataclass(frozen=True)
class _Plain:
    """How a model reads, without the model."""

    text: TextEncoder
    family: str


def encode(
    name: str, task: Task, rows: Sequence[Row], reader: Reader, purpose: Purpose = "learn"
) -> tuple[Sequence[list[Example]], tuple[Refused, ...]]:
    """The examples of every row (none where it was refused), and the rows that were refused."""
    began = time.perf_counter()
    if reader.family == "vision":  # an image is a path until a batch needs it
        return [task.encode(row, reader, purpose) for row in rows], ()
    made = [_one(task, row, reader, purpose) for row in rows[:_TRIED]]
    seconds = (time.perf_counter() - began) / max(len(made), 1) * len(rows)
    if seconds >= _KEPT_SECONDS and len(rows) > len(made):
        try:
            folder = cache_folder(_KIND)
        except OSError:  # no cache can be had: the rows are encoded at every start
            folder = None
        if folder is not None:
            table = _kept(folder, name, task, rows, reader, purpose, seconds)
            return table, table.refused
    made += [_one(task, row, reader, purpose) for row in rows[_TRIED:]]
    refused = tuple(replace(row, row=k) for k, row in enumerate(made) if isinstance(row, Refused))
    return [[] if isinstance(row, Refused) else row for row in made], refused


def without_refused(examples: Sequence[list[Example]]) -> Sequence[list[Example]]:
    """The rows that could be encoded, numbered anew."""
    if isinstance(examples, Table):
        return examples.without_refused()
    kept = [row for row in examples if row]
    return [[replace(example, row_id=k) for example in row] for k, row in enumerate(kept)]


def _one(task: Task, row: Row, reader: Reader, purpose: Purpose) -> list[Example] | Refused:
    try:
        return task.encode(row, reader, purpose)
    except DataError as fault:
        return Refused(row.id, fault.problem, fault.hint)


def _kept(
    folder: Path, name: str, task: Task, rows: Sequence[Row], reader: Reader, purpose: Purpose, seconds: float
) -> Table:
    """The table of these rows, found or made."""
    prune(folder)
    place = folder / key_of(name, task, rows, reader, purpose)
    found = open_table(place)
    if found is not None:
        return found
    processes = min(len(os.sched_getaffinity(0)), _MOST_PROCESSES, int(seconds // _APART_SECONDS) + 1)
    writer = Writer(place)
    try:
        if processes > 1:
            _apart(writer, name, task, rows, reader, purpose, processes)
        else:
            for at in range(0, len(rows), _CHUNK):
                writer.add(_one(task, row, reader, purpose) for row in rows[at : at + _CHUNK])
        writer.close()
    except BaseException:
        writer.drop()
        raise
    found = open_table(place)
    assert found is not None, f"{place} was just written"
    return found


def key_of(name: str, task: Task, rows: Sequence[Row], reader: Reader, purpose: Purpose) -> str:
    """A name for all that examples depend on: rows, task, tokenizer, versions, and the code that encodes."""
    digest = hashlib.sha256()
    packages = [version(package) for package in ("tunesmith", "tokenizers", "transformers", "jinja2")]
    parts: list[Any] = [purpose, reader.family, reader.text.identity(), task_as_json(name, task), packages]
    digest.update(json.dumps(parts).encode())
    # All of our own code, since a task calls on much of it; and the task's own file, which may be another's.
    digest.update(of_code(Path(inspect.getfile(type(task)))).encode())
    digest.update(identity(rows).encode())
    return digest.hexdigest()[:32]


def _apart(
    writer: Writer, name: str, task: Task, rows: Sequence[Row], reader: Reader, purpose: Purpose, processes: int
) -> None:
    """Encode by other processes, each a run of the rows, and join what they made in order."""
    with tempfile.TemporaryDirectory(dir=writer.folder.parent, prefix=".parts-") as temporary:
        folder = Path(temporary)
        reader.text.tokenizer.save_pretrained(folder / "tokenizer")
        said = {
            "task": task_as_json(name, task),
            "purpose": purpose,
            "family": reader.family,
            "tokenizer": str(folder / "tokenizer"),
            "max_tokens": reader.text.max_tokens,
            "start": reader.text.start,
            "model_type": reader.text.model_type,
        }
        bounds = [len(rows) * k // processes for k in range(processes + 1)]
        places = [folder / str(k) for k in range(processes)]
        running = []
        try:
            for place, first, after in zip(places, bounds, bounds[1:], strict=False):
                _write_rows(place.with_suffix(".rows"), rows[first:after])
                job = place.with_suffix(".json")
                job.write_text(json.dumps({**said, "rows": str(place.with_suffix(".rows")), "place": str(place)}))
                command = [sys.executable, "-m", __name__, str(job)]
                calm = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
                running.append(subprocess.Popen(command, stderr=subprocess.PIPE, env=calm))
            for process in running:
                _, said_last = process.communicate()
                if process.returncode:
                    raise RuntimeError(f"a process that encodes rows failed:\n{said_last.decode(errors='replace')}")
        finally:
            for process in running:
                with suppress(ProcessLookupError):
                    process.kill()
                process.wait()
        for place in places:
            table = open_table(place)
            assert table is not None, f"{place} was just written"
            writer.join(table)
            shutil.rmtree(place)


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps([row.id, row.file, row.line, dict(row.values)]) + "\n" for row in rows)


def _read_rows(path: Path) -> Iterator[Row]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            number, name, place, values = json.loads(line)
            yield Row(number, values, name, place)


def _work(job: dict[str, Any]) -> None:
    """What one process does."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job["tokenizer"], trust_remote_code=False, local_files_only=True)
    text = TextEncoder(tokenizer, job["max_tokens"], job["start"], job["model_type"])
    reader = _Plain(text, job["family"])
    task = task_from(job["task"])
    writer = Writer(Path(job["place"]))
    chunk: list[list[Example] | Refused] = []
    for row in _read_rows(Path(job["rows"])):
        chunk.append(_one(task, row, reader, job["purpose"]))
        if len(chunk) == _CHUNK:
            writer.add(chunk)
            chunk.clear()
    writer.add(chunk)
    writer.close()


if __name__ == "__main__":
    _work(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
