"""JSON files and SQuAD's articles that cannot be used."""

import json
from pathlib import Path
from typing import Any

import pytest

from refusals import SKIP, Bad, check

ROWS = [{"text": f"row {k} here", "label": "ab"[k % 2]} for k in range(40)]
GOOD = json.dumps(ROWS, indent=0)[:-2]
COLUMNS = ("--task", "text-classification", "--set", "data.text=text", "--set", "data.label=label")

JSON: dict[str, Bad] = {
    "a row that is broken off": Bad(
        GOOD + ',\n{"text": ]', "the file is not valid JSON: Expecting value", "<here>/rows.json:162"
    ),
    "a list that does not end": Bad(
        GOOD, "the file is not valid JSON: the list of rows does not end", "<here>/rows.json:161"
    ),
    "an object that is no list": Bad(
        '{"text": "a"}',
        "the file does not hold a list of rows",
        "<here>/rows.json:1",
        "write `[{...}, {...}]` (pandas: `to_json(orient='records')`), or one object a line in a .jsonl file",
    ),
    "nothing but space": Bad(
        "  \n\n ",
        "the file does not hold a list of rows",
        "<here>/rows.json:1",
        "write `[{...}, {...}]` (pandas: `to_json(orient='records')`), or one object a line in a .jsonl file",
        twin="it holds nothing",
    ),
    "an empty list": Bad("[]", "the file has no rows", "<here>/rows.json"),
    "rows that are numbers": Bad(
        "[1,\n2]",
        "the row is a whole number, not an object with columns",
        "<here>/rows.json:1\n  also <here>/rows.json:2: the row is a whole number, not an object with columns",
        SKIP,
    ),
    "one row that is a text": Bad(
        GOOD + ',\n"a"\n]', "the row is a text, not an object with columns", "<here>/rows.json:162", SKIP
    ),
    "lists of other names": Bad(
        '{"train": [{"text": "a"}], "test": [{"text": "b"}]}',
        "the file does not hold a list of rows; it has `train`, `test`, of which none is called `data` or `rows`",
        "<here>/rows.json:1",
        "write `[{...}, {...}]` (pandas: `to_json(orient='records')`), or one object a line in a .jsonl file",
    ),
    "two lists of rows": Bad(
        '{"data": [{"text": "a"}], "more": [{"text": "b"}]}',
        "the file has two lists of rows: `data` and `more`",
        "<here>/rows.json",
        "put each into a file of its own",
    ),
    "columns that are objects": Bad(
        '{"text": {"0": "a"}, "label": {"0": "b"}}',
        "the file does not hold a list of rows",
        "<here>/rows.json:1",
        "write `[{...}, {...}]` (pandas: `to_json(orient='records')`), or one object a line in a .jsonl file",
        twin="what pandas writes unasked",
    ),
    "something behind the end": Bad(
        GOOD + '\n]\n[{"text": "b"}]',
        "the file is not valid JSON: something stands behind its end",
        "<here>/rows.json:163",
    ),
    "a name without quotes": Bad(
        '{data: [{"text": "a"}]}', "the file is not valid JSON: a name in quotes is expected", "<here>/rows.json:1"
    ),
    "no colon": Bad(
        '{"data" [{"text": "a"}]}',
        "the file is not valid JSON: a colon is expected behind a name",
        "<here>/rows.json:1",
    ),
    "an object that does not end": Bad(
        '{"data": ' + GOOD + "\n]", "the file is not valid JSON: the object does not end", "<here>/rows.json:162"
    ),
    "a key twice": Bad(
        GOOD + ',\n{"text": "a", "text": "b"}]',
        "the file is not valid JSON: the key `text` stands twice",
        "<here>/rows.json:162",
    ),
    "NaN": Bad(GOOD + ',\n{"text": NaN}]', "the file is not valid JSON: NaN is not JSON", "<here>/rows.json:162"),
    "a text that does not end": Bad(
        GOOD + ',\n{"text": "a}]', "the file is not valid JSON: Unterminated string starting at", "<here>/rows.json:162"
    ),
    "an escape that is none": Bad(
        GOOD + ',\n{"text": "\\x"}]', "the file is not valid JSON: Invalid \\escape", "<here>/rows.json:162"
    ),
    "deep lists": Bad(
        GOOD + ',\n{"text": ' + "[" * 100_000,
        "the file is not valid JSON: it is nested too deeply",
        "<here>/rows.json:162",
    ),
    "a missing column": Bad(
        json.dumps([{"body": "a b c", "label": "a"}] * 9),
        "there is no column `text`",
        "<here>/rows.json:1",
        "known: `body`, `label`",
    ),
    "a number of ten thousand digits": Bad(
        GOOD + ',\n{"text": "a", "label": ' + "9" * 10_000 + "}]",
        "the file is not valid JSON: a number has thousands of digits",
        "<here>/rows.json:162",
    ),
}
"""The text of `rows.json`."""

