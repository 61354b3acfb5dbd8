"""Recipes, `--set` and arguments that say nothing that can be done: refused with line and key before anything is
loaded."""

from pathlib import Path

import pytest

from refusals import Bad, check

M = "model: m\ndata: {train: x.csv}\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join(['*' + chr(97 + k)] * 10)}]\n" for k in range(9)
)
"""Ten to the ninth when it is written out."""

YAML: dict[str, Bad] = {
    "nothing": Bad(
        "",
        "a recipe is a list of `key: value` lines; this file holds none",
        "<here>/r.yaml",
        "`tunesmith init FILE` writes one to start from",
    ),
    "a list": Bad(
        "- a\n- b\n",
        "a recipe is a list of `key: value` lines; this file holds none",
        "<here>/r.yaml",
        "`tunesmith init FILE` writes one to start from",
        twin="no mapping either",
    ),
    "the home of nobody": Bad(
        "model: m\ndata: ~no.such.user/rows.csv\n", "there is no such file", "<here>/~no.such.user/rows.csv"
    ),
    "not YAML": Bad(
        "model: [m\n", "the recipe is not valid YAML: expected ',' or ']', but got '<stream end>'", "<here>/r.yaml:2"
    ),
    "a tab before a key": Bad(
        "model: m\n\tdata: x\n",
        "the recipe is not valid YAML: found character '\\t' that cannot start any token",
        "<here>/r.yaml:2",
    ),
    "two documents": Bad(
        M + "---\n" + M,
        "the recipe is not valid YAML: expected a single document in the stream, but found another document",
        "<here>/r.yaml:3",
    ),
    "an object of Python": Bad(
        M + "train: !!python/object/apply:os.system [ls]\n",
        (
            "the recipe is not valid YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system'"
        ),
        "<here>/r.yaml:3",
    ),
    "an anchor that is not there": Bad(
        "model: *m\n", "the recipe is not valid YAML: found undefined alias 'm'", "<here>/r.yaml:1"
    ),
    "an anchor that holds itself": Bad(
        "model: m\ndata: &a {train: *a}\n", "the recipe is nested too deeply", "<here>/r.yaml", twin="it has no end"
    ),
    "laughs a billion times": Bad(
        M + BOMB, "the recipe has more than 100,000 values, its anchors written out", "<here>/r.yaml"
    ),
    "deep lists": Bad(
        "model: " + "[" * 5000, "the recipe is nested too deeply", "<here>/r.yaml", twin="deep, but with an end"
    ),
    "deep mappings": Bad(
        "model: " + "{a: " * 5000,
        "the recipe is nested too deeply",
        "<here>/r.yaml",
        twin="another branch of the parser",
    ),
    "Latin-1": Bad(
        "model: café\n".encode("latin-1"), "the recipe is not UTF-8: byte 0xe9", "<here>/r.yaml:1", "save it as UTF-8"
    ),
    "a NUL": Bad(
        "model: m\0\n", "the recipe is not valid YAML: the character 0x0 may not stand in it", "<here>/r.yaml:1"
    ),
    "a key that is a list": Bad(
        "model: m\n? [a, b]\n: c\n", "the recipe is not valid YAML: found unhashable key", "<here>/r.yaml:2"
    ),
    "a key that is a number": Bad(
        M + "3: 4\n",
        "there is no key `3`",
        "<here>/r.yaml:3",
        "known: `data`, `evaluate`, `method`, `model`, `run`, `search`, `task`, `train`",
    ),
    "a key twice": Bad(
        "model: m\ndata: x.csv\nmodel: n\n",
        "`model` is written twice",
        "<here>/r.yaml:3",
        "the first is in line 1; keep one",
    ),
    "yes for a number of an option": Bad(
        "model: m\nmethod: {name: lora, rank: yes}\ndata: x.csv\n",
        (
            "`method.rank` is True: this key is no switch; `yes`, `no`, `on` and `off` are true "
            "or false in YAML unless they are in quotes"
        ),
        "<here>/r.yaml:2",
    ),
    "a typo in a key": Bad(
        M + "train:\n  epoch: 3\n", "there is no key `train.epoch`", "<here>/r.yaml:4", "did you mean `epochs`?"
    ),
    "a typo in a section": Bad(
        M + "evaluat: {}\n", "there is no key `evaluat`", "<here>/r.yaml:3", "did you mean `evaluate`?"
    ),
    "a typo in a task": Bad(
        "model: m\ntask: text-clasification\ndata: x.csv\n",
        "there is no task `text-clasification`",
        "<here>/r.yaml:2",
        "did you mean `text-classification`?",
    ),
    "a typo in a method": Bad(
        "model: m\nmethod: lorra\ndata: x.csv\n",
        "there is no method `lorra`",
        "<here>/r.yaml:2",
        "did you mean `lora`?",
    ),
    "a typo in an option of a method": Bad(
        "model: m\nmethod: {name: lora, rnk: 4}\ndata: x.csv\n",
        "the method `lora` has no option `rnk`",
        "<here>/r.yaml:2",
        "did you mean `rank`?",
    ),
    "an option that only the product sets": Bad(
        "model: m\ntask: {name: chat, long_answer: a}\ndata: x\n",
        "the task `chat` has no option `long_answer`",
        "<here>/r.yaml:2",
        "known: `max_new_tokens`, `smoothing`, `train_on`",
    ),
    "a method without a name": Bad(
        "model: m\nmethod: {rank: 4}\ndata: x.csv\n",
        "`method.name` is missing",
        "<here>/r.yaml:2",
        "add `method.name`; `tunesmith schema` lists the keys",
    ),
    "a rank below 1": Bad(
        "model: m\nmethod: {name: lora, rank: 0}\ndata: x.csv\n",
        "`method.rank` is 0: input should be greater than or equal to 1",
        "<here>/r.yaml:2",
    ),
    "a method that is a list": Bad(
        "model: m\nmethod: [lora]\ndata: x.csv\n",
        "`method` is ['lora']: input should be a mapping of keys",
        "<here>/r.yaml:2",
    ),
    "a format that is unknown": Bad(
        "model: m\ndata: {train: x, format: cvs}\n",
        "there is no format `cvs`",
        "<here>/r.yaml:2",
        "did you mean `csv`?",
    ),
    "no model": Bad(
        "data: x.csv\n", "`model` is missing", "<here>/r.yaml", "add `model`; `tunesmith schema` lists the keys"
    ),
    "no data": Bad("model: m\n", "`data` is missing", "<here>/r.yaml", "add `data`; `tunesmith schema` lists the keys"),
    "data without rows": Bad(
        "model: m\ndata: {format: csv}\n",
        "`data.train` is missing",
        "<here>/r.yaml:2",
        "add `data.train`; `tunesmith schema` lists the keys",
    ),
    "no source at all": Bad("model: m\ndata: []\n", "no source of rows is named", "<here>/r.yaml:2"),
    "a source that is a number": Bad(
        "model: m\ndata: [3]\n",
        "`data.train.0` is 3: input should be a mapping of keys (and 1 more)",
        "<here>/r.yaml:2",
    ),
    "an empty name": Bad(
        "model: ''\ndata: x.csv\n", "`model.name` is '': string should have at least 1 character", "<here>/r.yaml:1"
    ),
    "a model that is null": Bad(
        "model:\ndata: x.csv\n", "`model` is empty: input should be a mapping of keys", "<here>/r.yaml:1"
    ),
    "a word for a number": Bad(
        M + "train: {epochs: many}\n",
        "`train.epochs` is 'many': input should be a valid number, unable to parse string as a number",
        "<here>/r.yaml:3",
    ),
    "yes for a number": Bad(
        M + "train: {epochs: yes}\n",
        (
            "`train.epochs` is True: this key is no switch; `yes`, `no`, `on` and `off` are true "
            "or false in YAML unless they are in quotes"
        ),
        "<here>/r.yaml:3",
    ),
    "a negative rate": Bad(
        M + "train: {learning_rate: -1}\n",
        "`train.learning_rate` is -1: input should be greater than 0",
        "<here>/r.yaml:3",
    ),
    "a rate that is no number": Bad(
        M + "train: {learning_rate: .nan}\n",
        "`train.learning_rate` is nan: input should be a finite number",
        "<here>/r.yaml:3",
    ),
    "a rate without an end": Bad(
        M + "train: {learning_rate: .inf}\n",
        "`train.learning_rate` is inf: input should be a finite number",
        "<here>/r.yaml:3",
    ),
    "half a batch": Bad(
        M + "train: {batch_size: 1.5}\n",
        "`train.batch_size` is 1.5: input should be a valid integer, got a number with a fractional part",
        "<here>/r.yaml:3",
    ),
    "a seed beyond 31 bits": Bad(
        M + "train: {seed: 2147483648}\n",
        "`train.seed` is 2147483648: input should be less than 2147483648",
        "<here>/r.yaml:3",
    ),
    "steps and epochs": Bad(
        M + "train: {steps: 5, epochs: 2}\n",
        "`train.steps` and `train.epochs` contradict each other; keep one",
        "<here>/r.yaml:3",
    ),
    "two averages": Bad(
        M + "train: {ema: .9, average: .5}\n",
        "`train.ema` and `train.average` are two averages of the weights; keep one",
        "<here>/r.yaml:3",
    ),
    "a schedule that is unknown": Bad(
        M + "train: {schedule: cubic}\n",
        "`train.schedule` is 'cubic': input should be 'linear', 'cosine' or 'constant'",
        "<here>/r.yaml:3",
    ),
    "text said twice": Bad(
        "model: m\ndata: {train: x, text: a, columns: {text: b}}\n",
        "`data.text` and `data.columns.text` say the same thing; keep one",
        "<here>/r.yaml",
    ),
    "more than half for validation": Bad(
        "model: m\ndata: {train: x, split: {validation: .7}}\n",
        "`data.split.validation` is 0.7: input should be less than 0.5",
        "<here>/r.yaml:2",
    ),
    "a fold beyond the last": Bad(
        "model: m\ndata: {train: x, split: {folds: 5, fold: 5}}\n",
        "`fold` counts from 0: of 5 folds the last is 4",
        "<here>/r.yaml:2",
    ),
    "a name that leaves its folder": Bad(
        M + "run: {name: ../../etc}\n",
        "`run.name` is '../../etc': string should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$'",
        "<here>/r.yaml:3",
    ),
    "a decoder without an encoder": Bad(
        "model: {encoder: a}\ndata: x.csv\n",
        "a pair of halves needs a `decoder` beside its `encoder`",
        "<here>/r.yaml:1",
    ),
    "a new token of two words": Bad(
        "model: {name: m, new_tokens: [a b]}\ndata: x.csv\n",
        "a new token is one word, without white space",
        "<here>/r.yaml:1",
    ),
}
"""The text of `r.yaml`."""

