"""Canaries: nothing that is only data ever runs, no secret is written down, and no name leads out of its folder."""

import ast
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

import tiny
from refusals import no_longer_than
from tunesmith import cli, recipefile, run
from tunesmith import load as load_run

SRC = Path(__file__).parents[2] / "src" / "tunesmith"
BANNED_MODULES = {
    "pickle",
    "cloudpickle",
    "joblib",
    "dill",
    "shelve",
    "marshal",
    "jsonpickle",
    "code",
    "codeop",
    "runpy",
}
BANNED_NAMES = {"eval", "exec", "compile", "__import__"}
BANNED_CALLS = {
    "torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
    "np.load", "numpy.load", "pd.read_pickle", "os.system", "os.popen", "importlib.import_module",
}  # fmt: skip
ALLOWED = {
    ("models/convert.py", "torch.load"): "one file, its sha256 pinned, by the reader of plain tensors",
    ("plugins.py", "importlib.import_module"): "modules of the product itself, by the names of its own files",
}
"""(file, call) -> why it may."""


class Canary:
    """Unpickled, it leaves a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.place),))


def test_a_canary_sings_when_it_is_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Canary(tmp_path / "sung")))
    assert (tmp_path / "sung").is_dir()


def _names_in(file: Path) -> list[str]:
    """What a file imports or calls of what is banned."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [module for module in modules if module.partition(".")[0] in BANNED_MODULES]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            found += [called] if called in BANNED_CALLS | BANNED_NAMES else []
    return found


def test_nothing_in_the_product_opens_a_pickle_or_runs_a_text_but_what_is_listed_with_its_reason() -> None:
    found = {(str(file.relative_to(SRC)), name) for file in SRC.rglob("*.py") for name in _names_in(file)}
    assert found <= ALLOWED.keys(), found - ALLOWED.keys()
    assert {entry for entry in found if entry[1] == "torch.load"}, "the walk finds what is there"


SLOTS = [
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "model.safetensors", "model.safetensors.index.json",
    "pytorch_model.bin", "model.pt", "vocab.txt", "adapter_config.json", "adapter_model.bin", "training_args.bin",
    "optimizer.pt", "1_Pooling/config.json", "modules.json", "README.md",
]  # fmt: skip
"""Files that some library reads from a model's folder."""


@pytest.mark.parametrize("slot", SLOTS)
def test_a_pickle_in_any_place_of_a_model_folder_never_runs(slot: str, encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(encoder, tmp_path / "model"))
    (folder / slot).parent.mkdir(exist_ok=True)
    (folder / slot).write_bytes(pickle.dumps(Canary(tmp_path / "sung")))
    rows = tiny.write_csv(tmp_path / "rows.csv", tiny.label_rows(30))
    with pytest.raises(SystemExit) as caught, no_longer_than(20):
        cli.main(["check", str(folder), str(rows), "--task", "text-classification", "--rows", "0"])
    assert caught.value.code in (0, 2)
    assert not (tmp_path / "sung").exists()


def test_code_in_a_model_folder_never_runs_even_when_its_config_names_no_code(encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(encoder, tmp_path / "model"))
    sings = f"import os\nos.mkdir({str(tmp_path / 'sung')!r})\n"
    for name in ("__init__", "config", "modeling", "modeling_bert", "tokenization", "tokenizer", "setup", "conftest"):
        (folder / f"{name}.py").write_text(sings)
    rows = tiny.write_csv(tmp_path / "rows.csv", tiny.label_rows(30))
    with pytest.raises(SystemExit) as caught:
        cli.main(["check", str(folder), str(rows), "--task", "text-classification", "--rows", "0"])
    assert caught.value.code == 0
    assert not (tmp_path / "sung").exists()


def test_a_pickle_in_any_place_of_a_run_never_runs_and_no_secret_is_in_a_file_of_it(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "hf_" + "canary" * 5
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "DATABASE_PASSWORD"):
        monkeypatch.setenv(name, secret)
    rows = tiny.write_csv(tmp_path / "rows.csv", tiny.label_rows(30))
    values = tiny.recipe_values(encoder, rows, tmp_path / "runs", train__epochs=1, evaluate__compare=False)
    text = f"# was postgresql://me:{secret}@host/shop?password={secret}\n" + json.dumps(values)
    command = ["tunesmith", "--set", f"data.train=mysql://me:{secret}@host/shop"]
    made, prepared = run.begin(recipefile.build(values), text, command)
    list(run.go(made, prepared))
    load_run(made.path).predict(["where is it"])
    out = capsys.readouterr()
    assert secret not in out.out + out.err
    written = [path for path in made.path.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if secret.encode() in path.read_bytes()]
    for path in written:
        held = path.read_bytes()
        path.write_bytes(pickle.dumps(Canary(tmp_path / "sung")))
        for command in (["predict", str(made.path), "--text", "a"], ["resume", str(made.path)]):
            with pytest.raises(SystemExit), no_longer_than(20):
                cli.main(command)
        assert not (tmp_path / "sung").exists(), path
        path.write_bytes(held)


@pytest.mark.parametrize("address", ["hf://a/b/../c", "hf://a/b/./c", "hf://../b", "hf://a/b//c"])
def test_a_part_of_a_data_set_of_a_hub_never_leads_out_of_it(
    address: str, capsys: pytest.CaptureFixture[str], encoder: Path
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["check", str(encoder), address, "--task", "text-classification"])
    assert caught.value.code == 2
    assert "names no data set of a hub" in capsys.readouterr().err
