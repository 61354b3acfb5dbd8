"""Run directories that are torn, of another model, or lead out of themselves, given to every command that reads one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from models_of import drop, inside, keys, put
from refusals import Bad, check

Change = Callable[[Path], Any]
BEST = "checkpoints/best"


@pytest.fixture(scope="module")
def finished(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on its own rows; each test changes a copy."""
    here = tmp_path_factory.mktemp("finished")
    rows = tiny.write_csv(here / "rows.csv", tiny.label_rows(60))
    values = tiny.recipe_values(encoder, rows, here / "runs", train__epochs=1, evaluate__compare=False)
    path: Path = tiny.train_to_end(values).path
    return path


def sealed(name: str, content: bytes) -> Change:
    """Give a file of the best checkpoint this content, and the sum that it should have."""
    import hashlib

    def change(run: Path) -> None:
        folder = (run / BEST).resolve()
        (folder / name).write_bytes(content)
        sums = json.loads((folder / "manifest.json").read_text())
        sums[name] = hashlib.sha256(content).hexdigest()
        (folder / "manifest.json").write_text(json.dumps(sums))

    return change


def both(*changes: Change) -> Change:
    def change(run: Path) -> None:
        for each in changes:
            each(run)

    return change


def linked(name: str, target: str) -> Change:
    """Put a link in place of what is there."""

    def change(run: Path) -> None:
        place = run / name
        shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink(missing_ok=True)
        place.symlink_to(target)

    return change


HALF = keys("status.json", state="stopped")

PREDICT: dict[str, Bad] = {
    "no recipe": Bad(
        drop("resolved.json"),
        "this is not a run directory",
        "<here>/runs/run",
        "`tunesmith runs` lists the runs of a folder",
    ),
    "a recipe that is torn": Bad(
        put("resolved.json", '{"model": '),
        "the file cannot be read: Expecting value: line 1 column 11 (char 10)",
        "<here>/runs/run/resolved.json",
    ),
    "a recipe that is a list": Bad(
        put("resolved.json", "[]"), "the file holds no JSON object", "<here>/runs/run/resolved.json"
    ),
    "a recipe of an unknown key": Bad(
        keys("resolved.json", magic=1),
        "there is no key `magic`",
        "<here>/runs/run/resolved.json",
        "known: `data`, `evaluate`, `method`, `model`, `run`, `search`, `task`, `train`",
    ),
    "a recipe without a method": Bad(
        keys("resolved.json", method=None),
        "the file lacks `method`, which every run writes",
        "<here>/runs/run/resolved.json",
    ),
    "a recipe of noise": Bad(
        put("resolved.json", b"\xff\xfe"),
        "the file cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        "<here>/runs/run/resolved.json",
    ),
    "no task": Bad(drop("task.json"), "the run lacks a file", "<here>/runs/run/task.json"),
    "a task that is torn": Bad(
        put("task.json", "{"),
        "the file cannot be read: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        "<here>/runs/run/task.json",
    ),
    "a task that is a list": Bad(put("task.json", "[]"), "the file holds no JSON object", "<here>/runs/run/task.json"),
    "a task without a name": Bad(
        put("task.json", "{}"), "the file lacks `name`, which every run writes", "<here>/runs/run/task.json"
    ),
    "a task that is unknown": Bad(
        keys("task.json", name="magic"),
        "there is no task `magic`",
        "task",
        (
            "known: `chat`, `fill-mask`, `image-classification`, `multi-label-classification`, "
            "`question-answering`, `reranking`, `retrieval`, `summarization`, "
            "`text-classification`, `text-generation`, `text-regression`, "
            "`token-classification`, `translation`"
        ),
    ),
    "labels that are a number": Bad(keys("task.json", labels=3), "the task's `labels` is no list", "task.json"),
    "labels that are too many": Bad(
        keys("task.json", labels=["a", "b", "c", "d"]),
        "the saved tensor `head.weight` has another shape than this net's",
    ),
    "no plan": Bad(drop("plan.json"), "the run lacks a file", "<here>/runs/run/plan.json"),
    "a plan that is a text": Bad(
        put("plan.json", '"fast"'), "the file holds no JSON object", "<here>/runs/run/plan.json"
    ),
    "no checkpoint": Bad(
        lambda run: shutil.rmtree(run / "checkpoints"),
        "the run has no scored checkpoint yet",
        "<here>/runs/run",
        "`tunesmith resume <here>/runs/run` goes on with it",
    ),
    "a link out of the run": Bad(
        linked(BEST, "/etc"), "the link to the best checkpoint leads out of the run", "<here>/runs/run/checkpoints/best"
    ),
    "a link to the run's parent": Bad(
        linked(BEST, "../../.."),
        "the link to the best checkpoint leads out of the run",
        "<here>/runs/run/checkpoints/best",
        twin="out, but upwards",
    ),
    "a manifest that is gone": Bad(
        drop(f"{BEST}/manifest.json"),
        (
            "a checkpoint lacks a file: [Errno 2] No such file or directory: "
            "'<here>/runs/run/checkpoints/best/manifest.json'"
        ),
        "<here>/runs/run/checkpoints/best",
    ),
    "a manifest that is torn": Bad(
        put(f"{BEST}/manifest.json", "{"),
        "a checkpoint lacks a file: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        "<here>/runs/run/checkpoints/best",
    ),
    "a manifest that is a list": Bad(
        put(f"{BEST}/manifest.json", "[]"),
        "a checkpoint has no sums of its files",
        "<here>/runs/run/checkpoints/best/manifest.json",
    ),
    "weights that are gone": Bad(
        drop(f"{BEST}/trained.safetensors"),
        (
            "a checkpoint lacks a file: [Errno 2] No such file or directory: "
            "'<here>/runs/run/checkpoints/best/trained.safetensors'"
        ),
        "<here>/runs/run/checkpoints/best",
    ),
    "weights with a bit turned": Bad(
        put(f"{BEST}/trained.safetensors", b"x"),
        "a checkpoint is damaged: trained.safetensors is not what was written",
        "<here>/runs/run/checkpoints/best",
    ),
    "weights that are sealed and no safetensors": Bad(
        sealed("trained.safetensors", b"\x80\x04."),
        "a checkpoint cannot be read: Error while deserializing: header too small",
        "<here>/runs/run/checkpoints/best",
    ),
    "a state that is no JSON": Bad(
        sealed("state.json", b"{"),
        "a checkpoint cannot be read: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        "<here>/runs/run/checkpoints/best",
    ),
    "a state of other keys": Bad(
        sealed("state.json", b'{"magic": 1}'),
        "a checkpoint cannot be read: Progress.__init__() got an unexpected keyword argument 'magic'",
        "<here>/runs/run/checkpoints/best",
    ),
    "a step that is a text": Bad(
        sealed("state.json", b'{"step": "two"}'),
        "a checkpoint cannot be read: `step` is no whole number",
        "<here>/runs/run/checkpoints/best",
    ),
    "weights of nothing": Bad(
        sealed("trained.safetensors", b"\x02\0\0\0\0\0\0\0{}"),
        (
            "the saved tensors are not those of this net: encoder.embeddings.LayerNorm.bias, "
            "encoder.embeddings.LayerNorm.weight, encoder.embeddings.position_embeddings.weight "
            "..."
        ),
    ),
    "a model that is gone": Bad(
        inside("resolved.json", "model.name", "/nowhere/model"),
        "there is no folder `/nowhere/model`",
        "model",
        "name one that holds config.json",
    ),
    "a model with code": Bad(
        keys("resolved.json", model={"name": "<here>/evil"}),
        "`<here>/evil` brings its own code, and Tunesmith never runs a model's code",
        "<here>/evil/config.json",
        "take a model whose class is in Transformers itself",
    ),
}
"""What changes a finished run before `predict` reads it."""