SAID: dict[str, Bad] = {
    "no equals sign": Bad(
        ["train", "{r}", "--set", "train.epochs"],
        "`train.epochs` is not `key=value`",
        "--set",
        "write it like `--set train.epochs=5`",
    ),
    "no key": Bad(
        ["train", "{r}", "--set", "=3"], "`=3` is not `key=value`", "--set", "write it like `--set train.epochs=5`"
    ),
    "an empty part of a key": Bad(
        ["train", "{r}", "--set", "train..epochs=3"],
        "`train..epochs=3` is not `key=value`",
        "--set",
        "write it like `--set train.epochs=5`",
    ),
    "a key that is unknown": Bad(
        ["train", "{r}", "--set", "train.speed=3"],
        "there is no key `train.speed`",
        "<here>/r.yaml",
        "did you mean `seed`?",
    ),
    "a key below a value": Bad(
        ["train", "{r}", "--set", "train.epochs.more=3"],
        "`train.epochs` is {'more': 3}: input should be a valid number",
        "<here>/r.yaml",
    ),
    "a value of the wrong kind": Bad(
        ["train", "{r}", "--set", "train.shuffle=perhaps"],
        "`train.shuffle` is 'perhaps': input should be a valid boolean, unable to interpret input",
        "<here>/r.yaml",
    ),
    "a tag of Python": Bad(
        ["train", "{r}", "--set", "model=!!python/name:os.system"],
        "there is no folder `!!python/name:os.system`",
        "model",
        "name one that holds config.json",
    ),
    "no value": Bad(
        ["train", "{r}", "--set", "model="],
        "`model` is empty: input should be a mapping of keys",
        "<here>/r.yaml:1",
        twin="said by `--set`",
    ),
    "a method that is unknown": Bad(
        ["train", "{r}", "--method", "magic"],
        "there is no method `magic`",
        "<here>/r.yaml",
        "known: `bitfit`, `bottleneck`, `full`, `head`, `ia3`, `lora`, `peft`, `prompt-tuning`, `top-layers`",
    ),
    "a recipe that is not there": Bad(
        ["train", "{here}/none.yaml"], "there is no such recipe", "<here>/none.yaml", "`tunesmith init FILE` writes one"
    ),
    "a recipe that is a folder": Bad(["train", "{here}"], "the recipe cannot be read: Is a directory", "<here>"),
    "rows without a model": Bad(
        ["train", "{here}/rows.csv"],
        "a file of rows was given and no model",
        "<here>/rows.csv",
        "tunesmith train minilm <here>/rows.csv",
    ),
    "three arguments": Bad(
        ["train", "m", "x.csv", "y.csv"], "too many arguments", "m x.csv y.csv", "RECIPE, or MODEL FILE"
    ),
    "rows that are not there": Bad(
        ["train", "m", "{here}/rowz.csv"], "there is no such file", "<here>/rowz.csv", "did you mean `rows.csv`?"
    ),
    "a model that is a file": Bad(
        ["train", "{here}/rows.csv", "{here}/rows.csv"],
        "`<here>/rows.csv` is a file",
        "model",
        "name the folder that holds config.json",
    ),
    "a finding that no check has": Bad(
        ["train", "{r}", "--set", "data.allow=[leek]"],
        "no finding that stops training is called `leek`",
        "data.allow",
        "did you mean `leak`?",
    ),
    "a page that is no page": Bad(
        ["check", "{r}", "--page", "{here}/page.doc"],
        "the page is a file of HTML",
        "<here>/page.doc",
        "`--page check.html`",
    ),
    "a recipe that would be overwritten": Bad(
        ["init", "{here}/rows.csv", "--output", "{r}"],
        "the file exists already",
        "<here>/r.yaml",
        "name another with `--output`",
    ),
}
"""Arguments; `{r}` is a recipe that is good but for its model, `{here}` its folder."""