PLACE = "Anna lives in the old house by the sea."


def article(context: Any = PLACE, question: Any = "where does Anna live", answers: Any = None) -> str:
    """A file of SQuAD with many good questions and, in line 2, one that may not be."""
    known = [{"text": "Anna", "answer_start": 0}]
    good = [{"id": str(k), "question": f"who is it {k}", "answers": known} for k in range(20)]
    odd = {"id": "x"} if answers is None else {"id": "x", "question": question, "answers": answers}
    articles = [{"title": "t", "paragraphs": [{"context": PLACE, "qas": good}]},
                {"title": "t", "paragraphs": [{"context": context, "qas": [odd]}]}]  # fmt: skip
    return '{"data": [' + ",\n".join(map(json.dumps, articles)) + "]}"


SQUAD: dict[str, Bad] = {
    "a place that is not the answer's": Bad(
        article(answers=[{"text": "house", "answer_start": 3}]),
        "answer 1, `house`, does not stand at character 3 of the context",
        "<here>/squad.json:2",
        SKIP,
    ),
    "a place behind the end": Bad(
        article(answers=[{"text": "sea", "answer_start": 999}]),
        "answer 1, `sea`, does not stand at character 999 of the context",
        "<here>/squad.json:2",
        SKIP,
    ),
    "a place before the beginning": Bad(
        article(answers=[{"text": "sea.", "answer_start": -4}]),
        "answer 1, `sea.`, does not stand at character -4 of the context",
        "<here>/squad.json:2",
        SKIP,
    ),
    "a place that is a text": Bad(
        article(answers=[{"text": "sea", "answer_start": "35"}]),
        "answer 1, `sea`, begins at '35', which is no whole number",
        "<here>/squad.json:2",
        SKIP,
    ),
    "an answer that is a number": Bad(
        article(answers=[{"text": 7, "answer_start": 0}]), "answer 1 is not a text", "<here>/squad.json:2", SKIP
    ),
    "an answer that stands nowhere": Bad(
        article(answers=["a castle"]),
        "answer 1, `a castle`, does not stand in the context",
        "<here>/squad.json:2",
        SKIP,
    ),
    "more texts than places": Bad(
        article(answers={"text": ["house", "sea"], "answer_start": [22]}),
        "`answers` has 2 texts and 1 places",
        "<here>/squad.json:2",
        SKIP,
    ),
    "a question that is empty": Bad(
        article(question=" ", answers=["sea"]), "`question` is empty", "<here>/squad.json:2", SKIP
    ),
    "a question that is a list": Bad(
        article(question=["a"], answers=["sea"]), "`question` is not a text", "<here>/squad.json:2", SKIP
    ),
    "a context that is missing": Bad(
        article(context=None, answers=["sea"]),
        "a paragraph of this article lacks `context` or `qas`",
        "<here>/squad.json:2",
        SKIP,
    ),
    "no questions": Bad(
        '{"data": [{"title": "t", "paragraphs": [{"context": "a", "qas": {}}]}]}',
        "a paragraph of this article lacks `context` or `qas`",
        "<here>/squad.json:1",
        SKIP,
        twin="all rows are bad",
    ),
    "a question that is a text": Bad(
        article().replace('{"id": "x"}', '"why"'),
        "a question of this article is no object",
        "<here>/squad.json:2",
        SKIP,
    ),
    "a context that is empty": Bad(
        article(context="  ", answers=[]), "`context` is empty", "<here>/squad.json:2", SKIP
    ),
}
"""The text of a file of SQuAD."""


@pytest.mark.parametrize("case", JSON)
def test_a_json_file_that_cannot_be_used_is_refused_with_its_line(
    case: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.json").write_text(JSON[case].given)
    place = ("--set", f"run.dir={tmp_path / 'runs'}")
    check(JSON[case], capsys, tmp_path, "train", str(encoder), str(tmp_path / "rows.json"), *COLUMNS, *place)


@pytest.mark.parametrize("case", SQUAD)
def test_a_question_of_squad_that_cannot_be_learned_is_refused_with_the_line_of_its_article(
    case: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "squad.json").write_text(SQUAD[case].given)
    place = ("--task", "question-answering", "--set", f"run.dir={tmp_path / 'runs'}", "--set", "train.steps=1")
    check(SQUAD[case], capsys, tmp_path, "train", str(encoder), str(tmp_path / "squad.json"), *place)