RESUME: dict[str, Bad] = {
    "a status that is torn": Bad(
        put("status.json", '{"state": '),
        "the file cannot be read: Expecting value: line 1 column 11 (char 10)",
        "<here>/runs/run/status.json",
    ),
    "a status that is a list": Bad(
        put("status.json", "[]"), "the file holds no JSON object", "<here>/runs/run/status.json"
    ),
    "a status without a state": Bad(
        put("status.json", "{}"), "the file lacks `state`, which every run writes", "<here>/runs/run/status.json"
    ),
    "no receipt": Bad(both(HALF, drop("receipt.json")), "the run lacks a file", "<here>/runs/run/receipt.json"),
    "a receipt of nothing": Bad(
        both(HALF, put("receipt.json", "{}")),
        "the run was begun by an earlier version, whose plan cannot be gone on with to the same bits",
        "<here>/runs/run/plan.json",
        "start a new run; `tunesmith predict` still opens this one",
    ),
    "no list of files": Bad(both(HALF, drop("data.json")), "the run lacks a file", "<here>/runs/run/data.json"),
    "a list of files that is a list": Bad(
        both(HALF, put("data.json", "[]")), "the file holds no JSON object", "<here>/runs/run/data.json"
    ),
    "rows that are gone": Bad(
        both(HALF, put("data.json", '{"train": {"files": [{"path": "/nowhere", "sha256": ""}]}}')),
        "the rows of `train` are gone",
        "/nowhere",
        "put the file back",
    ),
    "a plan of an earlier version": Bad(
        both(HALF, put("plan.json", "{}")),
        "the run was begun by an earlier version, whose plan cannot be gone on with to the same bits",
        "<here>/runs/run/plan.json",
        "start a new run; `tunesmith predict` still opens this one",
        twin="the plan is older, not the receipt",
    ),
    "a precision that is unknown": Bad(
        both(HALF, keys("plan.json", precision="fp8")), "the plan's precision is 'fp8'", "<here>/runs/run/plan.json"
    ),
    "sums of other rows": Bad(
        both(HALF, keys("receipt.json", examples_sha256="0")),
        "what training reads has changed since the run began: a file beside the rows, or the program",
        "<here>/runs/run/receipt.json",
        "put the old file back, or start a new run",
    ),
}
"""What changes a run before `resume` reads it."""