CLICK: dict[str, tuple[list[str], str]] = {
    "an option that is unknown": (["train", "r.yaml", "--fast"], "No such option '--fast'"),
    "a command that is unknown": (["trian", "r.yaml"], "No such command 'trian'"),
    "no argument": (["train"], "Missing argument 'RECIPE | MODEL FILE'"),
    "rows below none": (["check", "r.yaml", "--rows", "-1"], "-1 is not in the range x>=0"),
    "too many steps": (["blend", "run", "--steps", "1000"], "1000 is not in the range 1<=x<=100"),
    "a schema that is unknown": (["schema", "everything"], "'everything' is not one of"),
}
"""What the library of the command line refuses by itself, in its own words."""


@pytest.mark.parametrize("case", YAML)
def test_a_wrong_recipe_is_refused_with_its_line(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = YAML[case].given
    (tmp_path / "r.yaml").write_bytes(given if isinstance(given, bytes) else given.encode())
    check(YAML[case], capsys, tmp_path, "train", str(tmp_path / "r.yaml"))


@pytest.mark.parametrize("case", SAID)
def test_wrong_arguments_are_refused_with_what_is_wrong(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n" + "a b c,x\nd e f,y\n" * 20)
    (tmp_path / "r.yaml").write_text("model: no-model-of-this-name\ndata: rows.csv\n")
    monkeypatch.chdir(tmp_path)
    given = [word.format(r=tmp_path / "r.yaml", here=tmp_path) for word in SAID[case].given]
    check(SAID[case], capsys, tmp_path, *given)


@pytest.mark.parametrize("case", CLICK)
def test_what_no_command_takes_is_refused_by_the_library(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    from tunesmith import cli

    arguments, words = CLICK[case]
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert words in said and "Traceback" not in said
