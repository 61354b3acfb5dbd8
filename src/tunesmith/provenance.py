"""What a run is called and what it was made of: its name, receipt, task and plan, as the run directory keeps them."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import re
from contextlib import suppress
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from tunesmith.data import sql, tokens
from tunesmith.data.sums import of_code, sha256
from tunesmith.errors import RunError
from tunesmith.models.catalog import Source
from tunesmith.prepare import Prepared
from tunesmith.recipe import Recipe
from tunesmith.recipefile import fingerprint, task_as_json
from tunesmith.rundir import RunDir
from tunesmith.train.fit import Fit
from tunesmith.train.trunk import TrunkPlan


def default_name(recipe: Recipe, source: Source) -> str:
    """date _ data _ model-method _ hash of the resolved recipe"""
    assert recipe.method is not None
    path = Path(recipe.data.parts()[0].path)
    data = re.sub(r"[^a-z0-9]+", "-", (path.stem if path.is_file() else path.name).lower()).strip("-") or "data"
    today = datetime.date.today().isoformat()
    return f"{today}_{data}_{source.label}-{recipe.method.name}_{fingerprint(recipe)}"


def receipt(prepared: Prepared, command: list[str]) -> dict[str, Any]:
    """What went in: sums of data and model, versions, device, command line."""
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": [sql.safe(word) for word in command],
        "model_sha256": model_hash(prepared),
        "data_sha256": {path: sha256(Path(path)) for files in prepared.splits.files.values() for path in files},
        "examples_sha256": examples_hash(prepared),
        "code_sha256": of_code(),
        "versions": versions(),
        "device": str(prepared.model.device),
        "machine": machine(),
    }


def versions() -> dict[str, str]:
    """Of what computes."""
    packages = ("tunesmith", "torch", "transformers", "tokenizers", "safetensors", "numpy", "scikit-learn", "peft")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def machine() -> dict[str, str]:
    """What decides the last bits beside versions: the kind of processor, and how many processes sum gradients."""
    processes = os.environ.get("WORLD_SIZE", "1")
    found = {"system": f"{platform.system()} {platform.machine()}", "processor": "unknown", "processes": processes}
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        told = dict(line.split(":", 1) for line in islice(file, 30) if ":" in line)
        names = {name.strip(): value.strip() for name, value in told.items()}
        found["processor"] = " ".join(names[key] for key in ("model name", "cpu family", "model") if key in names)
    return found


def model_hash(prepared: Prepared) -> dict[str, str]:
    """File name -> sha256 of what the pretrained model is made of."""
    return folder_sums(prepared.source.folder)


def folder_sums(folder: Path) -> dict[str, str]:
    """The same of a folder."""
    return {
        path.name: sha256(path)
        for path in sorted(folder.iterdir())
        if path.suffix in (".safetensors", ".json", ".txt") and path.is_file()
    }


def examples_hash(prepared: Prepared) -> str:
    """sha256 of what training reads: tokens and which of them are trained, or the names of images, and targets."""
    if prepared.model.family != "vision":
        return tokens.digest(prepared.examples)
    digest = hashlib.sha256()
    for row, examples in zip(prepared.train_rows, prepared.examples, strict=True):
        sums = [value for name, value in sorted(row.values.items()) if name.endswith("_sha256")]
        for example in examples:
            read = [part.read for part in example.parts.values()]
            digest.update(json.dumps([read, sums, example.target]).encode())
    return digest.hexdigest()


def task_json(prepared: Prepared) -> dict[str, Any]:
    """The task's name, options and what it learned."""
    assert prepared.recipe.task is not None
    return task_as_json(prepared.recipe.task.name, prepared.task)


def plan_json(prepared: Prepared, measured: Fit, trunk: TrunkPlan) -> dict[str, Any]:
    """Every measured or derived choice that decides the bits of the run."""
    recipe, schedule = prepared.recipe, prepared.schedule()
    rate, head_rate = prepared.rates()
    every = recipe.evaluate.every or prepared.plan().per_epoch
    return {
        **measured.as_json(),
        "layout": prepared.model.layout,
        "trunk": trunk.as_json(),
        "precision": "bf16" if prepared.model.masters else "fp32",
        "matmul": prepared.model.matmul.name,
        "threads": torch.get_num_threads(),
        "steps": schedule.steps,
        "warmup": schedule.warmup,
        "learning_rate": rate,
        "head_learning_rate": head_rate,
        **({} if prepared.ranged is None else {"ranged": prepared.ranged.as_json()}),
        "evaluate_every": every,
        "save_every": recipe.train.save_every or every,
    }


def refuse_changed(run: RunDir) -> None:
    """Raise RunError where a file of the run's rows is gone, or is another than when the run began."""
    for name, part in run.json("data").items():
        for file in part["files"]:
            path = Path(file["path"])
            if not path.exists():
                raise RunError(f"the rows of `{name}` are gone", where=file["path"], hint="put the file back")
            now = sha256(path)
            if now != file["sha256"]:
                sums = f"their sha256 was {file['sha256'][:12]} and is {now[:12]}"
                raise RunError(
                    f"the rows of `{name}` have changed since the run began: {sums}",
                    where=file["path"],
                    hint="put the old file back, or start a new run",
                )


def differences(before: dict[str, str], now: dict[str, str]) -> str:
    """Which files are other ones than before, by their sums; empty where none is."""
    said = [f"{name} is new" for name in now.keys() - before.keys()]
    said += [f"{name} is gone" for name in before.keys() - now.keys()]
    said += [f"{name} is another" for name in before.keys() & now.keys() if before[name] != now[name]]
    return ", ".join(sorted(said))