OTHERS: dict[str, Bad] = {
    "blend: not finished": Bad(
        (["blend", "{run}"], HALF),
        "the run has not finished",
        "<here>/runs/run",
        "`tunesmith resume <here>/runs/run` goes on with it",
    ),
    "blend: a share of nothing": Bad(
        (["blend", "{run}", "--keep", "{here}/none.csv"], lambda run: None),
        "there is no such file",
        "<here>/none.csv",
        "did you mean `odd.csv`?",
    ),
    "evaluate: rows that are not there": Bad(
        (["evaluate", "{run}", "--data", "{here}/none.csv"], lambda run: None),
        "there is no such file",
        "<here>/none.csv",
        "did you mean `odd.csv`?",
        twin="scored, not blended",
    ),
    "evaluate: rows of other columns": Bad(
        (["evaluate", "{run}", "--data", "{here}/odd.csv"], lambda run: None),
        "there is no column `text`",
        "<here>/odd.csv:2",
        "known: `a`, `b`",
    ),
    "evaluate: no run": Bad(
        (["evaluate", "{here}"], lambda run: None),
        "this is not a run directory",
        "<here>",
        "`tunesmith runs` lists the runs of a folder",
    ),
    "predict: nothing to answer": Bad(
        (["predict", "{run}"], lambda run: None),
        "say what to answer: `--text ...`, `--image ...`, or `--input FILE --output FILE`",
        "predict",
    ),
    "predict: an empty text": Bad((["predict", "{run}", "--text", " "], lambda run: None), "`text` is empty", "row 1"),
    "predict: half of a character": Bad(
        (["predict", "{run}", "--text", "a \udcff"], lambda run: None),
        "the row holds half of a character (a lone surrogate), as texts have that were cut between two halves",
        "row 1",
    ),
    "predict: rows that are not there": Bad(
        (["predict", "{run}", "--input", "{here}/none.csv", "--output", "{here}/x.csv"], lambda run: None),
        "there is no such file",
        "<here>/none.csv",
        "did you mean `odd.csv`?",
        twin="read, not scored",
    ),
    "predict: an ending that is unknown": Bad(
        (["predict", "{run}", "--input", "{here}/odd.csv", "--output", "{here}/x.xml"], lambda run: None),
        "answers are written to .jsonl or .csv",
        "<here>/x.xml",
    ),
    "predict: a row that is empty": Bad(
        (["predict", "{run}", "--input", "{here}/gap.csv", "--output", "{here}/x.csv"], lambda run: None),
        "`text` is empty",
        "<here>/gap.csv:3",
    ),
    "resume: a report that is gone": Bad(
        (["resume", "{run}"], drop("report/report.json")), "the run lacks a file", "<here>/runs/run/report/report.json"
    ),
    "resume: a report of nothing": Bad(
        (["resume", "{run}"], put("report/report.json", "{}")),
        "the file lacks `headline`, which every run writes",
        "<here>/runs/run/report/report.json",
    ),
}
"""(arguments, what changes the run)."""


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, and beside it what commands are given."""
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "config.json").write_text('{"model_type": "bert", "auto_map": {"AutoModel": "evil.Model"}}')
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    (tmp_path / "gap.csv").write_text("text,n\nwhere is it,1\n ,2\n")
    return Path(shutil.copytree(finished, tmp_path / "runs" / "run", symlinks=True))


def placed(run: Path, here: Path) -> None:
    """Write the place of the test into the recipe."""
    file = run / "resolved.json"
    if file.is_file() and b"<here>" in file.read_bytes():
        file.write_text(file.read_text().replace("<here>", str(here)))


@pytest.mark.parametrize("case", PREDICT)
def test_a_run_that_cannot_answer_is_refused(
    case: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = (run / BEST).resolve().name
    PREDICT[case].given(run)
    placed(run, tmp_path)
    known = {f"checkpoints/{best}": BEST}
    check(PREDICT[case], capsys, tmp_path, "predict", str(run), "--text", "where is my parcel", known=known)


@pytest.mark.parametrize("case", RESUME)
def test_a_run_that_cannot_go_on_is_refused(
    case: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RESUME[case].given(run)
    check(RESUME[case], capsys, tmp_path, "resume", str(run))


@pytest.mark.parametrize("case", OTHERS)
def test_what_cannot_be_done_with_a_run_is_refused(
    case: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, change = OTHERS[case].given
    change(run)
    check(OTHERS[case], capsys, tmp_path, *(word.format(run=run, here=tmp_path) for word in arguments))
